"""The record of a prediction, and its making from the network's output, the calibration and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wav2small.audio.vad import Sound
from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS
from wav2small.runtime.calibration import Reading
from wav2small.runtime.engines import Output, Predictor
from wav2small.runtime.model import Model


@dataclass(frozen=True)
class Event:
    """The prediction for the audio from ``start`` to ``end``.

    Args:
        start: seconds
        end: seconds
        arousal: 0 to 1; None where there is too little speech, or less confidence than asked for
        dominance: as ``arousal``
        valence: as ``arousal``
        speech: whether there is enough speech
        speech_ratio: share of speech, 0 to 1
        confidence: mean of the three dimensions, 0 to 1; None without a calibration
        word: tense, elated, calm, low or neutral; None where that is undecided, and without a calibration
        category: the most probable category of a head; None without one
        probability: of the category, 0 to 1
        arousal_low: low end of the interval, which holds the teacher's label for 80 % of held-out clips; None
            without a calibration. The other ends likewise
        arousal_high: high end
        dominance_low: low end
        dominance_high: high end
        valence_low: low end
        valence_high: high end
        arousal_deviation: from the speaker's mean, in the speaker's spreads; None without a baseline
        dominance_deviation: as ``arousal_deviation``
        valence_deviation: as ``arousal_deviation``
        change: words such as "calmer than usual"; None if it is uncertain, and without a baseline and intervals

    ``start``, ``end``, ``speech`` and ``speech_ratio`` are None only in the row of a file that failed. The ``repr``
    shows the fields that are not None.

    Examples:
        >>> event = wav2small.Event(start=0.0, end=3.0, speech=False, speech_ratio=0.1)
        >>> event.arousal is None
        True
    """

    start: float | None = None
    end: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    valence: float | None = None
    speech: bool | None = None
    speech_ratio: float | None = None
    confidence: float | None = None
    word: str | None = None
    category: str | None = None
    probability: float | None = None
    arousal_low: float | None = None
    arousal_high: float | None = None
    dominance_low: float | None = None
    dominance_high: float | None = None
    valence_low: float | None = None
    valence_high: float | None = None
    arousal_deviation: float | None = None
    dominance_deviation: float | None = None
    valence_deviation: float | None = None
    change: str | None = None

    def __repr__(self) -> str:
        return shown(self)


def shown(event: Event, first: str = "start") -> str:
    """Representation of an event: the fields that are not None, floats with four decimals at most."""
    fields = {first: getattr(event, first)} | vars(event)
    shown = ", ".join(f"{name}={_rounded(value)!r}" for name, value in fields.items() if value is not None)
    return f"{type(event).__name__}({shown})"


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


COLUMNS = ("start", "end", *OUTPUTS, "speech", "speech_ratio")
"""Fields that every model fills."""
CALIBRATION_COLUMNS = ("confidence", "word")
CATEGORY_COLUMNS = ("category", "probability")
DEVIATION_COLUMNS = (*(f"{name}_deviation" for name in OUTPUTS), "change")
INTERVAL_COLUMNS = tuple(f"{name}_{end}" for name in OUTPUTS for end in ("low", "high"))


class EventBuilder:
    """Makes events from a network's outputs, with the calibration and the head of its model if there are any.

    Raises:
        WeightsError: if there is a ``min_confidence`` and no calibration
    """

    def __init__(self, predictor: Predictor, min_confidence: float) -> None:
        self._calibration = predictor.calibration if isinstance(predictor, Model) else None
        self._head = predictor.head if isinstance(predictor, Model) else None
        self._min_confidence = min_confidence
        if min_confidence > 0 and self._calibration is None:
            raise WeightsError(
                f"a confidence of {min_confidence:g} needs a calibration, and the model was loaded without; "
                'load it with one: load("micro", calibration=True)'
            )

    def event(self, start: float, end: float, output: Output | None, sound: Sound) -> Event:
        """An event from ``start`` to ``end`` in seconds; ``output`` is None where there is too little speech."""
        if output is None:
            return Event(start, end, speech=False, speech_ratio=sound.ratio)
        fields: dict[str, Any] = output.emotion._asdict()
        if self._calibration:
            reading = self._calibration.read(output.emotion, (end - start) * sound.loud_ratio, sound.contrast)
            fields = self._calibrated(reading)
        if self._head and output.embedding is not None:
            fields |= dict(zip(CATEGORY_COLUMNS, next(iter(self._head(output.embedding).items())), strict=True))
        return Event(start, end, speech=True, speech_ratio=sound.ratio, **fields)

    def _calibrated(self, reading: Reading) -> dict[str, Any]:
        fields: dict[str, Any] = {
            name: value if confidence >= self._min_confidence else None
            for name, value, confidence in zip(OUTPUTS, reading.emotion, reading.confidence, strict=True)
        }
        is_open = fields["arousal"] is None or fields["valence"] is None
        fields |= {"confidence": float(np.mean(reading.confidence)), "word": None if is_open else reading.word}
        ends = (end for pair in zip(reading.low, reading.high, strict=True) for end in pair)
        return fields | dict(zip(INTERVAL_COLUMNS, ends, strict=True))
