"""Ensemble of teachers: weighted mean of the emotions, concatenated embeddings, joint licences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wav2small.network.config import Emotion
from wav2small.network.licences import joined
from wav2small.train.teachers.base import Teacher


class Ensemble:
    """A weighted mean of teachers.

    Args:
        name: name of the teacher in the labels
        teachers: the members
        weights: weight of each member, above 0; by default equal
    """

    def __init__(self, name: str, teachers: Sequence[Teacher], weights: Sequence[float] = ()) -> None:
        given = np.array(weights or [1.0] * len(teachers))
        self.name = name
        self.teachers = teachers
        self.weights = given / given.sum()
        self.version = "+".join(teacher.version for teacher in teachers)
        self.licence = joined(teacher.licence for teacher in teachers)

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        """Weighted mean of the members' emotions, for signals of shape=(samples,)."""
        return self.label_and_embed(signals)[0]

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        """Weighted mean of the emotions, and the concatenated embeddings, shape=(signals, size)."""
        emotions, embeddings = zip(*(teacher.label_and_embed(signals) for teacher in self.teachers), strict=True)
        means = np.tensordot(self.weights, np.array(emotions), 1)
        return [Emotion(*row.tolist()) for row in means], np.concatenate(embeddings, axis=1)
