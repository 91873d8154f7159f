"""One live signal: samples in; beginnings and ends of utterances, and measurements out, in the order of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from wav2small.audio.read import MIN_LENGTH, frame_power
from wav2small.audio.vad import (
    FILE_DUR,
    Detector,
    Energy,
    FrameCutter,
    Scored,
    SpeechMeter,
    detector,
    is_enough,
    score_together,
)
from wav2small.network.config import SAMPLING_RATE
from wav2small.options import HOP_DUR, Options
from wav2small.runtime.baseline import Baseline
from wav2small.runtime.engines import output_of
from wav2small.runtime.event import Event, EventBuilder
from wav2small.runtime.model import Model
from wav2small.runtime.stream import Resampler, Stream
from wav2small.runtime.windows import PART_DUR
from wav2small.serve.utterances import SILENCE_DUR, Mark, Utterances

if TYPE_CHECKING:
    from wav2small.audio.vad import Silero

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
    what ``predict`` answers for the utterance, or its last 15 s. Each frame is scored by the speech detector once, for
    the utterances and for both kinds of measurements.

    Args:
        model: what computes
        options: how
    """

    def __init__(self, model: Model, options: LiveOptions) -> None:
        self._options = options
        self.detector = detector(options.vad)
        self._resampler = Resampler(None)
        self._cutter = FrameCutter()
        self._scored = Scored(self.detector), Scored(self.detector)
        self._meter = SpeechMeter(self._scored[0])
        self._utterances = Utterances(self.detector, options.silence_dur)
        self._baseline = Baseline() if options.baseline else None
        self._stream = Stream(
            model,
            options.hop_dur,
            options.win_dur,
            min_speech=options.min_speech,
            baseline=self._baseline,
            speech_detector=self._scored[1],
        )
        self._model = model
        self._builder = EventBuilder(model, Options.min_confidence)
        self._recent = _Recent()
        self.count = 0
        self._is_speaking = False
        self._last_end = -1.0

    def push(self, chunk: np.ndarray, sampling_rate: int) -> list[Happening]:
        """Process the next samples, int16 or float, shape=(samples,) or (samples, channels), which are mixed down."""
        (happenings,) = push_together([Push(self, chunk, sampling_rate)])
        if isinstance(happenings, Exception):
            raise happenings
        return happenings

    def prepare(self, chunk: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
        """The next samples at 16 kHz, shape=(samples,), and the frames that they complete, shape=(frames, 512)."""
        signal = self._resampler.push(chunk, sampling_rate)
        return signal, self._cutter.push(signal)

    def cut(self) -> list[Happening]:
        """End the utterance that is going on, if there is one, and answer it."""
        mark = self._utterances.cut()
        return self._boundary(mark) if mark else []

    def finish(self) -> list[Happening]:
        """Answer for what is left."""
        signal = self._resampler.finish()
        frames = self._cutter.push(signal)
        happenings = self.advance(signal, self.detector.score(frames, frame_power(frames)))
        for event in self._stream.finish():
            happenings += self._interval(event)
        return happenings + self.cut()

    def advance(self, signal: np.ndarray, scores: np.ndarray) -> list[Happening]:
        """Process what ``prepare`` returned, with the detector's scores of the frames, shape=(frames,)."""
        for scored in self._scored:
            scored.add(scores)
        self._recent.push(signal)
        self._meter.push(signal)
        found: list[tuple[float, int, Mark | Event]] = []
        found += [(mark.position / SAMPLING_RATE, 0, mark) for mark in self._utterances.push(scores)]
        found += [(event.end or 0.0, 1, event) for event in self._stream.push(signal)]
        happenings: list[Happening] = []
        for _, _, one in sorted(found, key=lambda item: item[:2]):
            happenings += self._boundary(one) if isinstance(one, Mark) else self._interval(one)
        kept_dur = PART_DUR + self._options.silence_dur + BEFORE_DUR if self._is_speaking else BEFORE_DUR
        self._recent.trim(kept_dur)
        self._meter.forget(self._recent.position - round(kept_dur * SAMPLING_RATE))
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
        first = end - len(signal)
        sound = self._meter.sound(first, end)
        if not is_enough(sound.ratio, len(signal), self._options.min_speech, FILE_DUR):
            return []
        output = output_of(self._model, signal)
        event = self._builder.event(first / SAMPLING_RATE, end / SAMPLING_RATE, output, sound)
        if self._baseline:
            event = self._baseline.compare(event, 0.0)  # its windows are included already
        return [Measurement(self.count, "speech_ended", event)]

    def _interval(self, event: Event) -> list[Happening]:
        if not event.speech or event.start is None or event.end is None:
            return []
        is_of_utterance = self.count > 0 and (self._is_speaking or self._last_end > event.start)
        return [Measurement(self.count if is_of_utterance else None, "interval", event)]


class Push(NamedTuple):
    """The next samples of a live signal, as for ``LiveSignal.push``."""

    live: LiveSignal
    chunk: np.ndarray
    sampling_rate: int


def push_together(pushes: Sequence[Push]) -> list[list[Happening] | Exception]:
    """``push`` for several live signals, whose frames share the calls of the speech detector's network.

    Returns:
        what became of each; the error of one does not touch the others
    """
    found: list[list[Happening] | Exception] = [[] for _ in pushes]
    prepared: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for number, (live, chunk, sampling_rate) in enumerate(pushes):
        try:
            prepared[number] = live.prepare(chunk, sampling_rate)
        except Exception as error:
            found[number] = error
    scores = scores_of(
        [pushes[number].live.detector for number in prepared], [frames for _, frames in prepared.values()]
    )
    for (number, (signal, _)), of_signal in zip(prepared.items(), scores, strict=True):
        try:
            found[number] = pushes[number].live.advance(signal, of_signal)
        except Exception as error:
            found[number] = error
    return found


def scores_of(detectors: Sequence[Detector], frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The detectors' scores of the next frames of their signals; those of Silero share calls of its network."""
    if any(isinstance(one, Energy) for one in detectors):
        return [one.score(part, frame_power(part)) for one, part in zip(detectors, frames, strict=True)]
    return score_together(cast("Sequence[Silero]", detectors), frames)


class _Recent:
    """The last samples of a signal, as the blocks that they came in."""

    def __init__(self) -> None:
        self._blocks: deque[np.ndarray] = deque()
        self._length = 0
        self.position = 0

    def push(self, block: np.ndarray) -> None:
        """Add samples, shape=(samples,)."""
        if len(block):
            self._blocks.append(block)
            self._length += len(block)
            self.position += len(block)

    def trim(self, kept_dur: float) -> None:
        """Forget blocks that end before the last ``kept_dur`` seconds."""
        kept = round(kept_dur * SAMPLING_RATE)
        while self._blocks and self._length - len(self._blocks[0]) >= kept:
            self._length -= len(self._blocks.popleft())

    def cut(self, start: int, end: int) -> np.ndarray:
        """Samples from one place of the signal to another, the last 15 s of them at most."""
        whole = np.concatenate([*self._blocks, np.zeros(0, np.float32)])
        first = self.position - len(whole)
        start = max(start, end - round(PART_DUR * SAMPLING_RATE), first)
        return whole[start - first : end - first]
