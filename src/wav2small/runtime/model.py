"""Loaded networks: weights by name or path, and the emotion or the embedding of signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2small.audio.read import MIN_LENGTH, prepare, read
from wav2small.errors import AudioError, WeightsError
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.network.weights import NETWORK, present, resolve, shipped_names, stored_network
from wav2small.options import DEFAULT_MODEL
from wav2small.runtime import backends, hub
from wav2small.runtime.backends import Run
from wav2small.runtime.calibration import Calibration, calibration_path, load_calibration
from wav2small.runtime.causal import Causal, Weights, names
from wav2small.runtime.head import Head, load_head

if TYPE_CHECKING:
    from wav2small.runtime.native import Library

BATCH_LENGTH = 5 * SAMPLING_RATE
"""Samples computed at once; more is no faster on one thread, and costs memory. One signal is never cut."""


class Model:
    """A loaded network, which ``load`` returns. It is immutable: threads may share it.

    Args:
        run: computes emotion and embedding of a batch of signals
        metadata: name, version, licence, teacher and more, as stored with the weights, and the sha256 of their file
        causal: returns the weights of a causal network, which a stream runs frame by frame
        native: returns the same network in C, for streams with windows of at most so many parts
        calibration: scale of ``predict`` and ``Stream``, if there is one; a call returns the network's own output
        head: adds a category to predictions and events, if there is one

    ``network`` is its description, None for an ONNX file of a network that is not described.

    Examples:
        >>> model = wav2small.load("micro")
        >>> signal = np.sin(np.arange(16000) / 9).astype(np.float32)
        >>> emotion = model(signal, sampling_rate=16000)
        >>> 0.0 <= emotion.arousal <= 1.0
        True
        >>> model.embed(signal).shape
        (128,)
        >>> model.metadata["name"], model.metadata["licence"], model.network.is_causal
        ('micro', 'Apache-2.0', True)
    """

    def __init__(
        self,
        run: Run,
        metadata: Mapping[str, str],
        causal: Callable[[], Weights] | None = None,
        native: Callable[[int], Library] | None = None,
        calibration: Calibration | None = None,
        head: Head | None = None,
    ) -> None:
        self._run = run
        self.metadata = dict(metadata)
        self.calibration = calibration
        self.head = head
        self._causal = causal
        self.native = native
        self.network = stored_network(metadata, "model") if NETWORK in metadata else None
        self._min_length = int(metadata.get("min_length", MIN_LENGTH))

    def __repr__(self) -> str:
        size = f", {self.metadata['parameters']} parameters" if "parameters" in self.metadata else ""
        version = f", version {self.metadata['version']}" if "version" in self.metadata else ""
        calibrated = ", calibrated" if self.calibration else ""
        return f"Model({self.metadata.get('name', 'unnamed')!r}{version}{size}{calibrated})"

    def __call__(self, signal: np.ndarray | str | Path, sampling_rate: float = SAMPLING_RATE) -> Emotion:
        """Arousal, dominance and valence of one signal or file, each clipped to 0..1.

        Args:
            signal: float in [-1, 1] or integers, shape=(samples,) or (samples, channels), which are mixed down, or the
                path of an audio file; memory grows with it, by about 4 MB a second: use ``predict`` for recordings of
                more than some minutes
            sampling_rate: of an array, Hz; a file has its own

        Raises:
            AudioError: if it is too short, not finite, not a signal, or a file that cannot be read

        Examples:
            >>> model = wav2small.load("micro")
            >>> emotion = model("examples/10b10Wa.flac")
            >>> print(f"{emotion.arousal:.1f}")
            0.7
        """
        if isinstance(signal, (str, Path)):
            return self.batch([read(signal)])[0]
        return self.batch([signal], sampling_rate)[0]

    def batch(self, signals: Sequence[np.ndarray], sampling_rate: float = SAMPLING_RATE) -> list[Emotion]:
        """Emotions of several signals of any lengths, in their order.

        Args:
            signals: each as in a call
            sampling_rate: of all signals, Hz

        Raises:
            AudioError: as a call
        """
        return [clipped(row) for row in self._answers(signals, sampling_rate)[0]]

    def embed(self, signal: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> np.ndarray:
        """Embedding of one signal, the input of the last layer: float32, shape=(size,), 169 for ``wav2small``.

        Args:
            signal: as in a call
            sampling_rate: of ``signal``, Hz

        Raises:
            AudioError: as a call
        """
        return self._answers([signal], sampling_rate)[1][0]

    def answer(self, signal: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> tuple[Emotion, np.ndarray]:
        """Emotion, as of a call, and embedding, as of ``embed``, in one pass."""
        emotion, embedding = self._answers([signal], sampling_rate)
        return clipped(emotion[0]), embedding[0]

    def causal(self) -> Causal | None:
        """The network with a new state, to run frame by frame; None if it needs whole windows."""
        return self._begun.another() if self._begun else None

    @cached_property
    def _begun(self) -> Causal | None:
        if self._causal is None or self.network is None or not self.network.is_causal:
            return None
        weights = self._causal()
        return Causal(weights, self.network) if weights.keys() >= set(names(self.network)) else None

    def _answers(self, signals: Sequence[np.ndarray], sampling_rate: float) -> tuple[np.ndarray, list[np.ndarray]]:
        prepared = [checked(prepare(signal, sampling_rate)) for signal in signals]
        emotion = np.zeros((len(prepared), len(OUTPUTS)), np.float32)
        embedding: list[np.ndarray] = [np.zeros(0)] * len(prepared)
        for group in groups([len(signal) for signal in prepared]):
            stacked = np.stack([prepared[index] for index in group])
            short = max(0, self._min_length - stacked.shape[1])
            emotion[group], answers = self._run(np.pad(stacked, ((0, 0), (0, short))))
            for index, answer in zip(group, answers, strict=True):
                embedding[index] = answer
        return emotion, embedding


def clipped(emotion: Iterable[float]) -> Emotion:
    """An emotion from 0 to 1."""
    return Emotion(*np.clip(np.asarray(tuple(emotion)), 0, 1).tolist())


def checked(signal: np.ndarray) -> np.ndarray:
    """The signal, if it is long enough; a network with longer windows gets it padded with zeros."""
    if len(signal) < MIN_LENGTH:
        raise AudioError(
            f"the signal has {len(signal)} samples at {SAMPLING_RATE} Hz, at least {MIN_LENGTH} are needed "
            f"({1000 * MIN_LENGTH / SAMPLING_RATE:g} ms); give a longer one"
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
    name_or_path: str | Path = DEFAULT_MODEL,
    backend: str = "auto",
    calibration: str | Path | bool = False,
    head: str | Path | None = None,
) -> Model:
    """Load a network.

    Args:
        name_or_path: ``NAME[:PRECISION]`` of what ``models()`` lists, such as ``micro:int8``; the path of an ONNX or
            safetensors file, or of a folder of ``wav2small export --to hub``; or ``owner/name[:PRECISION]@revision`` of
            the Hugging Face hub, which needs huggingface_hub. Without a precision fp32, or the only one
        backend: ``auto`` is ``numpy`` for a safetensors file and ``onnx`` for everything else; ``onnx`` runs in ONNX
            Runtime on one thread, ``numpy`` is the slow and readable reference, ``c`` the C runtime, which the
            machine's C compiler builds at the first load and the user's cache keeps; ``torch`` and ``openvino`` need
            these packages
        calibration: scale, confidence and intervals of ``predict`` and ``Stream``: a file of ``wav2small calibrate``,
            or True for the one beside the weights, which all shipped weights have; without it they return the
            network's own output
        head: a file of ``wav2small head``, which adds a category to ``predict`` and ``Stream``

    Raises:
        WeightsError: if there is no such network, or a file is damaged or of another network
        PluginError: if there is no such backend
        MissingExtraError: if the name is one of the hub and huggingface_hub is not installed
        NativeError: if the backend is ``c``, and there is no C compiler or it fails

    Examples:
        >>> model = wav2small.load("micro:int8")
        >>> emotion = model(np.zeros(16000, np.float32), sampling_rate=16000)
        >>> emotion._fields
        ('arousal', 'dominance', 'valence')
    """
    engine = backends.find(backends.of_file(name_or_path) if backend == "auto" else backend)
    path = locate(name_or_path, engine.suffix)
    model = Model(*engine.open(path))
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
    """The shipped weights, one row a file: name, version, precision, parameters, bytes, licence, teacher, ccc, sha256.

    Those whose file is present: the repository has all, a wheel leaves out the MobileNets.

    Examples:
        >>> sorted({row["precision"] for row in wav2small.models() if row["name"] == "wav2small-17k"})
        ['fp32', 'int8']
    """
    return present()


def locate(name_or_path: str | Path, suffix: str) -> Path:
    """The file of weights that ship, of a model folder or of the hub, whose sha256 is checked; or the path as given."""
    path, name = Path(name_or_path), str(name_or_path)
    if name.partition(":")[0] not in shipped_names():
        if path.is_file():
            return path
        if path.is_dir():
            return hub.from_folder(path, suffix)
        if hub.is_hub_name(name):
            return hub.from_hub(name, suffix)
        if path.name != name or path.suffix in backends.suffixes():
            raise WeightsError(
                f"{path}: no such file; give the path of ONNX or safetensors, or a shipped name, or "
                "owner/name@revision of the Hugging Face hub"
            )
    return resolve(name, suffix)
