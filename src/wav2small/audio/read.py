"""Audio of any file or array as the package needs it: mono, float32, 16 kHz, whole or in blocks."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr

from wav2small.audio import ffmpeg
from wav2small.audio.decode import SUFFIXES, Recording, Source, opened
from wav2small.errors import AudioError
from wav2small.network.config import SAMPLING_RATE

MIN_SAMPLING_RATE = 1000
"""Hz; a header with less is wrong, and resampling would make the signal very long."""
MAX_CHANNELS = 256
"""An array with more has its axes exchanged."""
MAX_VALUE = 2.0**32
"""Largest float sample read; above it the power of a frame leaves float32."""
MIN_LENGTH = 64
"""Samples at 16 kHz of the shortest signal that is processed: one window of the paper's front end."""
FRAME_LENGTH = SAMPLING_RATE * 32 // 1000
SPEECH_LEVEL = -60.0
"""dB re full scale; real speech recorded far too quietly (RMS .002, -54 dB) is above it, an idle microphone below."""

log = logging.getLogger(__name__)
"""Python prints warnings of it to standard error if nothing else is set up."""


def read(source: Source, channel: int | None = None) -> np.ndarray:
    """The whole of a file.

    Args:
        source: path, or binary file object
        channel: which channel to take, from 0; all are mixed down by their mean if None

    Returns:
        signal at 16 kHz, float32, shape=(samples,)

    Raises:
        AudioError: if it is missing, empty, undecodable, damaged, truncated, without samples, or not finite

    Examples:
        >>> from wav2small.audio.read import read
        >>> signal = read("examples/10b10Wa.flac")
        >>> signal.shape, signal.dtype
        ((42339,), dtype('float32'))
    """
    return read_with_duration(source, channel)[0]


def read_with_duration(source: Source, channel: int | None = None) -> tuple[np.ndarray, float | None]:
    """The same as ``read``, and the seconds that the header of the file states; None if it states none."""
    with opened(source) as recording:
        return np.concatenate(list(_resampled(recording, channel))), _stated_duration(recording)


def prepare(signal: np.ndarray, sampling_rate: float, channel: int | None = None) -> np.ndarray:
    """The same as ``read``, from an array, which stays as it is.

    Args:
        signal: float in [-1, 1], or integers, which are divided by their full scale,
            shape=(samples,) or (samples, channels)
        sampling_rate: of ``signal``, Hz
        channel: which channel to take, from 0; all are mixed down by their mean if None

    Returns:
        signal at 16 kHz, float32, shape=(samples,)

    Raises:
        AudioError: if it has another shape or type, no samples, or samples that are not finite

    Examples:
        >>> from wav2small.audio.read import prepare
        >>> prepare(np.zeros((44100, 2), np.int16), sampling_rate=44100).shape
        (16000,)
    """
    signal = np.asarray(signal)
    if signal.ndim == 2 and signal.shape[1] > signal.shape[0] > 0:
        raise AudioError(f"an array of shape {signal.shape} is not a signal; give (samples,) or (samples, channels)")
    if signal.size == 0:
        raise AudioError(f"an array of shape {signal.shape} holds no samples")
    mono = to_mono(signal, sampling_rate, channel)
    if sampling_rate == SAMPLING_RATE:
        return mono
    return np.asarray(soxr.resample(mono, sampling_rate, SAMPLING_RATE))


def to_mono(signal: np.ndarray, sampling_rate: float, channel: int | None = None, position: int = 0) -> np.ndarray:
    """A chunk of a signal, checked, at its own rate: a new array, float32, shape=(samples,).

    Args:
        signal: as in ``prepare``, or no samples at all
        sampling_rate: of ``signal``, Hz
        channel: as in ``prepare``
        position: samples that came before it, for what is said about a sample that is not finite

    Raises:
        AudioError: as ``prepare``
    """
    if signal.ndim not in (1, 2) or (signal.ndim == 2 and not 0 < signal.shape[1] <= MAX_CHANNELS):
        raise AudioError(f"an array of shape {signal.shape} is not a signal; give (samples,) or (samples, channels)")
    _check_rate("", sampling_rate)
    columns = signal if signal.ndim == 2 else signal[:, None]
    mono = _mono("", _scaled(columns), channel)
    _check_finite("", mono, position, sampling_rate)
    return mono


def duration(source: Source) -> float | None:
    """Seconds of audio by the header of a file; None where the header does not say."""
    with opened(source) as recording:
        return _stated_duration(recording)


def blocks(source: Source, channel: int | None = None) -> Iterator[np.ndarray]:
    """A file piece by piece, decoded as it is asked for: memory does not grow with its length.

    Args:
        source: path, or binary file object
        channel: as in ``read``

    Yields:
        the next samples at 16 kHz, float32, shape=(samples,), of any length

    Raises:
        AudioError: as in ``read``, when the damage is reached

    Examples:
        >>> from wav2small.audio.read import blocks
        >>> sum(len(block) for block in blocks("examples/10b10Wa.flac"))
        42339
    """
    with opened(source) as recording:
        yield from _resampled(recording, channel)


