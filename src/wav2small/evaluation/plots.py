"""A picture of one recording: arousal, dominance and valence over time, the waveform, and the path in their plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.audio.read import blocks
from wav2small.errors import MissingExtraError, Wav2SmallError
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS, SAMPLING_RATE

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = {"arousal": "#d1495b", "dominance": "#8d6a9f", "valence": "#00798c"}
SPEECH_COLOUR = "#e9e4d4"
PEAK_DUR = 0.05
"""Seconds of the waveform that become one line from its lowest to its highest sample."""
PAUSE_DUR = 3.0
"""Seconds between two rows over which no line is drawn."""
LIMITS = (-0.02, 1.02)
MARKERS = "osD^vPX*"
"""Of speakers, in the order that they speak."""

Row = Mapping[str, Any]


def draw(rows: Sequence[Row], path: str | Path, channel: int | None = None) -> None:
    """Write the picture, whole or not at all; its suffix says which kind.

    Args:
        rows: of one file, with start, end, speech and the three dimensions, and speaker if there are any
        path: PNG, SVG or PDF
        channel: that was heard, whose waveform is drawn

    Raises:
        Wav2SmallError: if the rows are of no file or more than one, or the suffix is none that can be drawn
        MissingExtraError: if matplotlib is not installed
    """
    check_drawable(path)
    from matplotlib.figure import Figure

    files = list(dict.fromkeys(row["file"] for row in rows))
    if len(files) != 1 or files[0] == "-":
        named = "standard input" if files == ["-"] else f"{len(files)} files"
        raise Wav2SmallError(f"{path}: a picture is of one file on disk, these rows are of {named}; give it one file")
    figure = Figure(figsize=(15, 6), layout="constrained")
    layout: Any = [["time", "plane"], ["wave", "plane"]]
    panels = figure.subplot_mosaic(layout, width_ratios=(2, 1), height_ratios=(2, 1))
    times, low, high = peaks(files[0], channel)
    _draw_dimensions(panels["time"], rows)
    panels["wave"].fill_between(times, low, high, color="#444444", linewidth=0.3)
    panels["wave"].set(xlabel="seconds; shaded is speech", ylabel="waveform")
    for name in ("time", "wave"):
        panels[name].set_xlim(0, times[-1] + PEAK_DUR)
        for start, end in speech_stretches(rows):
            panels[name].axvspan(start, end, color=SPEECH_COLOUR, zorder=0, linewidth=0)
    figure.colorbar(_draw_plane(panels["plane"], rows), ax=panels["plane"], label="seconds")
    figure.suptitle(Path(files[0]).name)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def check_drawable(path: str | Path) -> None:
    """Refuse, before the work, what cannot be drawn.

    Raises:
        Wav2SmallError: if the suffix is none of a picture
        MissingExtraError: if matplotlib is not installed
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise Wav2SmallError(f"{path}: no picture has this suffix; end it with {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("a picture needs matplotlib, which is not here: pip install 'wav2small[plot]'")


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


def speech_stretches(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """From where to where there is speech: rows with it, joined where they touch."""
    found: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: row["start"]):
        if row["speech"] and found and row["start"] <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], row["end"])
        elif row["speech"]:
            found.append((row["start"], row["end"]))
    return found


def _draw_dimensions(axes: Any, rows: Sequence[Row]) -> None:
    """A line a dimension through the middles of the rows, broken at pauses; a marker for each row's speaker."""
    centres = [(row["start"] + row["end"]) / 2 for row in rows]
    pauses = [at for at, (row, after) in enumerate(pairwise(rows), 1) if after["start"] - row["end"] > PAUSE_DUR]
    times = np.insert(centres, pauses, np.nan)
    for name in OUTPUTS:
        values = _values(rows, name)
        axes.plot(times, np.insert(values, pauses, np.nan), color=COLOURS[name], label=name, linewidth=1.6)
        low, high = (np.insert(_values(rows, f"{name}_{end}"), pauses, np.nan) for end in ("low", "high"))
        axes.fill_between(times, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        for speaker, marker in _markers(rows).items():
            own = [index for index, row in enumerate(rows) if _speaker(row) == speaker]
            axes.plot(
                [centres[index] for index in own],
                [values[index] for index in own],
                marker,
                color=COLOURS[name],
                markersize=4,
            )
    for speaker, marker in _markers(rows).items():
        if speaker:
            axes.plot([], [], marker, color="#444444", label=speaker, linestyle="none")
    axes.set(ylim=LIMITS, ylabel="arousal, dominance, valence")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=8, frameon=False)


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [np.nan if row.get(name) is None else row[name] for row in rows]


def _draw_plane(axes: Any, rows: Sequence[Row]) -> Any:
    """The path over valence and arousal; its colour is time, and its markers are the speakers'."""
    told = [row for row in rows if row["valence"] is not None and row["arousal"] is not None]
    axes.plot([row["valence"] for row in told], [row["arousal"] for row in told], color="#bbbbbb", linewidth=0.8)
    limits = {"vmin": 0, "vmax": max((row["end"] for row in rows), default=1)}
    points = axes.scatter([], [], c=[], cmap="viridis", **limits)
    for speaker, marker in _markers(rows).items():
        own = [row for row in told if _speaker(row) == speaker]
        axes.scatter(
            [row["valence"] for row in own],
            [row["arousal"] for row in own],
            c=[row["start"] for row in own],
            cmap="viridis",
            marker=marker,
            s=30,
            zorder=2,
            **limits,
        )
    axes.axhline(0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.axvline(0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set(xlim=LIMITS, ylim=LIMITS, xlabel="valence", ylabel="arousal", aspect="equal")
    return points


def _markers(rows: Sequence[Row]) -> dict[str, str]:
    speakers = dict.fromkeys(map(_speaker, rows))
    return {speaker: MARKERS[number % len(MARKERS)] for number, speaker in enumerate(speakers)}


def _speaker(row: Row) -> str:
    return str(row.get("speaker") or "")
