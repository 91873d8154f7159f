"""The ONNX graph of a student: signal in, emotion and embedding out, built node by node from its arrays.

Time is the last axis inside the graph, so log-mel, convolutions, tokens and pooling need no transpose. Three
simplifications are exact: batch norm is folded into the preceding convolution; the bias of ``sof`` is omitted, because
a softmax over time does not depend on it; the bias of ``lin`` is added once, after the pooling, because the pooling
weights sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from wav2small.network.config import OUTPUTS, Frontend, Network, Place
from wav2small.network.frontend import dft_kernel, hann, mel_edges, mel_filterbank
from wav2small.network.layers import folded, scale_and_shift

OPSET = 17
IR_VERSION = 8
"""onnxruntime 1.17, the oldest supported version, reads both."""
LARGEST_STORED = 64
"""Points of the largest DFT that is stored as one matrix."""
COLUMNS = 16
"""Samples per row of a larger DFT, which has two steps. Hop and window must be multiples of it."""
INT8 = ("lin.weight", "sof.weight")
"""Weights that :func:`quantise` stores as int8: 57,122 of the 72K network's trained weights."""


class Graph:
    """Nodes and constants in order of creation; each node has the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant array and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, name: str, value: float) -> str:
        """Add a float32 scalar and return its name."""
        return self.constant(name, np.asarray(value, np.float32))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and return the name of the output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def build(arrays: Mapping[str, np.ndarray], network: Network) -> onnx.ModelProto:
    """Build the float32 graph.

    Args:
        arrays: float32 weights
        network: the network of these weights

    Returns:
        model with the input ``signal`` (batch, samples), the outputs ``emotion`` (batch, 3), not clipped, and
        ``embedding`` (batch, embedding_size), and the inner value ``log_mel`` (batch, n_mels, frames)

    Source: arXiv:2408.13920, layers 0 to 13.
    """
    graph = Graph()
    if network.normalisation == "utterance":
        normalise(graph, network)
    log_mel(graph, network)
    hidden = layers(graph, arrays, network)
    if network.pooling == "gram":
        pool_gram(graph, hidden, arrays)
    else:
        pool_tokens(graph, as_tokens(graph, hidden, network), arrays)
    out = [graph.constant(f"out.{part}", arrays[f"out.{part}"]) for part in ("weight", "bias")]
    graph.node("Gemm", ["embedding", *out], "emotion", transB=1)
    shapes: dict[str, list[str | int | None]] = {
        "signal": ["batch", "samples"],
        "emotion": ["batch", len(OUTPUTS)],
        "embedding": ["batch", network.embedding_size],
    }
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    body = helper.make_graph(graph.nodes, network.name, infos[:1], infos[1:], graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(body, opset_imports=opset, ir_version=IR_VERSION, producer_name="wav2small")
    onnx.checker.check_model(model, full_check=True)
    return model


def normalise(graph: Graph, network: Network) -> None:
    """Layer 0: zero mean, unit variance over the utterance."""
    graph.node("ReduceMean", ["signal"], "mean", axes=[1], keepdims=1)
    graph.node("Sub", ["signal", "mean"], "centred")
    graph.node("Mul", ["centred", "centred"], "centred_squared")
    graph.node("ReduceMean", ["centred_squared"], "variance", axes=[1], keepdims=1)
    floor = graph.number("variance_floor", network.frontend.variance_floor)
    graph.node("Add", ["variance", floor], "variance_floored")
    graph.node("Sqrt", ["variance_floored"], "deviation")
    graph.node("Div", ["centred", "deviation"], "normalised")


def log_mel(graph: Graph, network: Network) -> None:
    """Layers 1 and 2: mel power in dB; with running normalisation, relative to the level."""
    frontend = network.frontend
    running = network.normalisation == "running"
    source = "signal" if running else "normalised"
    graph.constant("axis_1", np.array([1]))
    power = (small_mel_power if frontend.n_fft <= LARGEST_STORED else large_mel_power)(graph, source, frontend)
    if running:
        power = over_running_level(graph, power, network)
    graph.node("Max", [power, graph.number("amin", frontend.amin)], "mel_floored")
    graph.node("Log", ["mel_floored"], "mel_log")
    graph.node("Mul", ["mel_log", graph.number("decibel", 10 / np.log(10))], "log_mel")


def small_mel_power(graph: Graph, source: str, frontend: Frontend) -> str:
    """Mel power by one convolution for both parts of the DFT; the mel matrix also adds their squares.

    Bins outside all mel bands are omitted.
    """
    used = np.flatnonzero(mel_filterbank(frontend).any(1))
    kernel = dft_kernel(frontend)[:, used].reshape(-1, 1, frontend.win_length)
    filters = mel_filterbank(frontend).T[:, used]
    graph.node("Unsqueeze", [source, "axis_1"], "channel")
    dft = graph.constant("dft", kernel.astype(np.float32))
    graph.node("Conv", ["channel", dft], "spectrum", strides=[frontend.hop_length], kernel_shape=[frontend.win_length])
    graph.node("Mul", ["spectrum", "spectrum"], "power")
    mel = graph.constant("mel", np.concatenate([filters, filters], axis=1).astype(np.float32))
    return graph.node("MatMul", [mel, "power"], "mel_power")


def large_mel_power(graph: Graph, source: str, frontend: Frontend) -> str:
    """Mel power by a DFT in two steps, as in an FFT, with a quarter of the multiplications.

    A window is reshaped to rows of ``COLUMNS`` samples. Step one is a short DFT along each column. Its output c
    determines the bins c, c + rows, c + 2 rows, ... of the whole DFT: step two is one matrix per c. Outputs c below and
    above the middle are conjugates, so half of them suffice, and duplicate bins are used once. Large matrices are
    written as formulas, which a runtime computes once when it loads the file. Phases are integer multiples of a step,
    so float32 is sufficiently accurate.
    """
    n_fft, rows, half = frontend.n_fft, frontend.n_fft // COLUMNS, frontend.n_fft // COLUMNS // 2 + 1
    graph.node(
        "Mul",
        [windows(graph, source, frontend), graph.constant("hann", hann(frontend)[:, None].astype(np.float32))],
        "windowed",
    )
    graph.node(
        "Reshape", ["windowed", graph.constant("by_row", np.array([0, frontend.win_length // COLUMNS, -1]))], "rows"
    )
    phase = 2 * np.pi * np.outer(np.arange(half), np.arange(frontend.win_length // COLUMNS)) / rows
    columns = np.stack([np.cos(phase), -np.sin(phase)], axis=1).reshape(2 * half, -1)
    graph.node("MatMul", [graph.constant("dft_columns", columns.astype(np.float32)), "rows"], "columns")
    graph.node("Reshape", ["columns", graph.constant("by_c", np.array([0, half, 2 * COLUMNS, -1]))], "inner")
    bins = np.arange(half)[:, None] + rows * np.arange(COLUMNS)
    graph.node("MatMul", [dft_rows(graph, bins, n_fft), "inner"], "spectrum")
    graph.node("Mul", ["spectrum", "spectrum"], "squares")
    graph.node("Reshape", ["squares", graph.constant("flat", np.array([0, half * 2 * COLUMNS, -1]))], "power")
    used = np.minimum(bins, n_fft - bins)
    _, first = np.unique(used, return_index=True)
    used = np.where(np.isin(np.arange(used.size), first), used.ravel(), 0).reshape(used.shape)
    return graph.node(
        "MatMul", [mel_formula(graph, np.concatenate([used, used], axis=1), frontend), "power"], "mel_power"
    )


def windows(graph: Graph, source: str, frontend: Frontend) -> str:
    """Every window of the signal as a column, (batch, win_length, frames), concatenated from hops."""
    hop = frontend.hop_length
    hops = -(-frontend.win_length // hop)
    padding = graph.constant("padding", np.array([0, 0, 0, hops * hop - frontend.win_length]))
    graph.node("Pad", [source, padding], "padded")
    graph.node("Shape", ["padded"], "samples", start=1, end=2)
    graph.node("Div", ["samples", graph.constant("hop", np.array([hop]))], "hops")
    graph.node("Mul", ["hops", "hop"], "used")
    graph.node("Slice", ["padded", graph.constant("start", np.array([0])), "used", "axis_1"], "whole")
    graph.node("Reshape", ["whole", graph.constant("by_hop", np.array([0, -1, hop]))], "hop_rows")
    graph.node("Transpose", ["hop_rows"], "hop_columns", perm=[0, 2, 1])
    graph.constant("axes_12", np.array([1, 2]))
    parts = []
    for index in range(hops):
        start = graph.constant(f"hop{index}_start", np.array([0, index]))
        end = [min(hop, frontend.win_length - index * hop), index + 1 - hops or np.iinfo(np.int64).max]
        inputs = ["hop_columns", start, graph.constant(f"hop{index}_end", np.array(end)), "axes_12"]
        parts.append(graph.node("Slice", inputs, f"hop{index}"))
    return graph.node("Concat", parts, "windows", axis=1)


def dft_rows(graph: Graph, bins: np.ndarray, n_fft: int) -> str:
    """For each c, the matrix from (real and imaginary parts, columns) to (parts, bins), as cosines."""
    graph.constant("dft_bins", np.concatenate([bins, bins], axis=1)[:, :, None])
    graph.constant("dft_time", np.concatenate([np.arange(COLUMNS)] * 2))
    turns = np.repeat([0, n_fft // 4], COLUMNS)
    graph.node("Mul", ["dft_bins", "dft_time"], "dft_product")
    graph.node("Add", ["dft_product", graph.constant("dft_turns_there", turns[:, None])], "dft_turned")
    graph.node("Sub", ["dft_turned", graph.constant("dft_turns_back", turns)], "dft_turns")
    graph.node("Mod", ["dft_turns", graph.constant("n_fft", np.array(n_fft))], "dft_step")
    graph.node("Cast", ["dft_step"], "dft_float", to=onnx.TensorProto.FLOAT)
    graph.node("Mul", ["dft_float", graph.number("dft_angle", 2 * np.pi / n_fft)], "dft_phase")
    return graph.node("Cos", ["dft_phase"], "dft_rows")


def mel_formula(graph: Graph, bins: np.ndarray, frontend: Frontend) -> str:
    """The mel matrix for the power of these bins; the bin at 0 Hz has no weight."""
    low, centre, high = (edge[:, None] for edge in mel_edges(frontend))
    height = 2 / (high - low)
    hertz = bins.reshape(1, -1) * frontend.sampling_rate / frontend.n_fft
    graph.constant("mel_hertz", hertz.astype(np.float32))
    sides = {"up": (height / (centre - low), -low), "down": (-height / (high - centre), -high)}
    for side, (slope, start) in sides.items():
        graph.node("Add", ["mel_hertz", graph.constant(f"mel_{side}_start", start.astype(np.float32))], f"mel_{side}")
        slopes = graph.constant(f"mel_{side}_slope", slope.astype(np.float32))
        graph.node("Mul", [f"mel_{side}", slopes], f"mel_{side}_side")
    graph.node("Min", ["mel_up_side", "mel_down_side"], "mel_triangle")
    return graph.node("Relu", ["mel_triangle"], "mel")


def over_running_level(graph: Graph, power: str, network: Network) -> str:
    """Divide each frame by the mean power of the last frames: a causal average pool that excludes the padding."""
    graph.node("ReduceSum", [power, "axis_1"], "frame_power", keepdims=1)
    window: dict[str, Any] = {"kernel_shape": [network.level_frames], "pads": [network.level_frames - 1, 0]}
    graph.node("AveragePool", ["frame_power"], "level", **window)
    floor = graph.number("variance_floor", network.frontend.variance_floor)
    graph.node("Add", ["level", floor], "level_floored")
    return graph.node("Div", [power, "level_floored"], "mel_normalised")


def layers(graph: Graph, arrays: Mapping[str, np.ndarray], network: Network) -> str:
    """The layers after log-mel: (batch, channels, mels, time), or (batch, channels, time) if mels are channels."""
    if network.mels_are_channels:
        scale, shift = scale_and_shift(arrays, "norm0", network.batch_norm_eps)
        graph.node("Mul", ["log_mel", graph.constant("norm0.scale", scale[:, None])], "mel_scaled")
        hidden = graph.node("Add", ["mel_scaled", graph.constant("norm0.shift", shift[:, None])], "mel_shifted")
    else:
        hidden = graph.node("Unsqueeze", ["log_mel", "axis_1"], "image")
    before = hidden
    for place in network.places():
        layer = place.layer
        output = max_pool(graph, hidden, place) if layer.pool else convolution(graph, hidden, place, arrays, network)
        if layer.adds:
            output = graph.node("Add", [before, output], f"{layer.name}.sum")
        before, hidden = hidden, output
    return hidden


def convolution(graph: Graph, source: str, place: Place, arrays: Mapping[str, np.ndarray], network: Network) -> str:
    """A convolution with folded norm and ReLU; 2-D kernels are transposed, because time is the last axis."""
    layer = place.layer
    kernel, bias = folded(arrays, layer, network.batch_norm_eps)
    if kernel.ndim == 4:
        kernel = kernel.swapaxes(2, 3)
    inputs = [source, graph.constant(f"{layer.name}.weight", kernel), graph.constant(f"{layer.name}.bias", bias)]
    attributes = over_mels_and_time(place, network)
    if layer.depthwise:
        attributes["group"] = layer.outputs
    graph.node("Conv", inputs, layer.name, **attributes)
    return graph.node("Relu", [layer.name], f"{layer.name}.relu")


def max_pool(graph: Graph, source: str, place: Place) -> str:
    """A max-pool with the same stride in mels and time."""
    layer, side = place.layer, place.layer.kernel[1] // 2
    pads = [side, layer.padding[0], side, layer.padding[1]]
    window: dict[str, Any] = {"kernel_shape": list(layer.kernel[::-1]), "strides": [layer.stride] * 2, "pads": pads}
    return graph.node("MaxPool", [source], layer.name, **window)


def over_mels_and_time(place: Place, network: Network) -> dict[str, Any]:
    """Kernel, padding, stride and dilation of a convolution; defaults are omitted."""
    layer, (before, after), side = place.layer, place.layer.padding, place.layer.kernel[1] // 2
    flat = network.mels_are_channels
    attributes: dict[str, Any] = {"kernel_shape": [layer.kernel[0]] if flat else list(layer.kernel[::-1])}
    if before or after or side:
        attributes["pads"] = [before, after] if flat else [side, before, side, after]
    if layer.stride > 1:
        attributes["strides"] = [layer.stride] if flat else [1, layer.stride]
    if layer.dilation > 1:
        attributes["dilations"] = [layer.dilation] if flat else [1, layer.dilation]
    return attributes


def as_tokens(graph: Graph, hidden: str, network: Network) -> str:
    """Tokens as columns, (batch, channels x mels, time)."""
    if network.mels_are_channels:
        return hidden
    shape = graph.constant("token_shape", np.array([0, network.token_size, -1]))
    return graph.node("Reshape", [hidden, shape], "tokens")


def pool_tokens(graph: Graph, tokens: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Mean of tokens (batch, size, time) over time, weighted by a softmax over time."""
    for name, output in (("lin", "value"), ("sof", "score")):
        graph.node("MatMul", [graph.constant(f"{name}.weight", arrays[f"{name}.weight"]), tokens], output)
    graph.node("Softmax", ["score"], "share", axis=2)
    graph.node("Mul", ["value", "share"], "shared")
    graph.node("ReduceSum", ["shared", graph.constant("axis_2", np.array([2]))], "pooled", keepdims=0)
    graph.node("Add", ["pooled", graph.constant("lin.bias", arrays["lin.bias"])], "embedding")


