"""A baseline moves from an average speaker to its own, ignores outliers, forgets by choice, and is saved."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2small import Baseline, Emotion, load, load_baseline
from wav2small.errors import WeightsError
from wav2small.runtime.baseline import PRIOR_DUR, PRIOR_MEAN, READY_DUR

values = st.floats(0, 1)


def spoken(answers: np.ndarray, speech_dur: float = 3.0, **options: float) -> Baseline:
    baseline = Baseline(**options)
    for answer in answers:
        baseline.add(Emotion(*answer), speech_dur)
    return baseline


def test_mean_and_spread_become_those_of_the_speaker():
    rng = np.random.default_rng(1)
    answers = rng.normal([0.7, 0.3, 0.5], [0.05, 0.1, 0.15], (2000, 3))
    baseline = spoken(answers)
    np.testing.assert_allclose(baseline.mean, [0.7, 0.3, 0.5], atol=0.02)
    np.testing.assert_allclose(baseline.spread, [0.05, 0.1, 0.15], rtol=0.15)
    assert baseline.deviation(Emotion(*baseline.mean)) == (0, 0, 0)
    np.testing.assert_allclose(baseline.deviation(Emotion(*(baseline.mean + baseline.spread))), 1)


def test_an_average_speaker_counts_as_twenty_seconds():
    answer = np.full((1, 3), 0.6)
    np.testing.assert_allclose(spoken(answer, PRIOR_DUR).mean, (PRIOR_MEAN + 0.6) / 2)
    assert not spoken(answer, READY_DUR - 0.01).is_ready and spoken(answer, READY_DUR).is_ready


def test_a_tenth_of_outliers_hardly_moves_it():
    rng = np.random.default_rng(2)
    answers = rng.normal(0.3, 0.05, (300, 3)).clip(0, 1)
    mixed = answers.copy()
    mixed[::10] = 1.0
    assert (spoken(mixed).mean - spoken(answers).mean < 0.03).all(), "the plain mean moves by .07"


def test_it_forgets_only_if_asked():
    then, now = np.full((200, 3), 0.2), np.full((40, 3), 0.6)
    both = np.concatenate([then, now])
    assert spoken(both).mean[0] < 0.33 < spoken(both, forget_dur=60.0).mean[0]


@given(st.lists(st.tuples(values, values, values), max_size=50), st.floats(0.1, 30))
def test_it_stays_within_what_it_was_given_and_the_average(answers, speech_dur):
    baseline = spoken(np.array(answers).reshape(-1, 3), speech_dur)
    seen = np.array([*answers, (PRIOR_MEAN,) * 3])
    assert (seen.min(0) - 1e-9 <= baseline.mean).all() and (baseline.mean <= seen.max(0) + 1e-9).all()
    assert np.isfinite(baseline.deviation(Emotion(0.0, 0.5, 1.0))).all()


def test_words_need_an_interval_that_excludes_the_mean():
    baseline = Baseline(mean=np.full(3, 0.5), spread=np.full(3, 0.1))
    answer = Emotion(0.2, 0.45, 0.7)
    around = [Emotion(*(np.asarray(answer) + shift)) for shift in (-0.35, 0.35)]
    assert baseline.change(answer, *around) is None
    near = [Emotion(*(np.asarray(answer) + shift)) for shift in (-0.1, 0.1)]
    assert baseline.change(answer, *near) == "calmer than usual"
    assert baseline.change(Emotion(0.45, 0.5, 0.7), Emotion(0.3, 0.4, 0.6), Emotion(0.6, 0.6, 0.8)) == (
        "more positive than usual"
    )


def test_a_file_keeps_it_and_binds_it_to_the_weights(tmp_path):
    micro, baseline = load("micro"), spoken(np.random.default_rng(3).uniform(0, 1, (9, 3)), forget_dur=600.0)
    baseline.bind(micro.metadata)
    baseline.save(tmp_path / "me.json")
    found = load_baseline(tmp_path / "me.json")
    assert found.deviation(Emotion(0.1, 0.2, 0.3)) == baseline.deviation(Emotion(0.1, 0.2, 0.3))
    assert (found.forget_dur, found.speech_dur, found.weights) == (600.0, 27.0, baseline.weights)
    found.bind(load("micro", "numpy").metadata)
    with pytest.raises(WeightsError, match=r"the baseline is of micro .* the weights are wav2small"):
        found.bind(load("wav2small").metadata)


@pytest.mark.parametrize(
    "change",
    [
        {"wav2small": "head"},
        {"mean": {"arousal": 0.5}},
        {"spread": dict.fromkeys(("arousal", "dominance", "valence"), -1)},
    ],
)
def test_another_file_is_refused_in_one_sentence(tmp_path, change):
    Baseline().save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text()) | change
    (tmp_path / "b.json").write_text(json.dumps(content))
    for text in ((tmp_path / "b.json").read_text(), "[]", "hello"):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(WeightsError, match=r"b\.json: is not a baseline that wav2small wrote"):
            load_baseline(tmp_path / "b.json")
    with pytest.raises(WeightsError, match=r"gone\.json: cannot be read: No such file"):
        load_baseline(tmp_path / "gone.json")
