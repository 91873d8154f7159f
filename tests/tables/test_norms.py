"""The norms that stand in for annotations: their sources reached, every label of the open corpora covered."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import NORMS, load_norms, read_manifest

DATA = Path(os.environ.get("WAV2SMALL_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no shared data: set WAV2SMALL_DATA to its folder")

RUSSELL_MEHRABIAN = {  # pleasure, arousal, dominance, -1 to 1
    "anger angry": (-0.51, 0.59, 0.25),
    "disgust disgusted": (-0.60, 0.35, 0.11),
    "fear fearful": (-0.64, 0.60, -0.43),
    "happiness happy joy joyful": (0.76, 0.48, 0.35),
    "sadness sad": (-0.63, -0.27, -0.33),
    "surprise surprised": (0.40, 0.67, -0.13),
    "boredom bored": (-0.65, -0.62, -0.33),
}


def rows():
    with open(NORMS, newline="", encoding="utf-8") as file:
        return {row["label"].lower(): row for row in csv.DictReader(file)}


def on_minus_one_to_one(label):
    return {name: 2 * float(rows()[label][name]) - 1 for name in OUTPUTS}


@pytest.mark.parametrize("labels", RUSSELL_MEHRABIAN)
def test_basic_emotions_are_russell_and_mehrabians_in_every_spelling(labels):
    valence, arousal, dominance = RUSSELL_MEHRABIAN[labels]
    for label in labels.split():
        assert on_minus_one_to_one(label) == pytest.approx(
            {"arousal": arousal, "dominance": dominance, "valence": valence}
        )
        assert rows()[label]["source"] == "Russell and Mehrabian 1977"


def test_our_own_rows_have_a_reason():
    own = {label: row for label, row in rows().items() if row["source"] == "ours"}
    assert on_minus_one_to_one("neutral") == pytest.approx({"arousal": -0.2, "dominance": 0, "valence": 0})
    assert on_minus_one_to_one("calm") == pytest.approx({"arousal": -0.4, "dominance": 0.1, "valence": 0.25})
    assert set(own) == {"neutral", "calm"}
    assert all("Warriner" in row["reason"] for row in own.values())


def test_each_row_names_its_source():
    assert {row["source"] for row in rows().values()} == {
        "Russell and Mehrabian 1977",
        "Warriner, Kuperman and Brysbaert 2013",
        "ours",
    }


@needs_data
def test_the_rest_is_warriners_rescaled_from_1_to_9():
    with open(DATA / "category_norms.csv", newline="", encoding="utf-8") as file:
        published = [row for row in csv.DictReader(file) if rows()[row["label"].lower()]["source"].startswith("Warr")]
    assert len(published) == 33
    for row in published:
        expected = Emotion(*((float(row[key]) - 1) / 8 for key in ("A_1to9", "D_1to9", "V_1to9")))
        assert load_norms()[row["label"]].emotion == pytest.approx(expected)


@needs_data
@pytest.mark.parametrize(("folder", "labels"), [("open/emodb", 7), ("open/emogator", 30), ("noncommercial/ravdess", 8)])
def test_every_label_of_a_corpus_has_a_norm(folder, labels):
    seen = {segment.label for segment in read_manifest(DATA / folder)}
    assert len(seen) == labels
    assert seen <= {label for label in seen if label in load_norms()}


@needs_data
def test_kinds_of_game_line_are_no_emotions():
    assert not any(segment.label in load_norms() for segment in read_manifest(DATA / "open/sdap"))


def test_classes_of_the_two_aucs():
    norms = load_norms()
    classes = {(norm.arousal_class, norm.valence_class): [] for norm in norms.values()}
    for label, norm in norms.items():
        classes[norm.arousal_class, norm.valence_class].append(label)
    classes.pop(("", ""))
    assert {key: sorted(labels) for key, labels in classes.items()} == {
        ("high", "negative"): ["anger", "angry"],
        ("high", "positive"): ["happiness", "happy", "joy", "joyful"],
        ("low", "negative"): ["sad", "sadness"],
        ("low", ""): ["calm", "neutral"],
    }


def test_a_label_is_found_in_any_case_and_an_unknown_one_is_not():
    norms = load_norms()
    assert norms["ANGER"] == norms["anger"] == norms.get(" Anger ")
    assert norms["Romantic love"].emotion.valence == 0.875
    assert "shouting" not in norms
    assert norms.get("shouting") is None
    with pytest.raises(KeyError):
        norms["shouting"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("Anger,0.8,0.6,0.2,high,\nanger,0.8,0.6,0.2,high,", "row 2: label is 'anger'"),
        (",0.8,0.6,0.2,high,", "row 1: label is ''"),
        ("anger,0.8,0.6,-0.5,high,", "from 0 to 1"),
        ("anger,,,,high,", "from 0 to 1"),
        ("anger,0.8,0.6,0.2,loud,", "high or low"),
        ("anger,0.8,much,0.2,high,", "dominance is 'much'"),
        ("", "has no rows. Give norms"),
    ],
)
def test_a_table_of_norms_that_cannot_be_meant_is_an_error(tmp_path, table, words):
    file = tmp_path / "norms.csv"
    file.write_text("label,arousal,dominance,valence,arousal_class,valence_class\n" + table + "\n")
    with pytest.raises(ManifestError, match=words):
        load_norms(file)
