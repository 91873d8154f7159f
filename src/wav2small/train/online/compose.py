"""Compose batches of new clips from recorded ones: cutting, speed change, mixing, joining, modulation, stretching.

The teacher labels the composed clip, so mixtures are mixup as in the paper, without interpolated labels. All functions
take signals (batch, samples) on any device and return new tensors.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from wav2small.network.config import SAMPLING_RATE
from wav2small.train.config import Composition
from wav2small.train.online.draw import Draw
from wav2small.train.online.pool import Pool

BLOCK = 8
"""Rows that are processed together: they have the same speed, and their spectra fit into the cache of a processor."""
N_FFT, HOP = 512, 128
"""Window and hop of the phase vocoder, in samples."""


def compose(pool: Pool, corpus: Tensor, samples: int, draw: Draw, config: Composition) -> Tensor:
    """Compose new clips, each with RMS 1.

    Args:
        pool: clips to compose from
        corpus: number of the corpus of the main piece of each clip, shape=(batch,)
        samples: length of each clip
        draw: random numbers
        config: probabilities and ranges

    Returns:
        audio at 16 kHz, shape=(batch, samples)

    Source: arXiv:2408.13920 for mixup; the other operations are ours.
    """
    rate = math.exp(draw.rng.uniform(-1, 1) * math.log(config.stretch)) if draw.rng.random() < config.stretched else 1.0
    longer = max(samples, math.ceil(samples * rate / HOP + 1) * HOP)
    signal = _mixtures(pool, corpus, longer, draw, config)
    if rate != 1.0:
        half = len(signal) // 2
        changed = torch.cat([stretch(rows, rate) for rows in torch.split(signal[:half], BLOCK)])[:, :samples]
        changed = functional.pad(changed, (0, samples - changed.shape[1]))
        signal = torch.cat([changed, signal[half:, :samples]])
    signal = modulate(signal[:, :samples], draw, config.modulated, config.modulation)
    floor = draw.normal(*signal.shape) * rms(signal) * decibel(-draw.uniform(len(signal), 1, low=45, high=80))
    signal = signal + floor
    return signal / rms(signal)


def _mixtures(pool: Pool, corpus: Tensor, samples: int, draw: Draw, config: Composition) -> Tensor:
    signal = pieces(pool, corpus, samples, draw, config.fastest)
    kind = draw.uniform(len(corpus))
    mixed = torch.nonzero(kind < config.mixture)[:, 0]
    if len(mixed):
        foreign = pool.corpora(draw, len(mixed))
        other = torch.where(draw.uniform(len(mixed)) < 0.5, corpus[mixed], foreign)
        added = pieces(pool, other, samples, draw, config.fastest)
        signal[mixed] = add(signal[mixed], added, draw.uniform(len(mixed), 1, low=-3, high=12))
    joined = torch.nonzero((kind >= config.mixture) & (kind < config.mixture + config.joined))[:, 0]
    if len(joined):
        half = samples // 2
        parts = [pieces(pool, corpus[joined], n, draw, config.fastest) for n in (half, samples - half)]
        gains = [decibel(draw.uniform(len(joined), 1, low=-4, high=4)) / rms(part) for part in parts]
        signal[joined] = torch.cat([part * gain for part, gain in zip(parts, gains, strict=True)], 1)
    return signal


def pieces(pool: Pool, corpus: Tensor, samples: int, draw: Draw, fastest: float) -> Tensor:
    """A random piece of a clip of each corpus, with a speed factor up to ``fastest``, shape=(batch, samples)."""
    clip = pool.clips(draw, corpus)
    out = torch.empty(len(corpus), samples, device=draw.device)
    for first in range(0, len(corpus), BLOCK):
        rows = clip[first : first + BLOCK]
        rate = math.exp(draw.rng.uniform(-1, 1) * math.log(fastest)) if draw.rng.random() < 0.8 else 1.0
        before = fast_length(samples * rate)
        slack = before - pool.length[rows]
        offset = -(draw.uniform(len(rows)) * slack).long()  # inside the clip if it is longer, else the clip inside
        out[first : first + BLOCK] = resample(pool.cut(rows, offset, before), samples)
    return out


@lru_cache
def fast_length(samples: float) -> int:
    """The nearest length of fast Fourier transforms: at least 1, without prime factors above 5."""
    return min(_fast_lengths(2 * max(1, math.ceil(samples))), key=lambda length: abs(length - samples))


def _fast_lengths(limit: int) -> list[int]:
    lengths = [1]
    for prime in (2, 3, 5):
        for length in lengths:
            if length * prime <= limit:
                lengths.append(length * prime)
    return lengths


def resample(signal: Tensor, samples: int) -> Tensor:
    """Resample to ``samples`` samples without aliasing: (batch, any) -> (batch, samples)."""
    if signal.shape[1] == samples:
        return signal
    spectrum = torch.fft.rfft(signal)[:, : samples // 2 + 1]
    played: Tensor = torch.fft.irfft(spectrum, samples)
    return played * (samples / signal.shape[1])


def stretch(signal: Tensor, rate: float) -> Tensor:
    """Time-stretch by a phase vocoder: ``rate`` times as fast at the same pitch.

    Source: Flanagan and Golden 1966; implementation after Ellis 2002, pvoc.m.
    """
    window = torch.hann_window(N_FFT, device=signal.device)
    spectrum = torch.stft(signal, N_FFT, HOP, window=window, return_complex=True).mT  # (batch, frames, bins)
    magnitude = spectrum.abs()
    phase = spectrum.sgn() + (magnitude == 0)  # unit complex numbers, as all phases here
    time = torch.arange(0, spectrum.shape[1] - 1, rate, device=signal.device)
    frame, share = time.long(), (time % 1)[:, None]
    turns = phase[:, 1:] * phase[:, :-1].conj()
    phases = torch.cat([phase[:, :1], turns[:, frame[:-1]]], 1).cumprod(1)
    played = magnitude[:, frame].lerp(magnitude[:, frame + 1], share) * phases
    return torch.istft(played.mT, N_FFT, HOP, window=window)


def modulate(signal: Tensor, draw: Draw, share: float, depth: float) -> Tensor:
    """Apply a slow random gain of up to ``depth`` dB to a share of the rows."""
    knots = draw.uniform(len(signal), 1, 9, low=-depth, high=depth) * (draw.uniform(len(signal), 1, 1) < share)
    curve = functional.interpolate(knots, signal.shape[1], mode="linear", align_corners=True)[:, 0]
    return signal * decibel(curve)


def rms(signal: Tensor) -> Tensor:
    """Root mean square of each row, above 0, shape=(batch, 1)."""
    return signal.square().mean(1, keepdim=True).add(1e-12).sqrt()


def decibel(level: Tensor) -> Tensor:
    """Amplitude factor of a level in dB."""
    return torch.exp(level * (math.log(10) / 20))


def add(signal: Tensor, other: Tensor, snr: Tensor) -> Tensor:
    """Add ``other`` at a signal-to-noise ratio of ``snr`` dB, shape=(batch, 1)."""
    return signal + other * (rms(signal) / rms(other) * decibel(-snr))


def durations(config: Composition) -> list[int]:
    """Possible lengths of clips, in samples."""
    return [round(duration * SAMPLING_RATE) for duration in config.durations]
