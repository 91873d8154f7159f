"""The door to the network: load weights by name or path, ask for the emotion or the embedding of signals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2small.audio.read import prepare
from wav2small.errors import AudioError, WeightsError
from wav2small.network import reference
from wav2small.network.config import FRONTEND, OUTPUTS, SAMPLING_RATE, STUDENTS, Emotion, Micro
from wav2small.network.weights import read_index, resolve, sha256, shipped_names
from wav2small.runtime.calibration import Calibration, calibration_path, load_calibration
from wav2small.runtime.causal import Causal, Weights, names, weights_from_arrays
from wav2small.runtime.head import Head, load_head
from wav2small.runtime.onnx_weights import read_weights
from wav2small.session import session

if TYPE_CHECKING:
    from wav2small.runtime.native import Library

Backend = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Signals (batch, samples), float32 at 16 kHz, to emotion (batch, 3), not clipped, and embedding (batch, size)."""

PRECISIONS = ("fp32", "int8")
SUFFIXES = {"onnx": ".onnx", "numpy": ".safetensors", "c": ".safetensors"}
"""Each backend, and which shipped file it reads."""
BATCH_LENGTH = 5 * SAMPLING_RATE
"""Samples computed at once; more is no faster on one thread, and costs memory. One signal is never cut."""


