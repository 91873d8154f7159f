"""The tables of the documents are those of the files of the evaluation and the bench, and those are of what ships."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from wav2small.network.weights import read_index

ROOT = Path(__file__).parents[2]


OPEN = ROOT / "recipes" / "open"


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("readme", "README.md"),
        ("table", "docs/results.md"),
        ("costs", "docs/results.md"),
        ("students", "docs/students.md"),
        ("robust", "docs/robustness.md"),
        ("robust_truth", "docs/robustness.md"),
    ],
)
def test_the_tables_in_the_documents_are_current(name, document):
    made = runpy.run_path(str(ROOT / "recipes" / "table.py"))[name](OPEN)
    assert made in (ROOT / document).read_text(encoding="utf-8")


def test_the_table_of_distorted_clips_of_emodb_is_current():
    made = runpy.run_path(str(ROOT / "recipes" / "table.py"))["robust"](OPEN, "emodb")
    assert made in (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")


def test_what_was_measured_is_what_ships():
    """To the byte: new weights or a new graph need a new run of the bench."""
    rows = [json.loads(line) for line in (OPEN / "bench.jsonl").read_text().splitlines()]
    measured = {
        (row["name"], row["sha256"])
        for row in rows
        if row["runtime"] == "onnxruntime" and not row["name"].endswith(".onnx")
    }
    shipped = {(row["name"], row["sha256"]) for row in read_index() if row["file"].endswith(".onnx")}
    assert measured == shipped
