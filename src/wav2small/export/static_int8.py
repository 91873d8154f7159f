"""Static int8: what flows between the layers in eight bits too, at scales that real speech sets.

ONNX Runtime's quantiser does it. Twice as fast for large networks, and further off than weights alone: so what comes
out is held to its CCC (export.py). The front end and what follows the softmax, which is cheap, stay float.
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

from wav2small.audio import read as audio
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

CLIPS = 64
"""Of those given, evenly spread; scales are the largest values seen."""
QUANTISED = ("Add", "Clip", "Conv", "Gemm", "MatMul", "MaxPool", "Relu")


def static_int8(model: Any, segments: Sequence[Segment], min_length: int) -> Any:
    """A copy of an ONNX model with weights and activations in eight bits, one scale for each row of a weight.

    Args:
        model: float32, with a value ``log_mel`` inside
        segments: of speech
        min_length: samples below which the network has no answer; shorter clips are padded with zeros

    Raises:
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
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
        )
        return onnx.load(small)


class Reader:
    """Signals as ONNX Runtime's calibration asks for them."""

    def __init__(self, signals: Sequence[np.ndarray], min_length: int) -> None:
        padded = (np.pad(signal, (0, max(0, min_length - len(signal)))) for signal in signals)
        self.inputs = iter([{"signal": signal[None]} for signal in padded])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.inputs, None)


def speech(segments: Sequence[Segment]) -> list[np.ndarray]:
    """Up to ``CLIPS`` of the segments that hold speech, as signals at 16 kHz."""
    places = np.unique(np.linspace(0, len(segments) - 1, min(CLIPS, len(segments))).round().astype(int))
    signals = [segments[place].cut(audio.read(segments[place].path)) for place in places]
    found = [signal for signal in signals if audio.is_speech(signal)]
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
