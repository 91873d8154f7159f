"""Scores within each corpus, their mean over corpora, pooled scores, and differences of two predictors."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wav2small.cli import main
from wav2small.errors import ManifestError
from wav2small.evaluation.score import (
    MEAN,
    POOLED,
    Answer,
    EvaluationSet,
    answer_table,
    compare,
    evaluate,
    evaluate_by,
    evaluate_within,
)
from wav2small.metrics import mean_within, pearson_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment, load_norms, read_manifest
from wav2small.tables.table import read_table, write_table

NORMS = load_norms()
LABELS = ("anger", "happiness", "sadness", "neutral")


def answers(values):
    return [Answer(Emotion(*map(float, row))) for row in values]


def corpus(name, seed, speakers=8, clips=10, offset=0.0, labels=LABELS):
    """A corpus of its own offset, in which truth and prediction have nothing to do with each other."""
    rng, n = np.random.default_rng(seed), speakers * clips
    segments = [
        Segment(
            f"{i}.wav",
            Path(name) / f"{i}.wav",
            speaker=f"s{i % speakers}",
            label=labels[(i + i // speakers) % len(labels)],
        )
        for i in range(n)
    ]
    truth, prediction = (offset + 0.2 + 0.1 * rng.random((n, 3)) for _ in range(2))
    return EvaluationSet(segments, answers(truth), [name] * n, NORMS, draws=60), answers(prediction)


def together(*parts):
    sets, predictions = zip(*parts, strict=True)
    joined = {key: [one for data in sets for one in getattr(data, key)] for key in ("segments", "truth", "corpora")}
    return replace(sets[0], **joined), [answer for prediction in predictions for answer in prediction]


def interval(found, name, dimension="arousal", statistic="r"):
    score = found[name].score(dimension, statistic)
    return score.value, score.low, score.high


def test_what_tells_corpora_apart_is_worth_much_pooled_and_nothing_within():
    data, prediction = together(corpus("low", 0, clips=40), corpus("high", 1, clips=40, offset=0.5))
    found = evaluate_within(data, prediction)
    assert list(found) == ["low", "high", MEAN, POOLED]
    assert found[POOLED].score("arousal", "r").value > 0.95
    value, low, high = interval(found, MEAN)
    assert abs(value) < 0.1 and low < 0 < high
    truth, said = ([answer.emotion.arousal for answer in column] for column in (data.truth, prediction))
    assert value == pytest.approx(mean_within(pearson_cc, truth, said, data.corpora))


def test_a_corpus_scores_the_same_alone_and_among_others():
    parts = corpus("a", 0), corpus("b", 1, offset=0.3)
    found = evaluate_within(*together(*parts))
    for data, prediction in parts:
        alone = evaluate_within(data, prediction)
        assert list(alone) == [data.corpora[0]]
        plain = evaluate(data.segments, data.truth, prediction, NORMS, data.draws)
        assert found[data.corpora[0]].scores == alone[data.corpora[0]].scores == plain.scores


def test_the_order_of_corpora_changes_nothing():
    a, b, c = corpus("a", 0), corpus("b", 1, offset=0.3), corpus("c", 2, speakers=5)
    one, other = (evaluate_within(*together(*parts)) for parts in ((a, b, c), (c, a, b)))
    for name in (MEAN, POOLED):
        for first, second in zip(one[name].scores, other[name].scores, strict=True):
            values = [(s.value, s.low, s.high, s.n, s.speakers, s.corpora) for s in (first, second)]
            assert values[0] == pytest.approx(values[1])


@pytest.mark.slow
def test_corpora_vary_independently_so_their_mean_varies_less():
    """Even if they are the same clips of as many speakers: by the root of 2."""
    parts = [corpus("a", 0, speakers=30, clips=4), corpus("b", 0, speakers=30, clips=4)]
    found = evaluate_within(*together(*[(replace(data, draws=500), said) for data, said in parts]))
    (value, *one), (mean, *both) = interval(found, "a"), interval(found, MEAN)
    assert interval(found, "b") == (value, *one)
    assert mean == pytest.approx(value)
    assert both[1] - both[0] == pytest.approx((one[1] - one[0]) / np.sqrt(2), rel=0.15)


def test_speakers_of_one_name_in_two_corpora_are_two():
    data, prediction = together(corpus("a", 0, speakers=4), corpus("b", 1, speakers=4))
    found = evaluate_within(data, prediction)
    assert [found[name].score("arousal", "ccc").speakers for name in found] == [4, 4, 8, 8]
    assert [found[name].score("arousal", "ccc").n for name in found] == [40, 40, 80, 80]


def test_pooled_draws_hold_as_many_speakers_of_each_corpus_as_there_are():
    """So the share of a corpus does not vary, nor does the CCC of two constants a corpus, which depends on it."""
    data, _ = together(corpus("low", 0), corpus("high", 1, speakers=5))
    steps, wider = (answers([[size * (name == "high")] * 3 for name in data.corpora]) for size in (0.5, 0.9))
    value, low, high = interval(evaluate_within(replace(data, truth=steps), wider), POOLED, statistic="ccc")
    assert 0 < value < 0.9
    assert low == pytest.approx(high) == pytest.approx(value)


def test_a_corpus_with_one_speaker_has_no_interval_and_neither_has_the_mean():
    found = evaluate_within(*together(corpus("many", 0), corpus("one", 1, speakers=1, clips=40)))
    assert np.isfinite(interval(found, "many")).all()
    for name in ("one", MEAN, POOLED):
        value, low, high = interval(found, name)
        assert np.isfinite(value) and np.isnan(low) and np.isnan(high)


def test_what_is_undefined_in_a_corpus_is_left_out_of_its_mean():
    parts = (
        corpus("a", 0),
        corpus("b", 1),
        corpus("no-joy", 2, labels=("anger", "neutral")),
        corpus("none", 3, labels=("",)),
    )
    found = evaluate_within(*together(*parts))
    score = found[MEAN].score("valence", "auc_happiness_anger")
    each = [found[name].score("valence", "auc_happiness_anger") for name in "ab"]
    assert score.value == pytest.approx(np.mean([one.value for one in each]))
    assert (score.corpora, score.n, score.speakers) == (2, 40 + 40, sum(one.speakers for one in each))
    assert score.low < score.value < score.high
    assert found[MEAN].score("arousal", "auc").corpora == 3
    assert found[MEAN].score("arousal", "ccc").corpora == 4
    assert np.isnan(found["no-joy"].score("valence", "auc_happiness_anger").value)
    assert "auc" not in {score.statistic for score in found["none"].scores}


def test_a_predictor_against_itself_differs_by_exactly_0_in_every_draw():
    data, prediction = together(corpus("a", 0), corpus("b", 1, offset=0.3))
    found = compare(data, prediction, prediction)
    assert list(found) == ["a", "b", MEAN, POOLED]
    for some in found.values():
        assert len(some) == 11
        assert {(one.value, one.low, one.high, one.share_not_above_0) for one in some} == {(0.0, 0.0, 0.0, 1.0)}


def good(data, noise, seed):
    """A predictor that is right but for some noise."""
    truth = np.array([answer.emotion for answer in data.truth])
    return answers(truth + noise * np.random.default_rng(seed).normal(size=truth.shape))


def of(found, dimension="arousal", statistic="r"):
    return next(one for one in found if (one.dimension, one.statistic) == (dimension, statistic))


def test_a_paired_difference_is_surer_than_two_intervals():
    data, _ = together(corpus("a", 0), corpus("b", 1))
    one = good(data, 0.03, 0)
    other = [Answer(Emotion(*(np.array(answer.emotion) + 0.002 * (i % 3)))) for i, answer in enumerate(one)]
    paired = compare(data, one, other)
    apart = [evaluate_within(data, prediction) for prediction in (one, other)]
    for name, some in paired.items():
        widths = [np.subtract(*interval(found, name)[:0:-1]) for found in apart]
        difference = of(some)
        assert difference.high - difference.low < np.hypot(*widths) / 3
        assert difference.value == pytest.approx(np.subtract(*(interval(found, name)[0] for found in apart)))


def test_the_better_one_is_better_in_nearly_every_draw_and_the_other_in_none():
    data, poor = corpus("a", 0)
    better = good(data, 0.03, 0)
    one, other = of(compare(data, better, poor)["a"]), of(compare(data, poor, better)["a"])
    assert (one.share_not_above_0, other.share_not_above_0) == (0.0, 1.0)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.low > 0


def test_a_difference_is_of_what_both_answered():
    data, prediction = corpus("a", 0)
    better = good(data, 0.03, 0)
    missing = [Answer(None, "error") if i % 4 == 0 else answer for i, answer in enumerate(better)]
    kept = [i for i in range(len(better)) if i % 4]
    whole, part = (
        compare(data, prediction, missing)["a"],
        compare(data[kept], *([p[i] for i in kept] for p in (prediction, better)))["a"],
    )
    assert whole == part
    assert of(whole).n == len(kept)
    with pytest.raises(ManifestError, match="nothing to compare in a: no row is answered by both"):
        compare(data, [Answer(None, "error")] * len(better), better)


def test_the_mean_of_differences_leaves_out_corpora_in_which_one_of_the_two_is_undefined():
    data, prediction = together(corpus("a", 0), corpus("b", 1))
    constant = [
        answer if name == "a" else Answer(Emotion(0.5, 0.5, 0.5))
        for answer, name in zip(prediction, data.corpora, strict=True)
    ]
    found = compare(data, good(data, 0.03, 0), constant)
    assert np.isnan(of(found["b"]).value)
    assert (of(found[MEAN]).value, of(found[MEAN]).corpora) == (of(found["a"]).value, 1)
    assert of(found[MEAN], statistic="ccc").corpora == 2


def test_one_speaker_gives_no_share_either():
    data, prediction = corpus("a", 0, speakers=1)
    assert np.isnan(of(compare(data, prediction, good(data, 0.1, 0))["a"]).share_not_above_0)


def test_by_a_column_corpora_count_that_have_the_value_and_speakers_are_never_joined():
    a, b = corpus("a", 0, speakers=4), corpus("b", 1, speakers=4, labels=("anger", "fear"))
    data, prediction = together(a, b)
    found = evaluate_by("label", data, prediction)
    assert list(found["label=anger"]) == ["a", "b", MEAN, POOLED]
    assert list(found["label=fear"]) == ["b"]
    assert list(evaluate_by("speaker", data, prediction)["speaker=s1"]) == ["a", "b"]


def test_two_files_of_one_name_are_joined_by_their_place():
    segments = [Segment("1.wav", Path(folder) / "1.wav") for folder in ("/a", "/b")] + [
        Segment("2.wav", Path("/b/2.wav"))
    ]
    table = [
        Segment(file, Path("/table") / file, emotion=Emotion(v, v, v))
        for file, v in (("1.wav", 0.1), ("2.wav", 0.2), ("/b/1.wav", 0.3))
    ]
    found = answer_table(segments, table, "no prediction")
    assert [answer.emotion and answer.emotion.arousal for answer in found] == [None, 0.3, 0.2]


# The command


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Manifests a and b, with files of the same names, and a table of predictions of both, by place."""
    monkeypatch.chdir(tmp_path)
    predictions = []
    for number, name in enumerate("ab"):
        part, prediction = corpus(name, number, speakers=5, clips=8, offset=0.3 * number)
        (tmp_path / name).mkdir()
        rows = [
            {"file": s.file, "speaker": s.speaker, "label": s.label, "where": name.upper(), **t.emotion._asdict()}
            for s, t in zip(part.segments, part.truth, strict=True)
        ]
        write_table(rows, tmp_path / name / "manifest.csv")
        predictions += [
            {"file": str(s.path), **answer.emotion._asdict()}
            for s, answer in zip(part.segments, prediction, strict=True)
        ]
    write_table(predictions, tmp_path / "said.csv")
    better = [{**row, **{name: 0.5 * row[name] for name in OUTPUTS}} for row in predictions]
    write_table(better, tmp_path / "other.csv")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--draws", "20"])


BOTH = ("--on", "a", "--on", "b")


def test_the_command_shows_each_corpus_the_mean_and_pooled_and_one_corpus_as_ever(data):
    result = run("said.csv", *BOTH, "-o", "both.json", "-o", "both.csv")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("both.json").read_text())
    assert [(one["name"], one["rows"]) for one in report["manifests"]] == [("a", 40), ("b", 40)]
    assert "manifest" not in report and "differences" not in report
    assert report["predictors"][0]["left_out_within"] == {"a": {}, "b": {}}
    assert list(dict.fromkeys(row["manifest"] for row in report["scores"])) == ["a", "b", MEAN, POOLED]
    assert {row["corpora"] for row in report["scores"] if row["manifest"] == MEAN} == {2}
    assert [float(row["value"]) for row in read_table("both.csv")] == pytest.approx(
        [row["value"] for row in report["scores"]], abs=6e-5
    )
    assert result.stdout.startswith("a, 40 rows; b, 40 rows; truth: manifest; in brackets")
    assert result.stdout.count(MEAN) == result.stdout.count(POOLED) == 6
    one = run("said.csv", "--on", "b", "-o", "one.json")
    assert one.stdout.splitlines()[1].split()[:2] == ["predictor", "dimension"]
    assert MEAN not in one.stdout and POOLED not in one.stdout
    alone = json.loads(Path("one.json").read_text())
    assert alone["manifest"]["name"] == "b"
    among = [{key: row[key] for key in row if key != "corpora"} for row in report["scores"] if row["manifest"] == "b"]
    assert alone["scores"] == among
    assert [row["dimension"] for row in among if row["statistic"] == "ccc"] == list(OUTPUTS)


