"""What can be scored: weights by name or file, teachers, and tables of predictions; and the truth beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wav2small.errors import ManifestError, missing_packages
from wav2small.evaluation.score import Answer, Predict, answer_segments, answer_table, category_norms, own_truth
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA, read_safetensors, sha256
from wav2small.runtime.backends import BACKENDS, of_file
from wav2small.runtime.model import Model, load, locate
from wav2small.tables.manifest import Norm, Segment, read_manifest
from wav2small.tables.store import PLAN

TABLE_BYTES = 64
"""A file is a table if this many first bytes are text, or say Parquet; what it is called does not matter."""


@dataclass(frozen=True)
class Predictor:
    """Something to score: its name in the tables, what the report says about it, and how it answers segments."""

    name: str
    about: dict[str, str | None]
    answer: Callable[[Sequence[Segment], bool], Iterable[Answer]]
    predict: Predict | None = None
    """Emotions of signals; None for a table, whose answers are of recorded files only."""
    training_data: str = ""
    """Names of corpora with commas between them, as in the metadata of the weights; empty where it is not known."""


def manifest_name(manifest: str) -> str:
    """Name of a manifest in reports: the folder of ``manifest.csv``, another file's stem, or a folder's own name."""
    path = Path(manifest).resolve()
    return path.parent.name if path.name == "manifest.csv" else path.stem if path.is_file() else path.name


def training_notes(model: str, training_data: str, corpora: Iterable[str]) -> list[str]:
    """A sentence about each corpus that weights name among their training data: scores on it are not held-out.

    Names are compared without case, and in letters and digits alone; a name of four characters or more also stands for
    the longer names that begin with it, as ``speechocean`` for ``speechocean762``.

    Examples:
        >>> training_notes("micro", "EmoDB, EmoGator", ["emodb", "ravdess"])
        ['emodb is in the training data of micro; this is not held-out']
    """
    known = [_letters(name) for name in training_data.split(",")]
    return [
        f"{corpus} is in the training data of {model}; this is not held-out"
        for corpus in dict.fromkeys(corpora)
        if len(_letters(corpus)) >= 4 and any(name.startswith(_letters(corpus)) for name in known)
    ]


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def read_truth(truth: str | None, segments: Sequence[Segment], norms: dict[str, Norm]) -> tuple[str, Sequence[Answer]]:
    """Read the truth for segments, and what it is called in reports.

    Args:
        truth: ``manifest`` for its annotations, ``norms`` for the norms of its categories, or the path of another
            manifest; None is ``manifest`` if any segment is annotated, otherwise ``norms``
        segments: of the manifest that is scored
        norms: of each category

    Returns:
        ``manifest``, ``norms`` or the stem of the path, and one answer for each segment
    """
    if truth is None:
        truth = "manifest" if any(segment.emotion for segment in segments) else "norms"
    if truth == "manifest":
        return truth, own_truth(segments)
    if truth == "norms":
        return truth, category_norms(segments, norms)
    return Path(truth).stem, answer_table(segments, read_manifest(truth), missing="no truth")


def open_predictor(spec: str, specs: Sequence[str]) -> Predictor:
    """The predictor of a word of the command line."""
    kind, _, teacher = spec.partition(":")
    if kind == "teacher" and teacher:
        return _open_teacher(f"teacher:{_short(teacher, [other.partition(':')[2] for other in specs])}", teacher)
    if Path(spec).is_dir() or (Path(spec).is_file() and _is_table(spec)):
        return _open_table(_short(spec, specs), spec)
    return _open_model(_short(spec, specs), spec)


def _short(spec: str, specs: Sequence[str]) -> str:
    """A file by its name, and by as many folders as tell it from the others: tables name no machine's folders."""
    if not Path(spec).exists():
        return spec
    others = {Path(other).absolute().parts for other in specs} - {Path(spec).absolute().parts}
    parts = Path(spec).absolute().parts
    alike = max((_common_end(parts, other) for other in others), default=0)
    return "/".join(parts[-alike - 1 :])


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)) - 1)


def _is_table(file: str) -> bool:
    with open(file, "rb") as opened:
        head = opened.read(TABLE_BYTES)
    return head.startswith(b"PAR1") or not any(byte < 9 for byte in head)


def _open_table(name: str, file: str) -> Predictor:
    table = read_manifest(file)
    if not any(row.emotion for row in table):
        raise ManifestError(f"{file}: no row has {', '.join(OUTPUTS)}. A table of predictions needs these columns.")
    about = {"name": name, "kind": "table", "sha256": file_sha256(file)}
    return Predictor(name, about, lambda segments, _: answer_table(segments, table, missing="no prediction"))


def _open_model(name: str, spec: str) -> Predictor:
    """Weights by NAME[:PRECISION] or path; the NumPy reference computes safetensors."""
    backend = of_file(spec)
    model, file = load(spec, backend), locate(spec, BACKENDS[backend].suffix)
    about = {"name": name, "kind": "model", "version": model.metadata.get("version"), "sha256": file_sha256(file)}
    predict = model_predictor(model)
    return Predictor(name, about, _answers(predict), predict, model.metadata.get("training_data", ""))


def model_predictor(model: Model) -> Predict:
    """A model one signal at a time, as ``runtime.predict`` runs it: ONNX Runtime may round a batch otherwise."""
    return lambda signals: [model(signal) for signal in signals]


def _open_teacher(name: str, teacher_name: str) -> Predictor:
    try:
        from wav2small.train.teachers import load_teacher

        teacher = load_teacher(teacher_name)
    except ModuleNotFoundError as error:
        raise missing_packages(name, [error.name], "wav2small[train]") from None
    head = teacher_name if Path(teacher_name).is_file() else DATA / f"{teacher_name}.safetensors"
    about = {"name": name, "kind": "teacher", "version": teacher.version, "sha256": file_sha256(head)}
    training_data = read_safetensors(head)[1].get("training_data", "") if Path(head).is_file() else ""
    return Predictor(name, about, _answers(teacher.label), teacher.label, training_data)


def _answers(predict: Predict) -> Callable[[Sequence[Segment], bool], Iterable[Answer]]:
    return lambda segments, speech_only: answer_segments(segments, predict, speech_only)


def file_sha256(source: str | Path | None) -> str | None:
    """Of a file, of the manifest in a folder, or of the plan of a label store; None where there is no file."""
    if source is None:
        return None
    files = (Path(source), Path(source) / "manifest.csv", Path(source) / PLAN)
    return next((sha256(file) for file in files if file.is_file()), None)
