"""Agreement of predictions with the truth: CCC, r, AUC, their mean within groups, and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wav2small.errors import Wav2SmallError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def concordance_cc(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Concordance correlation coefficient over a whole data set.

    Source: Lin 1989, Biometrics 45:255, with population moments (divided by n):
    2 cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))²)

    Args:
        truth: shape=(samples,)
        prediction: shape=(samples,)

    Returns:
        -1 to 1. Two equal constants agree wholly: 1. A constant against anything else has no covariance: 0.

    Raises:
        Wav2SmallError: if the lengths differ, nothing is there, or a value is not finite
    """
    t, p = _pair(truth, prediction)
    if np.ptp(t) == 0 and np.ptp(p) == 0:
        return float(t[0] == p[0])
    denominator = t.var() + p.var() + (t.mean() - p.mean()) ** 2
    return float(2 * _covariance(t, p) / denominator)


def pearson_cc(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Pearson's correlation coefficient r.

    Args:
        truth: shape=(samples,)
        prediction: shape=(samples,)

    Returns:
        -1 to 1; not a number where one of the two is constant

    Raises:
        Wav2SmallError: if the lengths differ, nothing is there, or a value is not finite
    """
    t, p = _pair(truth, prediction)
    if np.ptp(t) == 0 or np.ptp(p) == 0:
        return float("nan")
    return float(np.clip(_covariance(t, p) / (t.std() * p.std()), -1, 1))


def auc(positive: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive sample scores above a negative one, ties counted half.

    Source: the Mann-Whitney statistic; Hanley and McNeil 1982, Radiology 143:29

    Args:
        positive: bool, shape=(samples,)
        score: shape=(samples,)

    Returns:
        0 to 1, chance .5; not a number where all samples are of one class

    Raises:
        Wav2SmallError: if the lengths differ, nothing is there, or a score is not finite
    """
    is_positive = np.asarray(positive, dtype=bool)
    _, values = _pair(is_positive, score)
    distinct, code = np.unique(values, return_inverse=True)
    positives = np.bincount(code[is_positive], minlength=len(distinct))
    negatives = np.bincount(code[~is_positive], minlength=len(distinct))
    pairs = int(positives.sum()) * int(negatives.sum())
    below = np.cumsum(negatives) - negatives
    return float(np.sum(positives * (below + negatives / 2)) / pairs) if pairs else float("nan")


def mean_within(
    statistic: Callable[[NDArray[Any], NDArray[Any]], float],
    truth: ArrayLike,
    prediction: ArrayLike,
    groups: Sequence[Hashable] | NDArray[np.generic],
) -> float:
    """Mean over groups of a statistic computed within each: what differs between corpora alone does not raise it.

    Args:
        statistic: (truth, prediction) -> value, e.g. ``concordance_cc``
        truth: shape=(samples, ...)
        prediction: shape=(samples, ...)
        groups: group of each sample, e.g. its corpus, shape=(samples,)

    Returns:
        the mean over the groups in which the statistic is a number, each counted once; not a number if there is none

    Raises:
        Wav2SmallError: if the lengths differ
    """
    t, p, codes = np.asarray(truth), np.asarray(prediction), np.unique(np.asarray(groups), return_inverse=True)[1]
    if not len(t) == len(p) == len(codes):
        raise Wav2SmallError(
            f"{len(t)} values of truth, {len(p)} of prediction and {len(codes)} groups. Needed: equally many."
        )
    values = [statistic(t[codes == code], p[codes == code]) for code in np.unique(codes)]
    numbers = [value for value in values if not np.isnan(value)]
    return float(np.mean(numbers)) if numbers else float("nan")


def bootstrap_interval(
    statistic: Callable[[Indices], float],
    groups: Sequence[Hashable] | NDArray[np.generic],
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic, resampling whole groups: speakers, not their clips.

    Clips of one speaker are alike, so resampling clips would claim more certainty than there is.

    Source: Efron and Tibshirani 1993, chapter 13; for groups Davison and Hinkley 1997, section 3.8

    Args:
        statistic: value of the samples at these indices, shape=(resampled samples,)
        groups: group of each sample, shape=(samples,)
        draws: times that as many groups as there are get drawn, with replacement
        level: share of the draws inside the interval
        seed: the same seed draws the same groups

    Returns:
        low, high; not numbers with fewer than two groups, or where fewer than half of the draws had a value
    """
    return percentile_interval([statistic(indices) for indices in resample(groups, draws, seed)], level)


def percentile_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The interval that holds the middle share of a bootstrap's draws.

    Args:
        values: a statistic of each draw, shape=(draws,); not a number where it is undefined
        level: share of the draws inside the interval

    Returns:
        low, high; not numbers without draws, or where fewer than half of them are numbers
    """
    drawn = np.asarray(values, dtype=np.float64)
    numbers = drawn[np.isfinite(drawn)]
    if len(numbers) == 0 or 2 * len(numbers) < len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(numbers, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resample(
    groups: Sequence[Hashable] | NDArray[np.generic], draws: int, seed: int | Sequence[int]
) -> Iterator[Indices]:
    """Indices of the samples of each draw: as many whole groups as there are, with replacement.

    There are no draws of fewer than two groups, as they would always be the same.
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) > 1:
        for drawn in np.random.default_rng(seed).integers(len(names), size=(draws, len(names))):
            times = np.bincount(drawn, minlength=len(names))
            yield np.repeat(np.arange(len(codes)), times[codes])


def _pair(truth: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    t, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if t.ndim != 1 or t.shape != p.shape or len(t) == 0:
        raise Wav2SmallError(
            f"truth has shape {t.shape} and prediction {p.shape}. Needed: one row of numbers each, equally many."
        )
    if not (np.isfinite(t).all() and np.isfinite(p).all()):
        raise Wav2SmallError("truth or prediction has values that are not finite. Leave those samples out first.")
    return t, p


def _covariance(t: Floats, p: Floats) -> float:
    return float(np.mean((t - t.mean()) * (p - p.mean())))
