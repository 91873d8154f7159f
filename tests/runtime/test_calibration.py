"""Calibrated answers rise with the output, intervals widen with doubt, words need certainty, files round-trip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.audio.vad import MAX_CONTRAST, Energy, contrast, sound
from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import DATA, full_name, weights_name
from wav2small.runtime.calibration import Calibration, Scale, load_calibration
from wav2small.runtime.model import load, models

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
    return Calibration("mine 1 fp32", "abc", dict.fromkeys(OUTPUTS, scale(half)), (2.0,), (15.0,), {"clips": 9})


def read(arousal: float, valence: float, half: float = 0.1, speech_dur: float = 3.0, level: float = 30.0):
    """Of values that are calibrated already."""
    outputs = np.interp([arousal, 0.4, valence], (0.0, 0.4, 1.0), (0.2, 0.5, 0.9)).tolist()
    return calibration(half).read(Emotion(*outputs), speech_dur, level)


@given(emotions, emotions)
def test_the_map_is_monotone_and_hits_its_knots(one, other):
    mapped, others = calibration().calibrated(one), calibration().calibrated(other)
    for x, y, a, b in zip(one, other, mapped, others, strict=True):
        assert a <= b if x <= y else b <= a
    assert calibration().calibrated(Emotion(0.2, 0.5, 0.9)) == (0.0, 0.4, 1.0)
    assert calibration().calibrated(Emotion(0.0, 0.35, 1.0)) == pytest.approx((0.0, 0.2, 1.0))


@settings(deadline=None)
@given(emotions, st.floats(0.1, 20), st.floats(0, 60))
def test_an_interval_holds_the_answer_and_is_no_narrower_for_less_speech_or_more_noise(output, dur, level):
    found = calibration().read(output, dur, level)
    short, noisy = calibration().read(output, dur / 3, level), calibration().read(output, dur, level / 3)
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


@pytest.mark.parametrize(
    ("arousal", "valence", "word"),
    [
        (0.9, 0.1, "tense"),
        (0.9, 0.9, "elated"),
        (0.1, 0.9, "calm"),
        (0.1, 0.1, "low"),
        (0.4, 0.4, "neutral"),
        (0.49, 0.31, "neutral"),
        (0.54, 0.31, None),
        (0.9, 0.45, None),
        (0.45, 0.9, None),
        (0.495, 0.6, None),
    ],
)
def test_words_are_where_the_whole_interval_is_and_none_where_it_crosses_sides(arousal, valence, word):
    assert read(arousal, valence).word == word


def test_a_word_never_comes_from_a_threshold_at_one_half():
    assert read(0.48, 0.48, half=0.05).word == "elated", "above the mean .4, below .5"


def test_what_is_known_too_badly_has_no_word():
    assert read(0.4, 0.4, half=0.26).word is None, "spread .2: neutral is from .15 to .65"
    assert read(0.4, 0.4, half=0.24).word == "neutral"
    assert read(0.6, 0.2).word == "tense"
    assert read(0.6, 0.2, speech_dur=1.0, level=5.0).word is None


def test_an_interval_that_ends_at_the_mean_or_at_the_edge_of_neutral_is_neutral():
    """In numbers that floats hold exactly: the mean is 1/2, intervals are 1/4 wide, neutral is from 1/4 to 3/4."""
    one = Scale((0.0, 1.0), (0.0, 1.0), 0.5, 0.2, 0.1, 0.9, {"0.8": ((0.125,),)})
    made = Calibration("mine", "abc", dict.fromkeys(OUTPUTS, one), (), ())
    for arousal in (0.375, 0.625):
        for valence in (0.375, 0.625):
            assert made.read(Emotion(arousal, 0.5, valence), 3.0, 30.0).word == "neutral"
    assert made.read(Emotion(0.64, 0.5, 0.64), 3.0, 30.0).word == "elated"


def test_neutral_is_known_of_arousal_and_valence_alike():
    for name in OUTPUTS:
        scales = dict.fromkeys(OUTPUTS, scale()) | {name: scale(0.3)}
        found = Calibration("mine", "abc", scales, (2.0,), (15.0,)).read(Emotion(0.5, 0.5, 0.5), 3.0, 30.0)
        assert found.word == ("neutral" if name == "dominance" else None)


def test_it_round_trips_and_names_its_weights(tmp_path):
    calibration().save(tmp_path / "a.json")
    found = load_calibration(tmp_path / "a.json")
    assert found.weights == "mine 1 fp32" and found.made == {"clips": 9}
    output = Emotion(0.31, 0.62, 0.73)
    assert found.read(output, 0.9, 12.0) == calibration().read(output, 0.9, 12.0)
    found.check({"name": "renamed", "sha256": "abc"})
    with pytest.raises(
        WeightsError, match=r"is of mine 1 fp32 \(sha256 abc...\), the weights are mine 1 fp32 \(sha256 d"
    ):
        found.check({"name": "mine", "version": "1", "precision": "fp32", "sha256": "d"})


@pytest.mark.parametrize("row", [row for row in models() if row["name"] != "open"], ids=lambda row: row["file"])
def test_all_weights_that_ship_have_their_calibration_beside_them(row):
    """ONNX and safetensors are two files of the same weights."""
    backend = {".onnx": "onnx", ".safetensors": "numpy"}[Path(row["file"]).suffix]
    model = load(full_name(row), backend, calibration=True)
    assert model.metadata["sha256"] == row["sha256"]
    assert model.calibration.weights == f"{row['name']} {row['version']} {row['precision']}"
    assert sum(corpus["speakers"] for corpus in model.calibration.made["corpora"].values()) in (126, 151)
    assert load(full_name(row), backend).calibration is None


def test_weights_are_told_by_their_own_calibration_alone(tmp_path):
    for name in ("micro", "micro-int8", "wav2small"):
        shutil.copy(DATA / f"{name}.onnx", tmp_path)
    with pytest.raises(WeightsError, match=r"micro.onnx: no calibration lies beside these weights; make one with"):
        load(tmp_path / "micro.onnx", calibration=True)
    shutil.copy(DATA / "micro.calibration.json", tmp_path)
    micro = weights_name(load("micro").metadata)
    assert load(tmp_path / "micro.onnx", calibration=True).calibration.weights == micro
    for name in ("micro-int8", "wav2small"):
        with pytest.raises(WeightsError, match=f"the calibration is of {micro}"):
            load(tmp_path / f"{name}.onnx", calibration=tmp_path / "micro.calibration.json")


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
    with pytest.raises(
        WeightsError, match="cannot be read" if damage == "missing" else "is not a (valid )?calibration"
    ):
        load_calibration(tmp_path / "none.json" if damage == "missing" else path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"low": 0.4, "high": 0.4}, "the usual range of valence goes from 0.4 to 0.4"),
        ({"output": [0.2, 0.2, 0.9]}, "the outputs of valence do not rise"),
        ({"output": [0.2, 0.9]}, "or there is not one label for each"),
        ({"label": [0.4, 0.0, 1.0]}, "the labels of valence fall"),
        ({"spread": float("nan")}, "or are not finite"),
        ({"half_width": {"0.8": [[0.1]], "0.95": [[0.1]]}}, "the intervals of valence do not fit the bins"),
        ({"half_width": {"0.8": [[0.1, -0.1]] * 2, "0.95": [[0.1, 0.1]] * 2}}, "an interval of valence is negative"),
    ],
)
def test_contents_that_cannot_be_used_are_refused_when_loaded_and_not_by_a_traceback_later(tmp_path, change, problem):
    path = tmp_path / "a.json"
    calibration().save(path)
    content = json.loads(path.read_text())
    content["scales"]["valence"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=rf"a.json: is not a valid calibration: .*{problem}"):
        load_calibration(path)


def test_noise_lowers_the_contrast_of_speech_to_about_its_level():
    rng = np.random.default_rng(0)
    speech = rng.standard_normal((200, 512)) * np.repeat([1.0, 0.001], 100)[:, None]
    noise = rng.standard_normal((200, 512))

    def level(snr: float) -> float:
        return contrast(((speech + noise * 10 ** (-snr / 20)) ** 2).mean(axis=1))

    for snr, expected in ((0, 3), (10, 10.5), (20, 20)):
        assert level(snr) == pytest.approx(expected, abs=1)
    assert contrast(np.zeros(9)) == contrast(np.ones(9)) == 0 and contrast(np.arange(9) // 4) == MAX_CONTRAST


def test_what_tells_speech_does_not_change_what_a_calibration_counts():
    class Never:
        score, reset = Energy.score, Energy.reset

        def is_speech(self, scores):
            return np.zeros(len(scores), bool)

    signal = np.concatenate([np.zeros(16000), np.random.default_rng(0).standard_normal(32000)]).astype("f4")
    by_level, by_another = sound(signal, Energy()), sound(signal, Never())
    assert by_another.ratio == 0 < by_level.ratio == by_level.loud_ratio == by_another.loud_ratio
    assert by_level.loud_ratio == pytest.approx(2 / 3, abs=0.02)
