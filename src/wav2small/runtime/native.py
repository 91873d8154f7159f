"""The C runtime in this process: a library that ships or is compiled at the first load, called through ctypes.

A wheel has libraries for some models that ship; any other needs a C compiler once, and stays in the user's cache.
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import numpy as np

from wav2small.errors import NativeError
from wav2small.network.config import OUTPUTS
from wav2small.network.fixed_frontend import mean_and_variance, to_samples
from wav2small.network.reference import load_student
from wav2small.network.weights import identity
from wav2small.runtime import prebuilt
from wav2small.runtime.c_header import header
from wav2small.runtime.compiler import PARTS, compiled, flags_for


class Description(ctypes.Structure):
    """``w2s_description`` of w2s.h."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("name", "version", "precision", "licence", "teacher")),
        *((name, ctypes.c_char_p) for name in ("training_data", "sha256")),
        *((name, ctypes.c_int32) for name in ("sampling_rate", "win_length", "hop_length", "frames_a_token")),
        ("embedding_size", ctypes.c_int32),
        ("stream_bytes", ctypes.c_size_t),
    )


class Library:
    """A compiled model; nothing in it changes, so many threads may use it at once.

    Args:
        path: what was compiled
        is_level_given: it is normalised over the utterance, whose level :meth:`answer` tells it
    """

    def __init__(self, path: Path, is_level_given: bool) -> None:
        self.path = path
        self._is_level_given = is_level_given
        self._of_thread = threading.local()
        self._calls = ctypes.CDLL(str(path))
        self._calls.w2s_describe.restype = ctypes.POINTER(Description)
        self._calls.w2s_init_checked.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32)
        self._calls.w2s_level.argtypes = (ctypes.c_void_p, ctypes.c_float, ctypes.c_float)
        self.about = self._calls.w2s_describe().contents

    def stream(self) -> NativeStream:
        """A new stream."""
        return NativeStream(self._calls, self.about)

    def answer(self, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embedding and emotion of a whole signal in floats; what is below one window is padded with zeros."""
        if not hasattr(self._of_thread, "stream"):
            self._of_thread.stream = self.stream()
        stream: NativeStream = self._of_thread.stream
        stream.reset()
        if self.about.precision == b"int8":
            signal = to_samples(signal)
        if self._is_level_given:
            stream.level(*map(float, mean_and_variance(signal)))
        stream.push(signal)
        stream.finish()
        return stream.read()


class NativeStream:
    """A stream of the C runtime: the functions of w2s.h by their names. One thread at a time.

    The first token takes ``win_length`` samples, each further one ``token_length``.
    """

    def __init__(self, calls: ctypes.CDLL, about: Description) -> None:
        self._calls = calls
        self.win_length: int = about.win_length
        self.token_length: int = about.hop_length * about.frames_a_token
        self._embedding_size: int = about.embedding_size
        self._memory = ctypes.create_string_buffer(about.stream_bytes + 64)
        self._stream = ctypes.c_void_p(-(-ctypes.addressof(self._memory) // 64) * 64)
        identity = int(about.sha256[:8], 16)
        checked(calls.w2s_init_checked(self._stream, about.stream_bytes, identity))

    def push(self, samples: np.ndarray) -> int:
        """More samples, int16 or float, mono at 16 kHz; how many tokens they completed."""
        name = "int16" if samples.dtype == np.int16 else "float"
        array = np.ascontiguousarray(samples, np.int16 if name == "int16" else np.float32)
        call = getattr(self._calls, f"w2s_push_{name}")
        return checked(call(self._stream, ctypes.c_void_p(array.ctypes.data), len(array)))

    def level(self, mean: float, variance: float) -> None:
        """Of the whole signal, before its first sample; for models that are normalised over the utterance."""
        checked(self._calls.w2s_level(self._stream, mean, variance))

    def finish(self) -> int:
        """No more comes; how many tokens that completed."""
        return checked(self._calls.w2s_finish(self._stream))

    def reset(self) -> None:
        """Begin again."""
        checked(self._calls.w2s_reset(self._stream))

    def mark(self) -> None:
        """Tokens from now on are of a new part."""
        checked(self._calls.w2s_mark(self._stream))

    def read(self, parts: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Embedding and emotion, not clipped, of the last so many parts, or of all since the last reset."""
        emotion = np.zeros(len(OUTPUTS), np.float32)
        embedding = np.zeros(self._embedding_size, np.float32)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (emotion, embedding))
        if parts:
            checked(self._calls.w2s_read_window(self._stream, parts, *pointers))
        else:
            checked(self._calls.w2s_read(self._stream, *pointers))
        return embedding, emotion


def checked(result: int) -> int:
    """A result of C that is no error.

    Raises:
        NativeError: saying which it is
    """
    if result < 0:
        said = {-1: "was not begun", -2: "has ended; reset it first", -3: "got a length that it cannot have"}
        said |= {-4: "has got less than one window", -5: "is of another library"}
        said[-6] = "takes its level before the first sample, and only for a model that is normalised over the utterance"
        raise NativeError(f"the stream {said.get(result, f'answered {result}')}.")
    return result


def library(weights: str | Path, parts: int = 0) -> Library:
    """The runtime with these weights: what ships, or compiled now if it never was.

    Args:
        weights: safetensors of a student
        parts: that a window has at most, of those that ``NativeStream.mark`` begins; 0 if nothing is marked

    Raises:
        WeightsError: if they are not those of a student that C can run
        NativeError: if there is no C compiler, or it fails, or what ships belongs to other weights
    """
    network, digest = load_student(weights)[2], identity(weights)
    path = prebuilt.find(digest) if parts <= PARTS else None
    library = Library(
        path or compiled(header(weights), flags_for(network, parts)), network.normalisation == "utterance"
    )
    found = library.about.sha256.decode()
    if found != digest:
        raise NativeError(
            f"{library.path}: was compiled from weights with the sha256 {found[:12]}..., expected {digest[:12]}...; "
            "install the package again."
        )
    return library
