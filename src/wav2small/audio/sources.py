"""Where live audio comes from: a microphone, a pipe, or a file at the pace of time. Each gives chunks of 100 ms."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import soundfile

from wav2small.audio.decode import Source, opened
from wav2small.errors import AudioError, MissingExtraError, missing_packages
from wav2small.network.config import SAMPLING_RATE

CHUNK_DUR = 0.1
PATIENCE_DUR = 3.0
"""Seconds without a sample after which a microphone counts as gone."""

HEAD_BYTES = 2**16
"""First bytes of a pipe, into which a decoder may seek back."""
LONGEST = 2**40
"""Length in bytes that a decoder is given for a pipe."""

Chunks = Iterator[np.ndarray]
"""float32 or int16, each shape=(samples, channels)."""


@dataclass(frozen=True)
class Audio:
    """Chunks as they come, and their rate in Hz."""

    chunks: Chunks
    sampling_rate: float


@contextmanager
def file_audio(source: Source) -> Iterator[Audio]:
    """Chunks of a file, as fast as they are asked for."""
    with opened(source) as recording:
        length = max(1, round(recording.sampling_rate * CHUNK_DUR))
        yield Audio(_pieces(recording.blocks, length), recording.sampling_rate)


@contextmanager
def pipe_audio(pipe: BinaryIO, name: str = "standard input") -> Iterator[Audio]:
    """Chunks of a WAV, AU, FLAC or Ogg file that comes through a pipe, as it comes; errors begin with ``name``.

    Raises:
        AudioError: if it is none of these; while its chunks are read, if it is damaged
    """
    try:
        sound = _Forward(_Pipe(pipe))
    except soundfile.LibsndfileError:
        raise AudioError(
            f"{name}: is not a WAV, AU, FLAC or Ogg file; give one, or samples without a header and --pcm HZ"
        ) from None
    yield Audio(_sound_chunks(sound, max(1, round(sound.samplerate * CHUNK_DUR)), name), sound.samplerate)


@contextmanager
def raw_audio(pipe: BinaryIO, sampling_rate: float) -> Iterator[Audio]:
    """Chunks of a pipe with 16-bit mono samples, little-endian and without a header, until it ends."""
    yield Audio(_raw_chunks(pipe, max(1, round(sampling_rate * CHUNK_DUR))), sampling_rate)


@contextmanager
def microphone_audio(device: str | None) -> Iterator[Audio]:
    """Chunks of a microphone, at its own rate, as long as it is there.

    Args:
        device: its number, or a part of its name; None is the default

    Raises:
        MissingExtraError: if the extra ``live`` is not installed
        AudioError: if there is no such microphone, it cannot be opened, or it goes away
    """
    sounddevice = _sounddevice()
    recorded: queue.Queue[np.ndarray | None] = queue.Queue()
    wanted: Any = int(device) if device is not None and device.isdigit() else device
    try:
        properties = sounddevice.query_devices(wanted, "input")
        sampling_rate = float(properties["default_samplerate"]) or SAMPLING_RATE
        stream = sounddevice.InputStream(
            samplerate=sampling_rate,
            blocksize=round(sampling_rate * CHUNK_DUR),
            device=wanted,
            channels=1,
            dtype="float32",
            callback=lambda chunk, frames, when, status: recorded.put(chunk.copy()),
            finished_callback=lambda: recorded.put(None),
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "there is none"
        raise AudioError(
            f"no microphone can be opened ({reason}); connect one, name another with --device (see --list-devices), "
            "or give a file or -"
        ) from None
    try:
        yield Audio(_recorded_chunks(recorded, str(properties["name"])), sampling_rate)
    finally:
        stream.close(ignore_errors=True)


def microphones() -> list[dict[str, object]]:
    """Input devices, one row each: its number, name, channels, sampling rate in Hz, and whether it is the default.

    Raises:
        MissingExtraError: if the extra ``live`` is not installed
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    return [
        {
            "number": number,
            "name": device["name"],
            "channels": device["max_input_channels"],
            "sampling_rate": round(device["default_samplerate"]),
            "default": number == default,
        }
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def in_real_time(
    audio: Audio, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Chunks:
    """Each chunk at the time at which its last sample would be recorded live."""
    begun, samples = now(), 0
    for chunk in audio.chunks:
        samples += len(chunk)
        sleep(max(0.0, begun + samples / audio.sampling_rate - now()))
        yield chunk


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """Read from start to end only."""

    def seekable(self) -> bool:
        return False


class _Pipe:
    """A pipe as the file that a decoder wants: it may look back into the first bytes, and ask for what never comes."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._head = b""
        self._read = 0
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: LONGEST}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        content = self._content(len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _content(self, size: int) -> bytes:
        if self._position < len(self._head):
            return self._head[self._position :][:size]
        skipped = self._position - self._read
        if not 0 <= skipped <= HEAD_BYTES:  # what follows the samples, where a header says that they end
            return b""
        self._take(skipped)
        return self._take(size)

    def _take(self, size: int) -> bytes:
        content = self._pipe.read(size)
        if self._read < HEAD_BYTES:
            self._head += content
        self._read += len(content)
        return content


def _pieces(blocks: Iterable[np.ndarray], length: int) -> Chunks:
    for block in blocks:
        yield from (block[start : start + length] for start in range(0, len(block), length))


def _sound_chunks(sound: _Forward, length: int, name: str) -> Chunks:
    try:
        while len(chunk := sound.read(length, dtype="float32", always_2d=True)):
            yield chunk
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".") or "invalid data"
        raise AudioError(f"{name}: is damaged or truncated ({reason}); copy it again") from None


def _raw_chunks(pipe: BinaryIO, length: int) -> Chunks:
    rest = b""
    read = getattr(pipe, "read1", pipe.read)  # what is there, not all that was asked for
    while content := read(2 * length):
        content = rest + content
        whole = len(content) // 2 * 2
        rest = content[whole:]
        yield np.frombuffer(content[:whole], "<i2")[:, None]


def _recorded_chunks(recorded: queue.Queue[np.ndarray | None], name: str) -> Chunks:
    while True:
        try:
            chunk = recorded.get(timeout=PATIENCE_DUR)
        except queue.Empty:
            chunk = None
        if chunk is None:
            raise AudioError(f"{name}: the microphone is gone; the audio until then is answered")
        yield chunk


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise missing_packages("a microphone", ["sounddevice"], "wav2small[live]") from None
    except OSError:
        raise MissingExtraError(
            "PortAudio, which sounddevice needs, is not installed; install it (Debian: apt install libportaudio2), "
            "or give a file or -"
        ) from None
    return sounddevice
