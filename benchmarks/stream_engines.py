"""Compare a step of ``micro`` in NumPy and C, which keep their state, and in an ONNX graph with its state as input.

    python benchmarks/stream_engines.py

All get the same samples and are compared. The rows are the median and the 95th percentile of 2,000 steps, the three in
turn, on one thread. Then streams in one call of the graph, as a shared engine of many streams would compute them, are
compared with as many calls of C. Needs the extra ``train`` for the package onnx, and a C compiler.
"""

from __future__ import annotations

import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from onnx import TensorProto, helper

from wav2small.audio.read import read
from wav2small.export import onnx_graph as parts
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.micro import MICRO
from wav2small.runtime.causal import Causal, Weights
from wav2small.runtime.model import locate
from wav2small.runtime.native import library
from wav2small.runtime.onnx_weights import read_weights
from wav2small.session import session

STEPS = 2000
TOGETHER, TOGETHER_STEPS = (1, 8, 32, 128), 40
CLIP = "examples/08a05Fe.flac"


def step_graph(weights: Weights) -> bytes:
    """Samples that follow on those before, whole pairs of frames, to the sums of the pooling, states in and out."""
    graph = parts.Graph()
    inputs, outputs = ["signal"], ["score", "weights", "values"]
    shapes = {"signal": ["streams", None]}

    def remembered(name: str, source: str, length: int, size: int) -> str:
        """The last ``length`` columns of a value before it, which come in and go out."""
        shapes[f"{name}_in"] = ["streams", size, length]
        inputs.append(f"{name}_in")
        outputs.append(f"{name}_out")
        whole = graph.node("Concat", [f"{name}_in", source], f"{name}_whole", axis=2)
        start = graph.constant(f"{name}_start", np.array([-length]))
        end = graph.constant(f"{name}_end", np.array([np.iinfo(np.int64).max]))
        graph.node("Slice", [whole, start, end, graph.constant(f"{name}_axis", np.array([2]))], f"{name}_out")
        return whole

    graph.constant("axis_1", np.array([1]))
    power = parts.large_mel_power(graph, "signal", MICRO.frontend)
    graph.node("ReduceSum", [power, "axis_1"], "frame_power", keepdims=1)
    powers = remembered("level", "frame_power", MICRO.level_frames - 1, 1)
    graph.node("AveragePool", [powers], "level", kernel_shape=[MICRO.level_frames])
    graph.node("Add", ["level", graph.number("floor", MICRO.frontend.variance_floor)], "level_floored")
    graph.node("Div", [power, "level_floored"], "normalised")
    graph.node("Max", ["normalised", graph.number("amin", MICRO.frontend.amin)], "floored")
    graph.node("Log", ["floored"], "log")
    scale = weights["norm0.scale"].ravel() * np.float32(10 / np.log(10))
    graph.node("Mul", ["log", graph.constant("norm0.scale", scale[:, None])], "scaled")
    graph.node("Add", ["scaled", graph.constant("norm0.shift", weights["norm0.shift"].ravel()[:, None])], "shifted")

    def convolution(source: str, name: str, **attributes: object) -> str:
        kernel, bias = (graph.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        graph.node("Conv", [source, kernel, bias], name, **attributes)
        return graph.node("Relu", [name], f"{name}.relu")

    hidden = before = "shifted"
    for place in MICRO.places():
        layer = place.layer
        source = remembered(f"{layer.name}_past", hidden, layer.reach, place.inputs) if layer.reach else hidden
        group = layer.outputs if layer.depthwise else 1
        output = convolution(source, layer.name, strides=[layer.stride], group=group, dilations=[layer.dilation])
        if layer.adds:
            output = graph.node("Add", [before, output], f"{layer.name}.sum")
        before, hidden = hidden, output
    for name in ("lin", "sof"):
        graph.node("MatMul", [graph.constant(f"{name}.weight", weights[f"{name}.weight"]), hidden], name)
    graph.node("ReduceMax", ["sof"], "score", axes=[2], keepdims=1)
    graph.node("Sub", ["sof", "score"], "relative")
    graph.node("Exp", ["relative"], "share")
    graph.node("Mul", ["share", "lin"], "shared")
    axis = graph.constant("axis_2", np.array([2]))
    graph.node("ReduceSum", ["share", axis], "weights", keepdims=0)
    graph.node("ReduceSum", ["shared", axis], "values", keepdims=0)
    whole = helper.make_graph(
        graph.nodes,
        "step",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        graph.constants,
    )
    opset = [helper.make_opsetid("", parts.OPSET)]
    return helper.make_model(whole, opset_imports=opset, ir_version=parts.IR_VERSION).SerializeToString()


class OnnxStep:
    """The graph and its state, which stays where ONNX Runtime has put it."""

    def __init__(self, network: Causal, content: bytes) -> None:
        self.session = session(content, "step")
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.signal = network.state["signal"]
        level = np.zeros(MICRO.level_frames - 1)
        level[-len(network.state["level"]) :] = network.state["level"]
        pasts = [past.T for name, past in network.state.items() if name not in ("signal", "level")]
        states = [level[None], *pasts]
        names = [name.removesuffix("_out") + "_in" for name in self.outputs[3:]]
        self.states = {name: state[None].astype(np.float32) for name, state in zip(names, states, strict=True)}

    def push(self, signal: np.ndarray) -> list[np.ndarray]:
        self.signal = np.concatenate([self.signal, signal])
        answer = self.session.run(self.outputs, {"signal": self.signal[None], **self.states})
        self.states = dict(zip(self.states, answer[3:], strict=True))
        hop = MICRO.frontend.hop_length
        self.signal = self.signal[MICRO.frontend.num_frames(len(self.signal)) * hop :]
        return [part.ravel() for part in answer[:3]]


def main() -> None:
    weights = read_weights(locate("micro", ".onnx").read_bytes())
    content, signal = step_graph(weights), np.resize(read(CLIP), 400 * SAMPLING_RATE)
    print(f"the ONNX step has {len(content):,} bytes; median and 95th percentile in ms")
    print("| step | NumPy | ONNX | C |\n|---|---|---|---|")
    for dur in (0.1, 0.5, 1.0):
        length = round(dur * SAMPLING_RATE)
        network = Causal(weights, MICRO)
        network.push(signal[: 4 * SAMPLING_RATE + 240])  # a whole level, and whole pairs of frames
        other = OnnxStep(network, content)
        native = library(locate("micro", ".safetensors"), 1).stream()
        native.push(signal[: 4 * SAMPLING_RATE + 240])
        times: dict[str, list[float]] = {"NumPy": [], "ONNX": [], "C": []}
        for number in range(STEPS):
            start = (number * length) % (300 * SAMPLING_RATE)
            block = signal[start : start + length]
            begun = time.perf_counter()
            partial = network.partial(network.push(block))
            times["NumPy"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            found = other.push(block)
            times["ONNX"].append(time.perf_counter() - begun)
            native.mark()
            begun = time.perf_counter()
            native.push(block)
            embedding, _ = native.read(1)
            times["C"].append(time.perf_counter() - begun)
            np.testing.assert_allclose(embedding, network.answer([partial])[0], atol=2e-3)
            for one, expected in zip(found, partial, strict=True):
                np.testing.assert_allclose(one, expected, rtol=2e-3, atol=2e-3)
        cells = [f"{1e3 * np.median(taken):.3f}, {1e3 * np.percentile(taken, 95):.3f}" for taken in times.values()]
        print(f"| {dur:g} s | {' | '.join(cells)} |", flush=True)
    print("\nprocessor ms of a step of .5 s, per stream")
    print("| streams | ONNX, all in one call | C, one call each |\n|---|---|---|")
    for streams in TOGETHER:
        cells = [f"{1e3 * taken:.3f}" for taken in together(weights, content, signal, streams)]
        print(f"| {streams} | {' | '.join(cells)} |", flush=True)


def together(weights: Weights, content: bytes, signal: np.ndarray, streams: int) -> tuple[float, float]:
    """Processor seconds per stream of a step of half a second: one call of the graph for all, and one of C for each."""
    network = Causal(weights, MICRO)
    network.push(signal[: 4 * SAMPLING_RATE + 240])
    session, states = OnnxStep(network, content).session, OnnxStep(network, content).states
    states = {name: np.repeat(state, streams, axis=0) for name, state in states.items()}
    outputs = [output.name for output in session.get_outputs()]
    runtime = library(locate("micro", ".safetensors"), 1)
    native = [runtime.stream() for _ in range(streams)]
    half = SAMPLING_RATE // 2
    of_onnx, of_c = [], []
    for step in range(TOGETHER_STEPS):
        block = signal[step * half : (step + 1) * half + 240]
        batch = np.tile(block, (streams, 1))
        begun = time.process_time()
        found = session.run(outputs, {"signal": batch, **states})
        of_onnx.append(time.process_time() - begun)
        states = dict(zip(states, found[3:], strict=True))
        begun = time.process_time()
        for stream in native:
            stream.push(block[:half])
        of_c.append(time.process_time() - begun)
    return float(np.median(of_onnx)) / streams, float(np.median(of_c)) / streams


if __name__ == "__main__":
    main()
