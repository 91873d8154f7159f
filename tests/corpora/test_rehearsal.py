"""Every corpus, as a miniature: read by ``wav2small corpus``, and all of them in one ``wav2small experiment``."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from miniatures import MINIATURES, put, write
from wav2small.cli import main
from wav2small.tables.table import read_table

RATED = ("audformat", "iemocap", "msp-conversation", "msp-improv", "msp-podcast", "webdataset")
"""Have ratings of A/D/V; the truth of the others are the norms of their categories."""
WITHOUT_TRUTH = "allosat"
"""Has neither for a clip: its ratings are over time."""
EXTRAS = ("audformat", "datasets")
HEAD = {"body": "micro", "hidden": 0, "epochs": 1}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def experiment(**content: object) -> Result:
    Path("x.json").write_text(json.dumps(content))
    return run("experiment", "x.json", "-o", "out.csv", "--draws", 2)


@pytest.fixture
def corpora(tmp_path, monkeypatch) -> list[str]:
    """Names of all corpora; the manifest of each is NAME.csv."""
    monkeypatch.chdir(tmp_path)
    names = [name for name in MINIATURES if name not in EXTRAS or find_spec(name)]
    for name in names:
        (tmp_path / name).mkdir()
        MINIATURES[name](tmp_path / name)
        result = run("corpus", name, name, "-o", f"{name}.csv")
        assert result.exit_code == 0, result.output
    return names


@pytest.mark.slow
def test_one_experiment_trains_on_three_corpora_and_tests_on_all(corpora):
    pytest.importorskip("torch", reason="needs the extra train")
    tested = [name for name in corpora if name != WITHOUT_TRUTH]
    manifests = {
        name: {"manifest": f"{name}.csv", "truth": "manifest" if name in RATED else "norms"} for name in tested
    }
    train = ["iemocap", "msp-conversation", ["emodb", "tess"]]
    result = experiment(models={"micro": "micro", "head": HEAD}, train=train, by=["gender"], corpora=manifests)
    assert result.exit_code == 0, result.output
    found = {
        (row["model"], row["train"], row["test"], row["folds"]): row
        for row in read_table("out.csv")
        if row["statistic"] == "mean_ccc" and not row["by"]
    }
    assert set(found) == {
        *(("micro", "", name, "") for name in tested),
        *(("head", name, test, "speaker" if test == name else "") for name in train[:2] for test in tested),
        *(("head", "emodb+tess", test, "speaker" if test in train[2] else "") for test in tested),
    }
    # A clip needs ratings, or a category with a norm: of IEMOCAP all 15, of JL one of three.
    numbers = {name: {row["n"] for key, row in found.items() if key[2] == name} for name in ("iemocap", "jl", "plain")}
    assert numbers == {"iemocap": {"15"}, "jl": {"1"}, "plain": {"2"}}
    assert found["head", "iemocap", "jl", ""]["value"] == "" != found["head", "iemocap", "iemocap", "speaker"]["value"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corpora": {"allosat": "allosat.csv"}}, "none of 3 rows of allosat has a truth (no norm: 3). Give a table"),
        ({"corpora": {"emodb": {"manifest": "emodb.csv", "truth": "manifest"}}}, "rows of emodb has a truth (no annot"),
        ({"corpora": {"emodb": {"manifest": "emodb.csv", "where": {"speaker": "08"}}}}, "emodb: folds by speaker need"),
        ({"corpora": {"emodb": {"manifest": "emodb.csv", "where": {"speaker": "8"}}}}, "corpora.emodb: no row has"),
        ({"folds": ["session"]}, "folds by session need two or more values of this column, and it has 0. Name another"),
        ({"by": ["sex"]}, "emodb: no row has a sex, so leave sex out of by in x.json"),
    ],
)
def test_a_corpus_that_cannot_be_scored_is_one_sentence(tmp_path, monkeypatch, changed, message):
    pytest.importorskip("torch", reason="needs the extra train")
    monkeypatch.chdir(tmp_path)
    for name in ("allosat", "emodb"):
        (tmp_path / name).mkdir()
        MINIATURES[name](tmp_path / name)
        assert run("corpus", name, name, "-o", f"{name}.csv").exit_code == 0
    result = experiment(**{"models": {"head": HEAD}, "corpora": {"emodb": "emodb.csv"}, **changed})
    assert result.exit_code == 1 and message in result.stderr, result.output
    assert len(result.stderr.splitlines()) == 1


def test_a_corpus_without_any_answer_is_a_row_of_dashes(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs the extra train")
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a.wav", "b.wav")
    write(tmp_path, "one.csv", "file,label\na.wav,anger\nb.wav,sadness\n")
    write(tmp_path, "two.csv", "file,label\nc.wav,anger\nd.wav,sadness\n")
    write(tmp_path, "said.csv", "file,arousal,dominance,valence\na.wav,.9,.6,.2\nb.wav,.3,.4,.2\n")
    two = {"said": "said.csv", "again": "said.csv"}
    Path("x.json").write_text(json.dumps({"models": two, "corpora": {"one": "one.csv", "two": "two.csv"}}))
    result = run("experiment", "x.json", "-o", "out.json", "--draws", 2, "--against", "said")
    assert result.exit_code == 0, result.output
    (row,) = [line.split() for line in result.output.splitlines() if line.startswith("said") and " two " in line]
    assert row == ["said", "two", *"-------", "0", "0"]
    report = json.loads(Path("out.json").read_text())
    assert {row["value"] for row in report["scores"] if row["test"] == "two"} == {None}
    assert {row["test"] for row in report["differences"]} == {"one"}
