"""The student as an ONNX graph, waveform in, emotion and embedding out: built node by node from its arrays.

Time is the last axis inside the graph, so that log-mel, convolutions, tokens and pooling follow each other without
a transpose. Three exact simplifications: batch norm is folded into the convolution before it; the bias of ``sof``
is left out, because a softmax over time cannot see it; that of ``lin`` is added once, after the pooling, because
the weights of the pooling sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from wav2small.config import OUTPUTS, STUDENT, Student
from wav2small.frontend import dft_kernel, mel_filterbank

OPSET = 17
IR_VERSION = 8
"""Both are read by onnxruntime 1.17, the oldest we allow."""
INT8 = ("lin.weight", "sof.weight")
"""What :func:`quantise` brings to eight bits: 57,122 of the trained weights."""


class Graph:
    """Nodes and constants in the order they are made; each node is named by its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.asarray(value, np.float32))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def build(arrays: Mapping[str, np.ndarray], config: Student = STUDENT) -> onnx.ModelProto:
    """The float32 graph.

    Args:
        arrays: as reference.py names them
        config: sizes and front end

    Returns:
        input ``signal`` (batch, samples), outputs ``emotion`` (batch, 3), not clipped, and ``embedding``
        (batch, embedding_size); the value ``log_mel`` (batch, n_mels, frames) is inside
    """
    graph = Graph()
    normalise(graph, config)
    log_mel(graph, config)
    hidden = convolutions(graph, arrays, config)
    pool(graph, hidden, arrays, config)
    shapes: dict[str, list[str | int | None]] = {
        "signal": ["batch", "samples"],
        "emotion": ["batch", len(OUTPUTS)],
        "embedding": ["batch", config.embedding_size],
    }
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    body = helper.make_graph(graph.nodes, config.name, infos[:1], infos[1:], graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(body, opset_imports=opset, ir_version=IR_VERSION, producer_name="wav2small")
    onnx.checker.check_model(model, full_check=True)
    return model


def normalise(graph: Graph, config: Student) -> None:
    """Layer 0: zero mean, unit variance over the utterance."""
    graph.node("ReduceMean", ["signal"], "mean", axes=[1], keepdims=1)
    graph.node("Sub", ["signal", "mean"], "centred")
    graph.node("Mul", ["centred", "centred"], "centred_squared")
    graph.node("ReduceMean", ["centred_squared"], "variance", axes=[1], keepdims=1)
    floor = graph.number("variance_floor", config.frontend.variance_floor)
    graph.node("Add", ["variance", floor], "variance_floored")
    graph.node("Sqrt", ["variance_floored"], "deviation")
    graph.node("Div", ["centred", "deviation"], "normalised")


def log_mel(graph: Graph, config: Student) -> None:
    """Layers 1 and 2: one convolution for both parts of the DFT; the mel matrix adds their squares as it weighs."""
    frontend = config.frontend
    kernel = dft_kernel(frontend).reshape(2 * frontend.n_bins, 1, frontend.n_fft).astype(np.float32)
    filters = mel_filterbank(frontend).T.astype(np.float32)
    graph.node("Unsqueeze", ["normalised", graph.constant("axis_1", np.array([1]))], "channel")
    dft = ["channel", graph.constant("dft", kernel)]
    graph.node("Conv", dft, "spectrum", strides=[frontend.hop_length], kernel_shape=[frontend.n_fft])
    graph.node("Mul", ["spectrum", "spectrum"], "power")
    graph.node("MatMul", [graph.constant("mel", np.concatenate([filters, filters], axis=1)), "power"], "mel_power")
    graph.node("Max", ["mel_power", graph.number("amin", frontend.amin)], "mel_floored")
    graph.node("Log", ["mel_floored"], "mel_log")
    graph.node("Mul", ["mel_log", graph.number("decibel", 10 / np.log(10))], "log_mel")


def convolutions(graph: Graph, arrays: Mapping[str, np.ndarray], config: Student) -> str:
    """Layers 3 to 10; kernels are transposed, as time is the last axis."""
    hidden = graph.node("Unsqueeze", ["log_mel", "axis_1"], "image")
    for index in range(1, config.early + config.late + 1):
        kernel, bias = folded(arrays, index, config.batch_norm_eps)
        inputs = [hidden, graph.constant(f"conv{index}.weight", kernel), graph.constant(f"conv{index}.bias", bias)]
        convolved = graph.node("Conv", inputs, f"conv{index}", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        hidden = graph.node("Relu", [convolved], f"relu{index}")
        if index == config.early:
            window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
            hidden = graph.node("MaxPool", [hidden], "halved", **window)
    return hidden


def folded(arrays: Mapping[str, np.ndarray], index: int, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Convolution and batch norm as one: kernel (outputs, inputs, mels, time) and bias (outputs)."""
    norm = {part: arrays[f"norm{index}.{part}"].astype(np.float64) for part in ("weight", "bias")}
    mean, variance = (arrays[f"norm{index}.running_{part}"].astype(np.float64) for part in ("mean", "var"))
    scale = norm["weight"] / np.sqrt(variance + eps)
    kernel = arrays[f"conv{index}.weight"].swapaxes(2, 3) * scale[:, None, None, None]
    return kernel.astype(np.float32), (norm["bias"] - mean * scale).astype(np.float32)


def pool(graph: Graph, hidden: str, arrays: Mapping[str, np.ndarray], config: Student) -> None:
    """Layers 11 to 13: one token a column, averaged with a softmax over time as the weight."""
    shape = graph.constant("token_shape", np.array([0, config.embedding_size, -1]))
    graph.node("Reshape", [hidden, shape], "tokens")
    for name, output in (("lin", "value"), ("sof", "score")):
        graph.node("MatMul", [graph.constant(f"{name}.weight", arrays[f"{name}.weight"]), "tokens"], output)
    graph.node("Softmax", ["score"], "share", axis=2)
    graph.node("Mul", ["value", "share"], "shared")
    graph.node("ReduceSum", ["shared", graph.constant("axis_2", np.array([2]))], "pooled", keepdims=0)
    graph.node("Add", ["pooled", graph.constant("lin.bias", arrays["lin.bias"])], "embedding")
    out = [graph.constant(f"out.{part}", arrays[f"out.{part}"]) for part in ("weight", "bias")]
    graph.node("Gemm", ["embedding", *out], "emotion", transB=1)


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose two large matrices are int8, one scale a row, and whose other trained weights are float16.

    Seven convolutions in a row add up the rounding of eight bits, and their 9,243 weights are cheap at sixteen. The
    front end and the biases stay float32. Everything is computed in float32: a weight is written as ``Cast``, and
    ``Mul`` by its scale, which runtimes fold when they load the file.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    constants, nodes = list(small.graph.initializer), list(small.graph.node)
    del small.graph.initializer[:], small.graph.node[:]
    for constant in constants:
        name, array = constant.name, numpy_helper.to_array(constant)
        if name in INT8:
            integers, scale = rounded(array)
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
    return helper.make_node("Cast", [source], [target], target, to=onnx.TensorProto.FLOAT)


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers from -127 to 127, and the float32 scale of each row that gives the weight back."""
    largest = np.abs(weight).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale
