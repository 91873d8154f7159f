"""``robustness``: figures of distorted clips beside those of ``evaluate``, resumed runs, wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from wav2small.cli import main
from wav2small.evaluation.conditions import Sounds, choose
from wav2small.evaluation.labelled import read_manifests, read_set
from wav2small.evaluation.robustness import answers_in, from_rows, overall, scores_in, to_rows
from wav2small.evaluation.score import MEAN, Answer, answer_segments
from wav2small.metrics import auc, bootstrap_interval, concordance_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.table import read_table, write_table

LABELS = ("anger", "happiness", "sadness", "neutral")
FEW = ("--conditions", "white:0,level:-20", "--draws", "20")


def level_of(signals):
    """A stand-in for a model: the louder, the more of everything."""
    return [Emotion(*(float(np.abs(signal).max()) * share for share in (1, 0.5, 0.25))) for signal in signals]


def make_corpus(folder: Path, speakers: int = 6, seed: int = 0) -> Path:
    folder.mkdir()
    rng, rows = np.random.default_rng(seed), []
    for number in range(4 * speakers):
        soundfile.write(folder / f"{number}.wav", rng.uniform(0.01, 0.3) * rng.standard_normal(6000), 16000)
        speaker = number // 4
        row = {"file": f"{number}.wav", "speaker": f"s{speaker}", "label": LABELS[number % 4]}
        rows.append(row | {"gender": "fm"[speaker % 2]})
    write_table(rows, folder / "manifest.csv")
    return folder


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_corpus(tmp_path / "corpus")


def run(*arguments):
    return CliRunner().invoke(main, ["robustness", *map(str, arguments)])


def values(rows, **wanted):
    return [row["value"] for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_the_scores_are_the_metrics_of_the_answers(corpus):
    truth, data = read_set(read_manifests([str(corpus)], None, []), None, None, None, 50, 0)
    clean = list(answer_segments(data.segments, level_of))
    (condition,) = choose(["level:-20"])
    (answers,) = zip(*answers_in(condition, [level_of], data.segments, Sounds(), 0), strict=True)
    assert answers[3].emotion.arousal == pytest.approx(clean[3].emotion.arousal / 10)
    rows = list(scores_in(data, truth, answers, clean, ["gender"]))
    before, after, true = (np.array([a.emotion for a in column]) for column in (clean, answers, data.truth))
    speakers = [segment.speaker for segment in data.segments]
    for d, dimension in enumerate(OUTPUTS):
        (shift,) = [r for r in rows if (r["dimension"], r["statistic"], r["by"]) == (dimension, "shift", "")]
        difference = (after - before)[:, d]
        low, high = bootstrap_interval(lambda rows, d=difference: d[rows].mean(), speakers, 50)
        assert (shift["value"], shift["low"], shift["high"]) == pytest.approx((difference.mean(), low, high))
        assert (shift["n"], shift["speakers"], shift["manifest"]) == (24, 6, "corpus")
        own = {"dimension": dimension, "by": ""}
        assert values(rows, statistic="distance", **own) == pytest.approx([np.abs(difference).mean()])
        assert values(rows, statistic="ccc_clean", **own) == pytest.approx([concordance_cc(before[:, d], after[:, d])])
        assert values(rows, statistic="ccc", **own) == pytest.approx([concordance_cc(true[:, d], after[:, d])])
    high = np.array([segment.label in ("anger", "happiness") for segment in data.segments])
    assert values(rows, statistic="auc", dimension="arousal", by="") == pytest.approx([auc(high, after[:, 0])])
    women = np.array([segment.column("gender") == "f" for segment in data.segments])
    found = values(rows, statistic="ccc", dimension="arousal", by="gender=f")
    assert found == pytest.approx([concordance_cc(true[women, 0], after[women, 0])])


def test_several_models_get_the_answers_that_each_gets_alone_and_a_clip_is_distorted_once(corpus, monkeypatch):
    _, data = read_set(read_manifests([str(corpus)], None, []), None, None, None, 50, 0)
    (condition,) = choose(["pink:0"])
    calls, apply = [], type(condition).apply
    monkeypatch.setattr(type(condition), "apply", lambda self, *given: calls.append(given[1]) or apply(self, *given))

    def other(signals):
        return [Emotion(float(signal.mean()), 0, 0) for signal in signals]

    both = list(answers_in(condition, [level_of, other], data.segments, Sounds(), 0))
    assert len(calls) == len(both) == 24
    for number, one in enumerate((level_of, other)):
        alone = answers_in(condition, [one], data.segments, Sounds(), 0)
        assert [row[number] for row in both] == [answer for (answer,) in alone]


def test_answers_survive_the_journal():
    answers = [Answer(Emotion(0.1, 0.2, 1 / 3)), Answer(None, "error", "gone.wav: cannot be read")]
    assert from_rows(json.loads(json.dumps(list(to_rows(answers))))) == answers


def test_the_clean_clips_have_the_scores_of_evaluate(corpus):
    result = run("micro", "--on", corpus, *FEW, "-o", "r.json", "-o", "r.csv")
    assert result.exit_code == 0, result.output
    CliRunner().invoke(main, ["evaluate", "micro", "--on", str(corpus), "--by", "gender", *FEW[2:], "-o", "e.json"])
    report, other = (json.loads(Path(name).read_text()) for name in ("r.json", "e.json"))
    expected = {
        (row.get("by", ""), row["dimension"], row["statistic"]): row["value"]
        for row in other["scores"]
        if row["statistic"] in ("ccc", "auc")
    }
    clean = [row for row in report["scores"] if row["condition"] == "clean"]
    assert {(row["by"], row["dimension"], row["statistic"]): row["value"] for row in clean} == pytest.approx(expected)
    assert len(read_table("r.csv")) == len(report["scores"])
    assert [row["condition"] for row in overall(report["scores"])][-1] == "level:-20"
    quiet = values(report["scores"], condition="level:-20", statistic="ccc_clean", by="", dimension="arousal")
    assert quiet[0] > 0.98, "the level is normalised"
    assert "gender=f" in {row["by"] for row in report["scores"]}
    assert "level:-20" in result.output and not Path("r.json.partial").exists()


def test_several_corpora_have_a_mean(corpus, tmp_path):
    other = make_corpus(tmp_path / "other", seed=1)
    assert run("micro", "--on", corpus, "--on", other, *FEW, "-o", "r.json").exit_code == 0
    rows = json.loads(Path("r.json").read_text())["scores"]
    one = {"condition": "white:0", "statistic": "shift", "dimension": "valence", "by": ""}
    found = [values(rows, manifest=name, **one)[0] for name in ("corpus", "other", MEAN)]
    assert found[2] == pytest.approx(np.mean(found[:2]))
    assert {row["manifest"] for row in overall(rows)} == {MEAN}


def test_an_interrupted_run_is_resumed_without_computing_a_condition_again(corpus, monkeypatch):
    assert run("micro", "micro:int8", "--on", corpus, *FEW, "-o", "whole.csv").exit_code == 0
    from wav2small.evaluation import robustness

    original, computed, interrupts = robustness.answers_in, [], [False, True]

    def noted(condition, predictors, *rest):
        computed.append((condition and condition.name, len(predictors)))
        if predictors and condition and condition.name == "level:-20" and interrupts.pop():
            raise KeyboardInterrupt
        return original(condition, predictors, *rest)

    monkeypatch.setattr(robustness, "answers_in", noted)
    stopped = run("micro", "--on", corpus, *FEW, "-o", "rows.csv")
    assert stopped.exit_code == 130 and "the same command with --resume continues" in stopped.stderr
    assert Path("rows.csv.partial").exists() and not Path("rows.csv").exists()
    again = run("micro", "--on", corpus, *FEW, "-o", "rows.csv")
    assert again.exit_code == 1 and "go on with it by --resume, or delete it" in again.stderr
    changed = run("micro", "--on", corpus, *FEW, "-o", "rows.csv", "--resume", "--seed", 1)
    assert changed.exit_code == 1 and "is of a run with another seed" in changed.stderr
    computed.clear()
    assert run("micro", "micro:int8", "--on", corpus, *FEW, "-o", "rows.csv", "--resume").exit_code == 0
    assert computed == [(None, 1), ("white:0", 1), ("level:-20", 2)], "what is there is not computed again"
    assert Path("rows.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_a_clip_that_cannot_be_read_is_counted(corpus):
    (corpus / "3.wav").write_bytes(b"nothing")
    result = run("micro", "--on", corpus, *FEW, "-o", "r.json")
    assert result.exit_code == 1
    assert "micro: 1 clips left out of white:0: error" in result.stderr and "3.wav" in result.stderr
    report = json.loads(Path("r.json").read_text())
    assert {row["n"] for row in overall(report["scores"]) if row["statistic"] == "ccc"} == {23}


def test_the_picture_has_a_cell_for_each_condition_and_dimension(corpus):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    assert run("micro", "--on", corpus, *FEW, "--plot", "map.svg").exit_code == 0
    drawn = Path("map.svg").read_text()
    assert all(name in drawn for name in ("clean", "white:0", "level:-20", "micro, V"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--conditions", "whit"), "whit is not a condition. Did you mean white?"),
        (("--conditions", "noise:0"), "noise:0 needs recordings: give --noise MANIFEST"),
        (("--preset", "dawn"), "noise:20 needs recordings: give --noise MANIFEST"),
        (("--preset", "dawn", "--conditions", "fade"), "give one of them"),
        (("--resume",), "--resume needs -o FILE"),
        (("-o", "rows.lab"), "no format has the suffix '.lab'"),
        (("-o", "rows.textgrid"), "scores are written as"),
        (("--plot", "map.gif"), "map.gif"),
        (("--by", "age"), "no row has a age"),
        (("--where", "speaker=x"), "no row has speaker = x"),
        (("--format", "parquet"), "--format parquet needs -o FILE"),
    ],
)
def test_wrong_use_is_one_sentence(corpus, arguments, words):
    result = run("micro", "--on", corpus, *arguments)
    assert result.exit_code in (1, 2) and words in result.stderr and "Traceback" not in result.output


def test_a_table_of_predictions_is_refused(corpus):
    write_table([{"file": "0.wav", "arousal": 0.5, "dominance": 0.5, "valence": 0.5}], "said.csv")
    result = run("said.csv", "--on", corpus)
    assert result.exit_code == 1 and "said.csv: is a table, which has no answers to distorted clips" in result.stderr
