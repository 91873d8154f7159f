"""Manifests: a table or a folder of audio -> segments with speaker, split, label and emotion; and the category norms.

A manifest is a CSV or Parquet file with a column ``file``; known columns are ``root`` (the folder that ``file``
is in, relative to the table's own), ``start`` and ``end`` (seconds),
``speaker``, ``split``, ``label`` (a category) and ``arousal``, ``dominance``, ``valence`` (nominally 0 to 1).
Every other column is kept as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wav2small.audio.decode import SUFFIXES
from wav2small.audio.read import find_files, read
from wav2small.errors import AudioError, ManifestError
from wav2small.files import is_remote, join, locate, relative
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.tables.store import Store
from wav2small.tables.table import as_text, read_table

NORMS = Path(__file__).parents[1] / "data" / "norms.csv"
"""The project's own norms: what a category's name says about arousal, dominance and valence, with sources."""

KNOWN = ("file", "root", "start", "end", "speaker", "split", "label", *OUTPUTS)


@dataclass(frozen=True)
class Segment:
    """A part of one file, and its annotations; ``file``, ``start`` and ``end`` together are unique.

    Args:
        file: as written in the manifest
        path: of the audio
        start: seconds
        end: seconds; None is the end of the file
        speaker: name; "" if it is unknown, as for all text
        split: ``train``, ``dev``, ``test`` or one of the corpus's own
        label: a category, such as ``anger``
        emotion: labels or annotations, nominally 0 to 1; None without any
        fields: every other column, as text

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.manifest import Segment
        >>> segment = Segment("a.wav", Path("corpus/a.wav"), start=1.0, end=2.5, fields={"gender": "f"})
        >>> segment.column("gender"), segment.cut(np.zeros(48000, np.float32)).shape
        ('f', (24000,))
    """

    file: str
    path: Path
    start: float = 0.0
    end: float | None = None
    speaker: str = ""
    split: str = ""
    label: str = ""
    emotion: Emotion | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """The text of a column that is not a number: ``file``, ``speaker``, ``split``, ``label`` or a further one."""
        if name in ("file", "speaker", "split", "label"):
            return str(getattr(self, name))
        return self.fields.get(name, "")

    def cut(self, signal: np.ndarray) -> np.ndarray:
        """The samples of the segment, shape=(samples,).

        Args:
            signal: the whole file, at 16 kHz, shape=(samples,)

        Raises:
            AudioError: if the file ends before the segment begins
        """
        start = round(self.start * SAMPLING_RATE)
        stop = None if self.end is None else round(self.end * SAMPLING_RATE)
        if not len(signal[start:stop]):
            end = "its end" if self.end is None else f"{self.end:g} s"
            whole = len(signal) / SAMPLING_RATE
            raise AudioError(f"{self.path}: is {whole:g} s long, with no sample from {self.start:g} s to {end}")
        return signal[start:stop]


def segment_signal(segment: Segment) -> np.ndarray:
    """The samples of a segment, mono float32 at 16 kHz.

    Raises:
        AudioError: if the file cannot be read, or the segment holds no sample of it
    """
    return segment.cut(read(segment.path))


class Norm(NamedTuple):
    """The norm of a category's name: an emotion on 0 to 1, and its class in the two AUCs ("" where it has none).

    Examples:
        >>> from wav2small.tables.manifest import load_norms
        >>> load_norms()["sadness"].arousal_class
        'low'
    """

    emotion: Emotion
    arousal_class: str
    valence_class: str


def read_manifest(source: str | Path, root: str | Path | None = None) -> list[Segment]:
    """Segments of a manifest, or of a folder.

    Args:
        source: a CSV, JSON or Parquet file, a folder with a ``manifest.csv``, a label store, or a folder of audio
            files; a path or a URL
        root: folder that ``file`` is relative to; default: the folder of the manifest, and its column ``root``

    Returns:
        one segment per row, in the order of the table; for a folder of audio one segment per file, sorted

    Raises:
        ManifestError: if the table has no column ``file``, no rows, a duplicate segment, or an invalid number

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.manifest import read_manifest
        >>> _ = Path("manifest.csv").write_text("file,speaker,label\\na.wav,s1,anger\\nb.wav,s2,sadness\\n")
        >>> [(segment.file, segment.speaker) for segment in read_manifest("manifest.csv")]
        [('a.wav', 's1'), ('b.wav', 's2')]
    """
    path = locate(source)
    if path.is_dir() and (path / "manifest.csv").is_file():
        path = path / "manifest.csv"
    store = Store.find(path) if path.is_dir() else None
    if path.is_dir() and store is None:
        return _read_folder(path)
    rows = [as_text(row) for row in store.rows()] if store else read_table(path)
    if not rows:
        raise ManifestError(f"{path}: has no rows. A manifest has one row a segment, with at least a column file.")
    if "file" not in rows[0]:
        raise ManifestError(f"{path}: has no column file, only {', '.join(rows[0])}. Name the column of paths file.")
    folder = (path if store else path.parent) if root is None else locate(root)
    segments = [
        _segment(row, join(folder, row.get("root", "")) if root is None else folder, f"{path}, row {number}")
        for number, row in enumerate(rows, 1)
    ]
    _check_unique(segments, path)
    return segments


def read_labelled(tables: Iterable[str], root: str | None = None) -> list[Segment]:
    """The rows of tables of labels that have no error; ``root`` is the folder of their audio if not the tables' own.

    A table without a column ``corpus`` is one corpus.
    """
    return [
        segment if segment.column("corpus") else replace(segment, fields={**segment.fields, "corpus": table})
        for table in tables
        for segment in read_manifest(table, root)
        if not segment.column("error")
    ]


def _read_folder(folder: Path) -> list[Segment]:
    if is_remote(folder):
        files = sorted((f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.name[0] != "."), key=str)
        if not files:
            raise AudioError(f"{folder}: no audio in this folder; looked for {' '.join(sorted(SUFFIXES))}")
    else:
        files = [Path(file) for file in find_files([folder])]
    return [Segment(file=file.relative_to(folder).as_posix(), path=file) for file in files]


def _segment(row: Mapping[str, str], folder: Path, where: str) -> Segment:
    file = row["file"]
    if not file:
        raise ManifestError(f"{where}: the column file is empty. Name the audio file, or remove the row.")
    start, end = _number(row, "start", where), _number(row, "end", where)
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise ManifestError(f"{where}: a segment from {start} to {end} s is empty. Needed: 0 <= start < end.")
    return Segment(
        file=file,
        path=join(folder, file),
        start=start or 0.0,
        end=end,
        speaker=row.get("speaker", ""),
        split=row.get("split", ""),
        label=row.get("label", ""),
        emotion=_emotion(row, where),
        fields={name: value for name, value in row.items() if name not in KNOWN},
    )


def _number(row: Mapping[str, str], column: str, where: str) -> float | None:
    text = row.get(column, "")
    if text == "":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(f"{where}: {column} is {text!r}. Needed: a number, or nothing.")
    return number


def _emotion(row: Mapping[str, str], where: str) -> Emotion | None:
    values = [_number(row, name, where) for name in OUTPUTS]
    missing = [name for name, value in zip(OUTPUTS, values, strict=True) if value is None]
    if len(missing) == len(OUTPUTS):
        return None
    if missing:
        raise ManifestError(f"{where}: has no {' and no '.join(missing)}. Give {', '.join(OUTPUTS)} together, or none.")
    return Emotion(*(value for value in values if value is not None))


def _check_unique(segments: Iterable[Segment], path: Path) -> None:
    seen: dict[tuple[str, float, float | None], int] = {}
    for number, segment in enumerate(segments, 1):
        first = seen.setdefault((segment.file, segment.start, segment.end), number)
        if first != number:
            raise ManifestError(
                f"{path}: rows {first} and {number} are the same segment of {segment.file}. "
                "Remove one, or give them different start and end."
            )


def to_row(segment: Segment, folder: str | Path) -> dict[str, object]:
    """A segment as a row of a table in ``folder``: what ``read_manifest`` makes of the row is the segment."""
    root = str(segment.path).removesuffix(str(Path(segment.file))) or "."
    emotion = segment.emotion or (None,) * len(OUTPUTS)
    return {
        "file": segment.file,
        "root": None if is_remote(segment.file) else _seen_from(folder, root),
        "start": segment.start or None,
        "end": segment.end,
        "speaker": segment.speaker,
        "split": segment.split,
        "label": segment.label,
        **segment.fields,
        **dict(zip(OUTPUTS, emotion, strict=True)),
    }


@cache
def _seen_from(folder: str | Path, root: str) -> str:
    return relative(locate(root), locate(folder))


def select(segments: Sequence[Segment], where: Iterable[tuple[str, str]]) -> list[Segment]:
    """The segments whose columns have the values asked for.

    Args:
        segments: of a manifest
        where: (column, value) pairs; several values of one column are alternatives, every column must match

    Raises:
        ManifestError: if no segment is left, naming the values that the column has

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.manifest import Segment, select
        >>> segments = [Segment(name, Path(name), split=name[0]) for name in ("a1", "b1", "b2")]
        >>> [segment.file for segment in select(segments, [("split", "b")])]
        ['b1', 'b2']
    """
    wanted: dict[str, set[str]] = {}
    for column, value in where:
        wanted.setdefault(column, set()).add(value)
    kept = list(segments)
    for column, values in wanted.items():
        seen = sorted({segment.column(column) for segment in kept})
        kept = [segment for segment in kept if segment.column(column) in values]
        if not kept:
            raise ManifestError(
                f"no row has {column} = {' or '.join(sorted(values))}. "
                f"Values there: {', '.join(value or 'nothing' for value in seen[:12])}."
            )
    return kept


class Norms(dict[str, Norm]):
    """Norms by category name; the case of a name does not matter when it is looked up."""

    def __getitem__(self, label: str) -> Norm:
        return super().__getitem__(label.strip().lower())

    def __contains__(self, label: object) -> bool:
        return isinstance(label, str) and super().__contains__(label.strip().lower())

    def get(self, label: str, default: Any = None) -> Any:
        """The norm of a label, or the default."""
        return super().get(label.strip().lower(), default)


def load_norms(path: str | Path | None = None) -> Norms:
    """Norms by category name, in any case.

    Args:
        path: a CSV with label, arousal, dominance, valence (0 to 1), arousal_class (high, low or nothing) and
            valence_class (positive, negative or nothing); default: the norms of this package

    Raises:
        ManifestError: if there are no rows, a label comes twice, a number is not within 0 to 1, or a class is unknown

    Examples:
        >>> from wav2small.tables.manifest import load_norms
        >>> load_norms()["Anger"].valence_class
        'negative'
    """
    source = NORMS if path is None else Path(path)
    norms = Norms()
    rows = read_table(source)
    if not rows:
        raise ManifestError(
            f"{source}: has no rows. Give norms: one row per label, with label and {', '.join(OUTPUTS)}."
        )
    for number, row in enumerate(rows, 1):
        where = f"{source}, row {number}"
        name = row.get("label", "").strip().lower()
        if not name or name in norms:
            raise ManifestError(f"{where}: label is {name!r}. Needed: a name that no other row has, in any case.")
        emotion = _emotion(row, where)
        if emotion is None or not all(0 <= value <= 1 for value in emotion):
            raise ManifestError(f"{where}: {emotion} for {name}. Needed: {', '.join(OUTPUTS)}, each from 0 to 1.")
        classes = row.get("arousal_class", ""), row.get("valence_class", "")
        if classes[0] not in ("high", "low", "") or classes[1] not in ("positive", "negative", ""):
            raise ManifestError(f"{where}: classes {classes}. Allowed: high or low, positive or negative, or nothing.")
        norms[name] = Norm(emotion, *classes)
    return norms
