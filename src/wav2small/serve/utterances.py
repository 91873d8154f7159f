"""Utterances of a live signal: where speech begins, and where a pause ends it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from wav2small.audio.read import FRAME_LENGTH, frame_power
from wav2small.audio.vad import WINDOW_DUR, Detector
from wav2small.network.config import SAMPLING_RATE

FRAME_DUR = FRAME_LENGTH / SAMPLING_RATE
START_FRAMES, START_OF = 5, 10
"""So many frames of the last so many are speech where an utterance begins."""
SILENCE_DUR = 0.6
"""Seconds without speech that end an utterance."""


class Mark(NamedTuple):
    """An utterance begins, or ends if ``end`` is not None; all in samples at 16 kHz.

    ``position`` is where this is known: later than ``start``, and after the pause behind ``end``.
    """

    position: int
    start: int
    end: int | None


class Utterances:
    """Receives a signal in blocks of any size, and marks utterances; the marks do not depend on the blocks.

    Args:
        detector: scores frames of 32 ms; of a window of 3 s that ends with it, a frame is speech or not
        silence_dur: seconds without speech that end an utterance
    """

    def __init__(self, detector: Detector, silence_dur: float = SILENCE_DUR) -> None:
        self._detector = detector
        self._silence_frames = max(1, round(silence_dur / FRAME_DUR))
        self._scores: deque[float] = deque(maxlen=round(WINDOW_DUR / FRAME_DUR))
        self._recent: deque[bool] = deque(maxlen=START_OF)
        self._rest = np.zeros(0, np.float32)
        self._position = 0
        self._start: int | None = None
        self._end = 0

    def push(self, signal: np.ndarray) -> list[Mark]:
        """Marks of the next samples at 16 kHz, shape=(samples,)."""
        signal = np.concatenate([self._rest, signal])
        whole = len(signal) // FRAME_LENGTH * FRAME_LENGTH
        self._rest = signal[whole:].copy()
        if not whole:
            return []
        frames = signal[:whole].reshape(-1, FRAME_LENGTH)
        scores = self._detector.score(frames, frame_power(frames))
        return [mark for score in scores.tolist() if (mark := self._next(score)) is not None]

    def cut(self) -> Mark | None:
        """End the utterance that is going on, if there is one."""
        if self._start is None:
            return None
        mark = Mark(self._position, self._start, self._end)
        self._start = None
        self._recent.clear()
        return mark

    def _next(self, score: float) -> Mark | None:
        self._scores.append(score)
        self._position += FRAME_LENGTH
        is_speech = bool(self._detector.is_speech(np.array(self._scores))[-1])
        self._recent.append(is_speech)
        if is_speech:
            self._end = self._position
        if self._start is None:
            if sum(self._recent) < START_FRAMES:
                return None
            first = len(self._recent) - list(self._recent).index(True)
            self._start = self._position - first * FRAME_LENGTH
            return Mark(self._position, self._start, None)
        return self.cut() if self._position - self._end >= self._silence_frames * FRAME_LENGTH else None
