"""The tone of one turn of a speaker: audio in as it arrives, a reading when the turn ends, without a framework."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.audio.read import to_mono
from wav2small.errors import AudioError
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.options import DEFAULT_MODEL, Options
from wav2small.runtime.baseline import Baseline
from wav2small.runtime.engines import Predictor
from wav2small.runtime.event import DEVIATION_COLUMNS, INTERVAL_COLUMNS, Event
from wav2small.runtime.model import Model, load
from wav2small.runtime.stream import Stream
from wav2small.runtime.windows import WHOLE_DUR

PREFIX_DUR = 0.5
"""Seconds before ``start`` that belong to a turn: a speech detector reports speech only after it has begun."""
NOTE = "The speaker may sound {change} (an estimate from the voice alone)."
VALUES = (*OUTPUTS, *INTERVAL_COLUMNS)


@dataclass(frozen=True)
class Reading:
    """The answer for one turn.

    Arousal, dominance and valence go from 0 to 1, and are None where there is too little speech. ``_low`` to ``_high``
    hold the teacher's label for 80 % of held-out clips; they are None without a calibration.

    Args:
        dur: seconds of the turn
        speech_ratio: share of speech in it
        deviation: from the speaker's baseline, in units of the speaker's spread; None until that is ready
        note: one tentative sentence for a language model; None unless an interval excludes the speaker's baseline
    """

    dur: float
    speech_ratio: float
    arousal: float | None = None
    dominance: float | None = None
    valence: float | None = None
    arousal_low: float | None = None
    arousal_high: float | None = None
    dominance_low: float | None = None
    dominance_high: float | None = None
    valence_low: float | None = None
    valence_high: float | None = None
    deviation: Emotion | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON has them; ``deviation`` is an object with the names of the dimensions."""
        return asdict(self) | {"deviation": self.deviation and self.deviation._asdict()}


