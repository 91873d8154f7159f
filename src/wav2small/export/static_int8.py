"""Static int8: activations are quantised too, at scales that real speech sets.

ONNX Runtime's quantiser writes the file. It is faster for large networks, and less accurate than quantised weights
alone: so export holds it to its CCC (artefacts.py). The front end, and what follows the softmax, stay float.

No product saturates, whatever the CPU, so CPUs differ by rounding alone. Without VNNI, an x86 CPU multiplies uint8 by
int8 with ``vpmaddubsw``, which saturates the sum of each two products at 16 bits. So weights have seven bits, and two
products always fit: 255 * 64 * 2 = 32,640 <= 32,767. Activations are unsigned, because a product of two activations
then is one of uint8 by uint8, which ONNX Runtime computes in 32 bits.

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
"""Of those given, evenly spread; scales are the largest values seen."""
MAX_WEIGHT = 64
"""Magnitude of a quantised weight: the largest integer w with 255 * w * 2 within int16."""
QUANTISED = ("Add", "Clip", "Conv", "Gemm", "MatMul", "MaxPool", "Relu")


def static_int8(model: Any, segments: Sequence[Segment], min_length: int, source: str = "static int8") -> Any:
    """A copy of an ONNX model with weights of seven bits and activations of eight, one scale for each row of a weight.

    Args:
        model: float32, with a value ``log_mel`` inside
        segments: of speech
        min_length: samples below which the network has no answer; shorter clips are padded with zeros
        source: name of the weights in errors

    Raises:
        WeightsError: if a product could saturate
        ManifestError: if there is no speech in the segments
        AudioError: if one cannot be read
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    last = [node for node in model.graph.node if node.op_type == "Softmax"][-1:]
    made = made_from(model, "log_mel").union(*(made_by(model, node.output[0]) for node in last))
    kept = [node.name for node in model.graph.node if not made.isdisjoint(node.output)]
    with quietly(), tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, whole)  # given the model itself, it would write into it
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
    """Refuse a model whose int8 products could saturate at 16 bits.

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
                "saturate on CPUs without VNNI; nothing was written; export float32 weights, which are quantised here"
            )
    for name, array in signed.items():
        if (largest := np.abs(array).max(initial=0)) > MAX_WEIGHT:
            raise WeightsError(
                f"{source}: {name} has a value of magnitude {largest}, allowed {MAX_WEIGHT}: products of more saturate "
                "on CPUs without VNNI; nothing was written; export float32 weights, which are quantised here"
            )


class Reader:
    """Signals as ONNX Runtime's calibration asks for them."""

    def __init__(self, signals: Sequence[np.ndarray], min_length: int) -> None:
        padded = (np.pad(signal, (0, max(0, min_length - len(signal)))) for signal in signals)
        self.inputs = iter([{"signal": signal[None]} for signal in padded])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input of the graph, ``signal`` with shape=(1, samples); None after the last one."""
        return next(self.inputs, None)


def speech(segments: Sequence[Segment]) -> list[np.ndarray]:
    """Up to ``CLIPS`` of the segments that hold speech, as signals at 16 kHz."""
    places = np.unique(np.linspace(0, len(segments) - 1, min(CLIPS, len(segments))).round().astype(int))
    signals = [segments[place].cut(read(segments[place].path)) for place in places]
    found = [signal for signal in signals if is_speech(signal)]
    if not found:
        raise ManifestError(f"calibration: no speech in {len(signals)} clips, so no scale can be set. Give speech.")
    return found


def made_from(model: Any, name: str) -> set[str]:
    """A value of a graph, and every value and constant that it is computed from."""
    found = {name}
    for node in reversed(model.graph.node):
        if not found.isdisjoint(node.output):
            found.update(node.input)
    return found


def made_by(model: Any, name: str) -> set[str]:
    """A value of a graph, and every value that is computed from it."""
    found = {name}
    for node in model.graph.node:
        if not found.isdisjoint(node.input):
            found.update(node.output)
    return found


@contextmanager
def quietly() -> Iterator[None]:
    """Without what a converter warns and logs about itself; an error is still one."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
