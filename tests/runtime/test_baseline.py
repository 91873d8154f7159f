"""A baseline moves from an average speaker to its own, ignores outliers, forgets by choice, and is saved."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from wav2small import Baseline, Emotion, Stream, load, load_baseline
from wav2small.audio.read import read
from wav2small.cli import main
from wav2small.errors import WeightsError
from wav2small.runtime.baseline import PRIOR_DUR, PRIOR_MEAN, READY_DUR

values = st.floats(0, 1)
EXAMPLES = Path(__file__).parents[2] / "examples"
CLIPS = sorted(EXAMPLES.glob("*.flac"))


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


def test_a_stream_compares_each_event_with_those_before_it():
    signal = np.concatenate([read(path) for path in CLIPS * 3])
    plain = [event for event in Stream("micro", vad="energy").run([signal]) if event.speech]
    baseline, expected = Baseline(), Baseline()
    events = [event for event in Stream("micro", vad="energy", baseline=baseline).run([signal]) if event.speech]
    for event, without in zip(events, plain, strict=True):
        emotion = Emotion(without.arousal, without.dominance, without.valence)
        deviation = expected.deviation(emotion) if expected.is_ready else (None, None, None)
        assert (event.arousal_deviation, event.dominance_deviation, event.valence_deviation) == deviation
        assert (event.arousal, event.change) == (without.arousal, None), "words need intervals"
        new = without.end - (0 if without is plain[0] else without.end - 0.5)
        expected.add(emotion, new * without.speech_ratio)
    assert events[-1].arousal_deviation is not None and events[0].arousal_deviation is None
    spoken_dur = sum(event.speech_ratio for event in plain) / len(plain) * len(signal) / 16000
    assert baseline.speech_dur == pytest.approx(spoken_dur, rel=0.1), "each second counts once, not once a window"


def test_an_enrolled_baseline_gives_words_at_once_and_stays_as_it_is(tmp_path):
    calm, angry = EXAMPLES / "14a04Tc.flac", EXAMPLES / "10b10Wa.flac"
    result = CliRunner().invoke(main, ["enroll", str(calm), str(calm), "-o", str(tmp_path / "me.json"), "--calibrated"])
    assert result.exit_code == 0 and re.search(r"me\.json: \d\.\d s of speech; arousal 0\.\d\d", result.stderr)
    before = (tmp_path / "me.json").read_text()
    options = ["--fast", "--intervals", "--baseline", str(tmp_path / "me.json"), "--format", "jsonl"]
    rows = [json.loads(line) for line in CliRunner().invoke(main, ["stream", str(angry), *options]).stdout.splitlines()]
    assert rows[0]["change"] == "livelier than usual" and rows[0]["arousal_deviation"] > 2
    assert (tmp_path / "me.json").read_text() == before
    result = CliRunner().invoke(main, ["stream", str(angry), "--fast", "--baseline", str(tmp_path / "me.json")])
    assert result.exit_code == 1 and "the baseline is of answers with a calibration" in result.stderr


def test_a_running_baseline_is_saved_and_continued(tmp_path):
    command = ["stream", str(CLIPS[0]), "--fast", "--baseline", str(tmp_path / "me.json")]
    for _ in range(2):
        assert CliRunner().invoke(main, command).exit_code == 0
    assert load_baseline(tmp_path / "me.json").speech_dur > 1.5 * 0.9 * len(read(CLIPS[0])) / 16000


def test_too_little_speech_is_not_enrolled(tmp_path):
    result = CliRunner().invoke(main, ["enroll", str(CLIPS[0]), "-o", str(tmp_path / "me.json")])
    assert result.exit_code == 1 and "a baseline needs 5 s or more; nothing was written" in result.stderr
    assert not (tmp_path / "me.json").exists()