class Model:
    """A loaded network. Calls may come from many threads at once; nothing in it changes.

    Args:
        backend: what computes
        metadata: name, version, licence, teacher and more, as stored with the weights, and their file's sha256
        causal: gives the weights of ``micro``, which a stream runs frame by frame
        native: gives the same network in C, whose streams have windows of at most so many parts
        calibration: what rows and events are told by, if there is one; a call answers what the network does
        head: what rows and events have a category by, if there is one
    """

    def __init__(
        self,
        backend: Backend,
        metadata: Mapping[str, str],
        causal: Callable[[], Weights] | None = None,
        native: Callable[[int], Library] | None = None,
        calibration: Calibration | None = None,
        head: Head | None = None,
    ) -> None:
        self._backend = backend
        self.metadata = dict(metadata)
        self.calibration = calibration
        self.head = head
        self._causal = causal
        self.native = native
        self._min_length = int(metadata.get("min_length", FRONTEND.win_length))

    def __call__(self, signal: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> Emotion:
        """Arousal, dominance and valence of one signal, each clipped to 0..1.

        Args:
            signal: float in [-1, 1] or integers, shape=(samples,) or (samples, channels), which are mixed down;
                memory grows with it, by about 4 MB a second: cut what is longer than some minutes
            sampling_rate: of ``signal``, Hz

        Raises:
            AudioError: if it is too short, not finite, or no signal
        """
        return self.batch([signal], sampling_rate)[0]

    def batch(self, signals: Sequence[np.ndarray], sampling_rate: float = SAMPLING_RATE) -> list[Emotion]:
        """The same for many signals of any lengths, in their order."""
        return [clipped(row) for row in self._answers(signals, sampling_rate)[0]]

    def embed(self, signal: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> np.ndarray:
        """What the three outputs are read from, float32, shape=(size,): 169 values for ``wav2small``."""
        return self._answers([signal], sampling_rate)[1][0]

    def answer(self, signal: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> tuple[Emotion, np.ndarray]:
        """Both in one pass: the emotion as of a call, and the embedding as of ``embed``."""
        emotion, embedding = self._answers([signal], sampling_rate)
        return clipped(emotion[0]), embedding[0]

    def causal(self) -> Causal | None:
        """The network to be run frame by frame, with a state of its own; None if it hears whole windows only."""
        config = STUDENTS.get(self.metadata.get("student", ""))
        if self._causal is None or not isinstance(config, Micro):
            return None
        weights = self._causal()
        return Causal(weights, config) if weights.keys() >= set(names(config)) else None

    def _answers(self, signals: Sequence[np.ndarray], sampling_rate: float) -> tuple[np.ndarray, list[np.ndarray]]:
        prepared = [checked(prepare(signal, sampling_rate)) for signal in signals]
        emotion = np.zeros((len(prepared), len(OUTPUTS)), np.float32)
        embedding: list[np.ndarray] = [np.zeros(0)] * len(prepared)
        for group in groups([len(signal) for signal in prepared]):
            stacked = np.stack([prepared[index] for index in group])
            short = max(0, self._min_length - stacked.shape[1])
            emotion[group], answers = self._backend(np.pad(stacked, ((0, 0), (0, short))))
            for index, answer in zip(group, answers, strict=True):
                embedding[index] = answer
        return emotion, embedding


def clipped(emotion: Iterable[float]) -> Emotion:
    """An emotion from 0 to 1."""
    return Emotion(*np.clip(np.asarray(tuple(emotion)), 0, 1).tolist())


def checked(signal: np.ndarray) -> np.ndarray:
    """The signal, if there is enough of it for any answer; a network with longer windows gets it padded with zeros."""
    if len(signal) < FRONTEND.win_length:
        raise AudioError(
            f"the signal has {len(signal)} samples at {SAMPLING_RATE} Hz, at least {FRONTEND.win_length} are needed "
            f"({1000 * FRONTEND.win_length / SAMPLING_RATE:g} ms); give a longer one"
        )
    return signal


def groups(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of signals to compute together: equal lengths, at most ``BATCH_LENGTH`` samples."""
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    found = []
    for length, indices in by_length.items():
        size = max(1, BATCH_LENGTH // length)
        found += [indices[start : start + size] for start in range(0, len(indices), size)]
    return found


def load(
    name_or_path: str | Path = "wav2small",
    precision: str = "fp32",
    backend: str = "onnx",
    calibration: str | Path | bool = False,
    head: str | Path | None = None,
) -> Model:
    """Load a network.

    Args:
        name_or_path: what ``models()`` lists, or a file: ONNX, or safetensors for the backends ``numpy`` and ``c``
        precision: ``fp32`` or ``int8``; a file given by its path is taken as it is
        backend: ``onnx`` runs in ONNX Runtime on one thread, ``numpy`` is the slow and readable reference, ``c`` the C
            runtime, which the machine's C compiler makes at the first load and the user's cache keeps
        calibration: what ``predict`` and ``Stream`` tell its answers by: a file of ``wav2small calibrate``, or True for
            the one beside the weights, as all that ship have it. Without, they say the network's own numbers
        head: a file of ``wav2small head``, by which they tell a category

    Raises:
        WeightsError: if there is no such network, or a file is damaged or of another network
        NativeError: if the backend is ``c``, and there is no C compiler or it fails

    Example:
        >>> model = load("wav2small")
        >>> model(np.zeros(16000, np.float32)).arousal <= 1.0
        True
    """
    if backend not in SUFFIXES:
        raise WeightsError(f"backend is {backend!r}, known: {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise WeightsError(f"precision is {precision!r}, known: {', '.join(PRECISIONS)}")
    path = locate(name_or_path, precision, SUFFIXES[backend])
    model = onnx_model(path) if backend == "onnx" else arrays_model(path, backend)
    if calibration:
        model.calibration = load_calibration(beside(path) if calibration is True else calibration)
        model.calibration.check(model.metadata)
    if head:
        model.head = load_head(head)
        model.head.check(model.metadata)
    return model


def beside(weights: Path) -> Path:
    """The calibration that lies beside weights.

    Raises:
        WeightsError: if none does
    """
    path = calibration_path(weights)
    if not path.is_file():
        raise WeightsError(
            f"{weights.name}: no calibration lies beside these weights; make one with: "
            f"wav2small calibrate LABELS --model {weights} -o {path}"
        )
    return path


def models() -> list[dict[str, Any]]:
    """What ships, one row a file: name, version, precision, parameters, bytes, licence, teacher, ccc, sha256."""
    return read_index()


def locate(name_or_path: str | Path, precision: str, suffix: str) -> Path:
    """The file of shipped weights, sha256 checked, or the path as given."""
    path, name = Path(name_or_path), str(name_or_path)
    if name not in shipped_names():
        if path.is_file():
            return path
        if path.name != name or path.suffix in SUFFIXES.values():
            raise WeightsError(f"{path}: no such file; give the path of ONNX or safetensors, or a shipped name")
    return resolve(name, precision, suffix)


def arrays_model(path: Path, backend: str) -> Model:
    """A model that runs the reference or the C runtime, both made from arrays."""
    if not is_safetensors(path):
        raise WeightsError(f"{path}: holds no safetensors, which the backend {backend!r} reads; load it with 'onnx'")
    arrays, metadata, config = reference.load_student(path)
    answer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    answer = partial(reference.forward, arrays=arrays, config=config)
    library: Callable[[int], Library] | None = None
    if backend == "c":
        from wav2small.runtime import native

        answer = native.library(path).answer
        if isinstance(config, Micro):
            library = cache(partial(native.library, path))

    def run(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = [answer(signal) for signal in signals]
        return np.stack([emotion for _, emotion in answers]), np.stack([embedding for embedding, _ in answers])

    weights = partial(weights_from_arrays, arrays, config) if isinstance(config, Micro) else None
    return Model(run, metadata | {"sha256": sha256(path)}, weights, library)


def onnx_model(path: Path) -> Model:
    """A model that runs an ONNX file, whose metadata must say what the network is told and answers."""
    if is_safetensors(path):
        raise WeightsError(
            f"{path}: holds safetensors; load it with the backend 'numpy' or 'c', or run: wav2small export {path}"
        )
    return running(path.read_bytes(), str(path))


def running(content: bytes, source: str, optimised: bool = True) -> Model:
    """The same for the bytes of an ONNX file, called ``source`` in errors, ``optimised`` as :func:`session` says."""
    runner = session(content, source, optimised)
    metadata: dict[str, str] = runner.get_modelmeta().custom_metadata_map
    expected = {"sampling_rate": str(SAMPLING_RATE), "outputs": ",".join(OUTPUTS)}
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise WeightsError(f"{source}: its {key} is {metadata.get(key)!r}, needed here: {value!r}; export it again")

    def run(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        emotion, embedding = runner.run(["emotion", "embedding"], {"signal": signals})
        return emotion, embedding

    is_micro = isinstance(STUDENTS.get(metadata.get("student", "")), Micro)
    metadata["sha256"] = hashlib.sha256(content).hexdigest()
    return Model(run, metadata, partial(read_weights, content) if is_micro else None)


def is_safetensors(path: Path) -> bool:
    """By content: a JSON header follows its eight bytes of size."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"
