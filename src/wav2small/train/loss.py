"""Training losses. Columns of a batch are arousal, dominance and valence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ccc_loss(truth: Tensor, prediction: Tensor) -> Tensor:
    """1 - CCC over a batch.

    Args:
        truth: shape=(..., batch, 3)
        prediction: shape=(..., batch, 3)

    Returns:
        shape=(..., 3)

    Source: Lin 1989, Biometrics 45(1):255, with population moments.
    """
    difference = truth.mean(-2) - prediction.mean(-2)
    covariance = (centred(truth) * centred(prediction)).mean(-2)
    variance = truth.var(-2, unbiased=False) + prediction.var(-2, unbiased=False)
    return 1 - 2 * covariance / (variance + difference.square() + 1e-8)


def centred(values: Tensor) -> Tensor:
    """Values minus their mean over the batch, shape=(..., batch, 3)."""
    return values - values.mean(-2, keepdim=True)


def grouped_ccc_loss(truth: Tensor, prediction: Tensor, size: int, within: float) -> Tensor:
    """Weighted sum of 1 - CCC over the batch and 1 - CCC within groups of one corpus.

    Most of the variance of a mixed batch is between corpora, but the score on a new corpus depends only on the
    variation within it.

    Args:
        truth: shape=(batch, 3)
        prediction: shape=(batch, 3)
        size: clips of a group; groups are contiguous
        within: weight of the part within groups, 0 to 1

    Returns:
        shape=(3,)
    """
    whole = ccc_loss(truth, prediction)
    if not within:
        return whole
    groups = (-1, size, truth.shape[-1])
    return (1 - within) * whole + within * ccc_loss(truth.view(groups), prediction.view(groups)).mean(0)


def borrowed(truth: Tensor, prediction: Tensor, size: int) -> Tensor:
    """Squared correlation of the valence error with the true arousal within groups, a scalar.

    It is above 0 if a student predicts valence from arousal.

    Args:
        truth: shape=(batch, 3)
        prediction: shape=(batch, 3)
        size: clips of a group; groups are contiguous
    """
    groups = (-1, size, truth.shape[-1])
    arousal = centred(truth.view(groups))[..., 0]
    error = centred((prediction - truth).view(groups))[..., 2]
    covariance = (arousal * error).mean(-1)
    return (covariance.square() / (arousal.square().mean(-1) * error.square().mean(-1) + 1e-8)).mean()


def annotation_loss(
    truth: Tensor,
    category: Tensor,
    emotion: Tensor,
    logits: Tensor,
    category_weight: float,
    group_size: int = 1,
    within: float = 0.0,
) -> Tensor:
    """1 - CCC of the annotations plus the weighted cross-entropy of the categories, a scalar.

    Args:
        truth: annotated A/D/V, shape=(batch, 3)
        category: number of the annotated category, shape=(batch,)
        emotion: predicted A/D/V, shape=(batch, 3)
        logits: logits of the categories, shape=(batch, categories)
        category_weight: weight of the cross-entropy
        group_size: contiguous rows of one corpus
        within: share of the loss within groups
    """
    cross_entropy = functional.cross_entropy(logits, category, label_smoothing=0.1)
    ccc = grouped_ccc_loss(truth, emotion, group_size, within).mean()
    return ccc + category_weight * cross_entropy


def supervised_loss(
    truth: Tensor, category: Tensor, emotion: Tensor, logits: Tensor, weights: Tensor, ccc: float, focal: float
) -> Tensor:
    """1 - CCC of the clips with a truth plus the focal loss of those with a category, a scalar.

    Args:
        truth: A/D/V, NaN where there is none, shape=(batch, 3)
        category: number of the category, -1 where there is none, shape=(batch,)
        emotion: predicted A/D/V, shape=(batch, 3)
        logits: logits of the categories, shape=(batch, categories)
        weights: of each category, shape=(categories,)
        ccc: weight of 1 - CCC
        focal: gamma of the focal loss
    """
    known = torch.isfinite(truth).all(1)
    concordance = ccc_loss(truth[known], emotion[known]).mean() if known.sum() > 1 else emotion.sum() * 0
    return ccc * concordance + focal_loss(logits, category, weights, focal)


def focal_loss(logits: Tensor, category: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Weighted mean of -(1 - p)^gamma log p over the clips with a category, a scalar; gamma 0 is the cross-entropy.

    Args:
        logits: shape=(batch, categories)
        category: number of the true category, -1 where there is none, shape=(batch,)
        weights: of each category, shape=(categories,)
        gamma: how much less clips weigh that are classified with confidence

    Source: Lin et al. 2017, arXiv:1708.02002.
    """
    known = category >= 0
    if not known.any():
        return logits.sum() * 0
    log_p = functional.log_softmax(logits[known], 1).gather(1, category[known, None])[:, 0]
    weight = weights[category[known]]
    return -(weight * (1 - log_p.exp()) ** gamma * log_p).sum() / weight.sum()


def metric_loss(hidden: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference between the distances of clips in an embedding and in A/D/V, a scalar.

    Both distances are divided by their median over the pairs of a batch; those of the embedding are squared distances
    under a square root.

    Args:
        hidden: embedding, shape=(batch, size)
        truth: A/D/V, NaN where there is none, shape=(batch, 3)

    Source: continuous metric learning, arXiv:2203.14867; the form with medians is ours.
    """
    known = torch.isfinite(truth).all(1)
    first, second = torch.triu_indices(int(known.sum()), int(known.sum()), 1)
    if not len(first):
        return hidden.sum() * 0
    z, y = hidden[known], truth[known]
    apart = (z[first] - z[second]).square().sum(1)
    apart = (apart / apart.detach().median().clamp_min(1e-6) + 1e-8).sqrt()
    true = (y[first] - y[second]).square().sum(1).sqrt()
    return (apart - true / true.median().clamp_min(1e-6)).square().mean()
