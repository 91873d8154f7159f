"""Rows as annotation files for other programs: Praat's TextGrid, ELAN, WebVTT, SubRip, RTTM, and audformat."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from wav2small.errors import Wav2SmallError
from wav2small.network.config import OUTPUTS

Row = Mapping[str, Any]
XSI = "http://www.w3.org/2001/XMLSchema-instance"
EPOCH = "1970-01-01T00:00:00+00:00"
"""Date for formats that require one: the same rows give the same bytes."""


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
    """Intervals without gaps from 0 to the end, as Praat requires them."""
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


def elan(rows: Sequence[Row]) -> str:
    """The tiers of the TextGrid as an annotation document of ELAN, version 3.0; only what has a value is annotated."""
    rows = of_one_file(rows, "ELAN")
    schema = {f"{{{XSI}}}noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"}
    document = Element("ANNOTATION_DOCUMENT", schema, AUTHOR="wav2small", DATE=EPOCH, FORMAT="3.0", VERSION="3.0")
    header = SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    for row in rows[:1]:
        SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=str(row.get("file", "")), MIME_TYPE="audio/x-wav")
    times = SubElement(document, "TIME_ORDER")
    for speaker, name in [(speaker, name) for speaker in speakers(rows) for name in OUTPUTS]:
        facts = {"TIER_ID": f"{speaker} {name}".strip(), "PARTICIPANT": speaker, "LINGUISTIC_TYPE_REF": "emotion"}
        tier = SubElement(document, "TIER", facts)
        own = [row for row in rows if _speaker(row) == speaker]
        for first, last, text in _filled(own, name, own[-1]["end"]):
            if text:
                slots = {"TIME_SLOT_REF1": _slot(times, first), "TIME_SLOT_REF2": _slot(times, last)}
                facts = {"ANNOTATION_ID": slots["TIME_SLOT_REF1"].replace("ts", "a")} | slots
                aligned = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", facts)
                SubElement(aligned, "ANNOTATION_VALUE").text = text
    SubElement(document, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="emotion", TIME_ALIGNABLE="true")
    indent(document)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(document, "unicode")}\n'


def _slot(times: Element, seconds: float) -> str:
    """The name of a new time among those of an ELAN document."""
    name = f"ts{len(times) + 1}"
    SubElement(times, "TIME_SLOT", TIME_SLOT_ID=name, TIME_VALUE=str(round(seconds * 1000)))
    return name


def webvtt(rows: Sequence[Row]) -> str:
    """A cue for each row, with its speaker as the voice."""
    cues = ["WEBVTT\n"]
    for row in of_one_file(rows, "WebVTT"):
        voice = f"<v {_speaker(row)}>" if _speaker(row) else ""
        cues.append(f"{_clock(row['start'])} --> {_clock(row['end'])}\n{voice}{_said(row, ' ')}\n")
    return "\n".join(cues)


def srt(rows: Sequence[Row]) -> str:
    """SubRip: a subtitle for each row, which begins with the speaker."""
    subtitles = []
    for number, row in enumerate(of_one_file(rows, "SRT"), 1):
        speaker = f"{_speaker(row)}: " if _speaker(row) else ""
        times = f"{_clock(row['start'])} --> {_clock(row['end'])}".replace(".", ",")
        subtitles.append(f"{number}\n{times}\n{speaker}{_said(row, ' ')}\n")
    return "\n".join(subtitles)


def rttm(rows: Sequence[Row]) -> str:
    """A SPEAKER line for each row; the emotion is in the sixth field, where RTTM has the words."""
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
    "eaf": elan,
    "vtt": webvtt,
    "srt": srt,
    "rttm": rttm,
    "audformat": audformat,
}


def needs(format: str) -> tuple[str, ...]:
    """Columns that the rows of a format must have; none for a format that is not one of ``WRITERS``."""
    if format not in WRITERS:
        return ()
    return INDEX if format == "audformat" else ("start", "end", "speech", *OUTPUTS)


def answered(rows: Sequence[Row]) -> list[Row]:
    """Rows with a time, which those of failed files lack."""
    return [row for row in rows if row.get("end") is not None]


def of_one_file(rows: Sequence[Row], format: str) -> list[Row]:
    """The same, all of one recording.

    Raises:
        Wav2SmallError: if they are of more
    """
    rows = answered(rows)
    files = list(dict.fromkeys(str(row.get("file", "")) for row in rows))
    if len(files) > 1:
        raise Wav2SmallError(f"{format} holds one recording, these rows are of {len(files)}; write one file for each")
    return rows


def speakers(rows: Sequence[Row]) -> list[str]:
    """Distinct speakers in the order in which they first appear; "" stands for rows without one."""
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
