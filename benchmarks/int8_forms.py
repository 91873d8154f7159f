"""Compare int8 forms of a student: size, time and error of each, on real clips.

    python benchmarks/int8_forms.py WEIGHTS.safetensors AUDIO_FOLDER...

Needs the extras ``train`` and ``dev``. Dynamic forms start from the graph of ``torch.onnx.export``, because
onnxruntime's quantiser looks for weights on the right of a product; ours has them on the left.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from wav2small.audio import read as audio
from wav2small.export import onnx_graph
from wav2small.export.static_int8 import static_int8
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.reference import load_student
from wav2small.tables.manifest import read_manifest
from wav2small.tables.table import render
from wav2small.train.students import from_arrays

FRONT_END = 2
"""The first convolutions of the exported graph are the DFT's, its first product is the mel matrix: they stay float."""
CLIPS = 20


def main(weights: str, *folders: str) -> None:
    arrays, _, network = load_student(weights)
    ours = onnx_graph.build(arrays, network)
    exported = torch_graph(from_arrays(arrays, network))
    forms: dict[str, Callable[[], onnx.ModelProto]] = {
        "fp32, our graph": lambda: ours,
        "fp32, torch.onnx.export": lambda: exported,
        "(a) dynamic, Linears only": lambda: dynamic(exported, ["MatMul", "Gemm"]),
        "(b) dynamic, everything but the front end": lambda: dynamic(exported, ["MatMul", "Gemm", "Conv"]),
        "(c) weights only, DequantizeLinear": lambda: weights_only(ours, dequantised),
        "(c) weights only, Cast and Mul": lambda: weights_only(ours, folded),
        "(c) Cast and Mul, all but lin, sof float16 (ships)": lambda: onnx_graph.quantise(ours),
        "(d) Linears dynamic, convolutions DequantizeLinear": lambda: weights_only(
            dynamic(exported, ["MatMul", "Gemm"]), dequantised
        ),
        "(e) static, 7-bit weights, per channel, calibrated on these corpora": lambda: static_int8(
            ours, [segment for folder in folders for segment in read_manifest(folder)], network.frontend.win_length
        ),
    }
    signals = [audio.read(path)[: 5 * SAMPLING_RATE] for folder in folders for path in spread(folder)]
    truth = answers(ours, signals)
    print(f"{len(signals)} clips; fp32 standard deviation of A, D, V: {np.std([row[:3] for row in truth], axis=0)}")
    models = {name: make() for name, make in forms.items()}
    rows = [measured(name, model, signals, truth) for name, model in models.items()]
    print(
        render([row | {"ms": ms} for row, ms in zip(rows, milliseconds(list(models.values())), strict=True)], "table")
    )


def spread(folder: str) -> list[str]:
    files = audio.find_files([folder])
    return files[:: max(1, len(files) // CLIPS)][:CLIPS]


def measured(name: str, model: onnx.ModelProto, signals: list[np.ndarray], truth: np.ndarray) -> dict[str, object]:
    error = np.abs(answers(model, signals) - truth)
    return {
        "form": name,
        "nodes": len(model.graph.node),
        "bytes": model.ByteSize(),
        "emotion mean": error[:, :3].mean(),
        "emotion max": error[:, :3].max(),
        "embedding mean": error[:, 3:].mean(),
        "embedding max": error[:, 3:].max(),
    }


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(model: onnx.ModelProto, signals: list[np.ndarray]) -> np.ndarray:
    """Emotion and embedding side by side, shape=(clips, 3 + embedding_size)."""
    runner = session(model)
    return np.stack([np.concatenate(runner.run(None, {"signal": x[None]}), axis=1)[0] for x in signals])


def milliseconds(models: list[onnx.ModelProto], rounds: int = 60) -> list[float]:
    """Minimum time of ``rounds`` for 5 s on one thread, all models in turn: other load can only increase the time."""
    runners, signal = (
        [session(model) for model in models],
        np.random.default_rng(0).standard_normal((1, 5 * SAMPLING_RATE)),
    )
    times = np.zeros((rounds, len(models)))
    for row in times:
        for index, runner in enumerate(runners):
            start = time.perf_counter()
            runner.run(None, {"signal": signal.astype(np.float32)})
            row[index] = time.perf_counter() - start
    return [1000 * float(best) for best in times.min(axis=0)]


def torch_graph(net: torch.nn.Module) -> onnx.ModelProto:
    free = ({0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("samples", min=64)},)
    names = {"input_names": ["signal"], "output_names": ["emotion", "embedding"]}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        example = (torch.randn(2, 5 * SAMPLING_RATE),)
        torch.onnx.export(
            net, example, path, dynamo=True, dynamic_shapes=free, external_data=False, verbose=False, **names
        )
        return stripped(onnx.load(path))


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's notes about every node, so that sizes compare."""
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("value_info")
    model.graph.ClearField("metadata_props")
    return model


def dynamic(model: onnx.ModelProto, operators: list[str]) -> onnx.ModelProto:
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"][:FRONT_END]
    products = [node.name for node in model.graph.node if node.op_type == "MatMul"][:1]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=operators,
            nodes_to_exclude=convolutions + products,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


Replaced = tuple[list[onnx.TensorProto], list[onnx.NodeProto]]


def weights_only(model: onnx.ModelProto, replace: Callable[[str, np.ndarray], Replaced]) -> onnx.ModelProto:
    """Replace each trained float weight by the constants and nodes that ``replace`` returns for it."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    trained = [node.input[1] for node in model.graph.node if node.op_type == "Conv" and "dft" not in node.input[1]]
    trained += ["lin.weight", "sof.weight", "out.weight"]
    nodes = []
    for constant in list(small.graph.initializer):
        if constant.name in trained and constant.data_type == onnx.TensorProto.FLOAT:
            constants, made = replace(constant.name, numpy_helper.to_array(constant))
            small.graph.initializer.remove(constant)
            small.graph.initializer.extend(constants)
            nodes += made
    nodes += list(small.graph.node)
    del small.graph.node[:]
    small.graph.node.extend(nodes)
    return small


def integers_and_scale(name: str, weight: np.ndarray) -> list[onnx.TensorProto]:
    integers, scale = onnx_graph.quantise_rows(weight.reshape(len(weight), -1))
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return [
        numpy_helper.from_array(integers.reshape(weight.shape), f"{name}.int8"),
        numpy_helper.from_array(scale, f"{name}.scale"),
    ]


def dequantised(name: str, weight: np.ndarray) -> Replaced:
    integers, scale = integers_and_scale(name, weight)
    scale = numpy_helper.from_array(numpy_helper.to_array(scale).ravel(), scale.name)
    return [integers, scale], [helper.make_node("DequantizeLinear", [integers.name, scale.name], [name], axis=0)]


def folded(name: str, weight: np.ndarray) -> Replaced:
    integers, scale = integers_and_scale(name, weight)
    scaling = helper.make_node("Mul", [f"{name}.float", scale.name], [name])
    return [integers, scale], [onnx_graph.cast(integers.name, f"{name}.float"), scaling]


if __name__ == "__main__":
    main(*sys.argv[1:])
