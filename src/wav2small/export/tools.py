"""Export of weights to folders that audonnx and transformers.js load: the ONNX graph with other names, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.errors import WeightsError
from wav2small.export.artefacts import completed, describe, student
from wav2small.export.card import CARD, MARK, card, licence_of
from wav2small.export.folder import whole_folder, write_files
from wav2small.export.parity import relative
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.network.probes import probes
from wav2small.network.weights import PRECISIONS, Arrays
from wav2small.runtime.model import locate
from wav2small.session import session

TOLERANCE = 1e-5
"""Largest difference that other names of inputs and outputs may make, relative to outputs above 1."""
AUDONNX_NAMES = {"signal": "signal", "embedding": "hidden_states", "emotion": "logits"}
"""Those of the published wav2vec 2.0 model: https://doi.org/10.5281/zenodo.6221127."""
AUDONNX_YAML = f"""\
$audonnx.core.model.Model:
  path: model.onnx
  labels: {{logits: [{", ".join(OUTPUTS)}]}}
  transform: null
"""
AUDONNX_USAGE = """\
```python
import audonnx

model = audonnx.load("FOLDER")
emotion = model(signal, 16000, outputs="logits")  # shape=(1, 3)
```

For windows: `audinterface.Feature(model.labels("logits"), process_func=model, process_func_args={"outputs":
"logits"}, sampling_rate=16000, win_dur=2, hop_dur=1)`. Outputs are not clipped to 0..1.
"""
JS_NAMES = {"signal": "input_values", "emotion": "logits"}
JS_FILES = {"fp32": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}
"""Names that transformers.js gives to its ``dtype``."""
JS_CONFIG = {
    "model_type": "wav2vec2",
    "architectures": ["Wav2Vec2ForSequenceClassification"],
    "id2label": dict(enumerate(OUTPUTS)),
    "label2id": {name: number for number, name in enumerate(OUTPUTS)},
}
JS_PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": SAMPLING_RATE,
    "do_normalize": False,
    "return_attention_mask": False,
}
JS_USAGE = """\
```js
import { AutoModelForAudioClassification, AutoProcessor } from "@huggingface/transformers";

const processor = await AutoProcessor.from_pretrained("FOLDER");
const model = await AutoModelForAudioClassification.from_pretrained("FOLDER", { dtype: "DTYPE" });
const { logits } = await model(await processor(samples)); // Float32Array at 16 kHz
const [arousal, dominance, valence] = logits.data;
```

Outputs are not clipped to 0..1. Do not use `pipeline()`: it applies a softmax over arousal, dominance and
valence, which are not classes. `model_type` is `wav2vec2` because transformers.js chooses the interface by it; the
network is not a wav2vec 2.0.
"""


@dataclass(frozen=True)
class ToolFolder:
    """A written folder.

    Attributes:
        path: the folder
        precisions: of the ONNX files
        bytes: size of all files
        error: largest difference of the emotion from the reference, relative to outputs above 1
        licence: licences of the weights and of their teachers
    """

    path: Path
    precisions: tuple[str, ...]
    bytes: int
    error: float
    licence: str


@dataclass(frozen=True)
class Forms:
    """Compared ONNX models of a student, and its metadata.

    Attributes:
        models: ONNX model of each precision, with its metadata
        errors: largest difference of the emotion of each from the reference
        metadata: of the weights, complete
        arrays: weights by name
    """

    models: Mapping[str, Any]
    errors: Mapping[str, float]
    metadata: dict[str, str]
    arrays: Arrays


def export_audonnx(weights: str | Path, folder: str | Path) -> ToolFolder:
    """Write a folder for ``audonnx.load``: model.onnx, model.yaml and a card.

    Inputs are one signal (1, samples); outputs are ``hidden_states`` (1, embedding size) and ``logits`` (1, 3), not
    clipped. The precision is float32, or int8 for weights that are integers.

    Args:
        weights: safetensors file of a student, or ``NAME[:PRECISION]`` of shipped weights
        folder: a new folder, or one that export wrote

    Raises:
        WeightsError: if the ONNX file differs from the reference, or the folder has other content
    """
    forms = compared_forms(weights)
    precision = min(forms.models, key=PRECISIONS.index)
    content = renamed_content(forms, precision, AUDONNX_NAMES, batch=1)
    files = {"model.onnx": content, "model.yaml": AUDONNX_YAML.encode()}
    return write(Path(folder), forms, files, AUDONNX_USAGE, "audonnx", (precision,))