def test_a_column_splits_a_manifest_into_corpora(data):
    rows = [{**row, "file": f"{name}/{row['file']}"} for name in "ab" for row in read_table(f"{name}/manifest.csv")]
    write_table(rows, "all.csv")
    one = run("said.csv", "--on", "all.csv", "--corpus", "where", "-o", "one.csv")
    assert one.exit_code == 0, one.output
    run("said.csv", *BOTH, "-o", "two.csv")
    lowered = [{**row, "manifest": row["manifest"].lower()} for row in read_table("one.csv")]
    assert lowered == read_table("two.csv")
    result = run("said.csv", "--on", "all.csv", "--corpus", "tribe")
    assert "all: no row has a tribe, so it does not tell corpora apart; leave --corpus tribe out" in result.stderr


def test_differences_are_shown_and_written_beside_the_scores(data):
    result = run("said.csv", "other.csv", *BOTH, "--against", "other.csv", "-o", "out.json", "-o", "out.csv")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("out.json").read_text())
    assert report["against"]["name"] == "other.csv"
    assert {(row["predictor"], row["against"]) for row in report["differences"]} == {("said.csv", "other.csv")}
    values = {(r["predictor"], r["manifest"], r["dimension"], r["statistic"]): r["value"] for r in report["scores"]}
    for row in report["differences"]:
        key = row["manifest"], row["dimension"], row["statistic"]
        assert row["value"] == pytest.approx(values[("said.csv", *key)] - values[("other.csv", *key)])
        assert 0 <= row["share_not_above_0"] <= 1
    rows = read_table("out.csv")
    assert [row["against"] for row in rows] == [""] * len(report["scores"]) + ["other.csv"] * len(report["differences"])
    assert "Difference to other.csv on the clips that both answered" in result.stdout
    alone = run("said.csv", *BOTH, "--against", "other.csv", "-o", "alone.json")
    assert alone.exit_code == 0, alone.output
    second = json.loads(Path("alone.json").read_text())
    assert second["differences"] == report["differences"]
    assert [one["name"] for one in second["predictors"]] == ["said.csv"]


