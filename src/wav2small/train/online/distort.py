"""Distortion of batches: equaliser, band limit, room, telephone, noise, music, babble, level.

The ranges are ours; they cover a telephone, a living room and a poor microphone. All functions take signals
(batch, samples) and return new ones.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from wav2small.audio.distort import band_gains, codec
from wav2small.network.config import SAMPLING_RATE
from wav2small.train.online.compose import add, decibel, fast_length, rms
from wav2small.train.online.draw import Draw
from wav2small.train.online.pool import Pool

ROOM_LENGTH = 12800
"""Number of samples of an impulse response."""
MU, TELEPHONE_BAND = 255.0, 3400.0
"""Constant of the mu law, and upper limit of the band in Hz."""

CODED = 0.05
"""Share of clips that are encoded with MP3 or Opus."""


class Distortion:
    """Random distortion of a student's input.

    Args:
        noise: recorded sounds and music; None adds none
        rooms: room impulse responses; None uses decaying noise only
        clean: share of clips without distortion
    """

    def __init__(self, noise: Pool | None, rooms: Pool | None, clean: float = 0.25) -> None:
        self.noise, self.rooms, self.clean = noise, rooms, clean

    def __call__(self, signal: Tensor, draw: Draw) -> Tensor:
        """Distort signals of any level, (batch, samples); the result has -45 to -12 dB re full scale."""
        changed = self.add_noise(self.channel(signal, draw), draw)
        kept = draw.uniform(len(signal), 1) < self.clean
        return levelled(torch.where(kept, signal, changed), draw, -45, -12)

    def channel(self, signal: Tensor, draw: Draw) -> Tensor:
        """Apply equaliser, band limit and room in the frequency domain, then a telephone to a tenth of the rows."""
        count, samples = signal.shape
        size = fast_length(samples + ROOM_LENGTH)
        frequency = torch.linspace(0, SAMPLING_RATE / 2, size // 2 + 1, device=signal.device)
        spectrum = torch.fft.rfft(signal, size)
        for share, response in (
            (0.6, lambda rows: equaliser(frequency, draw, rows)),
            (0.2, lambda rows: band(frequency, draw, rows)),
            (0.4, lambda rows: torch.fft.rfft(self.room(draw, rows), size)),
        ):
            rows = draw.rows(count, share)
            if len(rows):
                spectrum[rows] *= response(len(rows))
        out: Tensor = torch.fft.irfft(spectrum, size)[:, :samples]
        called = draw.rows(count, 0.1)
        if len(called):
            out[called] = telephone(out[called])
        for row in draw.rows(count, CODED) if out.device.type == "cpu" else ():  # codecs run only on the CPU
            out[row] = torch.from_numpy(coded(out[row].numpy(), draw.rng))
        return out

    def room(self, draw: Draw, count: int) -> Tensor:
        """Impulse responses, shape=(count, ROOM_LENGTH): recorded, or a direct path followed by decaying noise."""
        if self.rooms and draw.rng.random() < 0.5:
            clip = self.rooms.clips(draw, self.rooms.corpora(draw, count))
            response = self.rooms.cut(clip, torch.zeros_like(clip), ROOM_LENGTH)
            energy: Tensor = response.square().sum(1, keepdim=True)
            response = response / energy.sqrt().clamp_min(1e-6)
            return response
        time = torch.arange(ROOM_LENGTH, device=draw.device) / SAMPLING_RATE
        decay = draw.uniform(count, 1, low=0.1, high=0.8)
        response = draw.normal(count, ROOM_LENGTH) * decibel(-60 * time / decay) * (time < decay)
        response *= draw.uniform(count, 1, low=0.1, high=0.7) / response.square().sum(1, keepdim=True).sqrt()
        response[:, 0] += 1
        return response

    def add_noise(self, signal: Tensor, draw: Draw) -> Tensor:
        """Add coloured noise to 35 % of the rows, recorded sound or music to 20 %, babble to 15 %."""
        out, count, samples = signal.clone(), *signal.shape
        rows = draw.rows(count, 0.35)
        if len(rows):
            out[rows] = add(out[rows], coloured(draw, len(rows), samples), draw.uniform(len(rows), 1, low=5, high=40))
        rows = draw.rows(count, 0.2) if self.noise else rows[:0]
        if self.noise and len(rows):
            clip = self.noise.clips(draw, self.noise.corpora(draw, len(rows)))
            offset = draw.below((self.noise.length[clip] - samples).clamp_min(1))
            sound = self.noise.cut(clip, offset, samples)
            out[rows] = add(out[rows], sound + 1e-5, draw.uniform(len(rows), 1, low=0, high=30))
        rows = draw.rows(count, 0.15)
        if len(rows):
            babble = sum(signal.roll(turn, 0)[rows].flip(1) for turn in draw.rng.integers(1, max(2, count), 3))
            out[rows] = add(out[rows], torch.as_tensor(babble), draw.uniform(len(rows), 1, low=5, high=25))
        return out


def equaliser(frequency: Tensor, draw: Draw, count: int, depth: float = 9.0) -> Tensor:
    """Gains of a smooth random equaliser of up to ``depth`` dB, shape=(count, frequencies)."""
    knots = torch.logspace(math.log10(60), math.log10(SAMPLING_RATE / 2), 7, device=frequency.device).log()
    gains = draw.uniform(count, 7, low=-depth, high=depth)
    place = frequency.clamp_min(60).log()
    right = torch.searchsorted(knots, place).clamp(1, 6)
    share = ((place - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    return decibel(gains[:, right - 1].lerp(gains[:, right], share))


def band(frequency: Tensor, draw: Draw, count: int) -> Tensor:
    """Gains of a band-pass from 50..400 Hz to 2,800..7,000 Hz, shape=(count, frequencies)."""
    low, high = draw.uniform(count, 1, low=50, high=400), draw.uniform(count, 1, low=2800, high=7000)
    gains: Tensor = band_gains(frequency.clamp_min(1), low, high)
    return gains


def coded(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip after MP3 or Opus at a random quality, shape=(samples,)."""
    container, subtype = [("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS")][rng.integers(2)]
    return codec(signal, container, subtype, compression_level=float(rng.uniform(0.5, 0.95)))


