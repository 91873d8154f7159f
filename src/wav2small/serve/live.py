"""One live signal: samples in; beginnings and ends of utterances, and measurements out, in the order of time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wav2small.audio.read import MIN_LENGTH
from wav2small.audio.vad import detector
from wav2small.network.config import SAMPLING_RATE
from wav2small.options import HOP_DUR, Options
from wav2small.runtime.baseline import Baseline
from wav2small.runtime.event import Event
from wav2small.runtime.model import Model
from wav2small.runtime.predict import FilePredictor
from wav2small.runtime.stream import Resampler, Stream
from wav2small.runtime.windows import PART_DUR
from wav2small.serve.utterances import SILENCE_DUR, Mark, Utterances

BEFORE_DUR = 1.0
"""Seconds of signal that are kept outside utterances: more than the time until a beginning is known."""


@dataclass(frozen=True)
class LiveOptions:
    """How a live signal is answered; durations in seconds, as in ``Options``.

    Args:
        hop_dur: from the start of a window to the start of the next
        win_dur: of a window
        min_speech: of speech that an answer needs
        vad: speech detector
        silence_dur: without speech that end an utterance
        baseline: whether to keep a baseline of the speaker, and give deviations from it
    """

    hop_dur: float = HOP_DUR
    win_dur: float = Options.win_dur
    min_speech: float = Options.min_speech
    vad: str = Options.vad
    silence_dur: float = SILENCE_DUR
    baseline: bool = False


@dataclass(frozen=True)
class Boundary:
    """An utterance, from 1, begins at ``start`` seconds, or has ended at ``end`` if that is not None."""

    utterance: int
    start: float
    end: float | None


@dataclass(frozen=True)
class Measurement:
    """An answer: for a window (``interval``), or for an utterance or its last 15 s (``speech_ended``).

    ``utterance`` is the last one that the audio has a part of, None if there is none.
    """

    utterance: int | None
    trigger: Literal["interval", "speech_ended"]
    event: Event


Happening = Boundary | Measurement


class LiveSignal:
    """Answers a live signal. It is used by one thread at a time, and its memory does not grow.

    The ``interval`` measurements are the events of a ``Stream`` with enough speech. A ``speech_ended`` measurement is
    what ``predict`` answers for the utterance, or its last 15 s.

    Args:
        model: what computes
        options: how
    """

    def __init__(self, model: Model, options: LiveOptions) -> None:
        self._options = options
        self._resampler = Resampler(None)
        self._utterances = Utterances(detector(options.vad), options.silence_dur)
        self._baseline = Baseline() if options.baseline else None
        self._stream = Stream(
            model,
            options.hop_dur,
            options.win_dur,
            min_speech=options.min_speech,
            vad=options.vad,
            baseline=self._baseline,
        )
        self._predictor = FilePredictor(model, Options(None, min_speech=options.min_speech, vad=options.vad))
        self._recent = _Recent()
        self.count = 0
        self._is_speaking = False
        self._last_end = -1.0

    def push(self, chunk: np.ndarray, sampling_rate: int) -> list[Happening]:
        """Process the next samples, int16 or float, shape=(samples,) or (samples, channels), which are mixed down."""
        return self._advance(self._resampler.push(chunk, sampling_rate))

    def cut(self) -> list[Happening]:
        """End the utterance that is going on, if there is one, and answer it."""
        mark = self._utterances.cut()
        return self._boundary(mark) if mark else []

    def finish(self) -> list[Happening]:
        """Answer for what is left."""
        happenings = self._advance(self._resampler.finish())
        for event in self._stream.finish():
            happenings += self._interval(event)
        return happenings + self.cut()

    def _advance(self, signal: np.ndarray) -> list[Happening]:
        self._recent.push(signal)
        found: list[tuple[float, int, Mark | Event]] = []
        found += [(mark.position / SAMPLING_RATE, 0, mark) for mark in self._utterances.push(signal)]
        found += [(event.end or 0.0, 1, event) for event in self._stream.push(signal)]
        happenings: list[Happening] = []
        for _, _, one in sorted(found, key=lambda item: item[:2]):
            happenings += self._boundary(one) if isinstance(one, Mark) else self._interval(one)
        self._recent.trim(PART_DUR + self._options.silence_dur + BEFORE_DUR if self._is_speaking else BEFORE_DUR)
        return happenings

    def _boundary(self, mark: Mark) -> list[Happening]:
        start = mark.start / SAMPLING_RATE
        if mark.end is None:
            self.count += 1
            self._is_speaking = True
            return [Boundary(self.count, start, None)]
        self._is_speaking = False
        self._last_end = mark.end / SAMPLING_RATE
        return [*self._answer(mark.start, mark.end), Boundary(self.count, start, self._last_end)]

    def _answer(self, start: int, end: int) -> list[Happening]:
        signal = self._recent.cut(start, end)
        if len(signal) < MIN_LENGTH:
            return []
        (row,) = self._predictor.rows("", len(signal) / SAMPLING_RATE, [signal])
        first = end - len(signal)
        fields = {name: value for name, value in vars(row).items() if name in Event.__dataclass_fields__}
        event = Event(**{**fields, "start": first / SAMPLING_RATE, "end": end / SAMPLING_RATE})
        if self._baseline:
            event = self._baseline.compare(event, 0.0)  # its windows are included already
        return [Measurement(self.count, "speech_ended", event)] if event.speech else []

    def _interval(self, event: Event) -> list[Happening]:
        if not event.speech or event.start is None or event.end is None:
            return []
        is_of_utterance = self.count > 0 and (self._is_speaking or self._last_end > event.start)
        return [Measurement(self.count if is_of_utterance else None, "interval", event)]


class _Recent:
    """The last samples of a signal, as the blocks that they came in."""

    def __init__(self) -> None:
        self._blocks: deque[np.ndarray] = deque()
        self._length = 0
        self._position = 0

    def push(self, block: np.ndarray) -> None:
        """Add samples, shape=(samples,)."""
        if len(block):
            self._blocks.append(block)
            self._length += len(block)
            self._position += len(block)

    def trim(self, kept_dur: float) -> None:
        """Forget blocks that end before the last ``kept_dur`` seconds."""
        kept = round(kept_dur * SAMPLING_RATE)
        while self._blocks and self._length - len(self._blocks[0]) >= kept:
            self._length -= len(self._blocks.popleft())

    def cut(self, start: int, end: int) -> np.ndarray:
        """Samples from one place of the signal to another, the last 15 s of them at most."""
        whole = np.concatenate([*self._blocks, np.zeros(0, np.float32)])
        first = self._position - len(whole)
        start = max(start, end - round(PART_DUR * SAMPLING_RATE), first)
        return whole[start - first : end - first]
