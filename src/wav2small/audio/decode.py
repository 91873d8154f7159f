"""Audio files as blocks of samples: opened, checked for being whole, decoded piece by piece."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile

from wav2small.errors import AudioError, Wav2SmallError
from wav2small.files import is_remote, locate

Source = str | Path | BinaryIO
"""A path or URL, or a binary file object that can seek; an object is read from its start and left open."""

FORMATS = {
    "wav": (".wav", ".wave", ".rf64"),
    "flac": (".flac",),
    "ogg": (".ogg", ".oga"),
    "opus": (".opus",),
    "mp3": (".mp3",),
    "aiff": (".aiff", ".aif", ".aifc"),
    "au": (".au", ".snd"),
    "caf": (".caf",),
    "w64": (".w64",),
    "sph": (".sph",),
    "voc": (".voc",),
}
"""Formats that can be decoded, and the suffixes of their files."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Files with these are audio inside a folder; a file named by the user is read whatever its name."""
BLOCK_VALUES = 2**16
"""Samples times channels decoded at once."""
TOLERATED_LOSS_DUR = 0.05
"""Seconds that may be missing at the end of a file before it is called truncated."""


@dataclass(frozen=True)
class Recording:
    """An open file; ``frames`` is its length by its header, None where that does not say."""

    prefix: str
    """What an error about it begins with: its path and a colon."""
    sampling_rate: int
    frames: int | None
    blocks: Iterator[np.ndarray]
    """float32 in [-1, 1], each shape=(samples, channels)."""


@contextmanager
def opened(source: Source) -> Iterator[Recording]:
    """Open a file whatever its name: only its content says what it is.

    Raises:
        AudioError: if it is missing, empty, truncated, or not audio; while its blocks are read, if it is damaged
    """
    if hasattr(source, "read"):
        with _decoder(cast(BinaryIO, source), "", "FILE") as sound:
            yield _recording(sound, "")
        return
    path = locate(source)
    prefix = f"{source}: "
    with _open_file(path, prefix) as file, _decoder(file, prefix, path.name) as sound:
        yield _recording(sound, prefix)


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """Read from start to end only: the seek after each block fails in FLAC that does not state its length."""

    def seekable(self) -> bool:
        return False


def _open_file(path: Path, prefix: str) -> BinaryIO:
    if is_remote(path):
        return _fetch(path, prefix)
    if os.path.isdir(path):
        raise AudioError(f"{prefix}is a folder, not an audio file")
    try:  # by its descriptor: a decoder that sees the name would judge the format by it
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")
    except FileNotFoundError:
        raise AudioError(f"{prefix}there is no such file; check the name") from None
    except OSError as error:
        raise AudioError(f"{prefix}cannot be opened: {error.strerror}") from None
    except ValueError:
        raise AudioError(f"{path!r}: is no name of a file; it holds a null character") from None


def _fetch(path: Path, prefix: str) -> BinaryIO:
    """The whole of a remote file, in one request. What is not there is an error of the audio; a network's is not."""
    try:
        return io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise AudioError(f"{prefix}there is no such file; check the name") from None
    except (IsADirectoryError, PermissionError) as error:
        raise AudioError(f"{prefix}cannot be opened: {error.strerror or error}") from None
    except OSError as error:
        raise Wav2SmallError(f"{prefix}cannot be fetched now ({error}). Try again when the network is back.") from None


def _decoder(file: BinaryIO, prefix: str, name: str) -> _Sequential:
    if file.seek(0, os.SEEK_END) == 0:
        raise AudioError(f"{prefix}the file is empty (0 bytes); copy or record it again")
    _check_wav(file, prefix)
    file.seek(0)
    try:
        return _Sequential(file)
    except (soundfile.LibsndfileError, TypeError):
        raise AudioError(
            f"{prefix}cannot be decoded. Readable here: {', '.join(FORMATS)}. Convert it: ffmpeg -i {name} new.wav"
        ) from None


def _recording(sound: _Sequential, prefix: str) -> Recording:
    frames = sound.frames if sound.frames < 2**62 else None
    return Recording(prefix, sound.samplerate, frames, _blocks(sound, prefix, frames))


def _blocks(sound: _Sequential, prefix: str, frames: int | None) -> Iterator[np.ndarray]:
    size, position = max(1, BLOCK_VALUES // sound.channels), 0
    try:
        while len(block := sound.read(size, dtype="float32", always_2d=True)):
            position += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise AudioError(
            f"{prefix}is damaged or truncated: decoding stopped after {position / sound.samplerate:.2f} s ({reason}); "
            "copy it again"
        ) from None
    if position == 0:
        raise AudioError(f"{prefix}holds no samples, only a header")
    if frames is not None:
        _check_whole(prefix, position / sound.samplerate, frames / sound.samplerate)


def _check_wav(file: BinaryIO, prefix: str) -> None:
    """Compare the bytes that a WAV header promises with what there is: the decoder takes what it finds, silently.

    A size of 2 GiB or more is what a recorder writes that does not know the length yet.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    riff, _, wave = struct.unpack("4s4s4s", file.read(12).ljust(12))
    if riff not in (b"RIFF", b"RIFX") or wave != b"WAVE":
        return
    order = ">" if riff == b"RIFX" else "<"
    byte_rate = 0
    while len(head := file.read(8)) == 8:
        name, promised = struct.unpack(f"{order}4sI", head)
        if name == b"data":
            if byte_rate and promised < 0x7FFFF000:
                _check_whole(prefix, (size - file.tell()) / byte_rate, promised / byte_rate)
            return
        body = file.read(min(promised, 12))
        if name == b"fmt " and len(body) == 12:
            (byte_rate,) = struct.unpack(f"{order}8xI", body)
        file.seek(promised - len(body) + promised % 2, os.SEEK_CUR)


def _check_whole(prefix: str, held_dur: float, promised_dur: float) -> None:
    if promised_dur - held_dur > TOLERATED_LOSS_DUR:
        raise AudioError(
            f"{prefix}is truncated: its header promises {promised_dur:.2f} s, it holds {held_dur:.2f} s; copy it again"
        )
