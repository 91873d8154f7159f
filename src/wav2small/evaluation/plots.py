"""A picture of one recording: arousal, dominance and valence over time, the waveform, and the plane of two of them.

With several speakers each dimension has a panel, and each speaker a line. Long recordings are averaged over time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wav2small.audio.read import blocks
from wav2small.errors import Wav2SmallError, missing_packages
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS, SAMPLING_RATE

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = {"arousal": "#d1495b", "dominance": "#8d6a9f", "valence": "#00798c"}
SPEAKER_COLOURS = ("#00798c", "#d1495b", "#edae49", "#8d6a9f", "#5b8c5a", "#30638e", "#a0522d", "#777777")
MARKERS = "osD^vPX*"
SPEECH_COLOUR = "#e9e4d4"
PEAK_DUR = 0.05
"""Seconds of the waveform whose lowest and highest samples are drawn."""
MAX_PEAKS = 2000
"""Columns of the waveform; in a longer recording each covers more than ``PEAK_DUR``."""
MAX_POINTS = 400
"""Points of a line; with more rows each is the mean over a stretch of time."""
MAX_PLANE_POINTS = 100
"""The same in the plane."""
PAUSE_DUR = 3.0
"""Seconds without a row after which a line is interrupted."""
TURN_DUR = 30.0
"""The same for one of several speakers, who is silent while others speak."""
TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
"""Seconds between two ticks of the time axis."""
MAX_TICKS = 9
LIMITS = (-0.02, 1.02)

Row = Mapping[str, Any]


class Line(NamedTuple):
    """Of one speaker and dimension: times in seconds, and the mean, low and high value at each, NaN in pauses."""

    times: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def draw(rows: Sequence[Row], path: str | Path, channel: int | None = None, audio: str | None = None) -> None:
    """Write the picture, whole or not at all; its suffix determines the format.

    Args:
        rows: of one file, with start, end, speech and the three dimensions, and speaker if there are any
        path: PNG, SVG or PDF
        channel: whose waveform is drawn
        audio: path of the recording, where the rows have another name of it

    Raises:
        Wav2SmallError: if the rows are not of exactly one file on disk, or the suffix is not that of a picture
        AudioError: if the recording cannot be read again
        MissingExtraError: if matplotlib is not installed
    """
    check_drawable(path)
    from matplotlib.figure import Figure

    files = list(dict.fromkeys(row["file"] for row in rows))
    if len(files) != 1 or files[0] == "-":
        named = "standard input" if files == ["-"] else f"{len(files)} files"
        raise Wav2SmallError(f"{path}: a picture is of one file on disk, these rows are of {named}; give it one file")
    speakers = list(dict.fromkeys(map(_speaker, rows)))
    names = OUTPUTS if len(speakers) > 1 else ("time",)
    layout: Any = [*([name, "plane"] for name in names), ["wave", "plane"]]
    figure = Figure(figsize=(15, 6 if len(names) == 1 else 9), layout="constrained")
    heights = (*([2 / len(names) ** 0.5] * len(names)), 1)
    panels = figure.subplot_mosaic(layout, width_ratios=(2, 1), height_ratios=heights)
    times, low, high = thinned_peaks(*peaks(audio or files[0], channel))
    panels["wave"].fill_between(times, low, high, color="#444444", linewidth=0.3)
    panels["wave"].set(xlabel=f"{clock_name(times[-1])}; speech is shaded", ylabel="waveform")
    if len(names) == 1:
        _draw_dimensions(panels["time"], rows)
    else:
        for name in names:
            _draw_speakers(panels[name], rows, name, speakers)
        _legend(panels[names[0]], 1.3)
    for name in (*names, "wave"):
        panels[name].set_xlim(0, times[-1] + PEAK_DUR)
        _shade(panels[name], speech_stretches(rows))
        _clock_axis(panels[name].xaxis, times[-1])
    bar = figure.colorbar(_draw_plane(panels["plane"], rows, speakers), ax=panels["plane"])
    bar.set_label(clock_name(times[-1]))
    _clock_axis(bar.ax.yaxis, times[-1])
    figure.suptitle(Path(files[0]).name)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def check_drawable(path: str | Path) -> None:
    """Refuse, before the work, what cannot be drawn.

    Raises:
        Wav2SmallError: if the suffix is not that of a picture
        MissingExtraError: if matplotlib is not installed
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise Wav2SmallError(f"{path}: no picture has this suffix; end it with {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise missing_packages("a picture", ["matplotlib"], "wav2small[plot]")


def peaks(file: str, channel: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds, and the lowest and highest sample after each; memory grows with these alone."""
    length, position = round(PEAK_DUR * SAMPLING_RATE), 0
    parts = []
    for block in blocks(file, channel):
        for start in range(0, len(block), length):
            part = block[start : start + length]
            parts.append(((position + start) / SAMPLING_RATE, part.min(), part.max()))
        position += len(block)
    times, low, high = np.array(parts).T
    return times, low, high


def thinned_peaks(times: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same with ``MAX_PEAKS`` columns at most, and with the last time."""
    if len(times) <= MAX_PEAKS:
        return times, low, high
    starts = np.linspace(0, len(times), MAX_PEAKS, endpoint=False).astype(int)
    ends = [*starts[1:], len(times)]
    return times[np.array(ends) - 1], np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def speech_stretches(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Start and end of each stretch of speech: rows with speech, joined where they touch."""
    found: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: row["start"]):
        if row["speech"] and found and row["start"] <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], row["end"])
        elif row["speech"]:
            found.append((row["start"], row["end"]))
    return found


def line(rows: Sequence[Row], name: str, pause_dur: float, most: int = MAX_POINTS) -> Line:
    """The line of a dimension through the centres of rows of one speaker, with ``most`` points, interrupted in pauses.

    Low and high are the ends of the interval, if the rows have one. Where rows are averaged, they are the tenth and
    the ninetieth percentile of the values.
    """
    rows = sorted((row for row in rows if row.get(name) is not None), key=_centre)
    if not rows:
        return Line(*np.zeros((4, 0)))
    times = np.array([_centre(row) for row in rows])
    values = np.array([row[name] for row in rows], float)
    if len(rows) <= most:
        ends = [[row.get(f"{name}_{end}") for row in rows] for end in ("low", "high")]
        low, high = (np.array([np.nan if value is None else value for value in one], float) for one in ends)
        points = np.array([times, values, low, high])
    else:
        width = (times[-1] - times[0]) / most
        bins = np.minimum(((times - times[0]) / width).astype(int), most - 1)
        groups = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(bins)) + 1)
        points = np.array(
            [(times[own].mean(), values[own].mean(), *np.quantile(values[own], (0.1, 0.9))) for own in groups]
        ).T
        pause_dur = max(pause_dur, 3 * width)
    pauses = np.flatnonzero(np.diff(points[0]) > pause_dur) + 1
    return Line(*np.insert(points, pauses, np.nan, axis=1))


def clock(seconds: float, total: float) -> str:
    """A time as m:ss, or as h:mm:ss if the whole recording has an hour or more; with tenths where it is not whole."""
    tenths = round(10 * seconds)
    rest, tenth = f"{tenths // 10 % 60:02}", f".{tenths % 10}" if tenths % 10 else ""
    minutes = tenths // 600
    return f"{minutes // 60}:{minutes % 60:02}:{rest}" if total >= 3600 else f"{minutes}:{rest}{tenth}"


def clock_name(total: float) -> str:
    """Name of the axis that ``clock`` labels."""
    return "time, h:mm:ss" if total >= 3600 else "time, m:ss"


def _clock_axis(axis: Any, total: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = next((step for step in TICKS if total / step <= MAX_TICKS), TICKS[-1])
    axis.set_major_locator(MultipleLocator(step))
    axis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds, total)))


def _shade(axes: Any, stretches: Sequence[tuple[float, float]]) -> None:
    spans = [(start, end - start) for start, end in stretches]
    axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), color=SPEECH_COLOUR, zorder=0, linewidth=0)


def _draw_line(axes: Any, found: Line, colour: str, label: str, marker: str = "") -> None:
    axes.plot(found.times, found.mean, marker=marker, color=colour, label=label, linewidth=1.6, markersize=4)
    axes.fill_between(found.times, found.low, found.high, color=colour, alpha=0.15, linewidth=0)
    if marker:  # a point without neighbours has no area
        axes.vlines(found.times, found.low, found.high, color=colour, alpha=0.3, linewidth=1)


def _draw_dimensions(axes: Any, rows: Sequence[Row]) -> None:
    """A line for each dimension."""
    for name in OUTPUTS:
        found = line(rows, name, PAUSE_DUR)
        _draw_line(axes, found, COLOURS[name], name, "" if len(found.times) > MAX_POINTS / 4 else "o")
    axes.set(ylim=LIMITS, ylabel="arousal, dominance, valence")
    _legend(axes, 1.12)


def _draw_speakers(axes: Any, rows: Sequence[Row], name: str, speakers: Sequence[str]) -> None:
    """A line for each speaker."""
    for number, speaker in enumerate(speakers):
        found = line([row for row in rows if _speaker(row) == speaker], name, TURN_DUR)
        marker = "" if len(found.times) > MAX_POINTS / 4 else MARKERS[number % len(MARKERS)]
        _draw_line(axes, found, _colour(number), speaker or "no speaker", marker)
    axes.set(ylim=LIMITS, ylabel=name)


def _legend(axes: Any, height: float) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, height), ncols=8, frameon=False)


def _draw_plane(axes: Any, rows: Sequence[Row], speakers: Sequence[str]) -> Any:
    """Points of valence and arousal; their colour is time, and their marker the speaker."""
    limits = {"vmin": 0, "vmax": max((row["end"] for row in rows), default=1)}
    points = axes.scatter([], [], c=[], cmap="viridis", **limits)
    for number, speaker in enumerate(speakers):
        own = [row for row in rows if _speaker(row) == speaker and None not in (row.get("valence"), row.get("arousal"))]
        valence, arousal = (line(own, name, np.inf, MAX_PLANE_POINTS) for name in ("valence", "arousal"))
        axes.plot(valence.mean, arousal.mean, color=_colour(number) if len(speakers) > 1 else "#bbbbbb", linewidth=0.6)
        marker = MARKERS[number % len(MARKERS)]
        axes.scatter(
            valence.mean, arousal.mean, c=valence.times, marker=marker, cmap="viridis", s=30, zorder=2, **limits
        )
    axes.axhline(0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.axvline(0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set(xlim=LIMITS, ylim=LIMITS, xlabel="valence", ylabel="arousal", aspect="equal")
    return points


def _colour(number: int) -> str:
    return SPEAKER_COLOURS[number % len(SPEAKER_COLOURS)]


def _centre(row: Row) -> float:
    return float(row["start"] + row["end"]) / 2


def _speaker(row: Row) -> str:
    return str(row.get("speaker") or "")
