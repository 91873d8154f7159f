"""Arousal, dominance and valence of live audio: takes chunks of any size, returns an event for every hop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr

from wav2small.audio.read import to_mono
from wav2small.audio.vad import Detector, SpeechMeter, detector, is_enough
from wav2small.errors import AudioError
from wav2small.network.config import SAMPLING_RATE
from wav2small.options import HOP_DUR, Options
from wav2small.runtime.baseline import Baseline
from wav2small.runtime.engines import Predictor, engine_for
from wav2small.runtime.event import Event, EventBuilder
from wav2small.runtime.model import Model, load
from wav2small.runtime.windows import Windows


class Stream:
    """Takes a signal chunk by chunk; returns an event for a window of ``win_dur`` seconds every ``hop_dur`` seconds.

    The answers are the same, bit for bit, however the signal is cut into chunks. Memory does not grow.
    ``position`` is the number of samples at 16 kHz that were processed.

    Args:
        model: name or path of weights, what ``load`` returns, or a function from a signal at 16 kHz to an ``Emotion``
        hop_dur: seconds from the start of a window to the start of the next
        win_dur: seconds of a window
        channel: index of the channel, from 0; None for the mean of all channels
        min_speech: seconds of speech that an answer needs; a window shorter than 3 s needs less in proportion
        vad: speech detector: ``silero``, or ``energy``, the signal level
        min_confidence: a dimension with less confidence is None
        baseline: of the speaker; events get deviations from it, and it includes them
        speech_detector: replaces the one that ``vad`` names

    Raises:
        AudioError: if a hop or a window is too short, or a hop longer than a window
        WeightsError: if there is a ``min_confidence``, and the model was loaded without a calibration, or the baseline
            is of another model

    Examples:
        >>> stream = wav2small.Stream("micro", hop_dur=0.5, win_dur=3.0)
        >>> [event.end for event in stream.push(np.zeros(60000, np.int16), 16000)]
        [3.0, 3.5]
        >>> [(event.end, event.speech) for event in stream.finish()]
        [(3.75, False)]
    """

    def __init__(
        self,
        model: str | Path | Predictor,
        hop_dur: float = HOP_DUR,
        win_dur: float = Options.win_dur,
        *,
        channel: int | None = Options.channel,
        min_speech: float = Options.min_speech,
        vad: str = Options.vad,
        min_confidence: float = Options.min_confidence,
        baseline: Baseline | None = None,
        speech_detector: Detector | None = None,
    ) -> None:
        self.options = Options(hop_dur, win_dur, channel, min_speech, vad, min_confidence)
        predictor = load(model) if isinstance(model, (str, Path)) else model
        self._predictor = predictor
        self._windows = Windows(hop_dur, win_dur)
        self._engine = engine_for(predictor, self._windows)
        self._resampler = Resampler(channel)
        self._meter = SpeechMeter(speech_detector or detector(vad))
        self._builder = EventBuilder(predictor, min_confidence)
        self.baseline = baseline
        if baseline is not None and isinstance(predictor, Model):
            baseline.bind(predictor.metadata, predictor.calibration is not None)
        self.reset()

    def __repr__(self) -> str:
        seconds = self.position / SAMPLING_RATE
        options = f"hop_dur={self.options.hop_dur:g}, win_dur={self.options.win_dur:g}"
        return f"Stream({self._predictor!r}, {options}) at {seconds:.2f} s"

    def reset(self) -> None:
        """Discard the signal and begin a new one, of any rate."""
        for part in (self._windows, self._engine, self._resampler, self._meter):
            part.reset()
        self._pending = np.zeros(0, np.float32)
        self.position = self._compared = 0
        self._finished = False

    def push(self, chunk: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> list[Event]:
        """Process the next chunk, and answer for every window that is complete now.

        Args:
            chunk: float in [-1, 1] or integers, shape=(samples,) or (samples, channels), which are mixed down; of any
                length, including 0
            sampling_rate: of ``chunk``, Hz; the same for all chunks of a stream

        Raises:
            AudioError: if it is not a signal or not finite, its rate differs, or the stream has finished; nothing of
                it is processed then, and the stream goes on as if it had not been pushed
        """
        return list(self._events(chunk, sampling_rate))

    def finish(self) -> list[Event]:
        """Answer for what is left: a last window, as short as that is.

        It is left out if it is shorter than a tenth of a window, unless it is the only one. After this the stream
        takes no more chunks until ``reset``.
        """
        self._check_open()
        self._pending = np.concatenate([self._pending, self._resampler.finish()])
        events = list(self._advance())
        self._process(len(self._pending))
        self._meter.finish()
        self._finished = True
        start, end = self._windows.last(self.position)
        return events + ([self._answer(start, end)] if end > start else [])

    def run(self, chunks: Iterable[np.ndarray], sampling_rate: float = SAMPLING_RATE) -> Iterator[Event]:
        """Push every chunk, finish, and yield each event as soon as it is there."""
        for chunk in chunks:
            yield from self._events(chunk, sampling_rate)
        yield from self.finish()

    def _events(self, chunk: np.ndarray, sampling_rate: float) -> Iterator[Event]:
        self._check_open()
        signal = self._resampler.push(np.asarray(chunk), sampling_rate)
        self._pending = np.concatenate([self._pending, signal])
        yield from self._advance()
        self._pending = self._pending.copy()  # a view would keep what is processed

    def _check_open(self) -> None:
        if self._finished:
            raise AudioError("the stream has finished and takes no more audio; call reset() to begin another")

    def _advance(self) -> Iterator[Event]:
        """Process blocks whose ends do not depend on the chunks: ends of windows, and whole seconds."""
        while True:
            start, end = self._windows.next()
            second = (self.position // SAMPLING_RATE + 1) * SAMPLING_RATE
            length = min(end, second) - self.position
            if length > len(self._pending):
                return
            self._process(length)
            if self.position == end:
                self._windows.count += 1
                yield self._answer(start, end)

    def _process(self, length: int) -> None:
        block, self._pending = self._pending[:length], self._pending[length:]
        self.position += length
        self._meter.push(block)
        self._engine.push(block)

    def _answer(self, start: int, end: int) -> Event:
        sound = self._meter.sound(start, end)
        has_speech = is_enough(sound.ratio, end - start, self.options.min_speech)
        output = self._engine.output(start, end) if has_speech else None
        event = self._builder.event(start / SAMPLING_RATE, end / SAMPLING_RATE, output, sound)
        new, self._compared = end - max(start, self._compared), end
        return self.baseline.compare(event, new / SAMPLING_RATE * sound.ratio) if self.baseline else event


class Resampler:
    """Chunks of one rate, of any type and number of channels, to mono at 16 kHz."""

    def __init__(self, channel: int | None) -> None:
        self._channel = channel
        self.reset()

    def reset(self) -> None:
        """Begin a new signal, of any rate."""
        self._resampler: soxr.ResampleStream | None = None
        self._sampling_rate: float | None = None
        self._position = 0

    def push(self, chunk: np.ndarray, sampling_rate: float) -> np.ndarray:
        """float32, shape=(samples,); the resampler holds some samples back until the next chunk."""
        if self._sampling_rate not in (None, sampling_rate):
            raise AudioError(
                f"the sampling rate changed from {self._sampling_rate:g} to {sampling_rate:g} Hz within a stream; "
                "call reset() before a signal of another rate"
            )
        mono = to_mono(chunk, sampling_rate, self._channel, self._position)
        if self._sampling_rate is None and sampling_rate != SAMPLING_RATE:
            self._resampler = soxr.ResampleStream(sampling_rate, SAMPLING_RATE, 1, dtype="float32")
        self._sampling_rate = sampling_rate
        self._position += len(mono)
        return mono if self._resampler is None else np.asarray(self._resampler.resample_chunk(mono))

    def finish(self) -> np.ndarray:
        """The samples that the resampler has held back."""
        rest = np.zeros(0, np.float32)
        return rest if self._resampler is None else np.asarray(self._resampler.resample_chunk(rest, last=True))
