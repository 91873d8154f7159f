"""Annotation over time: a table with one row per moment of a file, as raters with a joystick leave it.

Columns are ``file``, ``time`` (seconds), one or more of ``arousal``, ``dominance`` and ``valence`` (nominally 0 to 1),
and ``split`` if there are any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS
from wav2small.tables.table import read_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Annotation of one file over time.

    Args:
        file: as written in the table
        time: seconds, ascending, shape=(moments,)
        values: of each annotated dimension, shape=(moments,)
        split: ``train``, ``dev``, ``test`` or one of the corpus's own; "" if there are none

    Examples:
        >>> from wav2small.tables.series import Series
        >>> Series("a.wav", np.array([0.0, 0.25]), {"valence": np.array([0.5, 0.6])}, "dev").dimensions
        ('valence',)
    """

    file: str
    time: Floats
    values: Mapping[str, Floats]
    split: str = ""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What is annotated, in the order of A/D/V."""
        return tuple(name for name in OUTPUTS if name in self.values)


def read_series(path: str | Path) -> list[Series]:
    """Read annotation over time.

    Args:
        path: CSV, TSV, JSON or Parquet file with ``file``, ``time`` and one or more of A/D/V

    Returns:
        one series per file, in order of appearance

    Raises:
        ManifestError: if there are no rows, a column is missing, a value is not a number, a file is in two splits, or
            its times do not ascend

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.series import read_series
        >>> _ = Path("truth.csv").write_text("file,time,valence\\na.wav,0,.5\\na.wav,.25,.6\\n")
        >>> read_series("truth.csv")[0].values["valence"].tolist()
        [0.5, 0.6]
    """
    rows = read_table(path)
    if not rows:
        raise ManifestError(f"{path}: has no rows. Needed: a row per moment with file, time and one of A/D/V.")
    dimensions = [name for name in OUTPUTS if name in rows[0]]
    missing = [name for name in ("file", "time") if name not in rows[0]]
    if missing or not dimensions:
        needed = ", ".join(missing or [f"none of {', '.join(OUTPUTS)}"])
        raise ManifestError(f"{path}: lacks {needed}. Needed: a row per moment with file, time and one of A/D/V.")
    moments: dict[str, list[list[float]]] = {}
    splits: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        if splits.setdefault(row["file"], row.get("split", "")) != row.get("split", ""):
            raise ManifestError(f"{where}: {row['file']} is in two splits. Give each file one.")
        found = moments.setdefault(row["file"], [])
        found.append([_number(row, name, where) for name in ("time", *dimensions)])
        if len(found) > 1 and found[-1][0] <= found[-2][0]:
            raise ManifestError(
                f"{where}: {row['file']} goes from {found[-2][0]:g} to {found[-1][0]:g} s. Sort the rows of a file by "
                "time, and give each moment one row."
            )
    return [_series(file, np.array(found), dimensions, splits[file]) for file, found in moments.items()]


def _series(file: str, moments: Floats, dimensions: Iterable[str], split: str) -> Series:
    return Series(file, moments[:, 0], dict(zip(dimensions, moments[:, 1:].T, strict=True)), split)


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    try:
        number = float(row[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(f"{where}: {column} is {row[column]!r}. Needed: a number; leave out moments without one.")
    return number


def series_rows(series: Iterable[Series]) -> Iterator[dict[str, object]]:
    """Rows of a table that ``read_series`` reads."""
    for one in series:
        for index, time in enumerate(one.time.tolist()):
            values = {name: float(one.values[name][index]) for name in one.dimensions}
            yield {"file": one.file, "split": one.split, "time": time, **values}
