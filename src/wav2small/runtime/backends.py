"""What computes a network: ONNX Runtime, the NumPy reference, the C runtime, and what other packages offer by name.

A backend is an entry point of the group ``wav2small.backends``; the three here need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wav2small import plugins
from wav2small.errors import PluginError, WeightsError
from wav2small.network import reference
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.network.weights import sha256, sha256_of
from wav2small.runtime.causal import Weights, weights_from_arrays
from wav2small.runtime.onnx_weights import read_weights
from wav2small.session import session

if TYPE_CHECKING:
    from wav2small.runtime.native import Library

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Signals (batch, samples), float32 at 16 kHz, to emotion (batch, 3), not clipped, and embedding (batch, size)."""


class Opened(NamedTuple):
    """A file of weights that a backend has opened.

    Attributes:
        run: signals, shape=(batch, samples), float32 at 16 kHz, to emotion (batch, 3), not clipped, and embedding
            (batch, size)
        metadata: of the file
        causal: returns the weights of a causal network, for streams that run frame by frame
        native: returns the same network in C, for streams with windows of at most so many parts

    Examples:
        >>> from wav2small.runtime.backends import Opened
        >>> def run(signals):
        ...     return np.zeros((len(signals), 3), np.float32), np.zeros((len(signals), 1), np.float32)
        >>> model = wav2small.Model(*Opened(run, {"name": "zeros"}))
        >>> model(np.zeros(16000)).arousal
        0.0
    """

    run: Run
    metadata: dict[str, str]
    causal: Callable[[], Weights] | None = None
    native: Callable[[int], Library] | None = None


class Backend(NamedTuple):
    """A runtime of networks.

    Attributes:
        suffix: of the shipped files that it reads, ``.onnx`` or ``.safetensors``
        open: opens such a file

    Examples:
        >>> from wav2small.runtime import backends
        >>> backends.find("onnx").suffix
        '.onnx'
    """

    suffix: str
    open: Callable[[Path], Opened]


def open_onnx(path: Path) -> Opened:
    """An ONNX file in ONNX Runtime, on one thread."""
    if is_safetensors(path):
        raise WeightsError(
            f"{path}: holds safetensors; load it with the backend 'numpy' or 'c', or run: wav2small export {path}"
        )
    return open_onnx_bytes(path.read_bytes(), str(path))


def open_onnx_bytes(content: bytes, source: str, optimised: bool = True) -> Opened:
    """The same for the content of an ONNX file, called ``source`` in errors; ``optimised`` as :func:`session` says.

    Raises:
        WeightsError: if its metadata ask for another sampling rate or other outputs
    """
    runner = session(content, source, optimised)
    metadata: dict[str, str] = runner.get_modelmeta().custom_metadata_map
    check_contract(metadata, source)

    def run(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        emotion, embedding = runner.run(["emotion", "embedding"], {"signal": signals})
        return emotion, embedding

    metadata["sha256"] = sha256_of(content)
    return Opened(run, metadata, partial(read_weights, content))


def check_contract(metadata: Mapping[str, str], source: str) -> None:
    """Refuse an ONNX file that is made for another sampling rate, or has other outputs."""
    for key, value in {"sampling_rate": str(SAMPLING_RATE), "outputs": ",".join(OUTPUTS)}.items():
        if metadata.get(key) != value:
            raise WeightsError(f"{source}: its {key} is {metadata.get(key)!r}, needed here: {value!r}; export it again")


def open_numpy(path: Path) -> Opened:
    """Arrays in the reference, which is slow and readable."""
    check_safetensors(path, "numpy")
    arrays, metadata, network = reference.load_student(path)
    weights = partial(weights_from_arrays, arrays, network) if network.is_causal else None
    run = one_by_one(partial(reference.forward, arrays=arrays, network=network))
    return Opened(run, metadata | {"sha256": sha256(path)}, weights)


def open_c(path: Path) -> Opened:
    """Arrays in the C runtime, which a C compiler of this machine makes when it is first asked for."""
    from wav2small.runtime import native

    check_safetensors(path, "c")
    run, opened = one_by_one(native.library(path).answer), open_numpy(path)
    return opened._replace(run=run, native=cache(partial(native.library, path)) if opened.causal else None)


def one_by_one(answer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Run:
    """A batch from what answers one signal with embedding and emotion."""

    def run(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = [answer(signal) for signal in signals]
        return np.stack([emotion for _, emotion in answers]), np.stack([embedding for embedding, _ in answers])

    return run


def is_safetensors(path: Path) -> bool:
    """By content: a JSON header follows its eight bytes of size."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def check_safetensors(path: Path, backend: str) -> None:
    """Refuse a file that is not safetensors, for a backend that reads them."""
    if not is_safetensors(path):
        raise WeightsError(f"{path}: not safetensors, which the backend {backend!r} reads; load it with 'onnx'")


BACKENDS = {
    "onnx": Backend(".onnx", open_onnx),
    "numpy": Backend(".safetensors", open_numpy),
    "c": Backend(".safetensors", open_c),
}
"""Those that every installation has."""


def names() -> list[str]:
    """All backends: those here, then those of entry points."""
    return [*BACKENDS, *plugins.names(plugins.BACKENDS)]


def find(name: str) -> Backend:
    """The backend of that name.

    Raises:
        PluginError: if there is none, or what it needs is not installed
    """
    if name in BACKENDS:
        return BACKENDS[name]
    if name not in plugins.names(plugins.BACKENDS):
        raise PluginError(f"backend is {name!r}, known: {', '.join(names())}")
    found: Backend = plugins.load(plugins.BACKENDS, name)
    return found


def of_file(name_or_path: str | Path) -> str:
    """The backend that reads a file of weights: ``numpy`` for safetensors, else ``onnx``, also for shipped names."""
    path = Path(name_or_path)
    return "numpy" if path.is_file() and is_safetensors(path) else "onnx"


def suffixes(backends: Iterable[Backend] = BACKENDS.values()) -> set[str]:
    """Suffixes of shipped files."""
    return {backend.suffix for backend in backends}
