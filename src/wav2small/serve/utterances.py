"""Utterances of a live signal: where speech begins, and where a pause ends it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from wav2small.audio.read import FRAME_LENGTH
from wav2small.audio.vad import WINDOW_DUR, Detector
from wav2small.network.config import SAMPLING_RATE

FRAME_DUR = FRAME_LENGTH / SAMPLING_RATE
WINDOW_FRAMES = round(WINDOW_DUR / FRAME_DUR)
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
    """Receives the scores of the frames of a signal, any number at a time, and marks utterances.

    Args:
        detector: by which a frame is speech or not, in the window of 3 s that ends with it
        silence_dur: seconds without speech that end an utterance
    """

    def __init__(self, detector: Detector, silence_dur: float = SILENCE_DUR) -> None:
        self._detector = detector
        self._silence_frames = max(1, round(silence_dur / FRAME_DUR))
        self._scores = np.zeros(0)
        self._recent: deque[bool] = deque(maxlen=START_OF)
        self._position = 0
        self._start: int | None = None
        self._end = 0

    def push(self, scores: np.ndarray) -> list[Mark]:
        """Marks of the next frames of 32 ms, by the detector's scores of them, shape=(frames,)."""
        if not len(scores):
            return []
        before = len(self._scores)
        known = np.concatenate([self._scores, scores])
        self._scores = known[-WINDOW_FRAMES:].copy()
        ends = range(before + 1, len(known) + 1)
        are_speech = [bool(self._detector.is_speech(known[max(0, end - WINDOW_FRAMES) : end])[-1]) for end in ends]
        return [mark for is_speech in are_speech if (mark := self._next(is_speech)) is not None]

    def cut(self) -> Mark | None:
        """End the utterance that is going on, if there is one."""
        if self._start is None:
            return None
        mark = Mark(self._position, self._start, self._end)
        self._start = None
        self._recent.clear()
        return mark

    def _next(self, is_speech: bool) -> Mark | None:
        self._position += FRAME_LENGTH
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
