"""Static int8 quantisation of weights and activations. Real speech sets the scales of the activations.

ONNX Runtime's quantiser writes the file. For large networks it is faster than quantised weights alone, but less
accurate, so export checks its CCC (artefacts.py). The front end and everything after the softmax stay float32.

Products do not saturate on any CPU, so results differ between CPUs only by rounding. Without VNNI, an x86 CPU
multiplies uint8 by int8 with ``vpmaddubsw``, which saturates the sum of two products at 16 bits. Weights therefore have
seven bits, so that two products fit: 255 * 64 * 2 = 32,640 <= 32,767. Activations are unsigned, because ONNX Runtime
computes products of uint8 by uint8 in 32 bits.

Source: the kernels Qgemm, Qgemv and ConvSym for AVX2 in onnxruntime/core/mlas/lib/x86_64, where each
``vpmaddubsw`` is followed by a sum in 32 bits.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.audio.read import is_speech, read
from wav2small.errors import ManifestError, WeightsError
from wav2small.tables.manifest import Segment

CLIPS = 64
"""Largest number of calibration clips, evenly spaced in the list. Scales are the largest observed values."""
MAX_WEIGHT = 64
"""Largest magnitude of a quantised weight w, so that 255 * w * 2 fits into int16."""
QUANTISED = ("Add", "Clip", "Conv", "Gemm", "MatMul", "MaxPool", "Relu")


def static_int8(model: Any, segments: Sequence[Segment], min_length: int, source: str = "static int8") -> Any:
    """A copy of an ONNX model with 7-bit weights and 8-bit activations, with one scale per row of a weight.

    Args:
        model: float32 model with an inner value ``log_mel``
        segments: segments of speech, for calibration
        min_length: smallest input of the network in samples; shorter clips are zero-padded
        source: name of the weights, for error messages

    Returns:
        ONNX model

    Raises:
        WeightsError: if a product could saturate
        ManifestError: if the segments contain no speech
        AudioError: if a segment cannot be read
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    last = [node for node in model.graph.node if node.op_type == "Softmax"][-1:]
    excluded = sources(model, "log_mel").union(*(dependants(model, node.output[0]) for node in last))
    kept = [node.name for node in model.graph.node if not excluded.isdisjoint(node.output)]
    with quietly(), tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, whole)  # a file, because quantize_static would change the model in place
        quantize_static(
            str(whole),
            str(small),
            Reader(speech(segments), min_length),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=kept,
        )
        quantised = onnx.load(small)
    check_no_saturation(quantised, source)
    return quantised


def check_no_saturation(model: Any, source: str) -> None:
    """Reject a model whose int8 products could saturate at 16 bits.

    Raises:
        WeightsError: if an int8 constant is above ``MAX_WEIGHT``, or an activation is signed
    """
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    signed = {name: array.astype(int) for name, array in constants.items() if array.dtype == np.int8}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and not signed.keys().isdisjoint(node.input):
            raise WeightsError(
                f"{source}: activation {node.input[0]} is int8, allowed is uint8: products of two signed activations "
                "saturate on CPUs without VNNI; nothing was written; export float32 weights"
            )
    for name, array in signed.items():
        if (largest := np.abs(array).max(initial=0)) > MAX_WEIGHT:
            raise WeightsError(
                f"{source}: {name} has a value of magnitude {largest}, allowed {MAX_WEIGHT}: larger products saturate "
                "on CPUs without VNNI; nothing was written; export float32 weights"
            )


class Reader:
    """Calibration signals in the interface of ONNX Runtime's quantiser.

    Args:
        signals: mono audio at 16 kHz, float32, shape=(samples,) each
        min_length: signals are zero-padded to so many samples
    """

    def __init__(self, signals: Sequence[np.ndarray], min_length: int) -> None:
        padded = (np.pad(signal, (0, max(0, min_length - len(signal)))) for signal in signals)
        self.inputs = iter([{"signal": signal[None]} for signal in padded])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input of the graph, ``signal`` with shape=(1, samples); None after the last one."""
        return next(self.inputs, None)


def speech(segments: Sequence[Segment]) -> list[np.ndarray]:
    """Signals at 16 kHz of up to ``CLIPS`` segments; those without speech are omitted.

    Raises:
        ManifestError: if no segment contains speech
        AudioError: if a segment cannot be read
    """
    places = np.unique(np.linspace(0, len(segments) - 1, min(CLIPS, len(segments))).round().astype(int))
    signals = [segments[place].cut(read(segments[place].path)) for place in places]
    voiced = [signal for signal in signals if is_speech(signal)]
    if not voiced:
        raise ManifestError(f"calibration: no speech in {len(signals)} clips, so no scale can be set. Give speech.")
    return voiced


def sources(model: Any, name: str) -> set[str]:
    """Names of a value of a graph and of every value and constant that it is computed from."""
    values = {name}
    for node in reversed(model.graph.node):
        if not values.isdisjoint(node.output):
            values.update(node.input)
    return values


def dependants(model: Any, name: str) -> set[str]:
    """Names of a value of a graph and of every value that is computed from it."""
    values = {name}
    for node in model.graph.node:
        if not values.isdisjoint(node.input):
            values.update(node.output)
    return values


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress warnings and log messages of a converter; exceptions still propagate."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
