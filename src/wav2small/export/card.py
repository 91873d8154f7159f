"""The card of an exported folder: README.md with the front matter that model hubs read, from the weights' metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wav2small.errors import ManifestError
from wav2small.network.licences import is_non_commercial, joined
from wav2small.network.weights import sha256_of

CARD = "README.md"
MARK = "<!-- Written by wav2small export: do not edit. -->"
"""By which an earlier export is recognised."""
HUB_LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0")
"""Those of the hub's names that are SPDX identifiers in lower case.

Source: https://huggingface.co/docs/hub/repositories-licenses.
"""
TAGS = ("speech", "emotion", "speech-emotion-recognition", "arousal", "dominance", "valence", "onnx")
USE = """\
- **Intended:** how a voice sounds over time and relative to itself, in research, media, and programs that
  inform their users.
- **Not intended:** what a person feels, decisions about a person, comparing two people, a single short clip.
- **Forbidden in the EU** at work and in education, except for medical and safety reasons: AI Act, Art. 5(1)(f).
"""


def card(
    metadata: Mapping[str, str],
    files: Mapping[str, bytes],
    usage: str,
    library: str = "wav2small",
    scores: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The text of a card.

    Args:
        metadata: of the weights
        files: content of the other files by name, for their size and sha256
        usage: Markdown on how to run the folder
        library: the hub's name of the library that loads it
        scores: rows of :func:`read_scores`; without them, the CCC of ``metadata``
    """
    return "\n".join([*front_matter(metadata, library, scores), *body(metadata, files, usage, scores)])


def licence_of(metadata: Mapping[str, str]) -> str:
    """SPDX expression of the licences of the weights and of their teachers; "" if there are none."""
    return joined([metadata.get("licence", ""), metadata.get("teacher_licence", "")])


def front_matter(metadata: Mapping[str, str], library: str, scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """YAML, whose values are JSON, which is YAML, too.

    Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
    """
    licence, fields = licence_of(metadata), dict[str, Any]()
    fields["license"] = "unknown" if not licence else licence.lower() if licence.lower() in HUB_LICENCES else "other"
    if fields["license"] == "other":
        fields["license_name"] = re.sub(r"[^a-z0-9.]+", "-", licence.lower())
    fields |= {"library_name": library, "pipeline_tag": "audio-classification", "tags": list(TAGS)}
    if corpora := [re.sub(r"\s+", "-", name) for name in metadata.get("training_data", "").split(", ") if name]:
        fields["datasets"] = corpora
    if results := [*results_of(metadata, scores)]:
        fields["model-index"] = [{"name": metadata["name"], "results": results}]
    yield "---"
    yield from (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
    yield "---\n"


def results_of(metadata: Mapping[str, str], scores: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One result of the model index for each data set and truth."""
    for dataset, metrics in ccc_by_dataset(metadata, scores).items():
        yield {
            "task": {"type": "audio-classification", "name": "arousal, dominance and valence"},
            "dataset": {"name": dataset, "type": re.sub(r"[^a-z0-9.]+", "-", dataset.lower())},
            "metrics": [
                {"type": "concordance_cc", "name": f"CCC {dimension}", "value": value}
                | ({"args": {"interval_95": list(interval)}} if interval else {})
                for dimension, (value, interval) in metrics.items()
            ],
        }


Metric = tuple[float, tuple[float, float] | None]


def ccc_by_dataset(metadata: Mapping[str, str], scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Metric]]:
    """CCC and its 95 % interval, by data set and dimension.

    Args:
        metadata: with ``ccc`` and ``dev_ccc``, which have no intervals
        scores: rows of :func:`read_scores`, which replace ``ccc`` if there are any
    """
    datasets: dict[str, dict[str, Metric]] = {}
    for row in scores:
        interval = None if row["low"] is None else (row["low"], row["high"])
        datasets.setdefault(f"{row['manifest']}, {row['truth']}", {})[row["dimension"]] = row["value"], interval
    stored = {} if scores else json.loads(metadata.get("ccc") or "{}")
    if metadata.get("dev_ccc"):
        stored["dev speakers, which selected the weights"] = json.loads(metadata["dev_ccc"])
    return datasets | {
        name: {dimension: (value, None) for dimension, value in values.items()} for name, values in stored.items()
    }


def read_scores(path: str | Path, digests: Collection[str]) -> list[dict[str, Any]]:
    """CCC over all speakers of one set of weights, from a report of ``wav2small evaluate -o FILE.json``.

    Args:
        path: the report
        digests: sha256 of every file of these weights

    Returns:
        rows with ``manifest``, ``truth``, ``dimension``, ``value``, ``low`` and ``high``

    Raises:
        ManifestError: if it is not such a report, or contains no CCC of these weights
    """
    try:
        report = json.loads(Path(path).read_text("utf-8"))
        names = {one["name"] for one in report["predictors"] if one["sha256"] in digests}
        rows = [row for row in report["scores"] if row["predictor"] in names and row["statistic"] == "ccc"]
        found = [row for row in rows if not row.get("by") and row["value"] is not None]
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{path}: is not a report of wav2small evaluate -o FILE.json. Give one.") from None
    if not found:
        raise ManifestError(f"{path}: has no CCC of these weights. Evaluate the file that is exported.")
    return found


def body(
    metadata: Mapping[str, str], files: Mapping[str, bytes], usage: str, scores: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """The card in Markdown."""
    licence = licence_of(metadata)
    yield f"# {metadata['name']} {metadata.get('version', '')}".rstrip() + "\n"
    yield f"{MARK}\n"
    yield "Arousal, dominance and valence of speech, nominally 0 to 1, in this order.\n"
    yield f"{usage.strip()}\n"
    yield f"## Intended use\n\n{USE}"
    yield "## Files\n\n| file | bytes | sha256 |\n|---|---|---|"
    yield from (f"| `{name}` | {len(data):,} | `{sha256_of(data)}` |" for name, data in files.items())
    yield f"\n- Input: mono at 16 kHz, float32 in [-1, 1], at least {metadata['min_length']} samples."
    yield f"- Licence: {licence or 'not stated'}{', not for commercial use' * is_non_commercial(licence)}."
    if metadata.get("teacher"):
        yield f"- Targets: labels of the teacher `{metadata['teacher']}`, not people's ratings."
    if metadata.get("training_data"):
        yield f"- Training data: {metadata['training_data']}."
    if datasets := ccc_by_dataset(metadata, scores):
        yield "\n## Accuracy\n\nConcordance correlation coefficient; brackets are 95 % intervals over speakers.\n"
        yield "| data | arousal | dominance | valence |\n|---|---|---|---|"
        for dataset, metrics in datasets.items():
            yield f"| {dataset} | {' | '.join(shown(metrics.get(name)) for name in TAGS[3:6])} |"
    yield ""


def shown(metric: Metric | None) -> str:
    """A CCC with its interval, as text."""
    if metric is None:
        return ""
    value, interval = metric
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
