"""Backends whose packages are optional: torch and OpenVINO, for ``load(NAME, backend="torch")`` and the bench."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.errors import missing_packages
from wav2small.network.weights import read_safetensors, sha256
from wav2small.runtime.backends import Backend, Opened, check_safetensors, open_onnx


def check_package(name: str, install: str) -> None:
    """Raise ``MissingExtraError`` if the package that a backend is named after is not installed."""
    if find_spec(name) is None:
        raise missing_packages(f"the backend {name!r}", [name], install)


def open_torch(path: Path) -> Opened:
    """A student in torch, on the threads that torch has."""
    check_package("torch", "wav2small[train]")
    import torch

    from wav2small.train.students import described, from_arrays

    check_safetensors(path, "torch")
    arrays, metadata = read_safetensors(path)
    net = from_arrays(arrays, described(metadata, str(path)), str(path))

    def run(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            emotion, embedding = net(torch.from_numpy(signals))
        return emotion.numpy(), embedding.numpy()

    return Opened(run, metadata | {"min_length": str(net.min_length), "sha256": sha256(path)})


def open_openvino(path: Path) -> Opened:
    """An ONNX file in OpenVINO, in float32 as asked: by itself it takes bfloat16 where the processor has it."""
    check_package("openvino", "openvino")
    openvino: Any = import_module("openvino")
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def run(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = compiled({"signal": signals})
        return found["emotion"], found["embedding"]

    return Opened(run, open_onnx(path).metadata)


TORCH = Backend(".safetensors", open_torch)
OPENVINO = Backend(".onnx", open_openvino)
