"""Teacher x manifest -> labels: batched by length, resumable, one row a segment whatever happens to it.

Finished rows go to FILE.part, one JSON line each, as they come; a stopped run reads them back. When all are done
the table is written whole, in the order of the manifest, and the part is removed.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from wav2small.audio import duration, read
from wav2small.config import OUTPUTS
from wav2small.errors import AudioError, ManifestError
from wav2small.manifest import Segment, to_row
from wav2small.tables import write_table
from wav2small.train.teachers import Teacher

Key = tuple[str, float, float | None]
BATCH_SIZE = 16
"""Segments of like length that the teacher gets at once."""


def label(
    segments: Sequence[Segment],
    teacher: Teacher,
    output: Path,
    tell: Callable[[float, float], None],
    embed: bool = False,
) -> list[dict[str, object]]:
    """Label every segment and write the table.

    Args:
        segments: of a manifest
        teacher: who labels
        output: CSV, JSON lines or Parquet, by its suffix
        tell: called with (done, total) segments
        embed: add a column ``embedding``, the teacher's, as :func:`to_text` writes it

    Returns:
        the rows: the manifest's columns, A/D/V, teacher, its version and licence, and the error of an unreadable file

    Raises:
        ManifestError: if the part of a stopped run comes from another teacher, or has no embeddings
    """
    part = output.with_name(output.name + ".part")
    done = _read_part(part, teacher, embed)
    todo = [segment for segment in segments if _key(segment) not in done]
    with part.open("a", encoding="utf-8") as file:
        if not part.stat().st_size:
            file.write(json.dumps(_stamp(teacher) | {"embed": embed}) + "\n")
        for batch in _by_length(todo):
            for segment, answer in zip(batch, _label_batch(batch, teacher, embed), strict=True):
                done[_key(segment)] = answer
                file.write(json.dumps([*_key(segment), answer]) + "\n")
            file.flush()
            tell(len(done), len(segments))
    rows = [_row(segment, done[_key(segment)], teacher, output.parent) for segment in segments]
    write_table(rows, output)
    part.unlink()
    return rows


def segment_signal(segment: Segment) -> np.ndarray:
    """The samples of a segment, mono float32 at 16 kHz.

    Raises:
        AudioError: if the file cannot be read, or the segment holds no sample of it
    """
    return segment.cut(read(segment.path))


def to_text(embedding: np.ndarray) -> str:
    """An embedding as text for a table: float16, little-endian, in base64."""
    return base64.b64encode(embedding.astype("<f2").tobytes()).decode()


def from_text(text: str, file: str) -> np.ndarray:
    """The embedding that :func:`to_text` wrote for ``file``, float32, shape=(size,).

    Raises:
        ManifestError: if the text is none
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    except (binascii.Error, ValueError):
        raise ManifestError(
            f"{file}: its embedding reads {text[:20]!r}, which is not base64 of float16. Label again."
        ) from None


def _label_batch(batch: Sequence[Segment], teacher: Teacher, embed: bool) -> list[dict[str, object]]:
    signals, answers = [], []
    for segment in batch:
        try:
            signals.append(segment_signal(segment))
            answers.append({})
        except AudioError as error:
            answers.append({"error": str(error)})
    labelled = iter(_answers(signals, teacher, embed) if signals else [])
    return [answer or next(labelled) for answer in answers]


def _answers(signals: list[np.ndarray], teacher: Teacher, embed: bool) -> list[dict[str, object]]:
    emotions, embeddings = teacher.label_and_embed(signals) if embed else (teacher.label(signals), None)
    answers: list[dict[str, object]] = [{n: round(v, 6) for n, v in emotion._asdict().items()} for emotion in emotions]
    if embeddings is not None:
        for answer, embedding in zip(answers, embeddings, strict=True):
            answer["embedding"] = to_text(embedding)
    return answers


def _by_length(segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    ordered = sorted(segments, key=_seconds)
    for first in range(0, len(ordered), BATCH_SIZE):
        yield ordered[first : first + BATCH_SIZE]


def _seconds(segment: Segment) -> float:
    if segment.end is not None:
        return segment.end - segment.start
    try:
        return (duration(segment.path) or 0.0) - segment.start
    except AudioError:
        return 0.0


def _key(segment: Segment) -> Key:
    return (segment.file, segment.start, segment.end)


def _stamp(teacher: Teacher) -> dict[str, str]:
    return {"teacher": teacher.name, "teacher_version": teacher.version, "teacher_licence": teacher.licence}


def _who(stamp: Mapping[str, object]) -> str:
    how = "with" if stamp["embed"] else "without"
    return (
        f"teacher {stamp['teacher']} version {stamp['teacher_version']} ({stamp['teacher_licence']}) {how} embeddings"
    )


def _read_part(part: Path, teacher: Teacher, embed: bool) -> dict[Key, dict[str, object]]:
    """What a stopped run finished; a last line that was cut off is dropped from the file."""
    if not part.is_file():
        return {}
    content = part.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        part.write_bytes(whole)
    try:
        lines = [json.loads(line) for line in whole.decode().splitlines()]
        if lines and lines[0] != _stamp(teacher) | {"embed": embed}:
            raise ManifestError(
                f"{part}: was begun by {_who(lines[0])}, not by {_who(_stamp(teacher) | {'embed': embed})}. "
                "Finish it so, or remove the file."
            )
        return {(file, start, end): answer for file, start, end, answer in lines[1:]}
    except (KeyError, TypeError, ValueError):
        raise ManifestError(f"{part}: is damaged, so a stopped run cannot go on. Remove it to begin again.") from None


def _row(segment: Segment, answer: dict[str, object], teacher: Teacher, folder: Path) -> dict[str, object]:
    return {
        **to_row(segment, folder),
        **{name: answer.get(name) for name in OUTPUTS},
        **_stamp(teacher),
        **({"embedding": answer["embedding"]} if "embedding" in answer else {}),
        "error": answer.get("error"),
    }
