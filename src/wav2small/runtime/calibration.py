"""Calibrations of a network's output: the teacher's scale, intervals, confidence, and a word.

A calibration belongs to one set of weights and is measured on a population of voices. It is a small JSON file beside
the weights, which do not change; ``fit_calibration`` makes it, predictions and events use it.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wav2small.errors import WeightsError
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import check_made_for

KIND = "wav2small calibration"
LEVELS = (0.8, 0.95)
"""Shares of held-out clips whose label is inside an interval."""
LEVEL = LEVELS[0]
"""The level of confidence and words."""
NEUTRAL = 1.25
"""Standard deviations from the mean within which arousal and valence are neutral: about half of the dev clips."""
WORDS = {(1, -1): "tense", (1, 1): "elated", (-1, 1): "calm", (-1, -1): "low"}
"""Sign of arousal and of valence around their means -> word of the quadrant."""

PLANE = ("arousal", "valence")

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Scale:
    """The calibration of one dimension: piecewise linear, from the network's output to the teacher's label.

    Args:
        output: knots of the network's output, rising
        label: the teacher's label at each knot, rising
        mean: of the calibrated output over the voices it was fitted on
        spread: standard deviation of the same
        low: tenth percentile of the same
        high: ninetieth percentile of the same
        half_width: of the interval, by level: a row per bin of speech, a column per bin of contrast

    Examples:
        >>> from wav2small.runtime.calibration import Scale
        >>> scale = Scale((0.2, 0.8), (0.0, 1.0), 0.5, 0.2, 0.2, 0.8, {"0.8": ((0.1,),)})
        >>> scale(0.2), scale(0.8)
        (0.0, 1.0)
    """

    output: tuple[float, ...]
    label: tuple[float, ...]
    mean: float
    spread: float
    low: float
    high: float
    half_width: Mapping[str, Table]

    def __call__(self, output: float) -> float:
        """The calibrated value of an output."""
        return float(np.interp(output, self.output, self.label))


class Reading(NamedTuple):
    """A calibrated prediction; ``low`` to ``high`` holds the teacher's label for 80 % of held-out clips.

    Examples:
        >>> calibration = wav2small.load("micro", calibration=True).calibration
        >>> calibration.read(wav2small.Emotion(0.5, 0.5, 0.5), speech_dur=3.0, contrast=30.0)._fields
        ('emotion', 'low', 'high', 'confidence', 'word')
    """

    emotion: Emotion
    low: Emotion
    high: Emotion
    confidence: Emotion
    word: str | None


@dataclass(frozen=True)
class Calibration:
    """Scales of arousal, dominance and valence, for one set of weights.

    Args:
        weights: their name, version and precision
        sha256: of their file
        scales: by dimension
        speech_dur: upper edges of the bins of speech, seconds; there is one bin more
        contrast: upper edges of the bins of contrast, dB; there is one bin more
        made: the data it was made from, for people

    Examples:
        >>> calibration = wav2small.load("micro", calibration=True).calibration
        >>> reading = calibration.read(wav2small.Emotion(0.9, 0.6, 0.3), speech_dur=3.0, contrast=30.0)
        >>> reading.low.arousal < reading.emotion.arousal < reading.high.arousal
        True
    """

    weights: str
    sha256: str
    scales: Mapping[str, Scale]
    speech_dur: tuple[float, ...]
    contrast: tuple[float, ...]
    made: Mapping[str, Any] = field(default_factory=dict)

    def calibrated(self, emotion: Emotion) -> Emotion:
        """An output on the scale of the labels, by a monotone map for each dimension."""
        return Emotion(*(self.scales[name](value) for name, value in emotion._asdict().items()))

    def half_width(self, speech_dur: float, contrast: float, level: float = LEVEL) -> Emotion:
        """Half the width of the interval, before it is clipped to 0 and 1.

        Args:
            speech_dur: seconds of speech
            contrast: dB, as ``wav2small.audio.vad.Sound`` has it
            level: one of ``LEVELS``
        """
        row, column = bisect_right(self.speech_dur, speech_dur), bisect_right(self.contrast, contrast)
        return Emotion(*(self.scales[name].half_width[f"{level:g}"][row][column] for name in OUTPUTS))

    def interval(
        self, emotion: Emotion, speech_dur: float, contrast: float, level: float = LEVEL
    ) -> tuple[Emotion, Emotion]:
        """Low and high end around a calibrated emotion, within 0 and 1; the arguments are those of ``half_width``."""
        pairs = list(zip(emotion, self.half_width(speech_dur, contrast, level), strict=True))
        return Emotion(*(max(0.0, x - half) for x, half in pairs)), Emotion(*(min(1.0, x + half) for x, half in pairs))

    def read(self, output: Emotion, speech_dur: float, contrast: float) -> Reading:
        """A network's output on the scale of the labels, with interval, confidence and word.

        Args:
            output: of the network
            speech_dur: seconds of speech
            contrast: dB, as ``wav2small.audio.vad.Sound`` has it
        """
        emotion = self.calibrated(output)
        low, high = self.interval(emotion, speech_dur, contrast)
        scales = [self.scales[name] for name in OUTPUTS]
        confidence = Emotion(
            *(max(0.0, 1 - (b - a) / (s.high - s.low)) for a, b, s in zip(low, high, scales, strict=True))
        )
        return Reading(emotion, low, high, confidence, self._word(low, high))

    def _word(self, low: Emotion, high: Emotion) -> str | None:
        sides, near = [], []
        for name, a, b in zip(OUTPUTS, low, high, strict=True):
            scale = self.scales[name]
            if name in PLANE:
                sides.append((a > scale.mean) - (b < scale.mean))
                near.append(max(scale.mean - a, b - scale.mean) <= NEUTRAL * scale.spread)
        return WORDS.get((sides[0], sides[1]), "neutral" if all(near) and not any(sides) else None)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically."""
        content = {"kind": KIND} | asdict(self)
        with whole_file(path) as temporary:
            Path(temporary).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def check(self, metadata: Mapping[str, str]) -> None:
        """Raise ``WeightsError`` if it was made for other weights than those with these metadata."""
        check_made_for("the calibration", self.weights, self.sha256, metadata)


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration that ``Calibration.save`` or ``wav2small calibrate`` wrote.

    Args:
        path: of the file

    Raises:
        WeightsError: if there is no such file, or its contents are not those of a calibration

    Examples:
        >>> from wav2small.runtime.calibration import load_calibration
        >>> calibration = wav2small.load("micro", calibration=True).calibration
        >>> calibration.save("mine.json")
        >>> load_calibration("mine.json") == calibration
        True
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("kind") != KIND:
            raise ValueError
        scales = {name: Scale(**content["scales"][name]) for name in OUTPUTS}
        calibration = Calibration(**content | {"scales": scales})
        problem = next(problems(calibration), "")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f"{path}: is not a calibration; give a file that wav2small calibrate wrote") from None
    if problem:
        raise WeightsError(f"{path}: is not a valid calibration: {problem}; make it again with wav2small calibrate")
    return calibration


