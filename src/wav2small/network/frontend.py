"""The reference front end in NumPy: normalisation, DFT kernel, Slaney mel bands, log-mel.

Source: arXiv:2408.13920, layers 0 to 2; the mel scale is that of Slaney's Auditory Toolbox (1998), as in
``librosa.filters.mel``.
"""

from __future__ import annotations

import math

import numpy as np

from wav2small.errors import AudioError
from wav2small.network.config import FRONTEND, Frontend

LINEAR_HZ_PER_MEL = 200.0 / 3.0
LOG_START_HZ = 1000.0
LOG_STEP = math.log(6.4) / 27.0


def normalise(signal: np.ndarray, config: Frontend = FRONTEND) -> np.ndarray:
    """Zero mean and unit variance over the whole signal; digital silence stays zero.

    Args:
        signal: mono audio, float, shape=(samples,)
        config: ``variance_floor`` is added to the variance

    Returns:
        a new array, float32, shape=(samples,)

    Source: arXiv:2408.13920, layer 0.
    """
    centred = signal - np.mean(signal, dtype=np.float64)
    variance = np.mean(np.square(centred))
    return np.asarray(centred / np.sqrt(variance + config.variance_floor), np.float32)


def dft_kernel(config: Frontend = FRONTEND) -> np.ndarray:
    """Real and imaginary rows of the DFT, each multiplied by a periodic Hann window.

    Returns:
        float64, shape=(2, n_bins, win_length)

    Source: arXiv:2408.13920, layer 1.
    """
    phase = 2 * np.pi * np.outer(np.arange(config.n_bins), np.arange(config.win_length)) / config.n_fft
    return np.asarray(np.stack([np.cos(phase), -np.sin(phase)]) * hann(config))


def hann(config: Frontend = FRONTEND) -> np.ndarray:
    """The periodic Hann window, shape=(win_length,)."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.win_length) / config.win_length))


def hz_to_mel(frequency: np.ndarray) -> np.ndarray:
    """Slaney's mel scale of frequencies in Hz: linear up to 1 kHz, then logarithmic, 27 mels per factor of 6.4."""
    above = np.log(np.maximum(frequency, LOG_START_HZ) / LOG_START_HZ) / LOG_STEP
    return np.asarray(np.minimum(frequency, LOG_START_HZ) / LINEAR_HZ_PER_MEL + above)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Frequency in Hz, the inverse of :func:`hz_to_mel`."""
    start = LOG_START_HZ / LINEAR_HZ_PER_MEL
    return np.asarray(np.minimum(mel, start) * LINEAR_HZ_PER_MEL * np.exp(LOG_STEP * np.maximum(mel - start, 0)))


def mel_edges(config: Frontend = FRONTEND) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower edge, centre and upper edge of each band in Hz, each shape=(n_mels,)."""
    ends = hz_to_mel(np.array([config.fmin, config.fmax]))
    edges = mel_to_hz(np.linspace(ends[0], ends[1], config.n_mels + 2))
    return edges[:-2], edges[1:-1], edges[2:]


def mel_filterbank(config: Frontend = FRONTEND) -> np.ndarray:
    """Triangular filters, equally spaced in mel, each of unit area in Hz.

    With the paper's sizes, band 0 is between two DFT bins and has no weights: its power is always ``amin``.

    Returns:
        float64, shape=(n_bins, n_mels)

    Source: arXiv:2408.13920, layer 2.
    """
    bins = np.linspace(0, config.sampling_rate / 2, config.n_bins)[:, None]
    low, centre, high = mel_edges(config)
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return np.asarray(np.maximum(triangles, 0) * 2 / (high - low))


def log_mel(signal: np.ndarray, config: Frontend = FRONTEND) -> np.ndarray:
    """Log-mel spectrogram, one row per frame, computed in float64.

    Args:
        signal: mono audio at ``config.sampling_rate``, float, shape=(samples,)
        config: window, hop and mel bands

    Returns:
        dB re unit power, float32, shape=(frames, n_mels), with ``config.num_frames(samples)`` frames

    Raises:
        AudioError: if there is less than one window of samples
    """
    return decibel(mel_power(signal, config), config)


def running_log_mel(signal: np.ndarray, level_frames: int, config: Frontend = FRONTEND) -> np.ndarray:
    """Log-mel of each frame relative to the running level; causal.

    The level is the power of all bands, averaged over the last ``level_frames`` frames, or over all frames so far if
    there are fewer.

    Args:
        signal: mono audio at ``config.sampling_rate``, float, shape=(samples,)
        level_frames: length of the running level, in frames
        config: window, hop and mel bands; ``variance_floor`` is added to the level

    Returns:
        dB re the level, float32, shape=(frames, n_mels)

    Raises:
        AudioError: if there is less than one window of samples
    """
    power = mel_power(signal, config)
    level = running_mean(power.sum(1), level_frames)
    return decibel(power / (level + config.variance_floor)[:, None], config)


def running_mean(values: np.ndarray, length: int) -> np.ndarray:
    """Mean of the last ``length`` values, or of all so far if there are fewer, shape=(values,)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - length, 0)
    return np.asarray((sums[1:] - sums[starts]) / (ends - starts))


def mel_power(signal: np.ndarray, config: Frontend = FRONTEND) -> np.ndarray:
    """Power in each mel band, float64, shape=(frames, n_mels)."""
    if len(signal) < config.win_length:
        raise AudioError(f"need at least {config.win_length} samples, got {len(signal)}: give a longer signal.")
    frames = np.lib.stride_tricks.sliding_window_view(signal, config.win_length)[:: config.hop_length]
    real, imag = dft_kernel(config)
    power = np.square(frames @ real.T) + np.square(frames @ imag.T)
    return np.asarray(power @ mel_filterbank(config))


def decibel(power: np.ndarray, config: Frontend = FRONTEND) -> np.ndarray:
    """Power, floored at ``config.amin``, in dB, float32."""
    return np.asarray(10 * np.log10(np.maximum(power, config.amin)), np.float32)
