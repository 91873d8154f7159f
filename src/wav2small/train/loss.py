"""Losses of training, on batches with a dimension (arousal, dominance, valence) a column."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def ccc_loss(truth: Tensor, prediction: Tensor) -> Tensor:
    """1 - CCC over a batch: (batch, 3), (batch, 3) -> (3); over each of several: (..., batch, 3) twice -> (..., 3)."""
    truth_mean, prediction_mean = truth.mean(-2, keepdim=True), prediction.mean(-2, keepdim=True)
    covariance = ((truth - truth_mean) * (prediction - prediction_mean)).mean(-2)
    variance = truth.var(-2, unbiased=False) + prediction.var(-2, unbiased=False)
    difference = (truth_mean - prediction_mean).squeeze(-2)
    return 1 - 2 * covariance / (variance + difference.square() + 1e-8)


def within_loss(truth: Tensor, prediction: Tensor, group: int, within: float) -> Tensor:
    """1 - CCC, a scalar: the share ``within`` is the mean over groups of rows, the rest is over the batch.

    Over the batch, what tells one corpus from another counts; on a corpus of its own, only what varies within it does.

    Args:
        truth: shape=(batch, 3), rows that share a corpus side by side
        prediction: likewise
        group: rows of one corpus; the batch is a multiple
        within: from 0 to 1
    """
    pooled = ccc_loss(truth, prediction).mean()
    if not within:
        return pooled
    groups = ccc_loss(truth.reshape(-1, group, 3), prediction.reshape(-1, group, 3)).mean()
    return (1 - within) * pooled + within * groups


def annotation_loss(
    truth: Tensor,
    category: Tensor,
    emotion: Tensor,
    logits: Tensor,
    category_weight: float,
    group: int = 1,
    within: float = 0.0,
) -> Tensor:
    """1 - CCC of people's annotations plus the weighted cross-entropy of their categories, a scalar.

    Args:
        truth: annotated A/D/V, shape=(batch, 3)
        category: number of the annotated category, shape=(batch,)
        emotion: predicted A/D/V, shape=(batch, 3)
        logits: of the categories, shape=(batch, categories)
        category_weight: of the cross-entropy
        group: rows of one corpus side by side
        within: share of the loss that is computed within groups
    """
    cross_entropy = functional.cross_entropy(logits, category, label_smoothing=0.1)
    return within_loss(truth, emotion, group, within) + category_weight * cross_entropy