def telephone(signal: Tensor) -> Tensor:
    """Simulate a telephone: low-pass at 3,400 Hz and 8-bit mu law at 8 kHz."""
    samples = signal.shape[1]
    passed = int(samples * TELEPHONE_BAND / SAMPLING_RATE) + 1
    narrow = torch.fft.irfft(torch.fft.rfft(signal)[:, :passed], samples // 2)
    peak = narrow.abs().amax(1, keepdim=True).clamp_min(1e-9)
    level = torch.log1p(MU * (narrow / peak).abs()) / math.log1p(MU)
    stepped = torch.round(level * 127) / 127
    coded = torch.sign(narrow) * torch.expm1(stepped * math.log1p(MU)) / MU * peak
    wide: Tensor = torch.fft.irfft(torch.fft.rfft(coded)[:, :passed], samples)
    return wide


def coloured(draw: Draw, count: int, samples: int) -> Tensor:
    """Noise with power 1/f^a, a random from 0 (white) to 2 (brown), shape=(count, samples)."""
    spectrum = torch.fft.rfft(draw.normal(count, samples))
    frequency = torch.arange(spectrum.shape[1], device=draw.device).clamp_min(1)
    noise: Tensor = torch.fft.irfft(spectrum * frequency ** -draw.uniform(count, 1), samples)
    return noise


def levelled(signal: Tensor, draw: Draw, low: float, high: float) -> Tensor:
    """Scale to a random RMS from ``low`` to ``high`` dB re full scale, clipped to [-1, 1]."""
    level = draw.uniform(len(signal), 1, low=low, high=high)
    return (signal / rms(signal) * decibel(level)).clamp(-1, 1)
