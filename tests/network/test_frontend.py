"""The front end against independent formulas and published values, and the laws it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_length
from random_student import noise
from wav2small.errors import AudioError
from wav2small.network.config import FRONTEND, Frontend
from wav2small.network.frontend import (
    dft_kernel,
    hz_to_mel,
    log_mel,
    mel_filterbank,
    mel_to_hz,
    normalise,
    running_log_mel,
    running_mean,
)

MEL_FREQUENCIES = [0.0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855, 853.173]
MEL_FREQUENCIES += [938.49, 1024.856, 1119.114, 1222.042, 1334.436, 1457.167, 1591.187, 1737.532, 1897.337, 2071.84]
MEL_FREQUENCIES += [2262.393, 2470.47, 2697.686, 2945.799, 3216.731, 3512.582, 3835.643, 4188.417, 4573.636, 4994.285]
MEL_FREQUENCIES += [5453.621, 5955.205, 6502.92, 7101.009, 7754.107, 8467.272, 9246.028, 10096.408, 11025.0]
"""Hz; as the documentation of ``librosa.mel_frequencies(n_mels=40)`` prints them, 0 to 11,025 Hz."""


def test_dft_kernel_is_numpys_transform_of_a_windowed_frame():
    frame = noise(64)
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(64) / 64))
    real, imag = dft_kernel() @ frame
    np.testing.assert_allclose(real + 1j * imag, np.fft.rfft(frame * hann), atol=1e-12)


def test_the_window_is_periodic_not_symmetric():
    window = dft_kernel()[0, 0]
    assert window[0] == 0 and window[32] == 1
    np.testing.assert_allclose(window[1:], window[:0:-1], atol=1e-15)
    np.testing.assert_allclose(window[:32] + window[32:], 1, atol=1e-15)


def test_mel_scale_has_the_published_values():
    np.testing.assert_allclose(hz_to_mel(np.array([60, 110, 220, 440, 1000, 6400.0])), [0.9, 1.65, 3.3, 6.6, 15, 42])
    edges = mel_to_hz(np.linspace(0, hz_to_mel(np.array(11025.0)), 40))
    np.testing.assert_allclose(edges, MEL_FREQUENCIES, atol=6e-4)


@given(st.floats(0, 8000))
def test_mel_to_hz_undoes_hz_to_mel(frequency):
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(np.array(frequency))), frequency, atol=1e-9)


def test_mel_bands_are_triangles_of_unit_area():
    edges = mel_to_hz(np.linspace(0, hz_to_mel(np.array(8000.0)), 28))
    bins = np.arange(33) * 250.0
    for band in range(26):
        low, centre, high = edges[band : band + 3]
        expected = np.interp(bins, [low, centre, high], [0, 1, 0]) * 2 / (high - low)
        np.testing.assert_allclose(mel_filterbank()[:, band], expected, atol=1e-15)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_mel_bands_equal_another_implementation():
    audio_utils = pytest.importorskip("transformers.audio_utils", reason="needs the extra train")
    other = audio_utils.mel_filter_bank(33, 26, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filterbank(), other, atol=1e-12)


def test_only_band_0_is_empty():
    assert [band for band in range(26) if not mel_filterbank()[:, band].any()] == [0]


def test_another_sampling_rate_makes_other_bands():
    wrong = mel_filterbank(Frontend(sampling_rate=22050))
    assert np.abs(mel_filterbank() - wrong).max() > 1e-3


@given(any_length(64, 3000))
def test_rows_are_whole_windows_only(samples):
    rows = log_mel(noise(samples))
    assert rows.shape == (FRONTEND.num_frames(samples), 26) and rows.dtype == np.float32
    assert len(rows) == sum(start + 64 <= samples for start in range(0, samples, 32))


@pytest.mark.parametrize("samples", [0, 1, 63])
def test_less_than_a_window_is_an_error_that_says_so(samples):
    assert FRONTEND.num_frames(samples) == 0
    with pytest.raises(AudioError, match=f"at least 64 samples, got {samples}"):
        log_mel(np.zeros(samples, np.float32))


def test_log_mel_of_one_frame_by_numpys_own_transform():
    frame = noise(64)
    power = np.abs(np.fft.rfft(frame * np.hanning(65)[:64])) ** 2
    expected = 10 * np.log10(np.maximum(power @ mel_filterbank(), 1e-10))
    np.testing.assert_allclose(log_mel(frame)[0], expected, atol=1e-4)


@pytest.mark.parametrize("frequency", [500, 1000, 2500, 6000])
def test_a_tone_is_loudest_in_its_band(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(1600) / 16000).astype(np.float32)
    weight = mel_filterbank()[round(frequency / 250)]
    assert log_mel(tone).mean(0).argmax() == weight.argmax()


def test_twice_the_amplitude_is_6_decibel_more():
    louder = log_mel(2 * noise(2000)) - log_mel(noise(2000))
    np.testing.assert_allclose(louder[:, 1:], 20 * np.log10(2), atol=1e-4)
    np.testing.assert_array_equal(louder[:, 0], 0)


def test_silence_reads_the_floor():
    np.testing.assert_array_equal(log_mel(np.zeros(640, np.float32)), np.full((19, 26), -100, np.float32))


@given(st.integers(0, 40))
def test_a_delay_of_one_hop_is_a_delay_of_one_row(rows):
    signal = noise(3000)
    np.testing.assert_array_equal(log_mel(signal[32 * rows :]), log_mel(signal)[rows:])


@given(any_length(1, 5000), st.floats(1e-2, 1e4), st.floats(-10, 10))
@settings(max_examples=50)
def test_normalised_has_zero_mean_and_unit_variance(samples, gain, offset):
    signal = (gain * (noise(samples + 1) + 0.1 * offset)).astype(np.float32)
    original = signal.copy()
    normalised = normalise(signal)
    assert normalised.dtype == np.float32 and normalised.shape == signal.shape
    np.testing.assert_array_equal(signal, original)
    assert abs(normalised.mean(dtype=np.float64)) < 1e-5
    variance = signal.var(dtype=np.float64)
    assert normalised.var(dtype=np.float64) == pytest.approx(variance / (variance + 1e-7), rel=1e-4)


def test_gain_and_offset_are_gone_after_normalisation():
    signal = noise(16000)
    np.testing.assert_allclose(normalise(30 * signal + 5), normalise(signal), atol=2e-4)


def test_a_constant_becomes_silence_without_a_warning():
    for value in (0.0, 1.0, -0.3):
        np.testing.assert_allclose(normalise(np.full(1000, value, np.float32)), np.zeros(1000), atol=1e-6)


def test_after_the_logarithm_normalisation_is_one_shift_of_all_bands():
    signal = noise(16000, level=0.3)
    centred = signal - signal.mean()
    shift = log_mel(normalise(signal)) - log_mel(centred)
    np.testing.assert_allclose(shift[:, 1:], -20 * np.log10(centred.std()), atol=1e-3)


def test_an_offset_reaches_only_the_bands_of_bins_0_and_1():
    reached = mel_filterbank()[:2].any(0)
    difference = np.abs(log_mel(noise(4000) + np.float32(0.5)) - log_mel(noise(4000))).max(0)
    assert reached.sum() == 2 and (difference[~reached] < 1e-3).all() and difference[reached].max() > 1


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=50), st.integers(1, 60))
@settings(deadline=None)
def test_a_running_mean_is_that_of_the_last_values_or_of_those_there_are(values, length):
    expected = [np.mean(values[max(0, end - length) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(running_mean(np.array(values), length), expected, atol=1e-9)


@given(any_length(64, 2000), st.integers(1, 50), st.sampled_from([0.1, 1e-4, 1e-5]))
@settings(deadline=None, max_examples=40)
def test_running_rows_are_over_the_level_of_the_frames_until_then(samples, level_frames, loudness):
    signal = noise(samples, level=loudness).astype(np.float64)
    frames = [signal[start : start + 64] for start in range(0, samples - 63, 32)]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(65)[:64]))) @ mel_filterbank()
    for row, found in enumerate(running_log_mel(signal, level_frames)):
        level = power[max(0, row + 1 - level_frames) : row + 1].sum(1).mean() + FRONTEND.variance_floor
        np.testing.assert_allclose(found, 10 * np.log10(np.maximum(power[row] / level, FRONTEND.amin)), atol=1e-3)


def test_running_rows_need_nothing_later_and_do_not_mind_the_level():
    signal = noise(4001)
    rows = running_log_mel(signal, 20)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(running_log_mel(signal[:2001], 20), rows[: FRONTEND.num_frames(2001)])
    np.testing.assert_allclose(running_log_mel(30 * signal, 20), rows, atol=1e-3)
    np.testing.assert_array_equal(running_log_mel(np.zeros(640), 20), np.full((19, 26), -100, np.float32))


def test_a_log_mel_is_of_the_frontend_asked_for():
    config = replace(FRONTEND, hop_length=16, fmax=4000.0, amin=1e-2)
    rows = log_mel(noise(1001), config)
    assert rows.shape == (config.num_frames(1001), 26) and len(rows) == (1001 - 64) // 16 + 1
    assert rows.min() == -20
    power = np.square(np.abs(np.fft.rfft(noise(64) * np.hanning(65)[:64])))
    expected = 10 * np.log10(np.maximum(power @ mel_filterbank(config), 1e-2))
    np.testing.assert_allclose(log_mel(noise(64), config)[0], expected, atol=1e-4)
    assert np.abs(mel_filterbank(config) - mel_filterbank()).max() > 1e-3
    rows = running_log_mel(noise(1001), 20, config)
    assert rows.shape == (config.num_frames(1001), 26) and rows.min() == -20
