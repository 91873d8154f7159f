"""The front end in integer arithmetic: 16-bit samples to the log-mel input of fixed_point.py.

The C runtime computes the same steps bit for bit: window, FFT of the real signal, mel power in 64 bits, and a
difference of logarithms in place of the division by the level. The level is the running level or that of the
utterance; the latter is given in advance or computed from the samples so far. docs/integers.md lists the formats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from wav2small.errors import AudioError
from wav2small.network import fixed_point
from wav2small.network.config import Network
from wav2small.network.fixed_point import LOG_MEL_BITS, Integers
from wav2small.network.frontend import hann, mel_filterbank

SAMPLE_BITS = 15
"""Fractional bits of a sample: 32768 is 1."""
HANN_BITS = 15
COSINE_BITS = 30
MEL_BITS = 20
"""Fractional bits of the mel filterbank. Its largest weight fits into 16 bits."""
LEVEL_SHIFT = 31
"""Right shift of a frame's power, so that the level can store it in 32 bits."""
FLOOR_BITS = 8
"""Fractional bits of the level's sum, for the floor added to each frame."""
MEAN_BITS = 12
"""Fractional bits of the utterance mean, in units of a sample."""
VARIANCE_BITS = 16
"""Fractional bits of the utterance variance, in units of a squared sample."""
LOG2_BITS = 16
LOG2_STEPS = 6
"""The logarithm is a table of 2^6 steps with linear interpolation."""
DECIBEL_BITS = 24
"""Fractional bits of the factor from log2 to dB."""


class Tables(NamedTuple):
    """Integer tables and constants, which C reads from the generated header."""

    hann: np.ndarray
    """First half of the window, shape=(win_length / 2 + 1,); the second half is symmetric."""
    cosine: np.ndarray
    """cos(2 pi i / n_fft), shape=(n_fft / 2 + 1,); the sine is the same table shifted by a quarter period."""
    mel: np.ndarray
    """Mel filterbank, shape=(n_bins, n_mels)."""
    log2: np.ndarray
    """log2(1 + i / 64), shape=(65,)."""
    power_shift: int
    """Right shift of a bin's power, so that the sum over a band fits into 64 bits."""
    window_shift: int
    """Right shift of a windowed sample, so that no sum of the FFT overflows 32 bits."""
    level_floor: int
    """``variance_floor``: added to the level's sum for each frame, or to the utterance variance."""
    log2_unit: int
    """log2 of the ratio of units: mel power over level."""
    decibel: int
    """10 log10(2), fixed-point with ``LOG_MEL_BITS`` + ``DECIBEL_BITS`` - ``LOG2_BITS`` fractional bits."""


class Level(NamedTuple):
    """Mean (``MEAN_BITS``) and variance (``VARIANCE_BITS``) of an utterance: scalars, or shape=(frames,)."""

    mean: np.ndarray
    variance: np.ndarray


