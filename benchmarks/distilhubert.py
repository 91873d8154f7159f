"""Size and speed of a DistilHuBERT student beside ``micro``, on one thread of this machine.

    python benchmarks/distilhubert.py FOLDER [--runs 5]

The student has the published size and random weights, so its predictions are not scored. FOLDER receives its checkpoint
in the hub's format, its weights, and its ONNX files in float32 and int8. Needs the extra train.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel

from wav2small import load
from wav2small.evaluation.bench import cpu_model
from wav2small.export.artefacts import export
from wav2small.network.probes import voice
from wav2small.network.weights import write_safetensors
from wav2small.runtime.model import Model, locate
from wav2small.tables.table import render
from wav2small.train.students import build, description, to_arrays

STUDENT = "distilhubert"
PUBLISHED = HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False)
"""Configuration of ntu-spml/distilhubert, the published checkpoint."""
BESIDE = ("micro:fp32", "micro:int8")
DURATION = 5
"""Seconds of the signal that is timed."""


def checkpoint(folder: Path) -> Path:
    """A checkpoint with random weights, in the hub's format."""
    torch.manual_seed(0)
    HubertModel(PUBLISHED).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    return folder


def student(body: Path, path: Path) -> Path:
    """Weights of the student that starts from a checkpoint."""
    torch.manual_seed(0)
    net = build(STUDENT, body=str(body))
    write_safetensors(path, to_arrays(net), description(net, STUDENT) | {"name": STUDENT, "licence": "Apache-2.0"})
    return path


def processor_times(models: Mapping[str, Model], runs: int) -> dict[str, float]:
    """Median seconds of processor time of each model for one signal; every model runs in each round.

    Unlike time on the clock, it is not longer where other processes use the machine.
    """
    signal = voice(np.random.default_rng(0), DURATION)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(runs + 1):
        for name, model in models.items():
            start = time.process_time()
            model(signal)
            times[name].append(time.process_time() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    made = export(student(checkpoint(given.folder / "body"), given.folder / f"{STUDENT}.safetensors"), given.folder)
    errors = {f"{STUDENT}:{artefact.precision}": artefact.errors.emotion for artefact in made}
    files = {f"{STUDENT}:{artefact.precision}": artefact.path for artefact in made}
    files |= {name: locate(name, ".onnx") for name in BESIDE}
    models = {name: load(file) for name, file in files.items()}
    times = processor_times(models, given.runs)
    rows = [
        {
            "model": name,
            "parameters": model.metadata["parameters"],
            "KB": round(files[name].stat().st_size / 1000),
            f"ms for {DURATION} s": f"{1000 * times[name]:.1f}",
            "times real time": f"{DURATION / times[name]:.1f}",
            "largest difference from torch": f"{errors[name]:.1e}" if name in errors else "",
        }
        for name, model in models.items()
    ]
    print(f"{cpu_model()}, processor time on one thread; {STUDENT} has random weights")
    print(render(rows, "table"), end="")


if __name__ == "__main__":
    main()
