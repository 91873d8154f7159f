"""An experiment of nkululeko reads the audonnx folder by its configuration alone, and has our numbers."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2small import load
from wav2small.export.tools import export_audonnx

PROGRAM = os.environ.get("NKULULEKO") or shutil.which("nkululeko.nkululeko")
EXAMPLES = Path(__file__).parents[2] / "examples"
EMOTIONS = {"08a05Fe": "happiness", "10b10Wa": "anger", "14a04Tc": "sadness", "15b02Nd": "neutral"}
PARTS = {"train": 3, "test": 2}
"""Pieces of each clip in each database."""
CONFIG = """
[EXP]
root = results
name = micro
[DATA]
databases = ['train', 'test']
train = train.csv
train.type = csv
train.split_strategy = train
test = test.csv
test.type = csv
test.split_strategy = test
target = emotion
[FEATS]
type = ['auddim']
aud.model = audonnx-folder
store_format = csv
[MODEL]
type = bayes
device = cpu
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs nkululeko: make examples"),
]


def write_databases(folder: Path) -> None:
    """Two tables of clips with an emotion, cut from the examples of EmoDB."""
    for name in PARTS:
        (folder / f"{name}.csv").write_text("file,emotion\n")
    for clip, emotion in EMOTIONS.items():
        signal, rate = soundfile.read(EXAMPLES / f"{clip}.flac", dtype="float32")
        pieces = iter(np.array_split(signal, sum(PARTS.values())))
        for name, count in PARTS.items():
            for number in range(count):
                soundfile.write(folder / f"{name}-{clip}-{number}.wav", next(pieces), rate)
                with (folder / f"{name}.csv").open("a") as table:
                    table.write(f"{name}-{clip}-{number}.wav,{emotion}\n")


def test_auddim_reads_the_folder_of_its_configuration(tmp_path):
    export_audonnx("micro", tmp_path / "audonnx-folder")
    write_databases(tmp_path)
    (tmp_path / "experiment.ini").write_text(CONFIG)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [PROGRAM, "--config", "experiment.ini"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "UAR" in done.stderr, done.stderr[-2000:]
    assert not (tmp_path / "cache").exists(), "nothing was downloaded"
    ours, differences = load("micro"), []
    for name, count in PARTS.items():
        rows = list(csv.DictReader((tmp_path / f"results/micro/store/{name}_auddim_all.csv").open()))
        assert len(rows) == count * len(EMOTIONS)
        for row in rows:
            found = np.array([float(row[dimension]) for dimension in ("arousal", "dominance", "valence")])
            differences.append(np.abs(found.clip(0, 1) - ours(tmp_path / Path(row["file"]).name)).max())
    print(f"\nnkululeko: largest difference from Python {max(differences):.1e}")
    assert max(differences) < 1e-5
