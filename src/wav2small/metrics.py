"""Agreement of predictions with the truth: CCC, r, AUC, UA, WA, F1, means within groups, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wav2small.errors import Wav2SmallError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Counts = NDArray[np.int64]


def concordance_cc(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Concordance correlation coefficient over a whole data set.

    Source: Lin 1989, Biometrics 45:255, with population moments (divided by n):
    2 cov(t, p) / (var(t) + var(p) + (mean(t) - mean(p))²)

    Args:
        truth: shape=(samples,)
        prediction: shape=(samples,)

    Returns:
        -1 to 1. Two equal constants agree perfectly: 1. A constant and anything else have no covariance: 0.

    Raises:
        Wav2SmallError: if the lengths differ, there are no values, or a value is not finite

    Examples:
        >>> wav2small.concordance_cc([0.1, 0.5, 0.9], [0.1, 0.5, 0.9])
        1.0
        >>> round(wav2small.concordance_cc([0.1, 0.5, 0.9], [0.3, 0.5, 0.7]), 3)
        0.8
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
        -1 to 1; NaN if one of the two is constant

    Raises:
        Wav2SmallError: if the lengths differ, there are no values, or a value is not finite

    Examples:
        >>> from wav2small.metrics import pearson_cc
        >>> round(pearson_cc([0.1, 0.5, 0.9], [0.3, 0.5, 0.7]), 3)
        1.0
    """
    t, p = _pair(truth, prediction)
    if np.ptp(t) == 0 or np.ptp(p) == 0:
        return float("nan")
    return float(np.clip(_covariance(t, p) / (t.std() * p.std()), -1, 1))


