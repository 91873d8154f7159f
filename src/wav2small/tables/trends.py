"""Changes of a voice within a recording: each speaker's baseline, deviations from it, and trends.

Rows are mappings with start, end, speaker, speech_ratio and the three dimensions, in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wav2small.network.config import OUTPUTS

SMOOTHED = 5
"""Rows of the running median in which trends are detected."""
MIN_CHANGE = 0.15
"""Smallest change of a dimension from the start of a trend to its end."""
MIN_TREND_DUR = 5.0
TREND_FIELDS = ("file", "speaker", "dimension", "start", "end", "direction", "change")

Row = Mapping[str, Any]


def trends(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Stretches in which a dimension of a speaker rises or falls by .15 or more, over 5 s or more.

    They are looked for in a running median of five rows with speech: a trend ends at an extreme from which the
    dimension then turns back by .15 or more, or at the last row.

    Returns:
        rows of ``TREND_FIELDS``, by their start; ``direction`` is rising or falling
    """
    found = []
    for file, speaker in dict.fromkeys((str(row.get("file", "")), str(row.get("speaker", ""))) for row in rows):
        for name in OUTPUTS:
            own = [
                row
                for row in rows
                if (str(row.get("file", "")), str(row.get("speaker", ""))) == (file, speaker) and row[name] is not None
            ]
            centres = [(row["start"] + row["end"]) / 2 for row in own]
            smooth = running_median([row[name] for row in own])
            for first, last in swings(smooth):
                if centres[last] - centres[first] >= MIN_TREND_DUR:
                    change = smooth[last] - smooth[first]
                    direction = "rising" if change > 0 else "falling"
                    cells = (file, speaker, name, centres[first], centres[last], direction, change)
                    found.append(dict(zip(TREND_FIELDS, cells, strict=True)))
    return sorted(found, key=lambda trend: trend["start"])


def running_median(values: Sequence[float]) -> list[float]:
    """Median of ``SMOOTHED`` values around each, or of those there are."""
    half = SMOOTHED // 2
    return [float(np.median(values[max(0, index - half) : index + half + 1])) for index in range(len(values))]


def swings(values: Sequence[float]) -> Iterator[tuple[int, int]]:
    """First and last index of every rise and fall by ``MIN_CHANGE`` or more between two turning points."""
    if not values:
        return
    turn, low, high, sign = 0, 0, 0, 0
    for index, value in enumerate(values):
        low = index if value <= values[low] else low
        high = index if value >= values[high] else high
        if sign >= 0 and values[high] - value >= MIN_CHANGE:
            if sign > 0:
                yield turn, high
            turn, sign, low, high = high, -1, index, index
        elif sign <= 0 and value - values[low] >= MIN_CHANGE:
            if sign < 0:
                yield turn, low
            turn, sign, low, high = low, 1, index, index
    if sign:
        yield turn, high if sign > 0 else low
