"""Audio that libsndfile cannot read, such as M4A, MP4, WebM and WMA, decoded by ffmpeg if it is installed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from wav2small.errors import AudioError

SUFFIXES = frozenset(
    (".m4a", ".m4b", ".aac", ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".mka", ".wma", ".wmv", ".avi", ".amr", ".3gp")
)
"""Files with these are audio inside a folder if ffmpeg is installed."""
OPTIONS = ("-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file,pipe")
FLOAT = 6
"""Number of 32-bit float samples in the header of an AU file."""
BLOCK_BYTES = 2**18
TRUNCATED = ("ended prematurely", "partial file")
"""What ffmpeg prints about a truncated file although it exits with 0."""


class Decoded(NamedTuple):
    """Sampling rate in Hz, and float32 blocks, each shape=(samples, channels)."""

    sampling_rate: int
    blocks: Iterator[np.ndarray]


def program() -> str | None:
    """Path of ffmpeg; None if it is not on the ``PATH``."""
    return shutil.which("ffmpeg")


@contextmanager
def decoding(ffmpeg: str, file: BinaryIO, path: str | None, prefix: str) -> Iterator[Decoded]:
    """The first audio stream of a file at its own rate, decoded as it is read: memory does not grow with its length.

    Args:
        ffmpeg: path of the program
        file: the content, which is copied to disk if it has no path
        path: of the same file on disk, if it has one
        prefix: what an error about it begins with

    Raises:
        AudioError: if ffmpeg cannot decode it; while its blocks are read, if it is damaged or truncated
    """
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "errors"), "w+b") as errors:
        if path is None:
            path = os.path.join(folder, "audio")
            with open(path, "wb") as copy:
                file.seek(0)
                shutil.copyfileobj(file, copy)
        command = [ffmpeg, *OPTIONS, "-i", f"file:{os.path.abspath(path)}"]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            try:
                yield _decoded(process, errors, prefix)
            finally:
                process.kill()


def _decoded(process: subprocess.Popen[bytes], errors: BinaryIO, prefix: str) -> Decoded:
    assert process.stdout is not None
    header = process.stdout.read(24)
    if len(header) < 24:
        process.wait()
        raise AudioError(
            f"{prefix}cannot be decoded, neither by libsndfile nor by ffmpeg ({_reason(errors)}); is it audio?"
        )
    magic, offset, _, encoding, sampling_rate, channels = struct.unpack(">4sIIIII", header)
    assert magic == b".snd" and encoding == FLOAT, header
    process.stdout.read(offset - len(header))
    return Decoded(sampling_rate, _blocks(process, channels, sampling_rate, errors, prefix))


def _blocks(
    process: subprocess.Popen[bytes], channels: int, sampling_rate: int, errors: BinaryIO, prefix: str
) -> Iterator[np.ndarray]:
    assert process.stdout is not None
    frame_bytes, position = 4 * channels, 0
    while content := process.stdout.read(max(1, BLOCK_BYTES // frame_bytes) * frame_bytes):
        block = np.frombuffer(content[: len(content) // frame_bytes * frame_bytes], ">f4").astype(np.float32)
        position += len(block) // channels
        yield block.reshape(-1, channels)
    code, reason = process.wait(), _reason(errors)
    if code or any(words in reason for words in TRUNCATED):
        raise AudioError(
            f"{prefix}is damaged or truncated: decoding stopped after {position / sampling_rate:.2f} s ({reason}); "
            "copy it again"
        )
    if position == 0:
        raise AudioError(f"{prefix}holds no samples, only a header")


def _reason(errors: BinaryIO) -> str:
    """The last line that ffmpeg printed, without the name of the file."""
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].rpartition(": ")[2].rpartition("] ")[2].rstrip(".") if lines else "no reason given"