def test_saved_predictions_of_several_manifests_are_read_back(data):
    first = run("said.csv", *BOTH, "--predictions", "saved.csv", "-o", "one.csv")
    assert first.exit_code == 0, first.output
    assert {row["file"] for row in read_table("saved.csv")} >= {"a/0.wav", "b/0.wav"}
    Path("deep").mkdir()
    Path("elsewhere").mkdir()
    Path("b").rename("elsewhere/b")
    Path("b").symlink_to("elsewhere/b")
    run("said.csv", *BOTH, "--predictions", "deep/saved.csv")
    assert len(read_manifest("deep/saved.csv")) == 80
    for file in ("saved.csv", "deep/saved.csv"):
        result = run(file, *BOTH, "-o", "two.csv")
        assert result.exit_code == 0 and result.stderr.startswith("two.csv: "), result.output
        for one, two in zip(read_table("one.csv"), read_table("two.csv"), strict=True):
            assert float(one["value"]) == pytest.approx(float(two["value"]), abs=2e-2)


def test_groups_of_several_manifests(data):
    result = run("said.csv", *BOTH, "--by", "label", "--by", "speaker", "-o", "out.csv")
    assert result.exit_code == 0, result.output
    rows = read_table("out.csv")
    assert {row["manifest"] for row in rows if row["by"] == "label=anger"} == {"a", "b", MEAN, POOLED}
    assert {row["manifest"] for row in rows if row["by"] == "speaker=s1"} == {"a", "b"}


@pytest.mark.slow
def test_plots_of_several_manifests(data):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    result = run("said.csv", *BOTH, "--plot", "plot.png")
    assert result.exit_code == 0, result.output
    width, height = struct.unpack(">II", Path("plot.png").read_bytes()[16:24])
    assert (width, height) == (3 * 4 * 150, 2 * 4.2 * 150), "a row a corpus, a column a dimension"


