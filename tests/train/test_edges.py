"""Edges, silence around a clip and codecs do what they say, to the signal and to nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.train.distort import codec, coloured_noise, surround, trim

RATE = 16000
EVERY = {
    "codec": codec,
    "trim": lambda signal, rng: trim(signal),
    "surround": lambda signal, rng: surround(signal, 100, 200, rng),
}


def noise(samples: int, seed: int = 0, rms: float = 0.1) -> np.ndarray:
    """White noise in a read-only array, so that an in-place change raises an error."""
    signal = (rms * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    signal.flags.writeable = False
    return signal


def tone(frequency: float, samples: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)).astype(np.float32)


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
        assert not np.shares_memory(once, signal)


def test_a_codec_keeps_place_and_level_and_changes_the_samples():
    voice = np.convolve(noise(RATE), np.hanning(8) / 4, "same").astype(np.float32)
    for seed in range(8):
        decoded = codec(voice, np.random.default_rng(seed))
        lags = np.correlate(decoded, voice[400:-400], "valid")
        assert abs(int(np.argmax(lags)) - 400) <= 2
        assert abs(decibel(rms(decoded) / rms(voice))) < 1
        assert 0.9 < np.corrcoef(decoded, voice)[0, 1] < 0.99999


def test_a_codec_keeps_the_length():
    for samples in (1, 2, 319, 320, 16001):
        for seed in range(6):
            assert len(codec(noise(samples), np.random.default_rng(seed))) == samples


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
