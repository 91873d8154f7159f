"""Interface of teachers, and the base class of transformer teachers: long clips in parts, A/D/V clipped to 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.runtime.windows import mean, parts


class Teacher(Protocol):
    """A teacher labels audio. Its name, version and licence are stored with each label.

    Examples:
        >>> class Loudness:
        ...     name, version, licence = "loudness", "1", "CC0-1.0"
        ...
        ...     def label(self, signals):
        ...         levels = [float(np.sqrt(np.mean(signal**2))) for signal in signals]
        ...         return [wav2small.Emotion(level, level, 0.5) for level in levels]
        ...
        ...     def label_and_embed(self, signals):
        ...         emotions = self.label(signals)
        ...         return emotions, np.array(emotions, np.float32)
        >>> Loudness().label([np.full(16000, 0.5, np.float32)])
        [Emotion(arousal=0.5, dominance=0.5, valence=0.5)]
    """

    name: str
    version: str
    licence: str

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        """Emotion of each signal (mono, 16 kHz, float32, shape=(samples,))."""
        ...

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        """Emotion of each signal, and embeddings, float32, shape=(signals, size)."""
        ...


class TeacherId(NamedTuple):
    """Name, version and licence of a teacher, the columns of its labels."""

    teacher: str
    teacher_version: str
    teacher_licence: str

    @classmethod
    def of(cls, teacher: Teacher) -> TeacherId:
        """The identification of a teacher."""
        return cls(teacher.name, teacher.version, teacher.licence)


class TransformerTeacher:
    """Base class of teachers. A subclass implements ``answers`` for signals of at most 30 s."""

    name: str
    version: str
    licence: str

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V followed by the embedding of each signal, shape=(signals, 3 + size)."""
        raise NotImplementedError

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        """Emotion of each signal, clipped to 0 to 1. For signals longer than 30 s it is the mean over parts.

        Args:
            signals: mono audio at 16 kHz, float32, shape=(samples,) each
        """
        return self.label_and_embed(signals)[0]

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        """Emotion of each signal as in :meth:`label`, and embeddings, shape=(signals, size)."""
        if not signals:
            return [], np.zeros((0, 0), np.float32)
        clips = [list(parts([signal], len(signal) / SAMPLING_RATE)) for signal in signals]
        answers = self.answers([part for clip in clips for part in clip])
        ends = np.cumsum([len(clip) for clip in clips[:-1]], dtype=int)
        means = [
            mean(values, [len(part) for part in clip]).astype(answers.dtype)
            for clip, values in zip(clips, np.split(answers, ends), strict=True)
        ]
        emotions, embeddings = np.split(np.array(means), [len(OUTPUTS)], axis=1)
        return [Emotion(*row.tolist()) for row in np.clip(emotions, 0, 1)], embeddings
