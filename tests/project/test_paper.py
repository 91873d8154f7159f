"""The paper's recipe, from corpora in the layout of their owners to the table, on made-up ones and random teachers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wav2small.network.weights import read_safetensors
from wav2small.tables.manifest import read_manifest

RECIPES = Path(__file__).parents[2] / "recipes"


def score(predictor: str, dimension: str, value: float | None) -> dict[str, object]:
    interval = {"low": 0.25, "high": 0.755, "speakers": 9}
    return {"predictor": predictor, "dimension": dimension, "statistic": "ccc", "value": value, **interval}


def test_the_table_has_a_row_a_predictor_and_what_is_published(tmp_path):
    for number, (file, teacher) in enumerate((("test1", "msp"), ("test2", "msp"), ("iemocap", "iemocap"))):
        predictors = (f"teacher-{teacher}.csv", "wav2small.onnx", "wav2small-int8.onnx")
        names = [(p, d) for p in predictors for d in ("arousal", "dominance", "valence")]
        scores = [score(p, d, None if d == "valence" else 0.1 * number + 0.01 * len(p)) for p, d in names]
        (tmp_path / f"{file}.json").write_text(json.dumps({"scores": scores}))
    command = [sys.executable, RECIPES / "paper_table.py", tmp_path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    interval = "[.25, .76]"
    assert lines[0].split("|")[1:4] == [" CCC ", " Test-1 A ", " Test-1 D "] and lines[0].endswith(" IEMOCAP V |")
    cells = [f".15 {interval}", f".15 {interval}", "", f".25 {interval}", f".25 {interval}", ""]
    assert lines[2].split(" | ")[:7] == ["| teacher `paper`", *cells]
    assert [line.split(" | ")[0] for line in lines[3:5]] == ["| wav2small", "| wav2small-int8"]
    assert "| teacher, published | .762 | .684 | .676 | .486 | .468 | .423 |" in "\n".join(lines)
    assert {line.count("|") for line in lines} == {11}


@pytest.mark.slow
def test_the_rehearsal_goes_from_nothing_to_the_table(tmp_path):
    """Slow because it starts torch for each of its eight steps that need it."""
    pytest.importorskip("torch", reason="needs the extra train")
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "STUDENTS": "wav2small", "CLIPS": "40"}
    command = ["bash", RECIPES / "paper.sh", "--rehearse", tmp_path]
    done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "run"
    table = (run / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:5]] == ["| teacher `paper`", "| wav2small", "| wav2small-int8"]
    assert all(cell.strip() for line in table[2:5] for cell in line.split("|")[1:-1])
    splits = {
        name: {segment.split for segment in read_manifest(run / f"{name}.csv")} for name in ("dev", "teacher-msp")
    }
    assert splits == {"dev": {"dev"}, "teacher-msp": {"test1", "test2"}}
    labels = read_manifest(run / "labels.csv")
    assert len(labels) == 40 and {segment.column("teacher") for segment in labels} == {"paper"}
    metadata = read_safetensors(run / "wav2small" / "best.safetensors")[1]
    assert metadata["teacher"].startswith("paper ") and "NC" in metadata["licence"]
    assert "Rehearsed in " in done.stdout


@pytest.mark.slow
def test_students_of_the_hub_s_teacher_are_rehearsed_from_a_folder_of_audio(tmp_path):
    pytest.importorskip("torch", reason="needs the extra train")
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "STUDENTS": "micro"}
    command = ["bash", RECIPES / "odyssey.sh", "--rehearse", tmp_path]
    done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    metadata = read_safetensors(tmp_path / "run" / "students" / "micro.safetensors")[1]
    assert metadata["teacher"].startswith("odyssey ") and metadata["teacher_licence"] == "MIT"
    assert (tmp_path / "run" / "export" / "micro.onnx").is_file()
    assert "Rehearsed in " in done.stdout