def _resampled(recording: Recording, channel: int | None) -> Iterator[np.ndarray]:
    prefix, sampling_rate = recording.prefix, recording.sampling_rate
    _check_rate(prefix, sampling_rate)
    resampler = soxr.ResampleStream(sampling_rate, SAMPLING_RATE, 1, dtype="float32")
    position, samples = 0, 0
    for block in recording.blocks:
        mono = _mono(prefix, block, channel)
        _check_finite(prefix, mono, position, sampling_rate)
        resampled = np.asarray(resampler.resample_chunk(mono))
        position, samples = position + len(block), samples + len(resampled)
        yield resampled
    rest = np.asarray(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    if samples + len(rest) == 0:
        raise AudioError(f"{prefix}{position} samples at {sampling_rate} Hz are too short for any answer")
    yield rest


def _stated_duration(recording: Recording) -> float | None:
    return None if recording.frames is None else recording.frames / recording.sampling_rate


def is_speech(signal: np.ndarray) -> bool:
    """Whether a signal is more than silence, by its level.

    The loudest tenth of the 32 ms frames, the mean of each taken off, has a mean level of -60 dB re full scale or
    more. It separates sound from silence, not speech from noise.

    Args:
        signal: mono audio at 16 kHz, float in [-1, 1], shape=(samples,)
    """
    if len(signal) == 0:
        return False
    length = min(FRAME_LENGTH, len(signal))
    frames = signal[: len(signal) // length * length].reshape(-1, length)
    return loud_power(frame_power(frames)) > 0


def frame_power(frames: np.ndarray) -> np.ndarray:
    """Power of each frame around its own mean, shape=(frames, samples) to (frames,), in float64."""
    return np.asarray(frames.var(axis=1, dtype=np.float64))


def loud_power(powers: np.ndarray) -> float:
    """Mean power of the loudest tenth of the frames, one at least; 0 where that is below ``SPEECH_LEVEL``."""
    loud = float(np.sort(powers)[-max(1, len(powers) // 10) :].mean())
    return loud if loud >= 10 ** (SPEECH_LEVEL / 10) else 0.0


def find_files(paths: Iterable[str | Path]) -> list[str]:
    """Files that paths name: folders searched for audio, patterns expanded, each file once, sorted within a path.

    A name that is neither a folder nor a pattern is returned as it is, whether or not there is such a file. Files of
    a folder that only ffmpeg can decode are left out, with a warning in the log, if it is not installed.

    Raises:
        AudioError: if a folder contains no audio, or no file matches a pattern
    """
    found: list[str] = []
    for path in map(str, paths):
        if os.path.isdir(path):
            found += _walk(path)
        elif glob.has_magic(path) and not os.path.lexists(path):
            found += _expand(path)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _walk(folder: str) -> list[str]:
    names = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names if name[0] != "."]
    readable = SUFFIXES | ffmpeg.SUFFIXES if ffmpeg.program() else SUFFIXES
    files = [name for name in names if _suffix(name) in readable]
    skipped = Counter(_suffix(name) for name in names if _suffix(name) in ffmpeg.SUFFIXES - readable)
    if skipped:
        count = f"{skipped.total()} file{'s' if skipped.total() > 1 else ''} skipped"
        need = "needs" if len(skipped) == 1 else "need"
        log.warning("wav2small: %s: %s: %s %s ffmpeg on the PATH", folder, count, ", ".join(sorted(skipped)), need)
    if not files:
        raise AudioError(f"{folder}: no audio in this folder; looked for {' '.join(sorted(readable))}")
    return sorted(files)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _expand(pattern: str) -> list[str]:
    files = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not files:
        raise AudioError(f"{pattern}: no file matches this pattern")
    return files


def _mono(prefix: str, block: np.ndarray, channel: int | None) -> np.ndarray:
    channels = block.shape[1]
    if channel is None and channels > 1:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(block.mean(axis=1))
    channel = channel or 0
    if not 0 <= channel < channels:
        raise AudioError(f"{prefix}has no channel {channel}; it has {channels}, counted from 0")
    return block[:, channel].copy()


def _scaled(signal: np.ndarray) -> np.ndarray:
    if signal.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return signal.astype(np.float32)
    if signal.dtype.kind not in "iu" or signal.dtype.itemsize > 4:
        raise AudioError(f"an array of {signal.dtype} is not a signal; give float, or integers of 8, 16 or 32 bits")
    full_scale = 2.0 ** (8 * signal.dtype.itemsize - 1)
    offset = full_scale if signal.dtype.kind == "u" else 0.0
    return ((signal.astype(np.float64) - offset) / full_scale).astype(np.float32)


def _check_rate(prefix: str, sampling_rate: float) -> None:
    if not sampling_rate >= MIN_SAMPLING_RATE:
        raise AudioError(f"{prefix}sampling rate is {sampling_rate:g} Hz; at least {MIN_SAMPLING_RATE} Hz is needed")


def _check_finite(prefix: str, mono: np.ndarray, position: int, sampling_rate: float) -> None:
    wrong = ~(np.abs(mono) <= MAX_VALUE)
    if wrong.any():
        first = int(wrong.argmax())
        raise AudioError(
            f"{prefix}sample {position + first} (at {(position + first) / sampling_rate:.3f} s) is {mono[first]:g}; "
            "samples must be finite, nominally within -1 to 1"
        )
