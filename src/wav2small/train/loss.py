"""Losses of training, on batches with a dimension (arousal, dominance, valence) a column."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def ccc_loss(truth: Tensor, prediction: Tensor) -> Tensor:
    """1 - CCC over a batch: (batch, 3), (batch, 3) -> (3)."""
    difference = truth.mean(0) - prediction.mean(0)
    covariance = ((truth - truth.mean(0)) * (prediction - prediction.mean(0))).mean(0)
    variance = truth.var(0, unbiased=False) + prediction.var(0, unbiased=False)
    return 1 - 2 * covariance / (variance + difference.square() + 1e-8)


def annotation_loss(truth: Tensor, category: Tensor, emotion: Tensor, logits: Tensor, category_weight: float) -> Tensor:
    """1 - CCC of people's annotations plus the weighted cross-entropy of their categories, a scalar.

    Args:
        truth: annotated A/D/V, shape=(batch, 3)
        category: number of the annotated category, shape=(batch,)
        emotion: predicted A/D/V, shape=(batch, 3)
        logits: of the categories, shape=(batch, categories)
        category_weight: of the cross-entropy
    """
    cross_entropy = functional.cross_entropy(logits, category, label_smoothing=0.1)
    return ccc_loss(truth, emotion).mean() + category_weight * cross_entropy