def tables(network: Network) -> Tables:
    """The integer tables of a front end. A sample minus the mean needs one bit more than a sample."""
    frontend, is_running = network.frontend, network.normalisation == "running"
    window_bits = 30 - math.ceil(math.log2(frontend.win_length / 2)) - (not is_running)
    power_shift = math.ceil(math.log2(frontend.n_fft)) + 5
    unit = 2 * (window_bits + 1) + MEL_BITS - power_shift  # bits of a band's power; + 1 because the FFT doubles
    floor_bits = unit - LEVEL_SHIFT + FLOOR_BITS if is_running else 2 * SAMPLE_BITS + VARIANCE_BITS
    turns = np.cos(2 * np.pi * np.arange(frontend.n_fft // 2 + 1) / frontend.n_fft)
    return Tables(
        hann=nearest(hann(frontend)[: frontend.win_length // 2 + 1], HANN_BITS).clip(max=2**15 - 1),
        cosine=nearest(turns, COSINE_BITS),
        mel=nearest(mel_filterbank(frontend), MEL_BITS),
        log2=nearest(np.log2(1 + np.arange(2**LOG2_STEPS + 1) / 2**LOG2_STEPS), LOG2_BITS),
        power_shift=power_shift,
        window_shift=SAMPLE_BITS + HANN_BITS - window_bits,
        level_floor=int(nearest(frontend.variance_floor, floor_bits)),
        log2_unit=unit - floor_bits,
        decibel=int(nearest(10 * math.log10(2), LOG_MEL_BITS + DECIBEL_BITS - LOG2_BITS)),
    )


def nearest(values: np.ndarray | float, bits: int) -> np.ndarray:
    """Values as fixed-point integers with ``bits`` fractional bits, halves rounded up."""
    return np.asarray(np.floor(np.asarray(values, np.float64) * 2.0**bits + 0.5), np.int64)


def shifted(values: np.ndarray, places: int) -> np.ndarray:
    """Right shift by ``places`` bits, halves rounded up."""
    return np.asarray((values + (1 << (places - 1))) >> places)


def to_samples(signal: np.ndarray) -> np.ndarray:
    """Float audio as int16 samples: halves rounded up, clipped to the range, NaN to 0; in float32, as in C."""
    scaled = np.nan_to_num(np.asarray(signal, np.float32), nan=0.0) * np.float32(2**SAMPLE_BITS)
    whole = np.clip(np.floor(scaled + np.float32(0.5)), -(2**15), 2**15 - 1)
    return np.asarray(whole, np.int16)


def forward(
    samples: np.ndarray, arrays: Integers, network: Network, level: Level | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion of 16-bit samples, in the formats of :func:`fixed_point.forward`."""
    return fixed_point.forward(log_mel(samples, network, level), arrays, network)


def log_mel(samples: np.ndarray, network: Network, utterance: Level | None = None) -> np.ndarray:
    """Log-mel relative to the level, in dB with ``LOG_MEL_BITS`` fractional bits.

    Args:
        samples: mono audio at 16 kHz, int16, shape=(samples,)
        network: front end and length of the running level
        utterance: level of a network normalised over the utterance; None computes :func:`whole_level`

    Returns:
        int64 (values fit into 16 bits), shape=(frames, n_mels)

    Raises:
        AudioError: if there is less than one window of samples
    """
    table = tables(network)
    if network.normalisation == "running":
        power = mel_power(samples, table, network)
        sums, counts = level(power, table, network)
        log2_level = log2_of(sums, table) - log2_of(counts, table)
    else:
        mean, variance = whole_level(samples) if utterance is None else utterance
        power = mel_power(samples, table, network, mean)
        log2_level = log2_of(np.atleast_1d(variance) + table.level_floor, table)
    log2 = log2_of(np.maximum(power, 1), table) - log2_level[:, None]
    decibel = shifted((log2 - (table.log2_unit << LOG2_BITS)) * table.decibel, DECIBEL_BITS)
    return np.where(power > 0, np.maximum(decibel, lowest(network)), lowest(network))


def whole_level(samples: np.ndarray) -> Level:
    """Mean and variance of a whole signal, in the format of the C runtime."""
    return to_level(*mean_and_variance(samples))


def mean_and_variance(signal: np.ndarray) -> tuple[np.float32, np.float32]:
    """Mean and variance of a float signal, or of int16 samples divided by 32768."""
    signal = signal.astype(np.float64) / (2**SAMPLE_BITS if signal.dtype == np.int16 else 1)
    return np.float32(signal.mean()), np.float32(signal.var())


def to_level(mean: np.float32, variance: np.float32) -> Level:
    """A level from float mean and variance, truncated to the fixed-point formats."""
    mean, variance = np.clip(mean, -1, 1), np.clip(variance, 0, 1)
    units = np.float32(2.0 ** (SAMPLE_BITS + MEAN_BITS)), np.float32(2.0 ** (2 * SAMPLE_BITS + VARIANCE_BITS))
    return Level(*(np.array(int(part * unit), np.int64) for part, unit in zip((mean, variance), units, strict=True)))


def level_so_far(samples: np.ndarray, network: Network) -> Level:
    """The level of the samples up to the end of each frame, exact except for the last bit."""
    frontend = network.frontend
    ends = frontend.win_length + frontend.hop_length * np.arange(frontend.num_frames(len(samples)))
    numbers = samples.astype(np.int64)
    sums, squares = np.cumsum(numbers)[ends - 1], np.cumsum(numbers * numbers)[ends - 1]
    mean = (sums << MEAN_BITS) // ends
    square = (squares // ends << VARIANCE_BITS) + (squares % ends << VARIANCE_BITS) // ends
    return Level(mean, np.maximum(square - (mean * mean >> 2 * MEAN_BITS - VARIANCE_BITS), 0))


def lowest(network: Network) -> int:
    """``amin`` in dB, with ``LOG_MEL_BITS`` fractional bits."""
    return int(nearest(10 * math.log10(network.frontend.amin), LOG_MEL_BITS))


def mel_power(samples: np.ndarray, table: Tables, network: Network, mean: np.ndarray | int = 0) -> np.ndarray:
    """Power in each mel band, shape=(frames, n_mels), after subtracting ``mean`` (a scalar, or one per frame)."""
    frontend = network.frontend
    if len(samples) < frontend.win_length:
        raise AudioError(f"need at least {frontend.win_length} samples, got {len(samples)}: give a longer signal.")
    assert samples.dtype == np.int16
    window = np.concatenate([table.hann, table.hann[-2:0:-1]])
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.int64), frontend.win_length)
    frames = frames[:: frontend.hop_length]
    centred = (frames << MEAN_BITS) - np.reshape(mean, (-1, 1))
    real, imag = real_fft(shifted(centred * window, table.window_shift + MEAN_BITS), table, frontend.n_fft)
    return np.asarray(((real * real + imag * imag) >> table.power_shift) @ table.mel)


def level(power: np.ndarray, table: Tables, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the power of the last frames, floor included, and their number; each shape=(frames,)."""
    frames = shifted(power.sum(1), LEVEL_SHIFT)
    ends = np.arange(1, len(frames) + 1)
    counts = np.minimum(ends, network.level_frames)
    sums = np.cumsum(np.concatenate([[0], frames]))
    return ((sums[ends] - sums[ends - counts]) << FLOOR_BITS) + counts * table.level_floor, counts


def real_fft(windowed: np.ndarray, table: Tables, n_fft: int) -> tuple[np.ndarray, np.ndarray]:
    """The DFT of real signals, times two.

    A complex FFT of half the length transforms the even samples (real part) and the odd samples (imaginary part). The
    two spectra are then separated by their symmetry.

    Args:
        windowed: shape=(frames, win_length), zero-padded here to ``n_fft``
        table: cosines
        n_fft: points of the DFT

    Returns:
        real and imaginary parts of twice the bins 0 to n_fft / 2, each shape=(frames, n_fft / 2 + 1)
    """
    padded = np.pad(windowed, ((0, 0), (0, n_fft - windowed.shape[1])))
    real, imag = complex_fft(padded[:, ::2], padded[:, 1::2], table, n_fft)
    bins = np.arange(n_fft // 2 + 1)
    here, there = bins % (n_fft // 2), -bins % (n_fft // 2)
    even_real, even_imag = real[:, here] + real[:, there], imag[:, here] - imag[:, there]
    odd_real, odd_imag = imag[:, here] + imag[:, there], real[:, there] - real[:, here]
    turned_real, turned_imag = turn(odd_real, odd_imag, bins, table)
    return even_real + turned_real, even_imag + turned_imag


def complex_fft(real: np.ndarray, imag: np.ndarray, table: Tables, n_fft: int) -> tuple[np.ndarray, np.ndarray]:
    """Radix-2 FFT of n_fft / 2 points, in 32 bits, without scaling between the stages."""
    length = real.shape[1]
    order = bit_reversed(length)
    real, imag = real[:, order].astype(np.int64), imag[:, order].astype(np.int64)
    size = 2
    while size <= length:
        blocks = [part.reshape(len(part), -1, 2, size // 2) for part in (real, imag)]
        steps = np.arange(size // 2) * (n_fft // size)
        turned = turn(blocks[0][:, :, 1], blocks[1][:, :, 1], steps, table)
        real, imag = (
            np.stack([block[:, :, 0] + part, block[:, :, 0] - part], 2).reshape(len(block), length)
            for block, part in zip(blocks, turned, strict=True)
        )
        size *= 2
    return real, imag


def turn(real: np.ndarray, imag: np.ndarray, steps: np.ndarray, table: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Multiply by the twiddle factor exp(-2 pi i steps / n_fft): products and sum in 64 bits, then one shift."""
    cosine, sine = table.cosine[steps], table.cosine[np.abs(steps - len(table.cosine) // 2)]
    return shifted(real * cosine + imag * sine, COSINE_BITS), shifted(imag * cosine - real * sine, COSINE_BITS)


def bit_reversed(length: int) -> np.ndarray:
    """The bit-reversed order of 0 to length - 1, the input order of an in-place FFT."""
    order = np.zeros(1, np.int64)
    while len(order) < length:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def log2_of(values: np.ndarray, table: Tables) -> np.ndarray:
    """log2 of integers from 1 to 2^63 - 1, with ``LOG2_BITS``: the highest bit, and the table for the mantissa."""
    exponent, rest = np.zeros_like(values), values
    for places in (32, 16, 8, 4, 2, 1):
        high = rest >> places > 0
        exponent, rest = exponent + places * high, np.where(high, rest >> places, rest)
    mantissa = values << (62 - exponent)
    index, between = (mantissa >> (62 - LOG2_STEPS)) & (2**LOG2_STEPS - 1), (mantissa >> (46 - LOG2_STEPS)) & 0xFFFF
    slope = table.log2[index + 1] - table.log2[index]
    return np.asarray((exponent << LOG2_BITS) + table.log2[index] + shifted(slope * between, 16))
