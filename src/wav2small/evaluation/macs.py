"""Multiply-accumulates of an ONNX graph, node by node, and of a network, layer by layer. See docs/bench.md."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Network

COUNTED_DUR = 5
"""Seconds of audio that a count is about."""
RECURRENT = {"GRU", "If", "LSTM", "Loop", "RNN", "Scan"}
QUANTISED = {"QLinearConv", "QLinearMatMul"}
UNCOUNTED = RECURRENT | QUANTISED | {"Attention", "ConvTranspose", "DFT", "DeformConv", "Einsum", "STFT"}
"""Operators that multiply, or hide graphs that may: a network with one has no count rather than a wrong one."""


def layer_macs(network: Network, samples: int = COUNTED_DUR * SAMPLING_RATE) -> int:
    """Multiply-accumulates of a network that is data, from its layers on, without the front end.

    Args:
        network: which layers there are
        samples: of the signal that is answered
    """
    total, columns = 0, network.frontend.num_frames(samples)
    for place in network.places():
        layer = place.layer
        columns = -(-columns // layer.stride)
        if not layer.pool:
            total += columns * place.mels * math.prod(network.weight_shape(place))
    rows = columns if network.pooling == "tokens" else columns * (network.token_size // network.pooled)
    gram = 0 if network.pooling == "tokens" else network.token_size * network.pooled
    return total + 2 * rows * math.prod(network.pooling_shape) + gram + len(OUTPUTS) * network.embedding_size


class Measured(NamedTuple):
    """An ONNX graph, and the shape of every value and constant in it for one signal."""

    model: Any
    shapes: dict[str, tuple[int, ...]]


def measured(content: bytes, samples: int = COUNTED_DUR * SAMPLING_RATE) -> Measured:
    """Shapes as they are when the model answers one signal of so many samples: it is run once."""
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(content)
    names = [name for node in model.graph.node for name in node.output if name]
    open_model = copy.deepcopy(model)
    del open_model.graph.value_info[:], open_model.graph.output[:]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(open_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: np.zeros((1, samples), np.float32)}
    values = inputs | dict(zip(names, session.run(names, inputs), strict=True))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return Measured(model, shapes | {name: value.shape for name, value in values.items()})


def count_macs(graph: Measured) -> int | None:
    """Multiplications that are added up, in convolutions and matrix products.

    What depends on constants alone is computed when the file is loaded, and costs nothing. Zeros that a convolution
    pads with are multiplied too. Products of single values, divisions, and sums are no MACs.

    Returns:
        the count, or None where the graph has an operator of ``UNCOUNTED``
    """
    total = 0
    for node in at_run_time(graph.model):
        if node.op_type in UNCOUNTED or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in SUMMED:
            output, first, second = (graph.shapes[name] for name in (node.output[0], *node.input[:2]))
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
    """Integer attribute of an ONNX node, or ``default`` where the node does not have it."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def tokens_per_second(graph: Measured) -> float | None:
    """Values that the last softmax is over, a second: the network pools over time with it."""
    last = [node for node in graph.model.graph.node if node.op_type == "Softmax"][-1:]
    lengths = [graph.shapes[node.input[0]][attribute(node, "axis", -1)] for node in last]
    return lengths[0] / COUNTED_DUR if lengths else None
