"""Multiply-accumulates and tokens of an ONNX graph, counted node by node. See docs/bench.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from wav2small.config import SAMPLING_RATE

COUNTED_DUR = 5
"""Seconds of audio that a count is about."""
RECURRENT = {"GRU", "If", "LSTM", "Loop", "RNN", "Scan"}
QUANTISED = {"QLinearConv", "QLinearMatMul"}
UNCOUNTED = RECURRENT | QUANTISED | {"Attention", "ConvTranspose", "DFT", "DeformConv", "Einsum", "STFT"}
"""Operators that multiply, or hide graphs that may: a network with one has no count rather than a wrong one."""


def inferred(content: bytes, samples: int = COUNTED_DUR * SAMPLING_RATE) -> Any:
    """An ONNX model with the shape of every value for one signal of so many samples."""
    import onnx

    model = onnx.load_model_from_string(content)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    for size, dimension in zip((1, samples), model.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dimension.dim_value = size
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Of every value and constant whose shape is known."""
    found = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(size.HasField("dim_value") for size in tensor.shape.dim):
            found[value.name] = tuple(size.dim_value for size in tensor.shape.dim)
    return found


def count_macs(model: Any) -> int | None:
    """Multiplications that are added up, in convolutions and matrix products, of a model from :func:`inferred`.

    What depends on constants alone is computed when the file is loaded, and costs nothing. Zeros that a convolution
    pads with are multiplied too. Products of single values, divisions, and sums are no MACs.

    Returns:
        the count, or None where the graph has an operator of ``UNCOUNTED`` or a shape cannot be known
    """
    known, total = shapes(model), 0
    for node in at_run_time(model):
        if node.op_type in UNCOUNTED or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in SUMMED:
            sizes = [known[name] for name in (node.output[0], *node.input[:2]) if name in known]
            if len(sizes) < 3:
                return None
            output, first, second = sizes
            total += math.prod(output) * SUMMED[node.op_type](node, first, second)
    return total


SUMMED: dict[str, Callable[[Any, tuple[int, ...], tuple[int, ...]], int]] = {
    "Conv": lambda node, data, kernel: math.prod(kernel[1:]),
    "ConvInteger": lambda node, data, kernel: math.prod(kernel[1:]),
    "MatMul": lambda node, left, right: left[-1],
    "MatMulInteger": lambda node, left, right: left[-1],
    "Gemm": lambda node, left, right: left[0 if attribute(node, "transA", 0) else 1],
}
"""Products that are added up for one value of the output."""


def at_run_time(model: Any) -> Iterator[Any]:
    """The nodes that depend on the signal."""
    constant = {tensor.name for tensor in model.graph.initializer} | {""}
    for node in model.graph.node:
        if constant.issuperset(node.input) and node.op_type not in UNCOUNTED:
            constant.update(node.output)
        else:
            yield node


def attribute(node: Any, name: str, default: int) -> int:
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def tokens_per_second(model: Any) -> float | None:
    """Values that the last softmax is over, a second: the network pools over time with it."""
    known, last = shapes(model), [node for node in model.graph.node if node.op_type == "Softmax"][-1:]
    lengths = [known[node.input[0]][attribute(node, "axis", -1)] for node in last if node.input[0] in known]
    return lengths[0] / COUNTED_DUR if lengths else None