def problems(calibration: Calibration) -> Iterator[str]:
    """What is wrong with the contents of a calibration, a sentence each; nothing if it can be used."""
    if not (rises(calibration.speech_dur) and rises(calibration.contrast)):
        yield "the edges of its bins do not rise"
    shape = len(calibration.speech_dur) + 1, len(calibration.contrast) + 1
    for name, scale in calibration.scales.items():
        if len(scale.output) != len(scale.label) or len(scale.output) < 2 or not rises(scale.output):
            yield f"the outputs of {name} do not rise, or there is not one label for each"
        if not all(map(math.isfinite, (*scale.label, scale.mean, scale.spread))) or list(scale.label) != sorted(
            scale.label
        ):
            yield f"the labels of {name} fall, or are not finite"
        if not (math.isfinite(scale.low) and math.isfinite(scale.high) and scale.low < scale.high):
            yield f"the usual range of {name} goes from {scale.low:g} to {scale.high:g}"
        for level in LEVELS:
            table = scale.half_width[f"{level:g}"]
            widths = [width for row in table for width in row]
            if {(len(table), len(row)) for row in table} != {shape}:
                yield f"the intervals of {name} do not fit the bins"
            if not all(0 <= width < math.inf for width in widths):
                yield f"an interval of {name} is negative or not finite"


def rises(values: Sequence[float]) -> bool:
    """Whether each value is finite and above the one before it."""
    return all(map(math.isfinite, values)) and all(low < high for low, high in pairwise(values))


def calibration_path(weights: str | Path) -> Path:
    """The path of the calibration of a file of weights: beside it."""
    return Path(weights).with_suffix(".calibration.json")
