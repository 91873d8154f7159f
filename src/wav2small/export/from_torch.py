"""ONNX export of torch students without a NumPy reference. Torch writes the graph and is the reference.

The graph may contain any operation, so quantisation selects weights by their size and excludes those before log-mel.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wav2small.errors import WeightsError, missing_packages
from wav2small.export.onnx_graph import IR_VERSION, cast, quantise_rows
from wav2small.export.parity import DEPTHS, TOLERANCES, Depths, depth_errors, with_log_mel
from wav2small.export.static_int8 import quietly, sources
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.probes import probes
from wav2small.session import session
from wav2small.train.students import StudentNet

OPSET = 18
"""The oldest opset that torch.export writes. onnxruntime 1.17, the oldest supported version, reads up to 20."""
LEAST_INT8 = (2**15, 2**16, 2**18, 2**62)
"""Smallest number of values of an int8 weight; smaller weights are float16. The first within tolerance is used."""
ROWS = {"Conv": 0, "Gemm": 0, "MatMul": 1}
"""Operators whose weights become int8, and the axis of the weight that has one scale per index."""
ALLOWED = TOLERANCES | {"int8": replace(TOLERANCES["int8"], embedding=0.1)}
"""``parity.TOLERANCES``, but wider for the embedding: the largest error of 960 values exceeds that of 169."""


class ThreeDepths(nn.Module):
    """A student that also outputs its log-mel, so that a difference can be localised."""

    def __init__(self, net: StudentNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Emotion, embedding and log-mel of signals at 16 kHz, shape=(batch, samples)."""
        log_mel = self.net.log_mel(signal)
        emotion, embedding = self.net.features_to_emotion(log_mel)
        return emotion, embedding, log_mel


def network_metadata(net: StudentNet, student: str) -> dict[str, str]:
    """Metadata of artefacts that are derived from the network, with its attribute ``normalisation`` if it has one."""
    return {
        "student": student,
        "normalisation": getattr(net, "normalisation", "unknown"),
        "min_length": str(net.min_length),
        "parameters": str(sum(value.numel() for value in net.parameters())),
        "trained_parameters": str(sum(value.numel() for value in net.parameters() if value.requires_grad)),
    }


def forms(net: StudentNet, student: str) -> dict[str, tuple[Any, Depths]]:
    """The ONNX model of each precision, without metadata, with its largest differences from torch.

    Args:
        net: the student
        student: its name, for error messages

    Raises:
        MissingExtraError: if the package onnxscript is not installed
        WeightsError: if torch cannot write the student, or a model differs from it by more than ``ALLOWED``
    """
    model = to_onnx(net, student)
    return {"fp32": (model, compare(model, net, "fp32")), "int8": quantise(model, net)}


def to_onnx(net: StudentNet, student: str) -> onnx.ModelProto:
    """The float32 graph: ``signal`` (batch, samples) to ``emotion`` (batch, 3) and ``embedding`` (batch, size).

    The graph contains the value ``log_mel``, (batch, frames, mels).
    """
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=net.min_length)}
    try:
        with quietly(), torch.no_grad():
            program = torch.onnx.export(
                ThreeDepths(net).eval(),
                (torch.zeros(2, net.min_length + SAMPLING_RATE),),
                input_names=["signal"],
                output_names=["emotion", "embedding", "log_mel"],
                dynamic_shapes={"signal": free},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise missing_packages("export", [error.name], "wav2small[train]") from None
    except RuntimeError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0][:200]
        raise WeightsError(
            f"{student}: torch cannot export this student to ONNX ({reason}). Use operations that ONNX supports."
        ) from None
    assert program is not None
    return cleaned(program.model_proto)


