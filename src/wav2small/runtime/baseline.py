"""A speaker's own baseline: a robust running mean and spread of each dimension, and how far an answer is from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.errors import WeightsError
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import check_made_for, weights_name
from wav2small.runtime.event import DEVIATION_COLUMNS, INTERVAL_COLUMNS, Event

READY_DUR = 20.0
"""Seconds of speech before a baseline is used."""
PRIOR_DUR = 20.0
"""Seconds of speech that the start of a baseline, an average speaker, counts as."""
PRIOR_MEAN, PRIOR_SPREAD = 0.45, 0.12
"""An average speaker, in each dimension."""
CLIP = 2.0
"""An answer further from the mean than so many spreads moves it by no more than these."""
TO_SPREAD = 1.28
"""Standard deviation of a normal distribution over its mean absolute deviation, clipped so."""
MIN_SPREAD = 0.03
"""The smallest spread that a deviation is given in: a few equal answers do not show a steady voice."""
LOW, HIGH = INTERVAL_COLUMNS[::2], INTERVAL_COLUMNS[1::2]
CHANGES = {
    "arousal": ("calmer than usual", "livelier than usual"),
    "dominance": ("softer than usual", "firmer than usual"),
    "valence": ("more negative than usual", "more positive than usual"),
}
"""Words for a dimension that is below and above the baseline."""


@dataclass
class Baseline:
    """What the voice of one speaker is usually like.

    It starts as an average speaker, who counts as 20 s of speech, and moves towards this one. It takes memory for
    seven numbers and is the same in Python, C and JavaScript.

    Args:
        forget_dur: seconds of speech after which older speech begins to count less; None never forgets
        speech_dur: seconds of speech so far
        mean: of each dimension, shape=(3,)
        spread: of each dimension, shape=(3,), as a standard deviation
        is_enrolled: it was recorded on purpose, by ``wav2small enroll``: it is ready, and :meth:`compare` leaves it as
            it is
        weights: name, version and precision of the model whose answers it holds; "" before the first is known
        sha256: of the file of that model
        is_calibrated: the answers are those of a calibration, on the scale of the teacher's labels

    Examples:
        >>> baseline = wav2small.Baseline()
        >>> for arousal in (0.3, 0.4, 0.5, 0.4) * 3:
        ...     baseline.add(wav2small.Emotion(arousal, 0.5, 0.5), speech_dur=3.0)
        >>> baseline.is_ready, round(baseline.deviation(wav2small.Emotion(0.8, 0.5, 0.5)).arousal, 1)
        (True, 3.9)
    """

    forget_dur: float | None = None
    speech_dur: float = 0.0
    mean: np.ndarray = field(default_factory=lambda: np.full(len(OUTPUTS), PRIOR_MEAN))
    spread: np.ndarray = field(default_factory=lambda: np.full(len(OUTPUTS), PRIOR_SPREAD))
    is_enrolled: bool = False
    weights: str = ""
    sha256: str = ""
    is_calibrated: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether there are 20 s of speech, or it was enrolled."""
        return self.is_enrolled or self.speech_dur >= READY_DUR

    def add(self, emotion: Emotion, speech_dur: float) -> None:
        """Include an answer.

        Args:
            emotion: of a window
            speech_dur: seconds of speech in it that no earlier answer included
        """
        self.speech_dur += speech_dur
        counted = self.speech_dur if self.forget_dur is None else min(self.speech_dur, self.forget_dur)
        rate = min(1.0, speech_dur / (PRIOR_DUR + counted))
        most = CLIP * np.maximum(self.spread, MIN_SPREAD)
        step = np.clip(np.asarray(emotion) - self.mean, -most, most)
        self.mean = self.mean + rate * step
        self.spread = self.spread + rate * (TO_SPREAD * np.abs(step) - self.spread)

    def deviation(self, emotion: Emotion) -> Emotion:
        """How far an answer is from the mean, in units of the speaker's spread, which is taken as .03 at least."""
        return Emotion(*((np.asarray(emotion) - self.mean) / np.maximum(self.spread, MIN_SPREAD)).tolist())

    def change(self, emotion: Emotion, low: Emotion, high: Emotion) -> str | None:
        """The words for the dimension that is furthest from the mean, of those whose interval excludes it.

        Args:
            emotion: the answer
            low: lower ends of its intervals
            high: upper ends of its intervals

        Returns:
            such as "calmer than usual"; None if every interval includes the mean
        """
        outside = (np.asarray(low) > self.mean) | (np.asarray(high) < self.mean)
        if not outside.any():
            return None
        deviations = np.asarray(self.deviation(emotion))
        column = int(np.argmax(np.where(outside, np.abs(deviations), -1)))
        return CHANGES[OUTPUTS[column]][int(deviations[column] > 0)]

    def bind(self, metadata: Mapping[str, str], is_calibrated: bool = False) -> None:
        """Record the model whose answers are added, or check that it is the recorded one.

        Raises:
            WeightsError: if the baseline holds answers of other weights, or on another scale
        """
        if not self.weights:
            self.weights, self.sha256 = weights_name(metadata), metadata.get("sha256", "")
            self.is_calibrated = is_calibrated
        check_made_for("the baseline", self.weights, self.sha256, metadata)
        if self.is_calibrated != is_calibrated:
            made, asked = ("with", "without") if self.is_calibrated else ("without", "with")
            raise WeightsError(
                f"the baseline is of answers {made} a calibration, and this run is {asked}; enroll again, or "
                f"{'give' if self.is_calibrated else 'leave out'} --calibrated"
            )

    def compare(self, event: Event, speech_dur: float) -> Event:
        """Add the deviation and the words to an event, then include its answer, unless the baseline was enrolled.

        Args:
            event: any; one without all three values stays as it is
            speech_dur: seconds of its speech that no earlier event included

        Returns:
            the event with its ``_deviation`` fields and, where it has intervals, ``change``, once there is a baseline
        """
        emotion = Emotion(*(getattr(event, name) for name in OUTPUTS))
        if None in emotion:
            return event
        if self.is_ready:
            deviation = self.deviation(emotion)
            fields: dict[str, Any] = dict(zip(DEVIATION_COLUMNS, deviation, strict=False))
            low, high = (Emotion(*(getattr(event, name) for name in names)) for names in (LOW, HIGH))
            if None not in (*low, *high):
                fields["change"] = self.change(emotion, low, high)
            event = replace(event, **fields)
        if not self.is_enrolled:
            self.add(emotion, speech_dur)
        return event

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            Wav2SmallError: if the file cannot be written
        """
        content = {
            "wav2small": "baseline",
            "weights": self.weights,
            "sha256": self.sha256,
            "is_calibrated": self.is_calibrated,
            "is_enrolled": self.is_enrolled,
            "speech_dur": self.speech_dur,
            "forget_dur": self.forget_dur,
            "mean": dict(zip(OUTPUTS, self.mean.tolist(), strict=True)),
            "spread": dict(zip(OUTPUTS, self.spread.tolist(), strict=True)),
        }
        with whole_file(path) as temporary:
            Path(temporary).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def add_baselines(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of segments with what each speaker of each file was like until then.

    Args:
        rows: in the order of time, with file, speaker, start, end, speech_ratio, and arousal, dominance and valence

    Yields:
        the rows with ``arousal_baseline``, the mean, and ``arousal_deviation``, in spreads, and so on; None before
        the speaker has 20 s of speech
    """
    speakers: dict[tuple[str, str], Baseline] = {}
    for row in rows:
        baseline = speakers.setdefault((str(row.get("file", "")), str(row.get("speaker", ""))), Baseline())
        emotion = Emotion(*(row[name] for name in OUTPUTS))
        is_whole = None not in emotion
        means = baseline.mean.tolist() if baseline.is_ready else [None] * len(OUTPUTS)
        deviations = baseline.deviation(emotion) if baseline.is_ready and is_whole else [None] * len(OUTPUTS)
        added = {f"{name}_baseline": mean for name, mean in zip(OUTPUTS, means, strict=True)}
        added |= {f"{name}_deviation": deviation for name, deviation in zip(OUTPUTS, deviations, strict=True)}
        if is_whole:
            baseline.add(emotion, (row["end"] - row["start"]) * row["speech_ratio"])
        yield {**row, **added}


def load_baseline(path: str | Path) -> Baseline:
    """Read a file that :meth:`Baseline.save` wrote.

    Args:
        path: of the file

    Raises:
        WeightsError: if it cannot be read or is not a baseline

    Examples:
        >>> baseline = wav2small.Baseline(forget_dur=600.0)
        >>> baseline.save("speaker.json")
        >>> wav2small.load_baseline("speaker.json").forget_dur
        600.0
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["wav2small"] != "baseline":
            raise ValueError("its kind is another")
        mean, spread = (np.array([float(content[key][name]) for name in OUTPUTS]) for key in ("mean", "spread"))
        forget_dur = content["forget_dur"]
        found = Baseline(
            None if forget_dur is None else float(forget_dur),
            float(content["speech_dur"]),
            mean,
            spread,
            bool(content["is_enrolled"]),
            str(content["weights"]),
            str(content["sha256"]),
            bool(content["is_calibrated"]),
        )
        if not (np.isfinite([*mean, *spread, found.speech_dur]).all() and (spread >= 0).all()):
            raise ValueError("its numbers are not finite, or a spread is negative")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: is not a baseline that wav2small wrote ({error})") from None
    return found
