"""wav2small models: the weights that ship, and the students that can be trained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from wav2small.network.config import OUTPUTS, Network
from wav2small.tables.table import TEXT_FORMATS, render

SCORES = {"CCC norms": "RAVDESS norms", "CCC teacher": "RAVDESS teacher"}
"""Column of the table -> name of the scores in the index."""
ABOUT_SCORES = (
    "CCC: mean of arousal, dominance and valence within RAVDESS, against the norms of each emotion's "
    "name and against the teacher's labels. RAVDESS was not used for training."
)
LINE = 98
"""Characters of a line."""


@click.command()
@click.option(
    "--format",
    type=click.Choice(TEXT_FORMATS),
    default="table",
    show_default=True,
    help="table and csv have one row per model; json and jsonl have one row per file, with everything that is known.",
)
@click.option(
    "--network",
    metavar="NAME|FILE",
    help="Print the network of a student or of a file of weights as JSON, or check a JSON file that describes one.",
)
def command(format: str, network: str | None) -> None:
    """List the weights that ship with the package, and the students that can be trained.

    A name goes into --model: micro, or micro:int8 for eight-bit weights. KB is the size of the ONNX file. Causal models
    run frame by frame, so a stream needs no whole windows. teacher:open is a teacher, for label, distil and evaluate.

    json and jsonl also have version, teacher, training data, every score, the network and the sha256 of each file. The
    folder docs/cards has a page for each model: training data, intended use, and scores by sex and speaker.

    \b
    Example:
      wav2small models
      wav2small models --format json
      wav2small models --network micro > network.json
    """
    from wav2small import plugins
    from wav2small.runtime.model import models

    if network:
        click.echo(network_json(network))
        return
    rows, students = models(), [name.replace("-int8", ":int8") for name in plugins.names(plugins.STUDENTS)]
    if format in ("json", "jsonl"):
        trained = [{"name": name, "train": f"wav2small train --student {name}"} for name in students]
        click.echo(render([*rows, *trained], format), nl=False)
        return
    click.echo(render(summaries(rows), format), nl=False)
    if format == "table":
        students_text = f"Students, for train and distil --student NAME: {', '.join(students)}"
        for text in (ABOUT_SCORES, students_text):
            click.echo("\n" + click.wrap_text(text, LINE))


def summaries(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """One row per model of the index: where it is in two files, that of ONNX."""
    from wav2small.network.weights import full_name

    found: dict[str, dict[str, object]] = {}
    for row in sorted(rows, key=lambda row: (row["name"], row["precision"], not row["file"].endswith(".onnx"))):
        name = full_name(row) if row["network"] or row["file"].endswith(".onnx") else f"teacher:{row['name']}"
        found.setdefault(name, summary(name, row))
    return list(found.values())


def summary(name: str, row: Mapping[str, Any]) -> dict[str, object]:
    """The row of a model: its parameters, size, licence and scores, and whether it is causal."""
    causal = row["network"] and Network.from_json(json.dumps(row["network"]), name).is_causal
    return {
        "model": name,
        "parameters": row["parameters"],
        "KB": round(row["bytes"] / 1000),
        "licence": row["licence"],
        **{column: mean_text(row["ccc"].get(source)) for column, source in SCORES.items()},
        "causal": {True: "yes", False: "no", None: ""}[causal],
    }


def mean_text(ccc: Mapping[str, float] | None) -> str:
    """Mean of arousal, dominance and valence with two decimals; empty where it is not known."""
    return f"{sum(ccc[name] for name in OUTPUTS) / len(OUTPUTS):.2f}" if ccc else ""


def network_json(name: str) -> str:
    """The network of a student, of a file of weights, or of a JSON file, which is checked, as JSON for people."""
    from wav2small import plugins
    from wav2small.errors import NetworkError
    from wav2small.network.config import Network, read_network
    from wav2small.runtime import backends
    from wav2small.runtime.model import load

    if not Path(name).is_file():
        found = plugins.load(plugins.STUDENTS, name.replace(":", "-"))
    elif Path(name).read_bytes()[:1] == b"{":
        found = read_network(name)
    else:
        backend = "numpy" if backends.is_safetensors(Path(name)) else "onnx"
        found = load(name, backend=backend).network
    if not isinstance(found, Network):
        raise NetworkError(f"{name}: this student is code, and has no description as JSON")
    return found.to_json(indent=1)
