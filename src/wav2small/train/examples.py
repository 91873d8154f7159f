"""Annotated clips that a model is fitted on, and what a fitted model predicts for clips. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Examples:
    """Training examples.

    Attributes:
        inputs: features of the clips, shape=(clips, width), or (clips, tokens, width) with NaN after a clip's
            last token; or their segments, shape=(clips,)
        truth: A/D/V, NaN where there is none, shape=(clips, 3)
        category: number of the category, -1 where there is none, shape=(clips,)
        categories: how many there are
    """

    inputs: np.ndarray
    truth: np.ndarray
    category: np.ndarray
    categories: int

    def balance(self) -> np.ndarray:
        """Weight of each category, inversely proportional to its clips, float32, shape=(categories,), at least one."""
        known = self.category[self.category >= 0]
        counts = np.bincount(known, minlength=max(self.categories, 1))
        return (len(known) / np.maximum(counts, 1)).astype(np.float32)


class Answers(NamedTuple):
    """Predictions for clips.

    Attributes:
        emotion: A/D/V, 0 to 1, shape=(clips, 3)
        probability: of each category, shape=(clips, categories)
        hidden: the values before the outputs, shape=(clips, hidden)
    """

    emotion: np.ndarray
    probability: np.ndarray
    hidden: np.ndarray


class Fitted(Protocol):
    """A model that was fitted on examples."""

    def answers(self, inputs: np.ndarray) -> Answers:
        """Predictions for clips, given as the inputs of the examples were."""
