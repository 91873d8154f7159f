"""Calibrated answers rise with the output, intervals widen with doubt, words need certainty, files round-trip."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2small.calibration import Calibration, Scale, load_calibration
from wav2small.config import OUTPUTS, Emotion
from wav2small.errors import WeightsError
from wav2small.speech import MAX_CONTRAST, contrast

unit = st.floats(0, 1)
emotions = st.builds(Emotion, unit, unit, unit)


def scale(half: float = 0.1) -> Scale:
    """Fitted on voices about .4; half widths grow with less speech and with less contrast."""
    tables = {
        "0.8": ((3 * half, 2.5 * half), (2 * half, half)),
        "0.95": ((6 * half, 5 * half), (4 * half, 2 * half)),
    }
    return Scale((0.2, 0.5, 0.9), (0.0, 0.4, 1.0), mean=0.4, spread=0.2, low=0.15, high=0.65, half_width=tables)


def calibration(half: float = 0.1) -> Calibration:
    return Calibration("mine 1 fp32", dict.fromkeys(OUTPUTS, scale(half)), (2.0,), (15.0,), {"clips": 9})


def read(arousal: float, valence: float, half: float = 0.1, speech_dur: float = 3.0, level: float = 30.0):
    """Of values that are calibrated already."""
    outputs = np.interp([arousal, 0.4, valence], (0.0, 0.4, 1.0), (0.2, 0.5, 0.9)).tolist()
    return calibration(half).read(Emotion(*outputs), speech_dur, 1.0, level)


@given(emotions, emotions)
def test_the_map_is_monotone_and_hits_its_knots(one, other):
    mapped, others = calibration().calibrated(one), calibration().calibrated(other)
    for x, y, a, b in zip(one, other, mapped, others, strict=True):
        assert a <= b if x <= y else b <= a
    assert calibration().calibrated(Emotion(0.2, 0.5, 0.9)) == (0.0, 0.4, 1.0)
    assert calibration().calibrated(Emotion(0.0, 0.35, 1.0)) == pytest.approx((0.0, 0.2, 1.0))


@given(emotions, st.floats(0.1, 20), st.floats(0.1, 1), st.floats(0, 60))
def test_an_interval_holds_the_answer_and_is_no_narrower_for_less_speech_or_more_noise(output, dur, ratio, level):
    found = calibration().read(output, dur, ratio, level)
    short, noisy = calibration().read(output, dur / 3, ratio, level), calibration().read(output, dur, ratio, level / 3)
    for other in (found, short, noisy):
        assert all(0 <= a <= x <= b <= 1 for a, x, b in zip(other.low, other.emotion, other.high, strict=True))
        assert all(0 <= sure <= 1 for sure in other.confidence)
    for worse in (short, noisy):
        assert all(a <= b for a, b in zip(worse.low, found.low, strict=True))
        assert all(a >= b for a, b in zip(worse.high, found.high, strict=True))
        assert all(a <= b for a, b in zip(worse.confidence, found.confidence, strict=True))


def test_confidence_is_the_part_of_the_middle_80_percent_that_is_ruled_out():
    assert read(0.4, 0.4).confidence == pytest.approx((0.6, 0.6, 0.6))  # .2 of .5 left
    assert read(0.0, 0.4).confidence.arousal == pytest.approx(0.8)  # cut at 0: .1 of .5 left
    assert read(0.4, 0.4, half=0.3).confidence == (0.0, 0.0, 0.0)


def test_speech_counts_by_its_seconds_not_by_the_window():
    whole, half = (calibration().read(Emotion(0.5, 0.5, 0.5), 3.0, ratio, 30.0) for ratio in (1.0, 0.5))
    assert half.confidence.arousal < whole.confidence.arousal
    assert half == calibration().read(Emotion(0.5, 0.5, 0.5), 1.5, 1.0, 30.0)


@pytest.mark.parametrize(
    ("arousal", "valence", "word"),
    [
        (0.9, 0.1, "tense"),
        (0.9, 0.9, "elated"),
        (0.1, 0.9, "calm"),
        (0.1, 0.1, "low"),
        (0.4, 0.4, "neutral"),
        (0.49, 0.31, "neutral"),
        (0.9, 0.45, None),
        (0.45, 0.9, None),
        (0.495, 0.6, None),
    ],
)
def test_words_are_quadrants_about_the_mean_and_none_where_the_interval_crosses_it(arousal, valence, word):
    assert read(arousal, valence).word == word


def test_a_word_never_comes_from_a_threshold_at_one_half():
    assert read(0.48, 0.48, half=0.05).word == "elated", "above the mean .4, below .5"


def test_what_is_known_too_badly_has_no_word():
    assert read(0.4, 0.4, half=0.3).word is None
    assert read(0.6, 0.2).word == "tense"
    assert read(0.6, 0.2, speech_dur=1.0, level=5.0).word is None


def test_it_round_trips_and_names_its_weights(tmp_path):
    calibration().save(tmp_path / "a.json")
    found = load_calibration(tmp_path / "a.json")
    assert found.weights == "mine 1 fp32" and found.made == {"clips": 9}
    output = Emotion(0.31, 0.62, 0.73)
    assert found.read(output, 1.0, 0.9, 12.0) == calibration().read(output, 1.0, 0.9, 12.0)
    found.check({"name": "mine", "version": "1", "precision": "fp32", "licence": "any"})
    with pytest.raises(WeightsError, match=r"is of 'mine 1 fp32', the weights are 'mine 2 fp32'"):
        found.check({"name": "mine", "version": "2", "precision": "fp32"})


@pytest.mark.parametrize("damage", ["kind", "scales", "speech_dur", "text", "missing"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "a.json"
    calibration().save(path)
    content = json.loads(path.read_text())
    if damage == "speech_dur":
        content["speech_dur"] = [1.0, 2.0]
    elif damage in content:
        del content[damage]
    path.write_text("nonsense" if damage == "text" else json.dumps(content))
    with pytest.raises(WeightsError, match="cannot be read" if damage == "missing" else "is no calibration"):
        load_calibration(tmp_path / "none.json" if damage == "missing" else path)


def test_noise_lowers_the_contrast_of_speech_to_about_its_level():
    rng = np.random.default_rng(0)
    speech = rng.standard_normal((200, 512)) * np.repeat([1.0, 0.001], 100)[:, None]
    noise = rng.standard_normal((200, 512))

    def level(snr: float) -> float:
        return contrast(((speech + noise * 10 ** (-snr / 20)) ** 2).mean(axis=1))

    for snr, expected in ((0, 3), (10, 10.5), (20, 20)):
        assert level(snr) == pytest.approx(expected, abs=1)
    assert contrast(np.zeros(9)) == contrast(np.ones(9)) == 0 and contrast(np.arange(9) // 4) == MAX_CONTRAST
