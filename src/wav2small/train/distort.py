"""Distortions of single clips: trimming, silence around the clip, and lossy codecs.

Every function takes mono float32 audio at 16 kHz, shape=(samples,), and returns a new array. Random functions take a
``numpy.random.Generator``.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

from wav2small.network.config import SAMPLING_RATE


def codec(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Encode and decode with MP3 or Opus (libsndfile) at a random quality; same length."""
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
    """Noise with power 1/f^a, a random from 0 (white) to 2 (brown), and unit variance, float32, shape=(samples,)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0)
    noise = np.fft.irfft(spectrum * frequency ** (-rng.uniform(0, 2) / 2), samples)
    return (noise / (float(np.std(noise)) or 1.0)).astype(np.float32)


def trim(signal: np.ndarray, depth: float = 40.0) -> np.ndarray:
    """Remove both ends where the level is more than ``depth`` dB below the loudest 20 ms; 0.1 s of each end is kept."""
    length = SAMPLING_RATE // 50
    frames = len(signal) // length
    if frames < 3:
        return signal.copy()
    power = (signal[: frames * length].reshape(frames, length) ** 2).mean(1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (-depth / 10))
    return signal[max(0, loud[0] - 5) * length : (loud[-1] + 6) * length].copy()


def surround(signal: np.ndarray, before: int, after: int, rng: np.random.Generator) -> np.ndarray:
    """Add ``before`` and ``after`` samples of near silence: a noise floor 45 to 80 dB below the signal."""
    floor = float(np.sqrt(np.mean(signal**2))) * 10 ** (-rng.uniform(45, 80) / 20)
    out = coloured_noise(before + len(signal) + after, rng) * np.float32(floor)
    out[before : before + len(signal)] += signal
    return out
