"""Rows as files that other programs read: Praat's TextGrid, WebVTT, RTTM, and a table of audformat."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wav2small.config import OUTPUTS
from wav2small.errors import Wav2SmallError

Row = Mapping[str, Any]


def textgrid(rows: Sequence[Row]) -> str:
    """A tier for each dimension of each speaker. A row that overlaps the next is cut where that starts."""
    rows = of_one_file(rows, "TextGrid")
    end = max((row["end"] for row in rows), default=0.0)
    tiers = [(speaker, name) for speaker in speakers(rows) for name in OUTPUTS]
    parts = [
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
        f"xmin = 0\nxmax = {end:.6f}\ntiers? <exists>\nsize = {len(tiers)}\nitem []:\n"
    ]
    for number, (speaker, name) in enumerate(tiers, 1):
        intervals = _filled([row for row in rows if _speaker(row) == speaker], name, end)
        title = f"{speaker} {name}".strip().replace('"', '""')
        parts.append(
            f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{title}"\n'
            f"        xmin = 0\n        xmax = {end:.6f}\n        intervals: size = {len(intervals)}\n"
        )
        for index, (first, last, text) in enumerate(intervals, 1):
            parts.append(
                f"        intervals [{index}]:\n            xmin = {first:.6f}\n            xmax = {last:.6f}\n"
                f'            text = "{text}"\n'
            )
    return "".join(parts)


def _filled(rows: Sequence[Row], name: str, end: float) -> list[tuple[float, float, str]]:
    """Intervals that follow on each other from 0 to the end, as Praat wants them."""
    found: list[tuple[float, float, str]] = []
    position = 0.0
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        last = row["end"] if after is None else min(row["end"], after["start"])
        if row["start"] > position:
            found.append((position, row["start"], ""))
        if last > row["start"]:
            found.append((row["start"], last, "" if row[name] is None else f"{row[name]:.4f}"))
            position = last
    return [*found, (position, end, "")] if end > position else found


def webvtt(rows: Sequence[Row]) -> str:
    """A cue a row, in its speaker's voice."""
    cues = ["WEBVTT\n"]
    for row in of_one_file(rows, "WebVTT"):
        voice = f"<v {_speaker(row)}>" if _speaker(row) else ""
        cues.append(f"{_clock(row['start'])} --> {_clock(row['end'])}\n{voice}{_said(row, ' ')}\n")
    return "\n".join(cues)


def rttm(rows: Sequence[Row]) -> str:
    """A SPEAKER line a row; the emotion is in the sixth field, where RTTM has the words."""
    lines = []
    for row in answered(rows):
        file, speaker = ("_".join(text.split()) for text in (str(row.get("file") or "-"), _speaker(row) or "speaker"))
        said = _said(row, ";").replace(" ", "=") if row.get("speech") else "<NA>"
        dur = row["end"] - row["start"]
        lines.append(f"SPEAKER {file} 1 {row['start']:.3f} {dur:.3f} {said} <NA> {speaker} <NA> <NA>\n")
    return "".join(lines)


def audformat(rows: Sequence[Row]) -> str:
    """A segmented table: ``audformat.utils.read_csv`` reads it."""
    rows = answered(rows)
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in INDEX]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*INDEX, *columns])
    for row in rows:
        cells = ("" if row.get(name) is None else row[name] for name in columns)
        writer.writerow([row["file"], f"0 days {_clock(row['start'])}", f"0 days {_clock(row['end'])}", *cells])
    return buffer.getvalue()


INDEX = ("file", "start", "end")
WRITERS: dict[str, Callable[[Sequence[Row]], str]] = {
    "textgrid": textgrid,
    "vtt": webvtt,
    "rttm": rttm,
    "audformat": audformat,
}


def answered(rows: Sequence[Row]) -> list[Row]:
    """Rows with a time; those of files that failed have none."""
    return [row for row in rows if row.get("end") is not None]


def of_one_file(rows: Sequence[Row], format: str) -> list[Row]:
    """The same, all of one recording.

    Raises:
        Wav2SmallError: if they are of more
    """
    rows = answered(rows)
    files = list(dict.fromkeys(str(row.get("file", "")) for row in rows))
    if len(files) > 1:
        raise Wav2SmallError(f"{format} is of one recording, these rows are of {len(files)}; write one file for each")
    return rows


def speakers(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(map(_speaker, rows)))


def _speaker(row: Row) -> str:
    return str(row.get("speaker") or "")


def _said(row: Row, between: str) -> str:
    if not row.get("speech"):
        return "no speech"
    return between.join(f"{name} {row[name]:.2f}" for name in OUTPUTS if row[name] is not None)


def _clock(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
