"""Differences of an ONNX model from the reference, at log-mel, embedding and emotion."""

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
    """Differences at three depths of the network.

    Attributes:
        log_mel: in dB
        embedding: relative to the largest value, or absolute if that is below 1
        emotion: likewise
    """

    log_mel: float
    embedding: float
    emotion: float


DEPTHS = tuple(field.name for field in fields(Depths))
TOLERANCES = {"fp32": Depths(0.02, 1e-3, 1e-3), "int8": Depths(0.02, 0.03, 0.04)}
"""Largest allowed differences from the reference: float32 rounding, and weights of eight and sixteen bits."""


def compare(model: Any, arrays: Mapping[str, np.ndarray], precision: str, network: Network) -> Depths:
    """Compare an ONNX model with the reference, over :func:`probes`.

    The ONNX file of an integer student does not round activations, so it is compared with the float reference of the
    same weights. The dev CCC of the training includes the effect of that rounding.

    Args:
        model: ONNX model
        arrays: weights of the student
        precision: key of ``TOLERANCES``
        network: the network of these weights

    Returns:
        the largest difference at each depth

    Raises:
        WeightsError: if a difference is above ``TOLERANCES``, or ONNX Runtime cannot load the model
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


def largest_differences(model: Any, other: Any, window: int) -> Depths:
    """The largest difference of two ONNX models at each depth, over :func:`probes` of at least ``window`` samples."""
    runners = [session(with_log_mel(one).SerializeToString(), "ONNX") for one in (model, other)]
    largest = dict.fromkeys(DEPTHS, 0.0)
    for _, signal in probes(window):
        for depth, error in depth_errors(*(run_depths(runner, signal) for runner in runners)).items():
            largest[depth] = max(largest[depth], error)
    return Depths(**largest)


def depth_errors(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> dict[str, float]:
    """Differences of log-mel, embedding and emotion from the expected arrays, in the units of :class:`Depths`."""
    measures = (difference, relative, relative)
    return {name: measure(*pair) for name, measure, *pair in zip(DEPTHS, measures, actual, expected, strict=True)}


def run_depths(runner: Any, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-mel (frames, n_mels), embedding and emotion of one signal, by a session of :func:`with_log_mel`."""
    decibel, embedding, emotion = runner.run(list(DEPTHS), {"signal": signal[None]})
    return decibel[0].T, embedding[0], emotion[0]


def with_log_mel(model: Any) -> Any:
    """A copy of an ONNX model that also outputs its log-mel."""
    from onnx import TensorProto, helper

    copy = type(model)()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, None))
    return copy


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference."""
    return float(np.max(np.abs(actual - expected)))


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference, divided by the largest expected value if that is above 1."""
    return difference(actual, expected) / max(1.0, float(np.max(np.abs(expected))))
