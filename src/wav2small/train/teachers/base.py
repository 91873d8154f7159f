"""What every teacher with a transformer does: long clips in pieces, answers clipped to 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion

MAX_DUR = 30.0
"""Seconds that a teacher processes at once."""
PIECE_DUR = 15.0
"""Seconds of a piece of a longer clip, at most; its label is the mean over the pieces."""


class Teacher(Protocol):
    """What labels audio; its name, version and licence are recorded with each label."""

    name: str
    version: str
    licence: str

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        """Emotion of each signal, mono float32 at 16 kHz, shape=(samples,)."""
        ...

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        """The same, and an embedding that the emotion was read from, shape=(signals, size)."""
        ...


class TeacherId(NamedTuple):
    """Name, version and licence of a teacher, as columns of its labels."""

    teacher: str
    teacher_version: str
    teacher_licence: str

    @classmethod
    def of(cls, teacher: Teacher) -> TeacherId:
        """Those of a teacher."""
        return cls(teacher.name, teacher.version, teacher.licence)


class TransformerTeacher:
    """A teacher from what it answers to signals of at most ``MAX_DUR``: ``answers`` is all that a kind of it adds."""

    name: str
    version: str
    licence: str

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V and then the embedding that they were read from, shape=(signals, 3 + size)."""
        raise NotImplementedError

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        """Emotion of each signal, clipped to 0 to 1; a clip longer than 30 s gets the mean of its pieces.

        Args:
            signals: mono float32 at 16 kHz, each shape=(samples,)
        """
        return self.label_and_embed(signals)[0]

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        """The same, and the embedding that the emotion is read from, shape=(signals, size)."""
        if not signals:
            return [], np.zeros((0, 0), np.float32)
        clips = [_pieces(signal) for signal in signals]
        answers = self.answers([piece for clip in clips for piece in clip])
        ends = np.cumsum([len(clip) for clip in clips], dtype=int)
        parts = np.split(answers, ends)[: len(signals)]
        means = np.array([part.mean(0) for part in parts]).reshape(len(signals), answers.shape[1])
        emotions, embeddings = np.split(means, [len(OUTPUTS)], axis=1)
        return [Emotion(*row.tolist()) for row in np.clip(emotions, 0, 1)], embeddings


def _pieces(signal: np.ndarray) -> list[np.ndarray]:
    if len(signal) <= MAX_DUR * SAMPLING_RATE:
        return [signal]
    return np.array_split(signal, int(np.ceil(len(signal) / (PIECE_DUR * SAMPLING_RATE))))