def export_transformers_js(weights: str | Path, folder: str | Path) -> ToolFolder:
    """Write a folder for transformers.js: configurations, an ONNX file for each precision, and a card.

    Args:
        weights: as in :func:`export_audonnx`
        folder: as in :func:`export_audonnx`

    Raises:
        WeightsError: as :func:`export_audonnx`
    """
    forms = compared_forms(weights)
    files = {"config.json": as_json(JS_CONFIG), "preprocessor_config.json": as_json(JS_PREPROCESSOR)}
    files |= {JS_FILES[precision]: renamed_content(forms, precision, JS_NAMES) for precision in forms.models}
    usage = JS_USAGE.replace("DTYPE", min(forms.models, key=PRECISIONS.index))
    return write(Path(folder), forms, files, usage, "transformers.js", tuple(forms.models))


def compared_forms(weights: str | Path) -> Forms:
    """The ONNX models of weights, each compared with the reference.

    Raises:
        WeightsError: if the weights are not those of a student, or a model differs from the reference
    """
    path = locate(weights, ".safetensors")
    source = student(path)
    metadata = completed(source.stored, source.stored.get("name") or path.stem, None, source.described)
    made = source.forms()
    for precision, (model, _) in made.items():
        describe(model, metadata | {"precision": precision})
    models = {precision: model for precision, (model, _) in made.items()}
    errors = {precision: depths.emotion for precision, (_, depths) in made.items()}
    return Forms(models, errors, metadata, source.arrays)


def renamed_content(forms: Forms, precision: str, names: Mapping[str, str], batch: int | None = None) -> bytes:
    """The ONNX file with other names of input and outputs, after a comparison with the one before.

    Args:
        forms: of the weights
        precision: of the file
        names: of the input ``signal`` and of the outputs to keep
        batch: fixed number of signals; None leaves it free

    Raises:
        WeightsError: if an output differs by more than ``TOLERANCE``
    """
    model = forms.models[precision]
    content: bytes = renamed(model, names, batch).SerializeToString()
    before, after = session(model.SerializeToString(), "ONNX"), session(content, "renamed ONNX")
    kept = [name for name in names if name != "signal"]
    for label, signal in probes(int(forms.metadata["min_length"])):
        expected = before.run(kept, {"signal": signal[None]})
        found = after.run([names[name] for name in kept], {names["signal"]: signal[None]})
        error = max(map(relative, found, expected))
        if not error <= TOLERANCE:
            raise WeightsError(
                f"renamed ONNX: outputs differ by {error:.2g} on {label}, allowed {TOLERANCE:g}; nothing was written"
            )
    return content


def renamed(model: Any, names: Mapping[str, str], batch: int | None = None) -> Any:
    """A copy of an ONNX model with other names of its input and outputs, in the order of ``names``.

    Outputs that ``names`` does not have are dropped. Inner values that have one of the new names get a longer one.
    ``outputs`` is removed from the metadata, as the file no longer has those that ``load`` expects.
    """
    copy, order = type(model)(), {name: number for number, name in enumerate(names)}
    copy.CopyFrom(model)
    graph = copy.graph
    taken = {name for node in graph.node for name in node.output} | {constant.name for constant in graph.initializer}
    mapping = {name: f"inner_{name}" for name in taken.intersection(names.values())} | dict(names)
    outputs = sorted((value for value in graph.output if value.name in names), key=lambda value: order[value.name])
    del graph.output[:]
    graph.output.extend(outputs)
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = mapping.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [mapping.get(name, name) for name in node.input]
        node.output[:] = [mapping.get(name, name) for name in node.output]
    for value in [*graph.input, *graph.output] if batch else ():
        value.type.tensor_type.shape.dim[0].dim_value = batch
    kept = [entry for entry in copy.metadata_props if entry.key != "outputs"]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    return copy


def write(
    folder: Path, forms: Forms, files: Mapping[str, bytes], usage: str, library: str, precisions: tuple[str, ...]
) -> ToolFolder:
    """Write the files and their card as a whole, or nothing."""
    text = card(forms.metadata, files, usage, library)
    with whole_folder(folder, CARD, MARK) as made:
        write_files(made, {**files, CARD: text.encode()})
    size = sum(map(len, files.values())) + len(text.encode())
    error = float(np.max([forms.errors[precision] for precision in precisions]))
    return ToolFolder(folder, precisions, size, error, licence_of(forms.metadata))


def as_json(content: Mapping[str, Any]) -> bytes:
    """A JSON file."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
