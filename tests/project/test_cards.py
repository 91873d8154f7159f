"""The cards are what their recipe writes from committed files, of the weights that ship, and say what they must."""

from __future__ import annotations

import csv
import re
import runpy
from pathlib import Path

import pytest

from robustness import read
from wav2small.network.weights import full_name, read_index

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "docs" / "cards"
NAMES = sorted({row["name"] for row in read_index()})


@pytest.fixture(scope="module")
def recipe():
    return runpy.run_path(str(ROOT / "recipes" / "cards.py"))


def test_the_cards_are_current_and_there_is_one_for_each_name(recipe):
    made = recipe["cards"]()
    assert sorted(made) == NAMES == sorted(path.stem for path in CARDS.glob("*.md"))
    for name, text in made.items():
        assert (CARDS / f"{name}.md").read_text(encoding="utf-8") == text, f"run recipes/cards.py: {name}"


def test_what_was_evaluated_is_what_ships(recipe):
    with open(recipe["SCORES"], encoding="utf-8") as file:
        found = {(row["weights"], row["sha256"]) for row in csv.DictReader(file) if row["weights"] != recipe["TEACHER"]}
    assert found == {(name, row["sha256"][:12]) for name, row in recipe["named"]().items()}


def test_what_was_distorted_is_what_ships():
    names, rows = {full_name(row): row["sha256"][:12] for row in read_index() if row["file"].endswith(".onnx")}, read()
    assert rows and all(names.get(row["weights"], row["sha256"]) == row["sha256"] for row in rows)
    shown = {(row["weights"], row["condition"]) for row in rows if row["corpus"] == "ravdess"}
    assert shown >= {("micro", "packets"), ("wav2small-17k", "packets"), ("open", "packets")}


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_a_reader_must_know(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    for words in ("Licence: Apache-2.0", "Targets:", "CC0-1.0", "use.md", "Art. 5(1)(f)"):
        assert words in text
    for title in ("Intended use", "Files", "Training data", "Accuracy", "Robustness", "Limits"):
        assert f"\n## {title}\n" in text
    assert len(re.findall(r"\| 12 (?:wo)?men \|", text)) in (2, 4, 8)
    assert len(re.findall(r", actor \d\d \|", text)) in (6, 12)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (CARDS / link).exists(), link


def test_the_documents_lead_to_every_card():
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"(cards/{name}.md)" in results for name in NAMES)
