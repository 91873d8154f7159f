"""Each distortion has its documented effect on the signal, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.audio import distort
from wav2small.audio.distort import coloured_noise, surround, trim

RATE = 16000
CODECS = {
    "mu-law": ("WAV", "ULAW", 8000, {}),
    "MP3 of 32 kbit/s": ("MP3", "MPEG_LAYER_III", RATE, {"compression_level": 0.842, "bitrate_mode": "CONSTANT"}),
    "MP3 of any rate": ("MP3", "MPEG_LAYER_III", RATE, {"compression_level": 0.7}),
    "Opus": ("OGG", "OPUS", RATE, {"compression_level": 0.976}),
}
EVERY = {
    "add_noise": lambda signal, rng: distort.add_noise(signal, coloured_noise(len(signal), rng, 1), 10),
    "band_pass": lambda signal, rng: distort.band_pass(signal, 300, 3400),
    "reverberate": lambda signal, rng: distort.reverberate(signal, distort.room_response(0.3, rng)),
    "speed": lambda signal, rng: distort.speed(signal, 0.8),
    "speed_part": lambda signal, rng: distort.speed_part(signal, 1.25, 1 / 3, rng),
    "fade": lambda signal, rng: distort.fade(signal, 0.02, rng),
    "lose_packets": lambda signal, rng: distort.lose_packets(signal, 0.1, rng),
    "middle": lambda signal, rng: distort.middle(signal, 1),
    "overdriven": lambda signal, rng: distort.overdriven(signal, 10),
    "trim": lambda signal, rng: trim(signal),
    "surround": lambda signal, rng: surround(signal, 100, 200, rng),
} | {name: lambda signal, rng, name=name: coded(signal, name) for name in CODECS}


def coded(signal: np.ndarray, name: str) -> np.ndarray:
    container, subtype, rate, settings = CODECS[name]
    return distort.codec(signal, container, subtype, rate, **settings)


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
    for seed in range(3):
        once, again = (EVERY[name](signal, np.random.default_rng(seed)) for _ in range(2))
        assert once.dtype == np.float32 and once.ndim == 1 and len(once) >= 1
        assert np.isfinite(once).all()
        np.testing.assert_array_equal(once, again)
        assert not np.shares_memory(once, signal)


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_keeps_place_and_level_and_changes_the_samples(name):
    voice = distort.band_pass(np.convolve(noise(RATE), np.hanning(8) / 4, "same").astype(np.float32), 100, 3000)
    decoded = coded(voice, name)
    lags = np.correlate(decoded, voice[400:-400], "valid")
    assert abs(int(np.argmax(lags)) - 400) <= 2
    assert abs(decibel(rms(decoded) / rms(voice))) < 1
    assert 0.8 < np.corrcoef(decoded, voice)[0, 1] < 0.99999


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_keeps_the_length(name):
    for samples in (1, 2, 319, 320, 16001):
        assert len(coded(noise(samples), name)) == samples


def test_a_codec_treats_a_quiet_clip_as_a_loud_one():
    for name in CODECS:
        loud, quiet = coded(noise(RATE), name), coded(noise(RATE) / 1024, name)
        np.testing.assert_allclose(quiet * 1024, loud, atol=1e-4)


@pytest.mark.parametrize("snr", [20, 10, 0, -10])
def test_noise_has_the_ratio(snr):
    signal, added = noise(RATE, 0, 0.003), 5 * noise(RATE, 1)
    noisy = distort.add_noise(signal, added, snr)
    assert abs(decibel(rms(signal) / rms(noisy - signal)) - snr) < 0.01
    np.testing.assert_array_equal(distort.add_noise(signal, np.zeros(RATE, np.float32), snr), signal)


def test_a_band_pass_passes_its_band_alone_and_delays_nothing():
    signal = noise(4 * RATE)
    passed = distort.band_pass(signal, 300, 3400)
    for low, high, loss in ((450, 2900, 0), (20, 120, -50), (5200, 8000, -50)):
        change = power(passed * np.hanning(4 * RATE), low, high) - power(signal * np.hanning(4 * RATE), low, high)
        assert abs(change) < 0.5 if loss == 0 else change < loss
    assert int(np.argmax(np.correlate(passed, signal[400:-400], "valid"))) == 400


@pytest.mark.parametrize("decay_dur", [0.3, 0.8])
def test_a_room_decays_by_60_decibels_after_a_direct_path(decay_dur):
    response = np.mean([distort.room_response(decay_dur, np.random.default_rng(s)) ** 2 for s in range(40)], axis=0)
    assert len(response) == round(decay_dur * RATE)
    assert response[0] == 1 and abs(response[1:].sum() - 1) < 1e-3
    first, last = (response[part].mean() for part in (slice(1, RATE // 100), slice(-RATE // 100, None)))
    seconds = decay_dur - 0.01
    assert abs(10 * np.log10(first / last) - 60 * seconds / decay_dur) < 1.5
    impulse = np.zeros(RATE, np.float32)
    impulse[100] = 0.5
    echo = distort.reverberate(impulse, distort.room_response(decay_dur, np.random.default_rng(0)))
    assert len(echo) == RATE and not echo[:100].round(6).any() and echo[100] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_length_and_pitch(factor):
    fast = distort.speed(tone(400), factor)
    assert abs(len(fast) - RATE / factor) <= 1
    assert np.argmax(np.abs(np.fft.rfft(fast, RATE))) == pytest.approx(400 * factor, abs=1)


def test_speed_of_a_part_leaves_the_rest():
    signal = noise(30000)
    starts = set()
    for seed in range(8):
        out = distort.speed_part(signal, 1.25, 1 / 3, np.random.default_rng(seed))
        assert len(out) == 28000
        start = int(np.argmax(out[:20000] != signal[:20000]))
        np.testing.assert_array_equal(out[start + 8000 :], signal[start + 10000 :])
        starts.add(start)
    assert len(starts) > 4


def test_a_fade_changes_by_a_share_in_a_second_at_one_end():
    signal = np.full(3 * RATE, 0.5, np.float32)
    ends = set()
    for seed in range(8):
        out = distort.fade(signal, 0.02, np.random.default_rng(seed))
        loud, quiet = max(out[0], out[-1]), min(out[0], out[-1])
        assert loud == 0.5 and quiet == pytest.approx(0.5 * 0.98**3, abs=1e-5)
        ends.add(out[0] == 0.5)
    assert ends == {True, False}


def test_a_tenth_of_the_packets_is_lost():
    signal = np.full(RATE, 0.5, np.float32)
    packets = distort.lose_packets(signal, 0.1, np.random.default_rng(0)).reshape(50, 320)
    lost = (packets == 0).all(axis=1)
    assert lost.sum() == 5 and (packets[~lost] == 0.5).all()


def test_the_middle_has_as_much_before_as_after():
    np.testing.assert_array_equal(distort.middle(np.arange(3 * RATE), 1), np.arange(RATE, 2 * RATE))
    np.testing.assert_array_equal(distort.middle(np.arange(RATE), 2), np.arange(RATE))


def test_an_overdriven_clip_is_clipped_whatever_its_level():
    loud, quiet = (distort.overdriven(scale * tone(100), 10) for scale in (1.0, 0.01))
    np.testing.assert_allclose(loud, quiet, atol=1e-5)
    assert np.abs(loud).max() == 1
    assert np.mean(np.abs(loud) == 1) == pytest.approx(1 - 2 / np.pi * np.arcsin(10**-0.5), abs=0.01)


def test_a_sound_is_repeated_to_the_length_or_cut_at_a_random_place():
    np.testing.assert_array_equal(distort.looped(np.arange(3), 7, np.random.default_rng(0)), [0, 1, 2, 0, 1, 2, 0])
    cut = {int(distort.looped(np.arange(100), 5, np.random.default_rng(seed))[0]) for seed in range(9)}
    assert len(cut) > 5 and max(cut) <= 95


@pytest.mark.parametrize(("slope", "fall"), [(0, 0), (1, 3), (2, 6)])
def test_coloured_noise_falls_by_3_decibels_an_octave_and_slope(slope, fall):
    for samples in (RATE, 12345):
        sample = coloured_noise(samples, np.random.default_rng(0), slope)
        assert len(sample) == samples and abs(float(np.std(sample)) - 1) < 1e-3
    octaves = [power(coloured_noise(RATE, np.random.default_rng(seed), slope), 200, 400) for seed in range(9)]
    others = [power(coloured_noise(RATE, np.random.default_rng(seed), slope), 3200, 6400) for seed in range(9)]
    assert abs(np.mean(octaves) - np.mean(others) - 4 * fall) < 0.7


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