def pool_gram(graph: Graph, hidden: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Pooled 1x1 convolutions over (batch, channels, mels, time), with the Gram matrix of the channels appended."""
    for name, output in (("lin", "value"), ("sof", "score")):
        kernel = graph.constant(f"{name}.weight", arrays[f"{name}.weight"][:, :, None, None])
        graph.node("Conv", [hidden, kernel], output, kernel_shape=[1, 1])
    graph.node("Softmax", ["score"], "share", axis=3)
    graph.node("Mul", ["value", "share"], "shared")
    graph.node("ReduceSum", ["shared", graph.constant("axis_3", np.array([3]))], "pooled", keepdims=0)
    graph.node("Add", ["pooled", graph.constant("lin.bias", arrays["lin.bias"][:, None])], "map")
    graph.node("Transpose", ["map"], "map_transposed", perm=[0, 2, 1])
    graph.node("MatMul", ["map", "map_transposed"], "gram")
    flat = [graph.node("Flatten", [name], f"{name}_flat") for name in ("map", "gram")]
    graph.node("Concat", flat, "embedding", axis=1)


def quantise(model: onnx.ModelProto, factors: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """A copy with the two large matrices as int8 (one scale per row) and the other trained weights as float16.

    The convolutions stay at sixteen bits: their int8 rounding errors would accumulate over seven layers, and they have
    only 9,243 weights. The front end and the biases stay float32. Computation is in float32: a weight is stored as
    ``Cast`` and ``Mul`` by its scale, which runtimes fold when they load the file.

    Args:
        model: float32 model
        factors: scales by name of a weight, from quantisation-aware training; these weights are int8 times their factor
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    constants, nodes = list(small.graph.initializer), list(small.graph.node)
    del small.graph.initializer[:], small.graph.node[:]
    for constant in constants:
        name, array = constant.name, numpy_helper.to_array(constant)
        if name in (factors or ()) or (factors is None and name in INT8 and array.ndim == 2):
            integers, scale = quantise_rows(array, None if factors is None else factors[name])
            stored = [
                numpy_helper.from_array(integers, f"{name}.int8"),
                numpy_helper.from_array(scale, f"{name}.scale"),
            ]
            made = [cast(stored[0].name, f"{name}.float")]
            made.append(helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name], name))
        elif name.endswith(".weight"):
            stored = [numpy_helper.from_array(array.astype(np.float16), f"{name}.float16")]
            made = [cast(stored[0].name, name)]
        else:
            stored, made = [constant], []
        small.graph.initializer.extend(stored)
        small.graph.node.extend(made)
    small.graph.node.extend(nodes)
    onnx.checker.check_model(small, full_check=True)
    return small


def cast(source: str, target: str) -> onnx.NodeProto:
    """A node that casts ``source`` to float32; the node and its output are named ``target``."""
    return helper.make_node("Cast", [source], [target], target, to=onnx.TensorProto.FLOAT)


def quantise_rows(weight: np.ndarray, scale: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a weight (rows, columns) to int8.

    Args:
        weight: float32, shape=(rows, columns)
        scale: scale of each row, shape=(rows, 1); None takes the largest magnitude of the row / 127

    Returns:
        int8 integers from -127 to 127, shape=(rows, columns), and float32 scales; their product approximates the weight
    """
    if scale is None:
        largest = np.abs(weight).max(axis=1, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale
