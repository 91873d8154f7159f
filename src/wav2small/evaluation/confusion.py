"""Confusion matrices of categories, with their recalls, UA, WA and macro-F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wav2small.evaluation.statistics import Sample
from wav2small.metrics import confusion_matrix, macro_f1, unweighted_accuracy, weighted_accuracy


@dataclass(frozen=True)
class Confusion:
    """How often a category (row) was taken for another (column), on held-out speakers.

    Args:
        labels: the categories
        counts: shape=(labels, labels)
        speakers: number of speakers known by name
    """

    labels: tuple[str, ...]
    counts: np.ndarray
    speakers: int

    @property
    def recall(self) -> np.ndarray:
        """Share of each category that was recognised, shape=(labels,); NaN where it has no clips."""
        clips = self.counts.sum(axis=1)
        return np.where(clips > 0, np.diag(self.counts) / np.maximum(clips, 1), np.nan)

    def rows(self) -> list[dict[str, object]]:
        """One row a category, for a table."""
        return [
            {"truth": label, **dict(zip(self.labels, map(int, counts), strict=True)), "recall": _number(recall)}
            for label, counts, recall in zip(self.labels, self.counts, self.recall, strict=True)
        ]

    def __str__(self) -> str:
        figures = unweighted_accuracy(self.counts), weighted_accuracy(self.counts), macro_f1(self.counts)
        return "UA {:.3f}, WA {:.3f}, macro-F1 {:.3f}".format(*figures)


def confusion_of(sample: Sample) -> Confusion | None:
    """The confusion matrix of the clips that have both an annotated and a predicted category; None without any."""
    counted = sample.pairs.has_category
    if not counted.any():
        return None
    names = np.array(sample.labels)
    truth, prediction = names[sample.pairs.label[counted]], names[sample.pairs.category[counted]]
    labels = tuple(np.unique([truth, prediction]).tolist())
    speakers = len({*sample.speaker[counted].tolist()} - {""})
    return Confusion(labels, confusion_matrix(truth.tolist(), prediction.tolist(), labels), speakers)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
