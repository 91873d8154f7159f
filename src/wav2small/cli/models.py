"""wav2small models: the weights that ship, and the students that can be trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from wav2small.tables.table import TEXT_FORMATS, render

COLUMNS = ("name", "version", "precision", "file", "parameters", "bytes", "licence", "teacher", "ccc")


@click.command()
@click.option("--format", type=click.Choice(TEXT_FORMATS), default="table", show_default=True)
@click.option(
    "--network",
    metavar="NAME|FILE",
    help="Print the network of a student or of a file as JSON; a JSON file is checked.",
)
def command(format: str, network: str | None) -> None:
    """List the weights that ship: name, version, parameters, bytes, licence, teacher and CCC; then every student.

    In place of a file, a student has the command that trains it. JSON has also what weights were trained on, and the
    sha256 of each file. docs/cards has a card of each: made from what, for what, how good by sex and speaker.
    """
    from wav2small import plugins
    from wav2small.runtime.model import models

    if network:
        click.echo(network_json(network))
        return
    rows: list[dict[str, object]] = models()
    rows += [{"name": name, "train": f"wav2small train --student {name}"} for name in plugins.names(plugins.STUDENTS)]
    if format in ("table", "csv"):
        rows = [{"file": row.get("train")} | row | {"ccc": ", ".join(figures(row.get("ccc", {})))} for row in rows]
        rows = [{name: row.get(name) for name in COLUMNS} for row in rows]
    click.echo(render(rows, format), nl=False)


def figures(value: object, name: str = "") -> Iterator[str]:
    """Each number in nested objects, after the names that lead to it."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from figures(part, f"{name} {key}".strip())
    else:
        yield f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"


def network_json(name: str) -> str:
    """The network of a student, of a file of weights, or of a JSON file, which is checked, as JSON for people."""
    from wav2small import plugins
    from wav2small.errors import NetworkError
    from wav2small.network.config import Network, read_network
    from wav2small.runtime import backends
    from wav2small.runtime.model import load

    if not Path(name).is_file():
        found = plugins.load(plugins.STUDENTS, name)
    elif Path(name).read_bytes()[:1] == b"{":
        found = read_network(name)
    else:
        backend = "numpy" if backends.is_safetensors(Path(name)) else "onnx"
        found = load(name, backend=backend).network
    if not isinstance(found, Network):
        raise NetworkError(f"{name}: this student is code, and has no description as JSON")
    return found.to_json(indent=1)
