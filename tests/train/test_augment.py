"""Each distortion does what it says, to the signal and to nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.train.distort import (
    add,
    band_limit,
    codec,
    coloured_noise,
    distort,
    equalise,
    level,
    random_speed,
    reverberate,
    speed,
    surround,
    trim,
)

RATE = 16000
EVERY = {
    "speed": lambda signal, rng: speed(signal, 1.25),
    "equalise": equalise,
    "band_limit": lambda signal, rng: band_limit(signal, 300, 3400),
    "reverberate": reverberate,
    "codec": codec,
    "add": lambda signal, rng: add(signal, coloured_noise(len(signal), rng), 10),
    "trim": lambda signal, rng: trim(signal),
    "surround": lambda signal, rng: surround(signal, 100, 200, rng),
    "level": lambda signal, rng: level(signal, -20),
    "distort": lambda signal, rng: distort(signal, rng, lambda: signal),
    "random_speed": random_speed,
}


def noise(samples: int, seed: int = 0, rms: float = 0.1) -> np.ndarray:
    """White, and read only: whoever works in place is found out."""
    signal = (rms * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    signal.flags.writeable = False
    return signal


def tone(frequency: float, samples: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)).astype(np.float32)


def loudest_frequency(signal: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(signal * np.hanning(len(signal))))) * RATE / len(signal))


def power(signal: np.ndarray, low: float, high: float) -> float:
    """Within a band, in dB."""
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    within = (frequency >= low) & (frequency < high)
    return float(10 * np.log10(np.mean(np.abs(np.fft.rfft(signal)[within]) ** 2) + 1e-20))


def rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.asarray(signal, np.float64) ** 2)))


def decibel(ratio: float) -> float:
    return float(20 * np.log10(ratio))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "signal",
    [noise(RATE), np.zeros(RATE, np.float32), noise(1), np.zeros(1, np.float32), noise(7)],
    ids=["noise", "silence", "one sample", "one zero", "seven samples"],
)
def test_the_answer_is_finite_float32_and_follows_from_the_seed(name, signal):
    for seed in range(12):
        once, again = (EVERY[name](signal, np.random.default_rng(seed)) for _ in range(2))
        assert once.dtype == np.float32 and once.ndim == 1 and len(once) >= 1
        assert np.isfinite(once).all()
        np.testing.assert_array_equal(once, again)
        assert not np.shares_memory(once, signal) or name == "distort"


@pytest.mark.parametrize("name", ["equalise", "band_limit", "reverberate", "codec", "add", "distort", "level"])
def test_these_keep_the_length(name):
    for samples in (1, 2, 319, 320, 16001):
        for seed in range(6):
            assert len(EVERY[name](noise(samples), np.random.default_rng(seed))) == samples


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speed_moves_the_pitch_up_and_the_length_down(factor):
    played = speed(tone(400, 2 * RATE), factor)
    assert abs(len(played) - 2 * RATE / factor) <= 1
    assert abs(loudest_frequency(played) - 400 * factor) < 2


def test_random_speed_stays_within_its_bounds_on_both_sides():
    lengths = np.array([len(random_speed(noise(8000), np.random.default_rng(seed))) for seed in range(60)])
    assert lengths.min() >= 8000 / 1.25 - 1 and lengths.max() <= 8000 * 1.25 + 1
    assert lengths.min() < 7500 and lengths.max() > 8500
    assert 0.1 < np.mean(lengths == 8000) < 0.5


def test_the_equaliser_is_a_curve_within_its_depth():
    impulse = np.zeros(4096, np.float32)
    impulse[0] = 1
    for seed in range(10):
        gain = 20 * np.log10(np.abs(np.fft.rfft(equalise(impulse, np.random.default_rng(seed), depth=9.0))))
        assert np.abs(gain).max() < 9.01
        assert np.ptp(gain) > 3
        assert np.abs(np.diff(gain)).max() < 1.5, "it is smooth"
    np.testing.assert_allclose(equalise(impulse, np.random.default_rng(0), depth=0.0), impulse, atol=1e-6)


def test_the_band_limit_takes_what_is_outside_and_leaves_what_is_inside():
    before = noise(RATE)
    after = band_limit(before, 300, 3400)
    assert power(after, 0, 150) < power(before, 0, 150) - 40
    assert power(after, 4500, 8001) < power(before, 4500, 8001) - 40
    assert abs(power(after, 600, 2500) - power(before, 600, 2500)) < 0.2


def test_a_room_adds_a_tail_after_the_sound_that_dies_away():
    click = np.zeros(RATE, np.float32)
    click[1000] = 1
    tails = []
    for seed in range(20):
        wet = reverberate(click, np.random.default_rng(seed))
        assert np.abs(wet[:1000]).max() < 1e-6, "nothing is heard before it sounds"
        assert 0.3 < wet[1000] < 1.7
        tail = wet[1001:]
        assert rms(tail[:800]) > 10 * rms(tail[-800:])
        tails.append(np.sqrt(np.sum(tail**2)))
    assert 0.05 < min(tails) < 0.3 and 0.4 < max(tails) < 0.75


def test_a_codec_keeps_place_and_level_and_changes_the_samples():
    voice = band_limit(noise(RATE), 100, 3000)
    for seed in range(8):
        decoded = codec(voice, np.random.default_rng(seed))
        lags = np.correlate(decoded, voice[400:-400], "valid")
        assert abs(int(np.argmax(lags)) - 400) <= 2
        assert abs(decibel(rms(decoded) / rms(voice))) < 1
        assert 0.9 < np.corrcoef(decoded, voice)[0, 1] < 0.99999


def test_a_codec_is_not_the_same_each_time():
    kinds = {codec(noise(4000), np.random.default_rng(seed)).tobytes() for seed in range(8)}
    assert len(kinds) == 8


def test_coloured_noise_goes_from_white_to_brown_at_unit_variance():
    slopes = []
    for seed in range(30):
        sample = coloured_noise(RATE, np.random.default_rng(seed))
        assert abs(float(np.std(sample)) - 1) < 1e-3
        slopes.append(power(sample, 200, 400) - power(sample, 3200, 6400))
    assert -2 < min(slopes) < 8, "white has no slope"
    assert 16 < max(slopes) < 26, "brown falls by 6 dB an octave, over four octaves"


@settings(max_examples=30, deadline=None)
@given(snr=st.floats(-10, 60), loud=st.floats(-50, 0), seed=st.integers(0, 99))
def test_what_is_added_is_as_loud_as_was_asked(snr, loud, seed):
    signal = noise(2000, seed, 10 ** (loud / 20))
    other = noise(2000, seed + 100, 0.3)
    added = add(signal, other, snr).astype(np.float64) - signal
    assert abs(decibel(rms(signal) / rms(added)) - snr) < 0.1
    assert np.corrcoef(added, other)[0, 1] > 0.99


def test_silence_gets_nothing_added_and_adds_nothing():
    silence, sound = np.zeros(100, np.float32), noise(100)
    np.testing.assert_array_equal(add(silence, sound, 10), silence)
    np.testing.assert_array_equal(add(sound, silence, 10), sound)


def test_trim_takes_the_quiet_ends_and_leaves_a_tenth_of_a_second():
    sound = tone(200, 8000)
    quiet = 0.001 * tone(300, 16000)
    trimmed = trim(np.concatenate([quiet, sound, quiet]))
    assert len(trimmed) == 8000 + 2 * 1600
    np.testing.assert_array_equal(trimmed[1600:9600], sound)
    faint = 0.02 * tone(300, 16000)
    assert len(trim(np.concatenate([faint, sound]))) == 24000, "28 dB below is speech"


def test_trim_leaves_the_middle_alone():
    signal = np.concatenate([tone(200, 8000), np.zeros(16000, np.float32), tone(200, 8000)])
    np.testing.assert_array_equal(trim(signal), signal)


@settings(max_examples=30, deadline=None)
@given(before=st.integers(0, 3000), after=st.integers(0, 3000), seed=st.integers(0, 99))
def test_surround_puts_the_signal_into_near_silence(before, after, seed):
    signal = noise(3000)
    out = surround(signal, before, after, np.random.default_rng(seed))
    assert len(out) == before + 3000 + after
    floor = out.copy()
    floor[before : before + 3000] -= signal
    assert -80.1 < decibel(float(np.std(floor)) / rms(signal)) < -44.9, "brown noise may have a mean beside"


@pytest.mark.parametrize("asked", [-45.0, -20.0, -12.0])
def test_level_is_the_level_asked_for(asked):
    assert abs(decibel(rms(level(noise(RATE), asked))) - asked) < 0.01


def test_what_is_too_loud_is_clipped_at_full_scale():
    loud = level(noise(RATE), 0.0)
    assert np.abs(loud).max() == 1
    assert np.mean(np.abs(loud) == 1) > 0.05


def test_a_chain_is_sometimes_nothing_and_mostly_something():
    signal = noise(4000)
    changed = [
        not np.array_equal(distort(signal, np.random.default_rng(seed), lambda: signal), signal) for seed in range(60)
    ]
    assert 0.7 < np.mean(changed) < 1
