"""A picture of a diary: a day on one page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from wav2small.errors import Wav2SmallError
from wav2small.evaluation.plots import COLOURS, LIMITS, check_drawable, line
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS
from wav2small.runtime.diary import Row, hours, speech_dur

PAUSE_DUR = 120.0
"""Seconds without speech after which a line is interrupted."""
RECORDED_COLOUR, SPEECH_COLOUR = "#eeeeee", "#7a9e9f"
MAX_TICKS = 12
TICKS = (1, 2, 3, 4)
"""Hours between two ticks."""


def draw_day(rows: Sequence[Row], path: str | Path) -> None:
    """Write the picture of a day, whole or not at all; its suffix determines the format.

    Args:
        rows: of one date, as ``read_diary`` gives them
        path: PNG, SVG or PDF

    Raises:
        Wav2SmallError: if there are no rows, or the suffix is not that of a picture
        MissingExtraError: if matplotlib is not installed
    """
    check_drawable(path)
    if not rows:
        raise Wav2SmallError(f"{path}: not drawn, as the diary has no rows")
    with whole_file(path) as temporary:
        figure_of(rows).savefig(temporary, dpi=120)


def figure_of(rows: Sequence[Row]) -> Any:
    """A/D/V over the hours of a day, the deviation from the baseline if there is one, and minutes of speech per hour.

    Lines are interrupted where nobody spoke. Many rows are averaged over stretches of time; a band then goes from their
    tenth to their ninetieth percentile, otherwise it is the interval, if the rows have one.
    """
    from matplotlib.figure import Figure

    placed = [{**row, "start": second(row), "end": second(row) + row["dur"]} for row in rows]
    has_baseline = any(row[f"{name}_deviation"] is not None for row in rows for name in OUTPUTS)
    names = [*OUTPUTS, *(["deviation"] if has_baseline else []), "minutes"]
    figure = Figure(figsize=(12, 1.9 * len(names) + 0.8), layout="constrained")
    panels = dict(zip(names, figure.subplots(len(names), sharex=True), strict=True))
    for name in OUTPUTS:
        _draw_dimension(panels[name], placed, name)
    if has_baseline:
        _draw_deviations(panels["deviation"], placed)
    _draw_minutes(panels["minutes"], rows)
    _hour_axis(panels["minutes"], min(row["start"] for row in placed), max(row["end"] for row in placed))
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color=RECORDED_COLOUR)
    figure.align_ylabels()
    figure.suptitle(f"{rows[0]['time'][:10]}: {sum(map(speech_dur, rows)) / 60:.0f} minutes of speech")
    return figure


def second(row: Row) -> float:
    """Seconds from midnight to a row, by the clock on the wall."""
    time = datetime.fromisoformat(row["time"])
    return time.hour * 3600 + time.minute * 60 + time.second


def _hour_axis(axes: Any, start: float, end: float) -> None:
    """The whole hours from one second of the day to another."""
    first, last = int(start // 3600), -int(-end // 3600)
    step = next((step for step in TICKS if (last - first) / step <= MAX_TICKS), TICKS[-1])
    ticks = range(first, last + 1, step)
    axes.set(xlim=(first, last), xlabel="time of day", xticks=ticks)
    axes.set_xticklabels([f"{hour % 24:02}:00" for hour in ticks])


def _draw_dimension(axes: Any, rows: Sequence[Row], name: str) -> None:
    found = line(rows, name, PAUSE_DUR)
    axes.plot(found.times / 3600, found.mean, color=COLOURS[name], linewidth=1.5)
    axes.fill_between(found.times / 3600, found.low, found.high, color=COLOURS[name], alpha=0.18, linewidth=0)
    axes.set(ylim=LIMITS, ylabel=name, yticks=(0, 0.5, 1))


def _draw_deviations(axes: Any, rows: Sequence[Row]) -> None:
    """The three deviations, and a band of one spread."""
    axes.axhspan(-1, 1, color=RECORDED_COLOUR, linewidth=0)
    for name in OUTPUTS:
        found = line(rows, f"{name}_deviation", PAUSE_DUR)
        axes.plot(found.times / 3600, found.mean, color=COLOURS[name], linewidth=1.5, label=name)
    axes.set_ylabel("deviation from\nbaseline, spreads")
    _legend(axes)


def _draw_minutes(axes: Any, rows: Sequence[Row]) -> None:
    """Minutes of speech in each hour, before minutes recorded."""
    found = hours(rows)
    at = [int(row["hour"][11:13]) + 0.5 for row in found]
    axes.bar(at, [row["minutes"] for row in found], 0.9, color=RECORDED_COLOUR, label="recorded")
    axes.bar(at, [row["speech_minutes"] for row in found], 0.9, color=SPEECH_COLOUR, label="speech")
    axes.set(ylabel="minutes\nper hour", ylim=(0, 60), yticks=(0, 20, 40, 60), axisbelow=True)
    _legend(axes)


def _legend(axes: Any) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3, frameon=False, fontsize="small")
