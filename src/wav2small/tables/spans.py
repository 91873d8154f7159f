"""Stretches of one recording with their speakers: from a table, a diarizer's RTTM, or Audacity's labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wav2small.errors import ManifestError
from wav2small.tables.table import read_table

RTTM_FIELDS = 8
"""SPEAKER, file, channel, start, duration, two that are <NA>, and the speaker's name; more may follow."""
CLOCK = re.compile(r"(?:(?P<days>\d+) days? )?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)")
"""A time as audformat and pandas write it."""


class Span(NamedTuple):
    """From ``start`` to ``end`` in seconds; ``speaker`` and ``file`` are "" where they are not named.

    Examples:
        >>> from wav2small.tables.spans import Span
        >>> Span(start=0.5, end=2.0, speaker="A").file
        ''
    """

    start: float
    end: float
    speaker: str = ""
    file: str = ""


def read_spans(path: str | Path) -> list[Span]:
    """Spans of a file, in the order of their starts; the content of the file determines its format.

    Supported are RTTM, Audacity's labels (start, end and label between tabs; the label is the speaker), and tables
    (CSV, JSON, Parquet) with ``start`` and ``end`` in seconds or as audformat writes them, and ``speaker`` and ``file``
    if they have them.

    Args:
        path: of the file

    Raises:
        ManifestError: if it is none of these, or a span is empty or not a number

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.spans import read_spans
        >>> _ = Path("talk.rttm").write_text("SPEAKER talk 1 0.50 1.50 <NA> <NA> A <NA> <NA>\\n")
        >>> read_spans("talk.rttm")
        [Span(start=0.5, end=2.0, speaker='A', file='talk')]
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be opened: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if lines and lines[0][1].split()[0] in ("SPEAKER", "SPKR-INFO"):
        found = [_rttm_span(line, f"{path}, line {number}") for number, line in lines if line.startswith("SPEAKER")]
    elif lines and _is_label(lines[0][1]):
        found = [_label_span(line, f"{path}, line {number}") for number, line in lines if line[0] != "\\"]
    else:
        found = [table_span(row, f"{path}, row {number}") for number, row in enumerate(read_table(path), 1)]
    if not found:
        raise ManifestError(f"{path}: has no segment; needed: RTTM, Audacity's labels, or a table with start and end")
    return sorted(found, key=lambda span: (span.start, span.end))


def spans_of(spans: list[Span], file: str) -> list[Span]:
    """Spans of one recording, by its path or the end of it, name or stem; all if they name one file at most."""
    named = {span.file for span in spans}
    if len(named) == 1:
        return spans
    names = names_of(file)
    found = [span for span in spans if span.file in names]
    if not found:
        raise ManifestError(
            f"{file}: there is no segment of this file; there are segments of {', '.join(sorted(named)[:8])}"
        )
    return found


def names_of(file: str) -> set[str]:
    """What a recording is matched by: its path, every end of its path, and its stem."""
    path = Path(file)
    return {file, path.stem, *("/".join(path.parts[start:]) for start in range(len(path.parts)))}


def _rttm_span(line: str, where: str) -> Span:
    cells = line.split()
    if len(cells) < RTTM_FIELDS:
        raise ManifestError(f"{where}: has {len(cells)} fields, RTTM has {RTTM_FIELDS} or more; is it cut off?")
    start = _seconds(cells[3], where)
    return _checked(Span(start, start + _seconds(cells[4], where), cells[7], cells[1]), where)


def _is_label(line: str) -> bool:
    cells = line.split("\t")
    return len(cells) >= 2 and all(re.fullmatch(r"-?\d+(?:[.,]\d+)?", cell) for cell in cells[:2])


def _label_span(line: str, where: str) -> Span:
    start, end, *label = line.split("\t")
    times = _seconds(start.replace(",", "."), where), _seconds(end.replace(",", "."), where)
    return _checked(Span(*times, " ".join(label).strip()), where)


def table_span(row: Mapping[str, str], where: str) -> Span:
    """The span of a row of a table; ``where`` is its place, for error messages.

    Raises:
        ManifestError: if ``start`` or ``end`` is missing or not a time, or the span is empty
    """
    missing = [name for name in ("start", "end") if not row.get(name)]
    if missing:
        raise ManifestError(f"{where}: has no {' and no '.join(missing)}; give each segment its start and end in s")
    times = _seconds(row["start"], where), _seconds(row["end"], where)
    return _checked(Span(*times, row.get("speaker", ""), row.get("file", "")), where)


def _seconds(text: str, where: str) -> float:
    if clock := CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(f"{where}: {text!r} is not a time; give seconds, or days and clock as audformat does")
    return number


def _checked(span: Span, where: str) -> Span:
    if not 0 <= span.start < span.end:
        raise ManifestError(f"{where}: from {span.start:g} to {span.end:g} s is empty; needed: 0 <= start < end")
    return span
