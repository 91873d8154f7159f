"""Audio files as blocks of samples: opened, checked for being whole, decoded piece by piece."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile

from wav2small.audio import ffmpeg
from wav2small.audio.quiet import quiet
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
    """Open a file whatever its name: only its content determines the format.

    What libsndfile cannot read is decoded by ffmpeg if that is installed. A pipe is copied to disk first.

    Raises:
        AudioError: if it is missing, empty, truncated, or not audio; while its blocks are read, if it is damaged
    """
    if hasattr(source, "read"):
        with _recording(cast(BinaryIO, source), None, "", "FILE") as recording:
            yield recording
        return
    path = locate(source)
    prefix = f"{source}: "
    with _open_file(path, prefix) as file:
        on_disk = None if is_remote(path) or is_pipe(path) else os.fspath(path)
        with _recording(file, on_disk, prefix, path.name) as recording:
            yield recording


def is_pipe(path: str | Path) -> bool:
    """Whether a path names a pipe: ``/dev/stdin`` of ``cat a.wav | ...``, ``<(...)`` of a shell, or a FIFO.

    A pipe can be read only once.
    """
    try:
        return not is_remote(path) and stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def spooled(pipe: BinaryIO) -> Iterator[BinaryIO]:
    """A copy on disk of what a pipe gives until it ends, because decoders seek; it is deleted afterwards."""
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(pipe, copy)
        yield cast(BinaryIO, copy)


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
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")
    except FileNotFoundError:
        raise AudioError(f"{prefix}there is no such file; check the name") from None
    except OSError as error:
        raise AudioError(f"{prefix}cannot be opened: {error.strerror}") from None
    except ValueError:
        raise AudioError(f"{path!r}: is not a valid file name: it contains a null character") from None
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISFIFO(mode):
        with file:
            copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
            shutil.copyfileobj(file, copy)
            return copy
    if stat.S_ISCHR(mode):
        file.close()
        raise AudioError(f"{prefix}is a device, not an audio file; give a file, or - for standard input")
    return file


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


@contextmanager
def _recording(file: BinaryIO, path: str | None, prefix: str, name: str) -> Iterator[Recording]:
    """The recording in a file that can seek; ``path`` is where it is on disk, if it is there."""
    if file.seek(0, os.SEEK_END) == 0:
        raise AudioError(f"{prefix}the file is empty (0 bytes); copy or record it again")
    _check_wav(file, prefix)
    silenced = quiet if _is_mpeg(file) else nullcontext
    file.seek(0)
    try:
        with silenced():
            sound = _Sequential(file)
    except (soundfile.LibsndfileError, TypeError):
        sound = None
    if sound is not None:
        with sound:
            frames = sound.frames if sound.frames < 2**62 else None
            yield Recording(prefix, sound.samplerate, frames, _blocks(sound, prefix, frames, silenced))
        return
    if _is_own(file):
        raise AudioError(f"{prefix}is damaged, and cannot be decoded; copy or record it again")
    program = ffmpeg.program()
    if program is None:
        raise AudioError(
            f"{prefix}cannot be decoded. Readable here: {', '.join(FORMATS)}. "
            f"Install ffmpeg for more, or convert it: ffmpeg -i {name} new.wav"
        )
    with ffmpeg.decoding(program, file, path, prefix) as decoded:
        yield Recording(prefix, decoded.sampling_rate, None, decoded.blocks)


def _is_own(file: BinaryIO) -> bool:
    """Whether a file begins as WAV or FLAC do, which libsndfile reads: ffmpeg can hang on one that is damaged."""
    file.seek(0)
    head = file.read(12)
    return head[:4] == b"fLaC" or (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE")


def _is_mpeg(file: BinaryIO) -> bool:
    """Whether a file begins as MP3 does: with an ID3 tag, or the sync word of a frame."""
    file.seek(0)
    head = file.read(3)
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)


def _blocks(
    sound: _Sequential, prefix: str, frames: int | None, silenced: Callable[[], AbstractContextManager[None]]
) -> Iterator[np.ndarray]:
    size, position = max(1, BLOCK_VALUES // sound.channels), 0
    try:
        while True:
            with silenced():
                block = sound.read(size, dtype="float32", always_2d=True)
            if not len(block):
                break
            position += len(block)
            yield block
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".") or "invalid data"
        raise AudioError(
            f"{prefix}is damaged or truncated: decoding stopped after {position / sound.samplerate:.2f} s ({reason}); "
            "copy it again"
        ) from None
    if position == 0:
        raise AudioError(f"{prefix}holds no samples, only a header")
    if frames is not None:
        _check_whole(prefix, position / sound.samplerate, frames / sound.samplerate)


def _check_wav(file: BinaryIO, prefix: str) -> None:
    """Compare the bytes that a WAV header states with those in the file: the decoder reads what is left, silently.

    A recorder that does not know the length yet writes a size of 2 GiB or more.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    riff, _, wave = struct.unpack("4s4s4s", file.read(12).ljust(12))
    if riff not in (b"RIFF", b"RIFX") or wave != b"WAVE":
        return
    order = ">" if riff == b"RIFX" else "<"
    byte_rate = 0
    while len(head := file.read(8)) == 8:
        name, stated = struct.unpack(f"{order}4sI", head)
        if name == b"data":
            if byte_rate and stated < 0x7FFFF000:
                _check_whole(prefix, (size - file.tell()) / byte_rate, stated / byte_rate)
            return
        body = file.read(min(stated, 12))
        if name == b"fmt " and len(body) == 12:
            (byte_rate,) = struct.unpack(f"{order}8xI", body)
        file.seek(stated - len(body) + stated % 2, os.SEEK_CUR)


def _check_whole(prefix: str, held_dur: float, stated_dur: float) -> None:
    if stated_dur - held_dur > TOLERATED_LOSS_DUR:
        raise AudioError(
            f"{prefix}is truncated: its header states {stated_dur:.2f} s, it has {held_dur:.2f} s; copy it again"
        )