class Turn:
    """Receives the audio of one speaker, and answers for a whole turn when it ends.

    The network runs while the speaker talks, so that ``stop`` computes a second of audio at most (``micro`` and other
    causal models; the others compute up to 30 s). A turn of at most 30 s is one window of a :class:`Stream`, which is
    what ``predict`` answers for it as a file; a longer one is the mean of windows of 30 s, by their duration. The
    answer is the same, bit for bit, however the audio is cut. Memory does not grow. One thread at a time.

    Args:
        model: name or path of weights, loaded with the calibration beside them unless ``calibrated`` is False, or what
            ``load`` returns, used as it was loaded: load once, for the turns of many speakers
        baseline: of this speaker, from earlier calls; None begins a new one
        calibrated: whether a model given by name is calibrated; without, there are no intervals and no notes
        channel: index of the channel, from 0; None for the mean of all channels
        min_speech: seconds of speech that an answer needs; a turn below 3 s needs less in proportion
        vad: speech detector of ``speech_ratio``, as in ``Stream``; a framework has one that marks the turns already

    Raises:
        WeightsError: if there are no such weights, no calibration, or the baseline was made with other weights

    Examples:
        >>> turn = Turn("micro")
        >>> for chunk in np.zeros((100, 320), np.int16):
        ...     turn.push(chunk.tobytes(), 16000)
        >>> reading = turn.stop()
        >>> reading.dur, reading.arousal, reading.note
        (2.0, None, None)
    """

    def __init__(
        self,
        model: str | Path | Predictor = DEFAULT_MODEL,
        baseline: Baseline | None = None,
        calibrated: bool = True,
        *,
        channel: int | None = None,
        min_speech: float = Options.min_speech,
        vad: str = "energy",
    ) -> None:
        self._model = load(model, calibration=calibrated) if isinstance(model, (str, Path)) else model
        self._stream = Stream(self._model, WHOLE_DUR, WHOLE_DUR, min_speech=min_speech, vad=vad)
        self._channel = channel
        self._prefix, self._prefix_rate = np.zeros(0, np.float32), float(SAMPLING_RATE)
        self._is_new = True
        self.new_speaker(baseline)

    def new_speaker(self, baseline: Baseline | None = None) -> None:
        """Forget the audio and use the baseline of another speaker; None begins a new one.

        Raises:
            WeightsError: if the baseline was made with other weights
        """
        baseline = Baseline() if baseline is None else baseline
        if isinstance(self._model, Model):
            baseline.bind(self._model.metadata, self._model.calibration is not None)
        self.baseline = baseline
        self.reset()

    def reset(self) -> None:
        """Forget the audio, half a second before the turn included. The baseline stays."""
        self._prefix = np.zeros(0, np.float32)
        self._begin()

    def start(self) -> None:
        """Begin a turn here: of the audio so far, only the last half second belongs to it.

        Call it when speech is detected. Without it a turn is all audio since the last ``stop`` or ``reset``.
        """
        self._begin()
        self._add(self._stream.push(self._prefix, self._prefix_rate))

    def push(self, pcm: bytes | bytearray | memoryview | np.ndarray, sampling_rate: float, channels: int = 1) -> None:
        """Process the next chunk.

        Args:
            pcm: of any length: bytes of int16, little-endian, channels interleaved; or an array, float in [-1, 1] or
                integers, shape=(samples,) or (samples, channels)
            sampling_rate: Hz; the same for all chunks of a turn
            channels: number of channels in bytes; an array has its own

        Raises:
            AudioError: if it is not a signal or its rate changes within a turn; it is not processed then
        """
        signal = pcm if isinstance(pcm, np.ndarray) else from_bytes(pcm, channels)
        mono = to_mono(signal, sampling_rate, self._channel)
        if self._is_new and sampling_rate != self._prefix_rate:
            self.reset()  # the rate may change between turns
        self._add(self._stream.push(mono, sampling_rate))
        self._is_new = False
        before = self._prefix if sampling_rate == self._prefix_rate else self._prefix[:0]
        length = round(PREFIX_DUR * sampling_rate)
        self._prefix, self._prefix_rate = np.concatenate([before, mono])[-length:].copy(), sampling_rate

    def stop(self) -> Reading:
        """End the turn and answer for it.

        The answer is compared with the baseline and then added to it, unless that was enrolled.
        """
        self._add(self._stream.finish())
        dur = self._stream.position / SAMPLING_RATE
        speech_ratio = float(self._speech_dur / self._dur) if self._dur else 0.0
        reading = Reading(dur, speech_ratio) if self._answered_dur == 0 else self._answered(dur, speech_ratio)
        self._begin()
        return reading

    def _begin(self) -> None:
        self._stream.reset()
        self._is_new = True
        self._dur, self._speech_dur = 0.0, 0.0
        self._answered_dur, self._answered_speech_dur = 0.0, 0.0
        self._sums = np.zeros(len(VALUES))

    def _add(self, events: list[Event]) -> None:
        for event in events:
            assert event.start is not None and event.end is not None and event.speech_ratio is not None
            dur = event.end - event.start
            self._dur += dur
            self._speech_dur += dur * event.speech_ratio
            if event.speech:
                self._answered_dur += dur
                self._answered_speech_dur += dur * event.speech_ratio
                self._sums += dur * np.array([getattr(event, name) for name in VALUES], np.float64)

    def _answered(self, dur: float, speech_ratio: float) -> Reading:
        means = (self._sums / self._answered_dur).tolist()
        values = {name: None if np.isnan(value) else value for name, value in zip(VALUES, means, strict=True)}
        event = Event(0.0, dur, speech=True, speech_ratio=speech_ratio, **values)
        event = self.baseline.compare(event, self._answered_speech_dur)
        deviations = [getattr(event, name) for name in DEVIATION_COLUMNS[: len(OUTPUTS)]]
        deviation = None if None in deviations else Emotion(*deviations)
        note = NOTE.format(change=event.change) if event.change else None
        return Reading(dur, speech_ratio, **values, deviation=deviation, note=note)


def from_bytes(pcm: bytes | bytearray | memoryview, channels: int) -> np.ndarray:
    """Samples of int16, little-endian, channels interleaved, as int16, shape=(samples, channels).

    Raises:
        AudioError: if the bytes are not whole samples of all channels
    """
    size = memoryview(pcm).nbytes
    if channels < 1 or size % (2 * channels):
        raise AudioError(
            f"{size} bytes are not whole int16 samples of {channels} channels; "
            "give all channels of a sample in one chunk, 2 bytes each"
        )
    return np.frombuffer(pcm, "<i2").reshape(-1, channels)
