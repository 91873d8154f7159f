"""A diary of a day: one row per window of a stream, in one file per date, without audio.

The rows of a date that is not over are in ``NAME-DATE.SUFFIX.partial``, lines of CSV that are written as they come.
When the date or the stream ends they become ``NAME-DATE.SUFFIX``, whole or not at all.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.files import check_writable, is_remote, whole_file
from wav2small.network.config import OUTPUTS
from wav2small.runtime import event as events
from wav2small.runtime.event import Event
from wav2small.tables.table import check_parquet, format_of, lines, pyarrow, read_table

Row = dict[str, Any]

COLUMNS = (
    *("time", "dur", "model", *OUTPUTS, "speech", "speech_ratio", *events.CALIBRATION_COLUMNS),
    *(*events.CATEGORY_COLUMNS, *events.INTERVAL_COLUMNS, *events.DEVIATION_COLUMNS),
)
"""Of every diary, whatever the options of the stream, so that days can be joined."""
TEXT_COLUMNS = ("time", "model", "word", "category", "change")
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")
PARTIAL = ".partial"
MODE = 0o600
"""A diary is for its owner alone."""
LATE_DUR = 5.0
"""Seconds that a stream may lag behind the clock, as after the sleep of the machine, before its time is set anew."""
BATCH_ROWS = 4096
"""Rows of a group of Parquet, which are in memory together."""
MEANS = (*OUTPUTS, *events.DEVIATION_COLUMNS[: len(OUTPUTS)])


def local_time() -> datetime:
    """The time of day, with the zone of this machine."""
    return datetime.now().astimezone()


class Diary:
    """Writes events of a stream into one file per date.

    A row has the time at which its window began, with its zone. Windows that overlap the last one written are left
    out, so that each second of audio is in one row at most. If the program is killed, the window that was being
    recorded is lost; the next diary of this name continues the date, and completes the files of earlier ones. Memory
    does not grow.

    Args:
        path: name of the files, which get the date before the suffix: ``day.csv`` gives ``day-2026-11-28.csv``
        model: name of the model, written into each row
        now: the clock

    Raises:
        Wav2SmallError: if the files cannot be written, have other columns, or are written by another program
        MissingExtraError: if the format is Parquet and pyarrow is not installed

    Examples:
        >>> from wav2small.runtime.diary import Diary, read_diary
        >>> diary = Diary("day.csv", "micro")
        >>> for start in (0.0, 0.5, 3.0):
        ...     diary.add(wav2small.Event(start, start + 3.0, speech=False, speech_ratio=0.1))
        >>> path = diary.close()
        >>> [row["dur"] for row in read_diary(path)]
        [3.0, 3.0]
    """

    def __init__(self, path: str | Path, model: str, now: Callable[[], datetime] = local_time) -> None:
        self._path, self._model, self._now = Path(path), model, now
        self._begun: datetime | None = None
        self._end = 0.0
        check_name(path)
        self._open(now().date())
        for other in map(partial, dated(self._path)):
            if other.exists() and other != partial(self._whole):
                complete(other)

    def add(self, event: Event) -> None:
        """Write an event, unless its window overlaps the last one that was written."""
        assert event.start is not None and event.end is not None
        now = self._now()
        begun = now - timedelta(seconds=event.end)
        if self._begun is None or begun - self._begun > timedelta(seconds=LATE_DUR):
            self._begun = begun
        if event.start < self._end:
            return
        self._end = event.end
        time = (self._begun + timedelta(seconds=event.start)).astimezone(now.tzinfo)
        if time.date() != self._date:
            self.close()
            self._open(time.date())
        dur = event.end - event.start
        row = vars(event) | {"time": time.isoformat(timespec="seconds"), "dur": dur, "model": self._model}
        self._file.write(list(lines([row], "csv", COLUMNS))[-1])
        self._file.flush()

    def close(self) -> Path:
        """Write the file of the last date.

        Returns:
            its path; no file is there if it has no row
        """
        self._file.close()
        complete(partial(self._whole))
        return self._whole

    def _open(self, day: date) -> None:
        """Open the rows of a date, those of earlier runs included."""
        self._date = day
        self._whole = self._path.with_name(f"{self._path.stem}-{day.isoformat()}{self._path.suffix}")
        check_writable(self._whole)
        rows = partial(self._whole)
        if not rows.exists() or rows.stat().st_size == 0:
            write_rows(read_diary(self._whole) if self._whole.exists() else (), rows, "csv")
        file = locked(rows)
        if file is None:
            raise Wav2SmallError(f"{self._whole}: another program writes this diary; give it another name")
        self._file = file
        for _ in read_partial(rows):
            pass  # raises if they are not those of a diary
        cut_off_last_line(rows)
        file.seek(0, os.SEEK_END)


def check_name(path: str | Path) -> None:
    """Raise ``Wav2SmallError`` if a diary cannot have this name."""
    if is_remote(path) or format_of(path) not in FORMATS:
        raise Wav2SmallError(f"{path}: a diary is a local file that ends with .{', .'.join(FORMATS)}")
    if format_of(path) == "parquet":
        check_parquet()


def partial(whole: Path) -> Path:
    """The rows of a diary that is not finished."""
    return whole.with_name(whole.name + PARTIAL)


def dated(path: Path) -> list[Path]:
    """The files of all dates of a diary, in order, finished or not."""
    found = path.parent.glob(f"{glob.escape(path.stem)}-????-??-??{glob.escape(path.suffix)}*")
    return sorted({one.with_name(one.name.removesuffix(PARTIAL)) for one in found})


def complete(rows: Path) -> None:
    """Write the diary of rows that are finished, and remove them; leaves them if another program writes them."""
    file = locked(rows)
    if file is None:
        return
    with file:
        if next(read_partial(rows), None) is not None:
            whole = rows.with_name(rows.name.removesuffix(PARTIAL))
            write_rows(read_partial(rows), whole, format_of(whole))
    rows.unlink()


def locked(rows: Path) -> TextIO | None:
    """A file that no other program writes until it is closed; None if another one does.

    Raises:
        Wav2SmallError: if it cannot be opened
    """
    try:
        file = open(rows, "r+", encoding="utf-8", newline="")  # noqa: SIM115  the caller closes it
    except OSError as error:
        raise Wav2SmallError(f"{rows}: cannot be written: {error.strerror}") from None
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows, where a file that is open cannot be removed
        pass
    except BlockingIOError:
        file.close()
        return None
    return file


def cut_off_last_line(rows: Path) -> None:
    """Remove a last line that has no end, since the program was killed while it was written."""
    content = rows.read_bytes()
    os.truncate(rows, content.rfind(b"\n") + 1)


def write_rows(rows: Iterable[Row], path: Path, format: str) -> None:
    """Write rows of ``COLUMNS``, whole or not at all, for the owner alone."""
    with whole_file(path) as temporary:
        temporary.chmod(MODE)
        if format == "parquet":
            write_parquet(rows, temporary)
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.writelines(lines(rows, format, COLUMNS))


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows group by group; a column has the same type in every diary, also where it is empty."""
    special = {"speech": pyarrow().bool_()} | dict.fromkeys(TEXT_COLUMNS, pyarrow().string())
    schema = pyarrow().schema([(name, special.get(name, pyarrow().float64())) for name in COLUMNS])
    rows = iter(rows)
    with pyarrow().parquet.ParquetWriter(str(path), schema, compression="zstd") as writer:
        while batch := list(islice(rows, BATCH_ROWS)):
            writer.write_table(pyarrow().Table.from_pylist(batch, schema=schema))


