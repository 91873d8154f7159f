"""Laws of CCC, r, AUC, their mean within groups and the bootstrap, and values that others published."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wav2small.errors import Wav2SmallError
from wav2small.metrics import (
    auc,
    bootstrap_interval,
    concordance_cc,
    confusion_matrix,
    macro_f1,
    mean_within,
    pearson_cc,
    unweighted_accuracy,
    weighted_accuracy,
)

values = st.integers(-1000, 1000).map(lambda n: n / 1000)
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=40).map(lambda rows: np.array(rows).T)
classed = st.lists(st.tuples(st.booleans(), values), min_size=2, max_size=40)


def ccc_by_all_pairs(truth, prediction):
    """One minus the mean squared difference of pairs over that of all combinations: Lin 1989, equation 1."""
    apart = np.mean([(t - p) ** 2 for t, p in zip(truth, prediction, strict=True)])
    by_chance = np.mean([(t - p) ** 2 for t, p in product(truth, prediction)])
    return 1 - apart / by_chance


def auc_by_all_pairs(positive, score):
    pairs = [(p, n) for p, n in product(score[positive], score[~positive])]
    return np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs])


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ([0, 1, 2], [0, 1, 1], 2 / 3),  # the example of audmetric.concordance_cc
        ([3, -0.5, 2, 7], [2.5, 0.0, 2, 8], 0.9768),  # torchmetrics, which divides by n - 1, says 0.9777
        ([1, 2, 3], [2, 3, 4], 4 / 7),  # by hand: 2·(2/3) / (2/3 + 2/3 + 1²)
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [2, 2, 2], 0.0),
        ([0.5, 0.5], [0.5, 0.5], 1.0),
        ([0.5, 0.5], [0.6, 0.6], 0.0),
    ],
)
def test_ccc_reaches_published_and_hand_computed_values(truth, prediction, expected):
    assert concordance_cc(truth, prediction) == pytest.approx(expected, abs=5e-5)


@settings(deadline=None)
@given(pairs)
def test_ccc_equals_the_formula_over_all_pairs(pair):
    truth, prediction = pair
    assume(np.ptp(truth) > 0 or np.ptp(prediction) > 0)
    assert concordance_cc(truth, prediction) == pytest.approx(ccc_by_all_pairs(truth, prediction), abs=1e-9)


@settings(deadline=None)
@given(pairs)
def test_ccc_is_symmetric_bounded_by_r_and_blind_to_order(pair):
    truth, prediction = pair
    value = concordance_cc(truth, prediction)
    assert concordance_cc(prediction, truth) == pytest.approx(value, abs=1e-12)
    assert concordance_cc(truth[::-1], prediction[::-1]) == pytest.approx(value, abs=1e-12)
    r = pearson_cc(truth, prediction)
    if np.isfinite(r):
        assert abs(value) <= abs(r) + 1e-9
    assert -1 - 1e-12 <= value <= 1 + 1e-12


@settings(deadline=None)
@given(pairs, st.sampled_from([-3.0, -1.0, 0.25, 7.0]), values)
def test_ccc_is_the_same_when_both_are_scaled_and_shifted_alike(pair, scale, shift):
    truth, prediction = pair
    moved = concordance_cc(scale * truth + shift, scale * prediction + shift)
    assume(np.ptp(truth) > 0 or np.ptp(prediction) > 0)
    assert moved == pytest.approx(concordance_cc(truth, prediction), abs=1e-9)


@settings(deadline=None)
@given(pairs)
def test_ccc_of_a_thing_with_itself_is_one_and_with_its_mirror_minus_one(pair):
    truth = pair[0]
    assert concordance_cc(truth, truth) == pytest.approx(1.0)
    assume(np.ptp(truth) > 0)
    assert concordance_cc(truth, 2 * truth.mean() - truth) == pytest.approx(-1.0)


@settings(deadline=None)
@given(pairs, st.floats(0.1, 2))
def test_a_shift_costs_ccc_and_leaves_r(pair, shift):
    truth = pair[0]
    assume(np.ptp(truth) > 0.01)
    assert concordance_cc(truth, truth + shift) == pytest.approx(truth.var() / (truth.var() + shift**2 / 2))
    assert pearson_cc(truth, truth + shift) == pytest.approx(1.0)


@settings(deadline=None)
@given(pairs)
def test_r_is_numpys(pair):
    truth, prediction = pair
    if np.ptp(truth) > 0 and np.ptp(prediction) > 0:
        assert pearson_cc(truth, prediction) == pytest.approx(np.corrcoef(truth, prediction)[0, 1], abs=1e-9)
    else:
        assert np.isnan(pearson_cc(truth, prediction))


def test_r_by_hand():
    assert pearson_cc([0, 1, 2], [0, 1, 1]) == pytest.approx(np.sqrt(3) / 2)


def test_auc_reaches_a_published_value_and_chance():
    assert auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75  # the example of sklearn.metrics.roc_auc_score
    assert auc([True, False, True], [3, 3, 3]) == 0.5
    assert auc([True, False], [0.9, 0.1]) == 1.0
    assert np.isnan(auc([True, True], [0.9, 0.1]))


@settings(deadline=None)
@given(classed)
def test_auc_equals_counting_all_pairs_and_mirrors(rows):
    positive, score = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assume(positive.any() and not positive.all())
    value = auc(positive, score)
    assert value == pytest.approx(auc_by_all_pairs(positive, score))
    assert auc(positive, -score) == pytest.approx(1 - value)
    assert auc(~positive, score) == pytest.approx(1 - value)
    assert auc(positive, np.exp(3 * score)) == pytest.approx(value)


@pytest.mark.parametrize("metric", [concordance_cc, pearson_cc, auc])
@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [
        ([1.0, 0.0], [1.0], "equally many"),
        ([], [], "shape"),
        ([[1.0, 0.0]], [[1.0, 0.0]], "shape"),
        ([1.0, 0.0], [1.0, float("nan")], "not finite"),
        ([1.0, 0.0], [float("inf"), 1.0], "not finite"),
    ],
)
def test_what_cannot_be_compared_is_an_error(metric, truth, prediction, words):
    with pytest.raises(Wav2SmallError, match=words):
        metric(truth, prediction)


@pytest.mark.parametrize("metric", [concordance_cc, pearson_cc])
def test_arguments_stay_as_they_are_and_float32_is_summed_in_float64(metric):
    truth = np.linspace(0, 1, 9, dtype=np.float32)
    prediction = truth[::-1] + np.float32(1000)
    before = truth.copy(), prediction.copy()
    value = metric(truth, prediction)
    np.testing.assert_array_equal((truth, prediction), before)
    assert value == pytest.approx(metric(truth.astype(float), prediction.astype(float)))


def test_each_draw_holds_whole_speakers_as_many_as_there_are():
    speakers = np.array(["a"] * 5 + ["b"] * 2 + ["c"] * 3 + ["a"])
    size = {"a": 6, "b": 2, "c": 3}
    drawn = []

    def note(indices):
        drawn.append({name: int(np.sum(speakers[indices] == name)) for name in size})
        times = np.bincount(indices, minlength=len(speakers))
        assert all(len(set(times[speakers == name])) == 1 for name in size)
        return 0.0

    bootstrap_interval(note, speakers, draws=50)
    assert all(sum(count[name] / size[name] for name in size) == 3 for count in drawn)
    assert len({tuple(count.values()) for count in drawn}) > 5


def test_more_clips_of_the_same_speakers_give_no_more_certainty():
    rng = np.random.default_rng(1)
    voice = rng.normal(size=12)
    few, many = np.repeat(voice, 2), np.repeat(voice, 50)
    one = bootstrap_interval(lambda i: few[i].mean(), np.repeat(np.arange(12), 2), draws=300)
    other = bootstrap_interval(lambda i: many[i].mean(), np.repeat(np.arange(12), 50), draws=300)
    assert one == pytest.approx(other)
    over_clips = bootstrap_interval(lambda i: many[i].mean(), np.arange(600), draws=300)
    assert over_clips[1] - over_clips[0] < (one[1] - one[0]) / 3


def test_interval_of_a_mean_is_the_textbook_one():
    sample = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(lambda i: sample[i].mean(), np.arange(400), draws=2000)
    error = 1.96 * sample.std() / 20
    assert (low, high) == pytest.approx((sample.mean() - error, sample.mean() + error), abs=0.012)


def test_interval_over_speakers_covers_the_true_mean_and_one_over_clips_does_not():
    rng = np.random.default_rng(3)
    speakers = np.repeat(np.arange(25), 10)
    covered = {"speakers": 0, "clips": 0}
    for _ in range(100):
        sample = rng.normal(size=25)[speakers] + 0.3 * rng.normal(size=250)
        for name, groups in (("speakers", speakers), ("clips", np.arange(250))):
            low, high = bootstrap_interval(lambda i, s=sample: s[i].mean(), groups, draws=200)
            covered[name] += low <= 0 <= high
    assert covered["speakers"] >= 88
    assert covered["clips"] <= 60


def test_the_seed_repeats_the_interval_and_another_does_not():
    truth = np.random.default_rng(0).normal(size=60)
    speakers = np.arange(60) % 6
    intervals = [bootstrap_interval(lambda i: truth[i].mean(), speakers, draws=50, seed=seed) for seed in (4, 4, 5)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_a_wider_level_is_a_wider_interval():
    truth = np.random.default_rng(0).normal(size=60)
    narrow, wide = (bootstrap_interval(lambda i: truth[i].mean(), np.arange(60), level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_no_interval_from_one_speaker_or_a_statistic_that_is_hardly_ever_defined():
    assert np.isnan(bootstrap_interval(lambda i: 1.0, ["a"] * 5)).all()
    positive = np.array([True] + [False] * 30)
    score = np.arange(31.0)
    low, high = bootstrap_interval(lambda i: auc(positive[i], score[i]), np.arange(31))
    assert (low, high) == (0.0, 0.0)
    assert np.isnan(bootstrap_interval(lambda i: float("nan") if 0 in i else 1.0, np.arange(31))).all()


def two_corpora_apart():
    """What tells the corpora apart is all that truth and prediction share: (truth, prediction, corpus)."""
    rng = np.random.default_rng(5)
    corpus = np.repeat(["acted", "bursts"], 500)
    truth, prediction = (np.where(corpus == "acted", 0.0, 1.0) + 0.1 * rng.normal(size=1000) for _ in range(2))
    return truth, prediction, corpus


def test_telling_corpora_apart_is_worth_much_pooled_and_nothing_within():
    truth, prediction, corpus = two_corpora_apart()
    assert pearson_cc(truth, prediction) > 0.9
    assert abs(mean_within(pearson_cc, truth, prediction, corpus)) < 0.1


def test_mean_within_counts_each_group_once_whatever_its_size_and_order():
    truth, prediction = np.array([0, 1, 0, 1, 0, 1, 0, 1.0]), np.array([0, 1, 1, 0, 1, 0, 1, 0.0])
    groups = np.array(["few"] * 2 + ["many"] * 6)
    assert mean_within(pearson_cc, truth, prediction, groups) == pytest.approx(0.0, abs=1e-12)
    order = np.array([4, 0, 6, 2, 1, 5, 3, 7])
    shuffled = mean_within(pearson_cc, truth[order], prediction[order], groups[order])
    assert shuffled == pytest.approx(0.0, abs=1e-12)
    assert mean_within(pearson_cc, truth, prediction, ["one"] * 8) == pearson_cc(truth, prediction)


def test_mean_within_leaves_out_groups_without_a_value():
    constant_in_b = [0.0, 1, 2, 5, 5]
    assert mean_within(pearson_cc, constant_in_b, [0, 1, 2, 3, 4], list("aaabb")) == pytest.approx(1.0)
    assert np.isnan(mean_within(pearson_cc, constant_in_b[3:], [3, 4], list("bb")))
    with pytest.raises(Wav2SmallError, match="2 values of truth, 2 of prediction and 3 groups"):
        mean_within(pearson_cc, [0, 1], [0, 1], list("abb"))


def categories(seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    names = np.array(["anger", "boredom", "calm", "disgust"])
    truth = names[rng.choice(4, 60, p=(0.6, 0.2, 0.1, 0.1))]
    return truth.tolist(), np.where(rng.random(60) < 0.5, truth, names[rng.integers(4, size=60)]).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_categories_are_those_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra head")
    truth, prediction = categories(seed)
    labels = sorted({*truth, *prediction})
    counts = confusion_matrix(truth, prediction, labels)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(truth, prediction, labels=labels))
    assert unweighted_accuracy(counts) == pytest.approx(metrics.balanced_accuracy_score(truth, prediction))
    assert weighted_accuracy(counts) == pytest.approx(metrics.accuracy_score(truth, prediction))
    assert macro_f1(counts) == pytest.approx(metrics.f1_score(truth, prediction, average="macro"))


def test_a_category_without_samples_is_left_out_of_the_means():
    counts = [[3, 1, 0], [1, 1, 2], [0, 0, 0]]
    assert unweighted_accuracy(counts) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert macro_f1(counts) == pytest.approx((6 / 8 + 2 / 6) / 2)
    assert np.isnan([unweighted_accuracy([[0]]), weighted_accuracy([[0]]), macro_f1([[0]])]).all()
    with pytest.raises(Wav2SmallError, match="the category 'c' is not one of the labels: a, b"):
        confusion_matrix(["a"], ["c"], ["a", "b"])
    with pytest.raises(Wav2SmallError, match="1 true and 2 predicted categories"):
        confusion_matrix(["a"], ["a", "b"], ["a", "b"])