def test_what_is_left_out_is_counted_by_corpus(data):
    write_table([row for row in read_table("said.csv") if row["file"] != "b/3.wav"], "less.csv")
    result = run("less.csv", *BOTH, "-o", "out.json")
    assert "less.csv: 1 of 40 rows of b left out: no prediction" in result.stderr
    about = json.loads(Path("out.json").read_text())["predictors"][0]
    assert (about["left_out"], about["left_out_within"]["a"]) == ({"no prediction": 1}, {})


def test_one_speaker_is_said(data):
    rows = [{**row, "speaker": "only"} for row in read_table("b/manifest.csv")]
    write_table(rows, "b/manifest.csv")
    result = run("said.csv", *BOTH)
    assert "no interval of b, so none of the mean and of pooled: it needs at least 5 speakers" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("said.csv", "--on", "a", "--on", "c"), "c: cannot be opened"),
        (("said.csv", "--on", "a", "--on", "a"), "two manifests are named a"),
        (("said.csv", *BOTH, "--root", "a"), "--root takes one --on"),
        (("said.csv", *BOTH, "--against", "none.csv"), "none.csv"),
        (("said.csv", *BOTH, "--against", "said.csv"), "--against said.csv is the only PREDICTOR"),
        (("said.csv", *BOTH, "--against", "other.csv", "--by", "label"), "leave --by out"),
        (("said.csv", *BOTH, "--where", "where=A"), "b: no row has where = A"),
        (("half.csv", *BOTH), r"half.csv: nothing to score in b: all 40 rows are left out (no prediction: 40)"),
        (("said.csv", *BOTH, "--against", "half.csv"), "half.csv: nothing to score in b"),
        (("said.csv", *BOTH, "--truth", "half.csv"), "none of 40 rows of b has a truth (no truth: 40)"),
    ],
)
def test_what_cannot_be_is_one_sentence(data, arguments, words):
    write_table(read_table("said.csv")[:40], "half.csv")
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_mean_needs_one_truth(data):
    rows = [{key: row[key] for key in row if key not in OUTPUTS} for row in read_table("b/manifest.csv")]
    write_table(rows, "b/manifest.csv")
    assert "a has annotations and b has none" in run("said.csv", *BOTH).stderr
    result = run("said.csv", *BOTH, "--truth", "norms")
    assert result.exit_code == 0, result.output


def with_categories(prediction, data, wrong):
    """Answers with the category of each clip, but for every ``wrong``-th one, which is sadness."""
    names = ["sadness" if row % wrong == 0 else s.label for row, s in enumerate(data.segments)]
    return [answer._replace(category=name) for answer, name in zip(prediction, names, strict=True)]


def test_categories_are_scored_within_corpora_and_compared():
    data, prediction = together(corpus("a", 1), corpus("b", 2))
    better, worse = with_categories(prediction, data, 4), with_categories(prediction, data, 2)
    found = evaluate_within(data, better)
    rows = [row for row, answer in enumerate(better) if data.corpora[row] == "a"]
    hits = np.array([better[row].category == data.segments[row].label for row in rows])
    labels = np.array([data.segments[row].label for row in rows])
    assert found["a"].score("category", "wa").value == pytest.approx(hits.mean())
    ua = np.mean([hits[labels == label].mean() for label in LABELS])
    assert found["a"].score("category", "ua").value == pytest.approx(ua)
    assert found["a"].confusion is not None and found["a"].confusion.counts.sum() == len(rows)
    gains = {d.statistic: d for d in compare(data, better, worse)[MEAN] if d.dimension == "category"}
    assert set(gains) == {"ua", "wa", "macro_f1"} and 0 < gains["wa"].low < gains["wa"].value < gains["wa"].high
    assert not [one for one in evaluate_within(data, prediction)["a"].scores if one.dimension == "category"]


def test_a_table_with_categories_has_its_confusion_matrix_printed(data):
    rows = [{**row, "category": "Anger"} for row in read_table("said.csv")]
    write_table(rows, "named.csv")
    result = run("named.csv", "--on", "a", "-o", "out.json")
    assert result.exit_code == 0, result.output
    assert "named.csv, a: UA 0.250, WA " in result.output and "; true categories in rows" in result.output
    matrix = json.loads(Path("out.json").read_text())["predictors"][0]["confusion"]["a"]
    assert {row["truth"]: row["recall"] for row in matrix} == {"anger": 1, "happiness": 0, "neutral": 0, "sadness": 0}
    assert sum(row["anger"] for row in matrix) == 40