def read_diary(path: str | Path) -> list[Row]:
    """Rows of a diary, also of one that is being written.

    Args:
        path: of one date, such as ``day-2026-11-28.parquet``

    Returns:
        one dictionary a row, with ``time`` in ISO 8601, ``dur`` in seconds, and the fields of an ``Event``

    Raises:
        ManifestError: if there is no such file, or it is not a diary

    Examples:
        >>> from wav2small.runtime.diary import Diary, read_diary
        >>> diary = Diary("day.csv", "micro")
        >>> diary.add(wav2small.Event(0.0, 3.0, 0.4, 0.5, 0.6, speech=True, speech_ratio=0.9))
        >>> [(row["model"], row["arousal"]) for row in read_diary(diary.close())]
        [('micro', 0.4)]
    """
    rows = partial(Path(path))
    if rows.exists():
        return list(read_partial(rows))
    if not Path(path).exists() and (dates := dated(Path(path))):
        raise ManifestError(f"{path}: there is no such file; a diary has a date, such as {dates[-1]}")
    return list(parsed(read_table(path), path))


def read_partial(rows: Path) -> Iterator[Row]:
    """Rows that are not finished, one by one, without a last line that has no end."""
    try:
        with open(rows, encoding="utf-8", newline="") as file:
            yield from parsed(csv.DictReader(line for line in file if line.endswith("\n")), rows)
    except (OSError, UnicodeError, csv.Error) as error:
        raise not_a_diary(rows, error) from None


def parsed(rows: Iterable[dict[str, str]], path: str | Path) -> Iterator[Row]:
    """Rows of text, as a table has them, with their types."""
    try:
        for row in rows:
            yield {name: value_of(name, row[name]) for name in COLUMNS}
    except (KeyError, TypeError, ValueError) as error:
        raise not_a_diary(path, error) from None


def value_of(name: str, cell: str) -> Any:
    """The value in a cell of text."""
    if name == "time":
        return datetime.fromisoformat(cell).isoformat(timespec="seconds")
    if name == "speech":
        return cell == "true"
    if name in TEXT_COLUMNS:
        return cell or None
    return float(cell) if cell or name in ("dur", "speech_ratio") else None


def not_a_diary(path: str | Path, error: Exception) -> ManifestError:
    """The error for a file with other content."""
    return ManifestError(
        f"{path}: is not a diary of wav2small ({type(error).__name__}: {error}); move it away, or name another"
    )


def hours(rows: Sequence[Row]) -> list[Row]:
    """A row for each hour of a diary.

    Args:
        rows: of ``read_diary``

    Returns:
        rows with ``hour``, minutes recorded and minutes of speech, and the means of the dimensions and deviations,
        weighted by speech; None where nobody spoke
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["time"][:13], []).append(row)
    return [
        {
            "hour": f"{hour}:00",
            "minutes": sum(row["dur"] for row in own) / 60,
            "speech_minutes": sum(map(speech_dur, own)) / 60,
            **{name: mean(own, name) for name in MEANS},
        }
        for hour, own in sorted(found.items())
    ]


def speech_dur(row: Row) -> float:
    """Seconds of speech in a row."""
    return float(row["dur"] * row["speech_ratio"])


def mean(rows: Iterable[Row], name: str) -> float | None:
    """Mean of a column by speech; None if no row has a value."""
    spoken = [row for row in rows if row[name] is not None]
    dur = sum(map(speech_dur, spoken))
    return sum(row[name] * speech_dur(row) for row in spoken) / dur if dur else None
