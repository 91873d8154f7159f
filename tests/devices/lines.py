"""Lines that the examples print: ``speech .. arousal .. dominance .. valence .. deviation .. .. ..``."""

from __future__ import annotations

import numpy as np

import wav2small
from wav2small.network.config import OUTPUTS

DEVIATIONS = [f"{name}_deviation" for name in OUTPUTS]


def check_lines(text: str, events: list[wav2small.Event]) -> None:
    """Compare every line with an event, to the digits that are printed."""
    lines = [line for line in text.splitlines() if line.startswith("speech ")]
    assert len(lines) == len(events)
    for line, event in zip(lines, events, strict=True):
        words = line.split()
        emotion = [float(words[words.index(name) + 1]) for name in OUTPUTS if name in words]
        deviation = [float(word) for word in words[words.index("deviation") + 1 :]] if "deviation" in words else []
        assert abs(float(words[1]) - event.speech_ratio) <= 0.0051
        close(emotion, [getattr(event, name) for name in OUTPUTS], 0.00051)
        close(deviation, [getattr(event, name) for name in DEVIATIONS], 0.0051)


def close(found: list[float], expected: list[float | None], tolerance: float) -> None:
    wanted = [value for value in expected if value is not None]
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=0)
