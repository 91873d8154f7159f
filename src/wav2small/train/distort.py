"""Signals made harder: speed, equaliser, reverberation, codec, noise, babble, mixtures, silence, level.

Every function takes mono float32 audio, shape=(samples,), and a ``numpy.random.Generator`` where it draws, and
returns a new array. The ranges are ours: wide enough for a telephone, a living room and a bad microphone.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr

from wav2small.network.config import SAMPLING_RATE


def speed(signal: np.ndarray, factor: float) -> np.ndarray:
    """Play ``factor`` times as fast: pitch, formants and tempo together."""
    played: np.ndarray = soxr.resample(signal, SAMPLING_RATE * factor, SAMPLING_RATE, quality="MQ")
    return played.astype(np.float32)


def equalise(signal: np.ndarray, rng: np.random.Generator, depth: float = 9.0) -> np.ndarray:
    """A smooth random curve over frequency, up to ``depth`` dB at seven points from 0 to 8 kHz."""
    spectrum = np.fft.rfft(signal)
    knots = np.geomspace(60, SAMPLING_RATE / 2, 7)
    frequency = np.linspace(0, SAMPLING_RATE / 2, len(spectrum))
    curve = np.interp(np.log(frequency + 1), np.log(knots + 1), rng.uniform(-depth, depth, len(knots)))
    return np.fft.irfft(spectrum * 10 ** (curve / 20), len(signal)).astype(np.float32)


def band_limit(signal: np.ndarray, low: float, high: float) -> np.ndarray:
    """Nothing below ``low`` and above ``high`` Hz, with soft edges: a telephone, a cheap speaker."""
    spectrum = np.fft.rfft(signal)
    frequency = np.linspace(0, SAMPLING_RATE / 2, len(spectrum))
    keep = 1 / (1 + (low / np.maximum(frequency, 1.0)) ** 8) / (1 + (frequency / high) ** 16)
    return np.fft.irfft(spectrum * keep, len(signal)).astype(np.float32)


def reverberate(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convolve with decaying noise behind a direct path: decay to -60 dB in 0.1 to 0.8 s."""
    decay_dur = rng.uniform(0.1, 0.8)
    time = np.arange(int(decay_dur * SAMPLING_RATE)) / SAMPLING_RATE
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_dur)
    response *= rng.uniform(0.1, 0.7) / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    size = len(signal) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(response, size), size)
    return wet[: len(signal)].astype(np.float32)


def codec(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a lossy codec and back: MP3 or Opus by libsndfile at a random quality."""
    container, subtype = [("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS")][rng.integers(2)]
    peak = max(float(np.max(np.abs(signal))), 1e-9)
    memory = io.BytesIO()
    level = float(rng.uniform(0.5, 0.95))
    soundfile.write(
        memory, signal / peak * 0.9, SAMPLING_RATE, format=container, subtype=subtype, compression_level=level
    )
    memory.seek(0)
    decoded = soundfile.read(memory, dtype="float32")[0]
    return np.resize(decoded * np.float32(peak / 0.9), len(signal))


def coloured_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls as 1/f^a, a between 0 (white) and 2 (brown), of unit variance if it has two samples."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0)
    noise = np.fft.irfft(spectrum * frequency ** (-rng.uniform(0, 2) / 2), samples)
    return (noise / (float(np.std(noise)) or 1.0)).astype(np.float32)


def add(signal: np.ndarray, other: np.ndarray, snr: float) -> np.ndarray:
    """Add ``other`` so that ``signal`` is ``snr`` dB louder than it."""
    power, other_power = np.mean(signal**2), np.mean(other**2)
    if power == 0 or other_power == 0:
        return signal.copy()
    gain = np.sqrt(power / other_power) * 10 ** (-snr / 20)
    mixture: np.ndarray = signal + gain * other
    return mixture.astype(np.float32)


def trim(signal: np.ndarray, depth: float = 40.0) -> np.ndarray:
    """Without what is more than ``depth`` dB below the loudest 20 ms at both ends, 0.1 s of it kept."""
    length = SAMPLING_RATE // 50
    frames = len(signal) // length
    if frames < 3:
        return signal.copy()
    power = (signal[: frames * length].reshape(frames, length) ** 2).mean(1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (-depth / 10))
    return signal[max(0, loud[0] - 5) * length : (loud[-1] + 6) * length].copy()


def surround(signal: np.ndarray, before: int, after: int, rng: np.random.Generator) -> np.ndarray:
    """Add samples of near silence at both ends: a floor of noise 45 to 80 dB below the signal."""
    floor = float(np.sqrt(np.mean(signal**2))) * 10 ** (-rng.uniform(45, 80) / 20)
    out = coloured_noise(before + len(signal) + after, rng) * np.float32(floor)
    out[before : before + len(signal)] += signal
    return out


def level(signal: np.ndarray, decibel: float) -> np.ndarray:
    """Bring the RMS to ``decibel`` dB re full scale; what passes full scale is clipped, as a recorder would."""
    rms = float(np.sqrt(np.mean(signal**2)))
    if rms == 0:
        return signal.copy()
    return np.clip(signal * np.float32(10 ** (decibel / 20) / rms), -1, 1)


def distort(signal: np.ndarray, rng: np.random.Generator, other: Callable[[], np.ndarray]) -> np.ndarray:
    """A random chain of what happens to speech on its way: room, equaliser, band limit, noise, babble, codec.

    Args:
        signal: mono float32 at 16 kHz, shape=(samples,)
        rng: draws what happens and how strongly
        other: gives another clip, for babble
    """
    if rng.random() < 0.35:
        signal = reverberate(signal, rng)
    if rng.random() < 0.6:
        signal = equalise(signal, rng)
    if rng.random() < 0.2:
        signal = band_limit(signal, rng.uniform(50, 400), rng.uniform(2800, 7000))
    if rng.random() < 0.4:
        signal = add(signal, coloured_noise(len(signal), rng), rng.uniform(5, 35))
    if rng.random() < 0.15:
        signal = add(signal, np.resize(other(), len(signal)), rng.uniform(8, 25))
    if rng.random() < 0.15:
        signal = codec(signal, rng)
    return signal


def random_speed(signal: np.ndarray, rng: np.random.Generator, most: float = 1.25) -> np.ndarray:
    """Slower or faster by up to ``most`` times, seven times in ten."""
    if rng.random() < 0.7:
        return speed(signal, float(np.exp(rng.uniform(-np.log(most), np.log(most)))))
    return signal.copy()
