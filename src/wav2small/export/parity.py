"""How far an ONNX form of the student is from the reference, at log-mel, embedding and emotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network import fixed_point, reference
from wav2small.network.config import Network
from wav2small.network.probes import probes
from wav2small.session import session


@dataclass(frozen=True)
class Depths:
    """A difference at three depths: log-mel in dB; embedding and emotion in parts of the largest value, if above 1."""

    log_mel: float
    embedding: float
    emotion: float


DEPTHS = tuple(field.name for field in fields(Depths))
TOLERANCES = {"fp32": Depths(0.02, 1e-3, 1e-3), "int8": Depths(0.02, 0.03, 0.04)}
"""How far an artefact may be from the reference: by float32 rounding, and by weights of eight and sixteen bits."""


def compare(model: Any, arrays: Mapping[str, np.ndarray], precision: str, network: Network) -> Depths:
    """The largest difference of an ONNX model from the reference at each depth, over :func:`probes`.

    An artefact of the integer student has its weights, and no rounding between the layers: so has what it is held to.
    What that rounding costs is in the dev CCC of its training.

    Raises:
        WeightsError: if it is above ``TOLERANCES``, or ONNX Runtime cannot load the model
    """
    runner = session(with_log_mel(model).SerializeToString(), f"{precision} ONNX")
    limits = asdict(TOLERANCES[precision])
    largest = dict.fromkeys(limits, 0.0)
    if network.integers:
        arrays = fixed_point.to_floats(arrays, network)[0]
        network = replace(network, integers=False)
    for label, signal in probes(network.frontend.win_length):
        expected_log_mel = reference.features(signal, network)
        embedding, emotion = reference.features_to_emotion(expected_log_mel, arrays, network)
        errors = depth_errors(run_depths(runner, signal), (expected_log_mel, embedding, emotion))
        for depth, allowed in limits.items():
            if not errors[depth] <= allowed:
                raise WeightsError(
                    f"{precision} ONNX: {depth} differs by {errors[depth]:.2g} from the reference on {label}, "
                    f"allowed {allowed:g}; nothing was written"
                )
            largest[depth] = max(largest[depth], errors[depth])
    return Depths(**largest)


def apart(model: Any, other: Any, window: int) -> Depths:
    """The largest difference of an ONNX model from another at each depth, over :func:`probes`."""
    runners = [session(with_log_mel(one).SerializeToString(), "ONNX") for one in (model, other)]
    largest = dict.fromkeys(DEPTHS, 0.0)
    for _, signal in probes(window):
        for depth, error in depth_errors(*(run_depths(runner, signal) for runner in runners)).items():
            largest[depth] = max(largest[depth], error)
    return Depths(**largest)


def depth_errors(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> dict[str, float]:
    """How far log-mel, embedding and emotion are from what is expected, each as :class:`Depths` says."""
    measures = (difference, relative, relative)
    return {name: how(*pair) for name, how, *pair in zip(DEPTHS, measures, found, expected, strict=True)}


def run_depths(runner: Any, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log-mel (frames, n_mels), embedding and emotion of one signal by a session of :func:`with_log_mel`."""
    decibel, embedding, emotion = runner.run(list(DEPTHS), {"signal": signal[None]})
    return decibel[0].T, embedding[0], emotion[0]


def with_log_mel(model: Any) -> Any:
    """A copy of an ONNX model that answers its log-mel too."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, None))
    return copy


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference."""
    return float(np.max(np.abs(found - expected)))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in parts of the largest expected value if that is above 1."""
    return difference(found, expected) / max(1.0, float(np.max(np.abs(expected))))
