"""An audformat database, as audEERING distributes corpora: db.yaml and its tables. Extra ``audformat``.

Columns of all tables are joined by file and segment; values of a file also apply to its segments. Arousal, dominance
and valence are mapped to 0..1 if their scheme has a minimum and a maximum. A table's split is the split of its rows.
Source: audeering.github.io/audformat.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from wav2small.corpora import Corpus
from wav2small.corpora.columns import renamed
from wav2small.corpora.folder import not_this_corpus, segment
from wav2small.errors import ManifestError, missing_packages
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment

Key = tuple[str, float, float | None]


def read(root: Path) -> list[Segment]:
    """One segment per row of the segmented tables, and one per other file.

    Raises:
        ManifestError: if the folder is not an audformat database
        MissingExtraError: if audformat is not installed
    """
    try:
        import audformat
    except ImportError:
        raise missing_packages("this", ["audformat"], "wav2small[audformat]") from None
    if not (root / "db.yaml").is_file():
        raise not_this_corpus(root, "there is no db.yaml")
    if pickles := sorted(root.glob("*.pkl")):
        raise ManifestError(f"{pickles[0]}: is a pickle, which can run code. Remove it; CSV and Parquet are supported.")
    rows: dict[Key, dict[str, object]] = defaultdict(dict)
    try:
        database = audformat.Database.load(str(root))
        for table in database.tables.values():
            for key, columns in _rows(table, database):
                rows[key] |= columns
    except (FileNotFoundError, KeyError, RuntimeError, ValueError) as error:
        raise ManifestError(f"{root}: not a complete audformat database ({str(error).splitlines()[0]}).") from None
    segmented = {file for file, start, end in rows if (start, end) != (0, None)}
    return [
        _segment(root, key, rows.get((key[0], 0.0, None), {}) | columns)
        for key, columns in rows.items()
        if key[0] not in segmented or key[1:] != (0, None)
    ]


def _rows(table: Any, database: Any) -> list[tuple[Key, dict[str, object]]]:
    split = {"split": database.splits[table.split_id].type} if table.split_id else {}
    frame = table.get()
    columns = {name: _values(frame[name], database.schemes.get(c.scheme_id)) for name, c in table.columns.items()}
    return [
        (_key(index), renamed({name: v[row] for name, v in columns.items() if v[row] is not None} | split))
        for row, index in enumerate(frame.index)
    ]


def _key(index: Any) -> Key:
    if isinstance(index, str):
        return index, 0.0, None
    file, start, end = index
    return file, start.total_seconds(), None if end != end else end.total_seconds()


def _values(column: Any, scheme: Any) -> list[Any]:
    low: Any
    high: Any
    low, high = getattr(scheme, "minimum", None), getattr(scheme, "maximum", None)
    is_scaled = renamed({column.name: 0}).keys() & {*OUTPUTS} and low is not None and high is not None
    values = [None if value is None or value != value else value for value in column.astype(object)]
    return [(value - low) / (high - low) if is_scaled and value is not None else value for value in values]


def _segment(root: Path, key: Key, columns: dict[str, object]) -> Segment:
    file, start, end = key
    ratings = [columns.pop(name, None) for name in OUTPUTS]
    emotion = Emotion(*(float(str(r)) for r in ratings)) if all(r is not None for r in ratings) else None
    return segment(root, file, columns | {"start": start, "end": end}, emotion)


AUDFORMAT = Corpus(
    title="an audformat database",
    annotation="its schemes; A/D/V by their limits",
    splits="its own, or by speaker",
    licence="its owner's",
    source="audeering.github.io/datasets",
    read=read,
)
