"""The statistics of ``evaluate``: within each corpus, their mean over corpora, pooled, and differences of predictors.

Intervals are of a bootstrap that resamples speakers within each corpus. See docs/evaluate.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2small.metrics import (
    Indices,
    auc,
    concordance_cc,
    macro_f1,
    pearson_cc,
    percentile_interval,
    resample,
    unweighted_accuracy,
    weighted_accuracy,
)
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Norm, Segment

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MIN_CLIPS = 2
"""Of a CCC or r: one clip has no variance."""
MIN_SPEAKERS = 5
"""Of a corpus with an interval: fewer speakers say too little about how much speakers differ."""
AROUSAL, VALENCE = OUTPUTS.index("arousal"), OUTPUTS.index("valence")


class Pairs(NamedTuple):
    """Truth, prediction and classes of clips, a row a clip; a class is 1 or 0, or not a number where there is none.

    ``positive`` holds the class of each dimension: arousal is high, valence is positive; dominance has no classes.
    """

    truth: Floats
    """shape=(clips, 3)"""
    prediction: Floats
    """shape=(clips, 3)"""
    positive: Floats
    """shape=(clips, 3)"""
    label: Counts
    """Number of the annotated category, -1 where there is none, shape=(clips,)"""
    category: Counts
    """Number of the predicted category, -1 where there is none, shape=(clips,)"""

    @property
    def has_category(self) -> NDArray[np.bool_]:
        """Clips with an annotated and a predicted category, shape=(clips,)."""
        return (self.label >= 0) & (self.category >= 0)

    @property
    def is_happy(self) -> Floats:
        """1 for happiness, 0 for anger: positive or negative valence, of the categories whose arousal is high."""
        return np.where(self.positive[:, AROUSAL] == 1, self.positive[:, VALENCE], np.nan)

    def take(self, indices: Indices) -> Pairs:
        """The rows with these indices."""
        truth, prediction, positive = (part[indices] for part in (self.truth, self.prediction, self.positive))
        return Pairs(truth, prediction, positive, self.label[indices], self.category[indices])


class Statistic(NamedTuple):
    """A figure of clips; ``about`` marks the clips that it is computed from. Without ``compute`` it is the mean CCC."""

    dimension: str
    name: str
    about: Callable[[Pairs], NDArray[np.bool_]]
    compute: Callable[[Pairs], float] | None


def _every(pairs: Pairs) -> NDArray[np.bool_]:
    return np.ones(len(pairs.truth), dtype=bool)


def _auc(positive: Floats, score: Floats) -> float:
    classed = ~np.isnan(positive)
    return auc(positive[classed] > 0, score[classed]) if classed.any() else float("nan")


def _of_categories(compute: Callable[[Counts], float]) -> Callable[[Pairs], float]:
    def computed(pairs: Pairs) -> float:
        counted = pairs.has_category
        label, category = pairs.label[counted], pairs.category[counted]
        size = max(label.max(initial=0), category.max(initial=0)) + 1
        return compute(np.bincount(label * size + category, minlength=size * size).reshape(size, size))

    return computed


def _own_r(pairs: Pairs) -> float:
    return pearson_cc(pairs.prediction[:, AROUSAL], pairs.prediction[:, VALENCE])


def _ccc(truth: Floats, prediction: Floats) -> float:
    return concordance_cc(truth, prediction) if len(truth) >= MIN_CLIPS else float("nan")


def _of_dimension(d: int, name: str) -> Iterator[Statistic]:
    yield Statistic(name, "ccc", _every, lambda pairs: _ccc(pairs.truth[:, d], pairs.prediction[:, d]))
    yield Statistic(name, "r", _every, lambda pairs: pearson_cc(pairs.truth[:, d], pairs.prediction[:, d]))
    yield Statistic(
        name,
        "auc",
        lambda pairs: ~np.isnan(pairs.positive[:, d]),
        lambda pairs: _auc(pairs.positive[:, d], pairs.prediction[:, d]),
    )


STATISTICS = (
    *(statistic for d, name in enumerate(OUTPUTS) for statistic in _of_dimension(d, name)),
    Statistic(
        "valence",
        "auc_happiness_anger",
        lambda pairs: ~np.isnan(pairs.is_happy),
        lambda pairs: _auc(pairs.is_happy, pairs.prediction[:, VALENCE]),
    ),
    Statistic("valence", "r_own_arousal", _every, _own_r),
    *(
        Statistic("category", name, lambda pairs: pairs.has_category, _of_categories(compute))
        for name, compute in (("ua", unweighted_accuracy), ("wa", weighted_accuracy), ("macro_f1", macro_f1))
    ),
    Statistic("mean", "mean_ccc", _every, None),
)
"""In the order in which they are reported; the mean of the CCCs is the last."""


@dataclass(frozen=True)
class Sample:
    """Pairs, with the speaker of each ("" if unknown) and its corpus; speakers are told apart within a corpus only.

    ``labels`` are the names of the categories that the pairs have numbers of.
    """

    pairs: Pairs
    speaker: NDArray[np.str_]
    corpus: NDArray[np.str_]
    labels: tuple[str, ...] = ()

    def __getitem__(self, rows: NDArray[np.bool_]) -> Sample:
        return Sample(self.pairs.take(np.flatnonzero(rows)), self.speaker[rows], self.corpus[rows], self.labels)

    def within(self) -> dict[str, Sample]:
        """The sample of each corpus, in order of appearance."""
        return {name: self[self.corpus == name] for name in dict.fromkeys(self.corpus.tolist())}


@dataclass(frozen=True)
class Figures:
    """Every statistic of a sample, and of each draw of the bootstrap.

    Attributes:
        value: not a number where it is undefined, shape=(statistics,)
        drawn: the same of each draw, shape=(draws, statistics)
        clips: that a statistic is computed from, shape=(statistics,)
        speakers: known by name, of these clips, shape=(statistics,)
        corpora: of these clips; in which a mean over corpora is defined, shape=(statistics,)
    """

    value: Floats
    drawn: Floats
    clips: Counts
    speakers: Counts
    corpora: Counts

    @property
    def varies(self) -> bool:
        """Whether there are draws: ``MIN_SPEAKERS`` or more in each corpus."""
        return bool(np.isfinite(self.drawn).any())

    def __sub__(self, other: Figures) -> Figures:
        """The difference of two predictors on the same sample, draw by draw."""
        difference = self.value - other.value, self.drawn - other.drawn
        return Figures(*difference, self.clips, self.speakers, self.corpora)


@dataclass(frozen=True)
class Score:
    """One statistic of one dimension with its interval over speakers; not a number where it is undefined."""

    dimension: str
    statistic: str
    value: float
    low: float
    high: float
    n: int
    speakers: int
    corpora: int = 1


@dataclass(frozen=True)
class Difference(Score):
    """A score minus that of another predictor, and the share of draws in which this is 0 or less."""

    share_not_above_0: float = float("nan")


def sample_of(
    segments: Sequence[Segment],
    truth: Floats,
    prediction: Floats,
    norms: Mapping[str, Norm],
    corpora: Sequence[str],
    categories: Sequence[str] = (),
) -> Sample:
    """What statistics are computed from: the segments' pairs, the classes of their categories, speakers and corpora.

    ``categories`` are the predicted ones, "" where there is none; case does not matter.
    """
    classes = [_classes(norms.get(segment.label)) for segment in segments]
    positive = np.array(classes, dtype=np.float64).reshape(-1, len(OUTPUTS))
    speaker = np.array([segment.speaker for segment in segments])
    named = [segment.label.strip().lower() for segment in segments]
    guessed = [category.strip().lower() for category in categories or [""] * len(named)]
    labels = tuple(sorted({*named, *guessed} - {""}))
    places = {"": -1, **{label: place for place, label in enumerate(labels)}}
    label, category = (np.array([places[name] for name in names], np.int64) for names in (named, guessed))
    return Sample(Pairs(truth, prediction, positive, label, category), speaker, np.array(corpora), labels)


def _classes(norm: Norm | None) -> tuple[float, float, float]:
    known = {"high": 1.0, "positive": 1.0, "low": 0.0, "negative": 0.0}
    arousal, valence = (norm.arousal_class, norm.valence_class) if norm else ("", "")
    return known.get(arousal, np.nan), np.nan, known.get(valence, np.nan)


def figures(sample: Sample, draws: int, seed: int, statistics: Sequence[Statistic] = STATISTICS) -> Figures:
    """The statistics of a sample as a whole: of one corpus, or of several pooled.

    Speakers are resampled within each corpus. A clip without a speaker counts as a speaker of its own. Where a corpus
    has fewer than ``MIN_SPEAKERS``, the draws are not numbers: there is no interval.
    """
    drawn = [_compute(sample.pairs.take(indices), statistics) for indices in _resample_within(sample, draws, seed)]
    nothing = np.full((draws, len(statistics)), np.nan)
    counts = _counts(sample, statistics)
    return Figures(_compute(sample.pairs, statistics), np.array(drawn) if drawn else nothing, *counts)


def _compute(pairs: Pairs, statistics: Sequence[Statistic]) -> Floats:
    values = [np.nan if one.compute is None else one.compute(pairs) for one in statistics]
    cccs = [value for one, value in zip(statistics, values, strict=True) if one.name == "ccc"]
    return np.array([np.mean(cccs) if one.compute is None else v for one, v in zip(statistics, values, strict=True)])


def _resample_within(sample: Sample, draws: int, seed: int) -> Iterator[Indices]:
    unnamed = np.char.add("\n", np.arange(len(sample.speaker)).astype(str))
    groups = np.where(sample.speaker == "", unnamed, sample.speaker)
    names = np.unique(sample.corpus)
    rows = [np.flatnonzero(sample.corpus == name) for name in names]
    if min(len(np.unique(groups[own])) for own in rows) < MIN_SPEAKERS:
        return
    if len(rows) == 1:
        yield from resample(groups, draws, seed)
        return
    within = [resample(groups[own], draws, (seed, number)) for number, own in enumerate(rows)]
    for parts in zip(*within, strict=False):
        yield np.concatenate([own[part] for own, part in zip(rows, parts, strict=True)])


def _counts(sample: Sample, statistics: Sequence[Statistic]) -> tuple[Counts, Counts, Counts]:
    """Clips that each statistic is computed from, their speakers known by name, and their corpora."""
    marked = [statistic.about(sample.pairs) for statistic in statistics]
    who = np.char.add(np.char.add(sample.corpus, "\n"), sample.speaker)
    speakers = [len(np.unique(who[rows & (sample.speaker != "")])) for rows in marked]
    corpora = [len(np.unique(sample.corpus[rows])) for rows in marked]
    return np.array([rows.sum() for rows in marked]), np.array(speakers), np.array(corpora)


def mean_over(corpora: Mapping[str, Figures], seed: int) -> Figures:
    """The mean over corpora, each counted once; a corpus in which a statistic is undefined is left out of its mean.

    The draws of the corpora are put into an order of chance first, so that corpora vary independently.
    """
    each = [corpora[name] for name in sorted(corpora)]
    defined = np.array([np.isfinite(one.value) for one in each])
    orders = [np.random.default_rng((seed, number)).permutation(len(one.drawn)) for number, one in enumerate(each)]
    return Figures(
        _mean([one.value for one in each], defined),
        _mean([one.drawn[order] for one, order in zip(each, orders, strict=True)], defined),
        np.sum([one.clips for one in each], axis=0, where=defined),
        np.sum([one.speakers for one in each], axis=0, where=defined),
        np.asarray(defined.sum(axis=0)),
    )


def over_seeds(found: Sequence[Figures]) -> Figures:
    """The mean of the figures of several seeds on the same clips, draw by draw."""
    value, drawn = (np.mean([getattr(one, name) for one in found], axis=0) for name in ("value", "drawn"))
    return replace(found[0], value=value, drawn=drawn)


def _mean(values: Sequence[Floats], defined: NDArray[np.bool_]) -> Floats:
    """Mean over the corpora where a statistic is defined, shape=(statistics,) or (draws, statistics)."""
    count = defined.sum(axis=0)
    total = np.sum([np.where(own, some, 0) for some, own in zip(values, defined, strict=True)], axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def scores(found: Figures, statistics: Sequence[Statistic] = STATISTICS) -> list[Score]:
    """A score for each statistic that there are clips for; ``statistics`` are those of the figures."""
    return [Score(*_score(found, k, one)) for k, one in enumerate(statistics) if found.clips[k]]


def differences(found: Figures) -> list[Difference]:
    """The same for the difference of two predictors, with the share of draws in which it is 0 or less."""
    return [
        Difference(*_score(found, k, one), _share(found.drawn[:, k]))
        for k, one in enumerate(STATISTICS)
        if found.clips[k]
    ]


def _score(found: Figures, k: int, statistic: Statistic) -> tuple[str, str, float, float, float, int, int, int]:
    low, high = percentile_interval(found.drawn[:, k])
    counts = int(found.clips[k]), int(found.speakers[k]), int(found.corpora[k])
    return statistic.dimension, statistic.name, float(found.value[k]), low, high, *counts


def _share(drawn: Floats) -> float:
    """Of the draws that are numbers; not a number where there is no interval either."""
    if np.isnan(percentile_interval(drawn)[0]):
        return float("nan")
    return float(np.mean(drawn[np.isfinite(drawn)] <= 0))