def plain(net: StudentNet) -> StudentNet:
    """The net, changed in place: weights that it computes (weight norm) become arrays, which can be quantised."""
    for module in list(net.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
    return net


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the log-mel output and without torch's notes, which contain local paths."""
    graph = model.graph
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "wav2small", ""
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    graph.output.pop()
    onnx.checker.check_model(model, full_check=True)
    return model


def compare(model: onnx.ModelProto, net: StudentNet, precision: str) -> Depths:
    """The largest difference of an ONNX model from torch at each depth, over ``network.probes``.

    Raises:
        WeightsError: if it is above ``ALLOWED``, or ONNX Runtime cannot load the model
    """
    runner = session(with_log_mel(model).SerializeToString(), f"{precision} ONNX")
    allowed, largest = asdict(ALLOWED[precision]), dict.fromkeys(DEPTHS, 0.0)
    for label, signal in probes(net.min_length):
        actual = [output[0] for output in runner.run(list(DEPTHS), {"signal": signal[None]})]
        for depth, error in depth_errors(actual, torch_outputs(net, signal)).items():
            if not error <= allowed[depth]:
                raise WeightsError(
                    f"{precision} ONNX: {depth} differs by {error:.2g} from torch on {label}, "
                    f"allowed {allowed[depth]:g}; nothing was written"
                )
            largest[depth] = max(largest[depth], error)
    return Depths(**largest)


@torch.no_grad()
def torch_outputs(net: StudentNet, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-mel, embedding and emotion of one signal, computed by torch."""
    row = torch.from_numpy(signal)[None]
    emotion, embedding = net(row)
    return net.log_mel(row)[0].numpy(), embedding[0].numpy(), emotion[0].numpy()


def quantise(model: onnx.ModelProto, net: StudentNet) -> tuple[onnx.ModelProto, Depths]:
    """The smallest form of ``LEAST_INT8`` within the tolerance, and its differences from torch.

    Only weights are quantised; computation is in float32. static_int8.py also quantises activations.
    """
    for least in LEAST_INT8[:-1]:
        small = with_quantised_weights(model, least)
        try:
            return small, compare(small, net, "int8")
        except WeightsError:
            continue
    small = with_quantised_weights(model, LEAST_INT8[-1])
    return small, compare(small, net, "int8")


def with_quantised_weights(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """A copy with int8 weights (one scale per row) of at least ``least`` values; smaller weights are float16.

    Biases and the front end, up to log-mel, stay float32. A weight is stored as ``Cast`` and ``Mul`` by its scale,
    which runtimes fold when they load the file.
    """
    kept = sources(model, "log_mel")
    axes = {name: ROWS[node.op_type] for node in model.graph.node if node.op_type in ROWS for name in node.input[1:2]}
    small = onnx.ModelProto()
    small.CopyFrom(model)
    small.graph.ClearField("initializer")
    small.graph.ClearField("node")
    for constant in model.graph.initializer:
        name, array = constant.name, numpy_helper.to_array(constant)
        if array.dtype != np.float32 or array.ndim < 2 or name in kept:
            small.graph.initializer.append(constant)
        elif array.size >= least and name in axes:
            store_int8(small.graph, name, array, axes[name])
        else:
            small.graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), f"{name}.float16"))
            small.graph.node.append(cast(f"{name}.float16", name))
    small.graph.node.extend(model.graph.node)
    onnx.checker.check_model(small, full_check=True)
    return small


def store_int8(graph: onnx.GraphProto, name: str, array: np.ndarray, axis: int) -> None:
    """Append a float32 weight to a graph as int8 and scales, with the nodes that multiply them to ``name``.

    Args:
        graph: changed in place
        name: name of the weight
        array: values of the weight
        axis: axis of the array that has one scale per index
    """
    rows = np.moveaxis(array, axis, 0)
    integers, scale = quantise_rows(rows.reshape(len(rows), -1))
    stored = np.moveaxis(integers.reshape(rows.shape), 0, axis)
    scale = scale.reshape([-1 if place == axis else 1 for place in range(array.ndim)])
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(stored), f"{name}.int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    graph.node.append(cast(f"{name}.int8", f"{name}.float"))
    graph.node.append(helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name], name))