def auc(positive: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs that the score ranks correctly.

    Ties count as half.

    Source: the Mann-Whitney statistic; Hanley and McNeil 1982, Radiology 143:29

    Args:
        positive: bool, shape=(samples,)
        score: shape=(samples,)

    Returns:
        0 to 1, chance level 0.5; NaN if all samples are of one class

    Raises:
        Wav2SmallError: if the lengths differ, there are no values, or a score is not finite

    Examples:
        >>> from wav2small.metrics import auc
        >>> auc([True, True, False], [0.9, 0.4, 0.4])
        0.75
    """
    is_positive = np.asarray(positive, dtype=bool)
    _, values = _pair(is_positive, score)
    distinct, code = np.unique(values, return_inverse=True)
    positives = np.bincount(code[is_positive], minlength=len(distinct))
    negatives = np.bincount(code[~is_positive], minlength=len(distinct))
    pairs = int(positives.sum()) * int(negatives.sum())
    below = np.cumsum(negatives) - negatives
    return float(np.sum(positives * (below + negatives / 2)) / pairs) if pairs else float("nan")


def confusion_matrix(truth: Sequence[str], prediction: Sequence[str], labels: Sequence[str]) -> Counts:
    """How often a category (row) was taken for another (column).

    Args:
        truth: category of each sample, one of ``labels``
        prediction: predicted category of each sample, one of ``labels``
        labels: the categories, in the order of the rows and columns

    Returns:
        number of samples, shape=(labels, labels)

    Raises:
        Wav2SmallError: if the lengths differ, or a category is not one of the labels

    Examples:
        >>> from wav2small.metrics import confusion_matrix
        >>> confusion_matrix(["calm", "calm", "tense"], ["calm", "tense", "tense"], ["calm", "tense"]).tolist()
        [[1, 1], [0, 1]]
    """
    if len(truth) != len(prediction):
        raise Wav2SmallError(f"{len(truth)} true and {len(prediction)} predicted categories. Needed: equally many.")
    places = {label: place for place, label in enumerate(labels)}
    unknown = sorted({*truth, *prediction} - places.keys())
    if unknown:
        raise Wav2SmallError(f"the category {unknown[0]!r} is not one of the labels: {', '.join(labels)}. Add it.")
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, ([places[label] for label in truth], [places[label] for label in prediction]), 1)
    return counts


def unweighted_accuracy(counts: ArrayLike) -> float:
    """UA: the mean of the recalls of the categories, also called unweighted average recall.

    Args:
        counts: confusion matrix, true categories in rows, shape=(labels, labels)

    Returns:
        0 to 1, over the categories that have samples; NaN if none has

    Examples:
        >>> from wav2small.metrics import unweighted_accuracy
        >>> unweighted_accuracy([[3, 1], [1, 1]])
        0.625
    """
    matrix = np.asarray(counts, dtype=np.float64)
    samples = matrix.sum(1)
    return _mean_of(np.diag(matrix) / np.maximum(samples, 1), samples > 0)


def weighted_accuracy(counts: ArrayLike) -> float:
    """WA: the share of all samples whose category was predicted, which weights a category by its samples.

    Args:
        counts: confusion matrix, true categories in rows, shape=(labels, labels)

    Returns:
        0 to 1; NaN without samples

    Examples:
        >>> from wav2small.metrics import weighted_accuracy
        >>> round(weighted_accuracy([[3, 1], [1, 1]]), 3)
        0.667
    """
    matrix = np.asarray(counts, dtype=np.float64)
    return float(np.trace(matrix) / matrix.sum()) if matrix.sum() else float("nan")


def macro_f1(counts: ArrayLike) -> float:
    """The mean of the F1 scores of the categories.

    Args:
        counts: confusion matrix, true categories in rows, shape=(labels, labels)

    Returns:
        0 to 1, over the categories that have samples; NaN if none has

    Examples:
        >>> from wav2small.metrics import macro_f1
        >>> macro_f1([[3, 1], [1, 1]])
        0.625
    """
    matrix = np.asarray(counts, dtype=np.float64)
    samples = matrix.sum(1)
    return _mean_of(2 * np.diag(matrix) / np.maximum(samples + matrix.sum(0), 1), samples > 0)


def _mean_of(values: Floats, counted: NDArray[np.bool_]) -> float:
    return float(values[counted].mean()) if counted.any() else float("nan")


def mean_within(
    statistic: Callable[[NDArray[Any], NDArray[Any]], float],
    truth: ArrayLike,
    prediction: ArrayLike,
    groups: Sequence[Hashable] | NDArray[np.generic],
) -> float:
    """Mean over groups of a statistic that is computed within each group.

    Differences between groups, such as the mean level of a corpus, do not raise it.

    Args:
        statistic: (truth, prediction) -> value, e.g. ``concordance_cc``
        truth: shape=(samples, ...)
        prediction: shape=(samples, ...)
        groups: group of each sample, e.g. its corpus, shape=(samples,)

    Returns:
        the mean over the groups in which the statistic is not NaN, with equal weight; NaN if there is no such group

    Raises:
        Wav2SmallError: if the lengths differ

    Examples:
        >>> from wav2small.metrics import concordance_cc, mean_within
        >>> corpora = ["emodb", "emodb", "ravdess", "ravdess"]
        >>> truth, prediction = [0.1, 0.3, 0.7, 0.9], [0.1, 0.3, 0.5, 0.7]
        >>> round(mean_within(concordance_cc, truth, prediction, corpora), 2)
        0.67
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
    """Percentile bootstrap interval of a statistic, which resamples whole groups: speakers, not clips.

    Clips of one speaker are correlated, so an interval that resamples clips is too narrow.

    Source: Efron and Tibshirani 1993, chapter 13; for groups Davison and Hinkley 1997, section 3.8

    Args:
        statistic: value of the samples at these indices, shape=(resampled samples,)
        groups: group of each sample, shape=(samples,)
        draws: number of bootstrap samples; each has as many groups as there are, drawn with replacement
        level: share of the draws inside the interval
        seed: random seed

    Returns:
        low, high; NaN with fewer than two groups, or if the statistic is NaN in more than half of the draws

    Examples:
        >>> from wav2small.metrics import bootstrap_interval
        >>> truth, speakers = np.array([0.1, 0.2, 0.6, 0.9]), ["a", "a", "b", "c"]
        >>> low, high = bootstrap_interval(lambda indices: truth[indices].mean(), speakers)
        >>> round(low, 2), round(high, 2)
        (0.15, 0.9)
    """
    return percentile_interval([statistic(indices) for indices in resample(groups, draws, seed)], level)


def percentile_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The central interval of the draws of a bootstrap.

    Args:
        values: the statistic of each draw, shape=(draws,); NaN where it is undefined
        level: share of the draws inside the interval

    Returns:
        low, high; NaN without draws, or if more than half of them are NaN

    Examples:
        >>> from wav2small.metrics import percentile_interval
        >>> percentile_interval([0, 1, 2, 3, 4], level=0.5)
        (1.0, 3.0)
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
    """Indices of the samples of each bootstrap draw: as many whole groups as there are, with replacement.

    Args:
        groups: group of each sample, shape=(samples,)
        draws: number of draws
        seed: random seed

    Yields:
        indices, shape=(resampled samples,); nothing if there are fewer than two groups

    Examples:
        >>> from wav2small.metrics import resample
        >>> [indices.tolist() for indices in resample(["a", "a", "b"], draws=2, seed=1)]
        [[0, 1, 2], [2, 2]]
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
