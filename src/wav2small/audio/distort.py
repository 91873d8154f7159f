"""Distortions of single clips: noise, rooms, codecs, bands, level, speed, gaps and silence.

Training draws their parameters at random; ``robustness`` gives them fixed ones. Every function takes mono float32
audio at 16 kHz, shape=(samples,), and returns a new array. Random functions take a ``numpy.random.Generator``.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
import soxr

from wav2small.network.config import SAMPLING_RATE

PACKET_DUR = 0.02
"""Seconds of audio in one packet of voice over IP."""
CODEC_PEAK = 0.9
"""Of full scale: a clip has this peak while it is encoded, so that its level does not determine the loss."""
MP3_DELAY = 1105
"""Samples of encoder and decoder, which libsndfile leaves in files of frames too small for LAME's own header."""


def rms(signal: np.ndarray) -> float:
    """Root mean square, above 0."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)) + 1e-20))


def amplitude(level: float) -> float:
    """Amplitude factor of a level in dB."""
    return float(10 ** (level / 20))


def fitted(signal: np.ndarray, samples: int) -> np.ndarray:
    """The first ``samples`` samples, with zeros after the end of a shorter signal."""
    out = np.zeros(samples, np.float32)
    out[: len(signal)] = signal[:samples]
    return out


def fft_length(samples: int) -> int:
    """A power of two that is not below ``samples``, nor below 2: an FFT of any length may be ten times as slow."""
    return 1 << max(1, int(samples - 1).bit_length())


def add_noise(signal: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise of the same length at a signal-to-noise ratio of ``snr`` dB, both levels over the whole clip."""
    if not noise.any():
        return signal.copy()
    return (signal + noise * (rms(signal) / rms(noise) * amplitude(-snr))).astype(np.float32)


def coloured_noise(samples: int, rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise with power 1/f^slope (0 white, 1 pink, 2 brown) and unit variance, float32, shape=(samples,)."""
    spectrum = np.fft.rfft(rng.standard_normal(fft_length(samples)))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0)
    noise = np.fft.irfft(spectrum * frequency ** (-slope / 2))[:samples]
    return (noise / (float(np.std(noise)) or 1.0)).astype(np.float32)


def looped(sound: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch of a sound from a random place, repeated from its beginning where it ends, shape=(samples,)."""
    start = int(rng.integers(max(1, len(sound) - samples + 1)))
    return np.resize(sound[start : start + samples], samples)


def codec(
    signal: np.ndarray, container: str, subtype: str, sampling_rate: int = SAMPLING_RATE, **settings: Any
) -> np.ndarray:
    """Encode and decode with libsndfile; same length and place.

    Args:
        signal: audio
        container: such as ``MP3``, ``OGG`` or ``WAV``
        subtype: such as ``MPEG_LAYER_III``, ``OPUS`` or ``ULAW``
        sampling_rate: of the encoded audio, Hz
        settings: of ``soundfile.write``: ``compression_level`` (0 to 1), ``bitrate_mode``
    """
    scale = max(float(np.max(np.abs(signal))), 1e-9) / CODEC_PEAK
    memory, sent = io.BytesIO(), soxr.resample(signal / np.float32(scale), SAMPLING_RATE, sampling_rate)
    soundfile.write(memory, sent, sampling_rate, format=container, subtype=subtype, **settings)
    memory.seek(0)
    decoded = soundfile.read(memory, dtype="float32")[0]
    if container == "MP3" and len(decoded) > len(sent):
        decoded = decoded[MP3_DELAY:]
    received = soxr.resample(decoded, sampling_rate, SAMPLING_RATE)
    return fitted(received * np.float32(scale), len(signal))


def band_gains(frequency: Any, low: Any, high: Any) -> Any:
    """Gains of a band-pass, 1/2 at ``low`` and ``high`` Hz; -48 dB an octave below it, -96 dB above.

    The arguments are numbers, NumPy arrays or torch tensors that can be broadcast.
    """
    return 1 / (1 + (low / frequency) ** 8) / (1 + (frequency / high) ** 16)


def band_pass(signal: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pass ``low`` to ``high`` Hz, with the gains of ``band_gains`` and no delay."""
    size = fft_length(len(signal) + SAMPLING_RATE // 10)
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLING_RATE), 1.0)
    passed = np.fft.irfft(np.fft.rfft(signal, size) * band_gains(frequency, low, high))
    return passed[: len(signal)].astype(np.float32)


def reverberate(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve with the impulse response of a room; the end of the clip cuts the decay off."""
    size = fft_length(len(signal) + len(response) - 1)
    spectrum = np.fft.rfft(signal, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum)[: len(signal)].astype(np.float32)


def room_response(decay_dur: float, rng: np.random.Generator) -> np.ndarray:
    """Impulse response: a direct path of 1, then as much energy of noise that falls by 60 dB in ``decay_dur`` s."""
    time = np.arange(round(decay_dur * SAMPLING_RATE)) / SAMPLING_RATE
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_dur)
    response[0] = 0
    response /= np.sqrt(np.sum(response**2))
    response[0] = 1
    return response.astype(np.float32)


def speed(signal: np.ndarray, factor: float) -> np.ndarray:
    """Play ``factor`` times as fast, with the pitch that follows."""
    return np.asarray(soxr.resample(signal, SAMPLING_RATE * factor, SAMPLING_RATE))


def speed_part(signal: np.ndarray, factor: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """Play a random stretch, this share of the clip, ``factor`` times as fast."""
    length = round(share * len(signal))
    start = int(rng.integers(len(signal) - length + 1))
    before, part, after = np.split(signal, [start, start + length])
    return np.concatenate([before, speed(part, factor), after])


def fade(signal: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Fade in or out, by chance: the amplitude changes by this share in a second."""
    gains = (1 - share) ** (np.arange(len(signal)) / SAMPLING_RATE)
    return (signal * (gains if rng.random() < 0.5 else gains[::-1])).astype(np.float32)


def lose_packets(signal: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Set this share of the packets of ``PACKET_DUR`` to 0."""
    length, out = round(PACKET_DUR * SAMPLING_RATE), signal.copy()
    packets = -(-len(signal) // length)
    for number in rng.choice(packets, round(share * packets), replace=False):
        out[number * length : (number + 1) * length] = 0
    return out


def middle(signal: np.ndarray, duration: float) -> np.ndarray:
    """The middle of a clip, ``duration`` seconds; the whole of a shorter one."""
    samples = round(duration * SAMPLING_RATE)
    start = max(0, len(signal) - samples) // 2
    return signal[start : start + samples].copy()


def overdriven(signal: np.ndarray, level: float) -> np.ndarray:
    """Raise the peak to ``level`` dB above full scale, and clip at full scale."""
    peak = max(float(np.max(np.abs(signal))), 1e-9)
    return np.clip(signal * np.float32(amplitude(level) / peak), -1, 1)


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
    out = coloured_noise(before + len(signal) + after, rng, rng.uniform(0, 2)) * np.float32(floor)
    out[before : before + len(signal)] += signal
    return out
