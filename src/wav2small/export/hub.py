"""Export of weights to a repository of the Hugging Face hub: arrays, ONNX, configuration, calibration and card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wav2small.errors import WeightsError
from wav2small.export.card import CARD, MARK, card, licence_of, read_scores
from wav2small.export.folder import whole_folder, write_files
from wav2small.export.tools import Forms, ToolFolder, as_json, compared_forms
from wav2small.network.weights import NETWORK, same_weights, sha256, sha256_of, to_bytes
from wav2small.runtime.calibration import KIND, Calibration, calibration_path, load_calibration
from wav2small.runtime.hub import ARRAYS, CONFIG, FORMAT, GRAPHS
from wav2small.runtime.model import locate

IN_CONFIG = ("name", "version", "licence", "teacher", "teacher_licence", "training_data", "student", "parameters")
"""Metadata keys that config.json repeats."""
USAGE = """\
```python
import wav2small

model = wav2small.load("OWNER/NAME@REVISION")  # or the path of this folder
emotion = model("talk.wav")
```

The revision is a commit, tag or branch of this repository. The package executes no code of it, and checks the
sha256 of each file that it reads.
"""


def export_hub(weights: str | Path, folder: str | Path, scores: str | Path | None = None) -> ToolFolder:
    """Write a folder to push to the hub, which ``wav2small.load`` reads, also before that.

    Args:
        weights: safetensors file of a student, or ``NAME[:PRECISION]`` of shipped weights; a calibration beside it is
            included
        folder: a new folder, or one that export wrote
        scores: report of ``wav2small evaluate -o FILE.json`` about these weights, for the CCC with intervals in the
            card; None takes the CCC of the metadata

    Raises:
        WeightsError: if an ONNX file differs from the reference, the calibration is of other weights, or the folder has
            other content
        ManifestError: if the report is not about these weights
    """
    path = locate(weights, ".safetensors")
    forms = compared_forms(path)
    graphs = {GRAPHS[precision]: model.SerializeToString() for precision, model in forms.models.items()}
    precision = "fp32" if "fp32" in forms.models else "int8"
    arrays = to_bytes(forms.arrays, forms.metadata | {"precision": precision})
    files = {ARRAYS[precision]: arrays, **graphs}
    digests = {sha256(path), *same_weights(sha256(path)), *map(sha256_of, files.values())}
    files |= calibrations(path, files, precision, digests)
    rows = read_scores(scores, digests) if scores else []
    text = card(forms.metadata, files, USAGE, scores=rows)
    files[CONFIG] = as_json(config(forms, files))
    with whole_folder(Path(folder), CARD, MARK) as made:
        write_files(made, {**files, CARD: text.encode()})
    size = sum(map(len, files.values())) + len(text.encode())
    error = max(forms.errors.values())
    return ToolFolder(Path(folder), tuple(forms.models), size, error, licence_of(forms.metadata))


def config(forms: Forms, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of config.json: the network, what the weights are, and the sha256 of each file."""
    metadata = forms.metadata
    return {
        "format": FORMAT,
        "model_type": "wav2small",
        **{key: metadata[key] for key in IN_CONFIG if metadata.get(key)},
        "sampling_rate": int(metadata["sampling_rate"]),
        "outputs": metadata["outputs"].split(","),
        NETWORK: json.loads(metadata[NETWORK]) if NETWORK in metadata else None,
        "files": {name: sha256_of(content) for name, content in files.items()},
    }


def calibrations(weights: Path, files: Mapping[str, bytes], precision: str, digests: set[str]) -> dict[str, bytes]:
    """The calibration that lies beside weights, for each file of the same precision; nothing if there is none.

    Args:
        weights: safetensors file
        files: exported arrays and graphs by name
        precision: of the weights
        digests: sha256 of every file of the same weights

    Raises:
        WeightsError: if it is of other weights
    """
    path = calibration_path(weights)
    if not path.is_file():
        return {}
    calibration = load_calibration(path)
    if calibration.sha256 not in digests:
        raise WeightsError(
            f"{path}: is the calibration of {calibration.weights} (sha256 {calibration.sha256[:12]}...), not of "
            f"{weights}; make it again with wav2small calibrate, or move it away"
        )
    places = (ARRAYS[precision], GRAPHS[precision])
    return {calibration_path(place).as_posix(): as_text(calibration, sha256_of(files[place])) for place in places}


def as_text(calibration: Calibration, digest: str) -> bytes:
    """A calibration's file, for a file of the same weights with this sha256."""
    return as_json({"kind": KIND} | asdict(replace(calibration, sha256=digest)))
