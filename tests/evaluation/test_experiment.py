"""Experiments: held-out folds, seeds, training sets and corpora of one file; every cell once, also after a kill."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from wav2small.cli import main
from wav2small.errors import Wav2SmallError
from wav2small.metrics import unweighted_accuracy
from wav2small.network.weights import write_safetensors
from wav2small.tables.journal import journal
from wav2small.tables.table import read_table, write_table

torch = pytest.importorskip("torch", reason="needs the extra train")

from wav2small.evaluation import experiment_cells, experiment_models, features  # noqa: E402  both import torch
from wav2small.evaluation.experiment import read_experiment  # noqa: E402
from wav2small.train.config import DenseConfig  # noqa: E402
from wav2small.train.dense import fit_dense  # noqa: E402
from wav2small.train.examples import Answers, Examples  # noqa: E402
from wav2small.train.loss import focal_loss, metric_loss  # noqa: E402

LABELS = ("anger", "sadness", "happiness")
SPEAKERS = 5
FILE = """
truth = "norms"
folds = ["speaker", "random:2"]
seeds = [0, 1]
by = ["gender"]

[models]
said = "said.csv"
head = { body = "double", hidden = 8, epochs = 12, learning_rate = 0.1 }

[corpora]
a = "a"
b = { manifest = "b/manifest.csv", train = false, where = { label = ["anger", "sadness"] } }
"""


def levels(signals):
    """A double of a frozen model: the level of a clip, and its speaker, which is the frequency of the tone."""
    rates = [np.pi * np.mean(signal[1:] * signal[:-1] < 0) for signal in signals]
    speakers = np.eye(SPEAKERS)[[round((rate - 0.1) / 0.2) for rate in rates]]
    return np.column_stack([[np.abs(signal).max() for signal in signals], speakers]).astype(np.float32)


def write_corpus(folder, level):
    """Clips whose label is in their level, and their speaker in their pitch."""
    folder.mkdir()
    rows = []
    for number in range(SPEAKERS * len(LABELS) * 2):
        speaker, label = number % SPEAKERS, number // SPEAKERS % len(LABELS)
        signal = level(speaker, label) * np.sin(np.arange(4000) * (0.1 + 0.2 * speaker))
        soundfile.write(folder / f"{number}.wav", signal, 16000, subtype="FLOAT")
        gender = "fm"[speaker % 2]
        rows.append({"file": f"{number}.wav", "speaker": f"s{speaker}", "gender": gender, "label": LABELS[label]})
    write_table(rows, folder / "manifest.csv")
    return rows


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment_models, "open_frozen", lambda *of: features.Frozen("double", levels))
    for name in "ab":
        write_corpus(Path(name), lambda speaker, label: 0.2 + 0.3 * label)
    said = [
        {"file": f"{name}/{n}.wav", "arousal": 0.1 + 0.01 * n, "dominance": 0.5, "valence": 0.5}
        for name in "ab"
        for n in range(30)
    ]
    write_table(said, "said.csv")
    Path("x.toml").write_text(FILE)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["experiment", "x.toml", "-o", "out.json", "--draws", "10", *arguments])


def scores(statistic, **wanted):
    rows = json.loads(Path("out.json").read_text())["scores"]
    wanted |= {"statistic": statistic}
    return [row for row in rows if "by" not in row and all(row[name] == value for name, value in wanted.items())]


@pytest.mark.slow
def test_every_model_corpus_fold_and_seed_is_in_the_table(work):
    result = run("-o", "out.csv", "-o", "out.parquet", "--against", "said")
    assert result.exit_code == 0, result.output
    groups = {(r["model"], r["train"], r["test"], r["folds"]): r for r in scores("mean_ccc")}
    assert set(groups) == {
        ("said", "", "a", ""),
        ("said", "", "b", ""),
        *(("head", "a", "a", kind) for kind in ("speaker", "random:2")),
        ("head", "a", "b", ""),
    }
    assert groups["head", "a", "a", "speaker"]["n"] == 30 and groups["head", "a", "b", ""]["n"] == 20
    assert scores("ua", model="head", test="b")[0]["value"] > 0.9
    values = [[row["value"] for row in read_table(file)] for file in ("out.csv", "out.parquet")]
    assert [f"{float(value):.4f}" if value else "" for value in values[1]] == values[0]
    assert "a: folds random:2 have the same speakers in training and test" in result.stderr
    assert not Path("out.json.partial").exists()


@pytest.mark.slow
def test_random_folds_reward_a_model_for_the_speaker_and_speaker_folds_do_not(work):
    rows = [{**row, "label": LABELS[int(row["speaker"][1]) % 3]} for row in read_table("a/manifest.csv")]
    write_table(rows, "a/manifest.csv")
    assert run().exit_code == 0
    (by_speaker,), (at_random,) = scores("ua", folds="speaker"), scores("ua", folds="random:2")
    assert by_speaker["value"] < 0.5 < 0.8 < at_random["value"]


@pytest.mark.slow
def test_figures_are_of_all_held_out_clips_and_deviations_of_folds_and_seeds(work):
    assert run().exit_code == 0
    experiment = read_experiment("x.toml")
    cell = next(iter(experiment.cells()))
    assert cell.group.model == "said"
    (row,) = scores("ua", folds="speaker")
    matrix = next(
        one["confusion"]
        for one in json.loads(Path("out.json").read_text())["confusions"]
        if (one["test"], one["folds"]) == ("a", "speaker")
    )
    counts = np.array([[line[label] for label in sorted(LABELS)] for line in matrix])
    assert counts.sum() == 30 * 2, "every clip once a seed"
    assert row["value"] == pytest.approx(unweighted_accuracy(counts)), "seeds have equally many clips of a category"
    assert row["fold_mean"] == pytest.approx(row["value"]), "speakers have equally many clips of a category"
    assert row["fold_sd"] >= 0 and row["seed_sd"] >= 0 and row["seeds"] == 2


def test_a_killed_run_continues_and_every_cell_is_computed_once(work, monkeypatch):
    whole = run()
    assert whole.exit_code == 0, whole.output
    expected = json.loads(Path("out.json").read_text())
    done = []
    answer = experiment_cells.answer_job

    def stops(job, *progress):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(job)
        return answer(job)

    monkeypatch.setattr(experiment_cells, "answer_job", stops)
    stopped = run()
    assert stopped.exit_code == 130 and "the same command continues" in stopped.stderr
    monkeypatch.setattr(experiment_cells, "answer_job", lambda job, *progress: done.append(job) or answer(job))
    assert run().exit_code == 0
    assert json.loads(Path("out.json").read_text()) == expected
    heads = [cell for cell in read_experiment("x.toml").cells() if cell.group.model == "head"]
    assert len(done) == len(heads) == 2 * (5 + 2 + 1)


def test_another_experiment_does_not_continue_the_journal_of_this_one(work, monkeypatch):
    def stop(job, *progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment_cells, "answer_job", stop)
    assert run().exit_code == 130
    Path("x.toml").write_text(FILE.replace("seeds = [0, 1]", "seeds = [2]"))
    result = run()
    assert result.exit_code == 1 and "is of a run with another experiment" in result.stderr


def test_a_second_corpus_may_be_trained_on_and_folds_are_of_the_tested_one(work):
    text = FILE.replace("train = false", "test = false").replace('by = ["gender"]', 'train = ["a", ["a", "b"]]')
    text = text.replace("seeds = [0, 1]", "seeds = [0]").replace('"speaker", ', "")
    Path("x.toml").write_text(text)
    assert run().exit_code == 0
    found = {(row["train"], row["folds"]): row["n"] for row in scores("ua")}
    assert found == {("a", "random:2"): 30, ("a+b", "random:2"): 30}


def test_the_same_model_under_two_names_does_not_differ(work):
    text = FILE.replace('said = "said.csv"', 'said = "said.csv"\nagain = "said.csv"').replace('"speaker", ', "")
    Path("x.toml").write_text(text)
    result = run("--against", "said")
    assert result.exit_code == 0, result.output
    rows = json.loads(Path("out.json").read_text())["differences"]
    zeros = [row for row in rows if row["model"] == "again" and row["value"] is not None]
    assert len(zeros) > 10 and {row["value"] for row in zeros} == {0}
    assert {row["model"] for row in rows} == {"again", "head"}


def test_json_is_the_same_as_toml(work):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    expected = read_experiment("x.toml")
    Path("x.toml").write_text(json.dumps(tomllib.loads(FILE)))
    assert read_experiment("x.toml") == expected


@pytest.mark.slow
def test_the_picture_has_a_panel_for_each_model(work):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    result = run("--plot", "x.png")
    assert result.exit_code == 0, result.output
    assert Path("x.png").read_bytes()[:4] == b"\x89PNG"


NETWORK = 'net = { network = "micro", epochs = 2, batch_size = 8, learning_rate = 0.01, max_dur = 0.2 }'


def with_network():
    """One model that is a whole network, on folds and on another corpus, with two seeds."""
    text = FILE.replace('said = "said.csv"', NETWORK).replace('"speaker", ', "")
    head = next(line for line in text.splitlines() if line.startswith("head"))
    Path("x.toml").write_text(text.replace(head, ""))


@pytest.mark.slow
def test_a_network_is_trained_in_each_cell_and_a_killed_run_continues_to_the_same_table(work, monkeypatch):
    with_network()
    whole = run("-o", "out.csv")
    assert whole.exit_code == 0, whole.output
    expected = json.loads(Path("out.json").read_text())
    found = {(row["folds"], row["test"], row["n"], row["seeds"]) for row in scores("mean_ccc", model="net")}
    assert found == {("random:2", "a", 30, 2), ("", "b", 20, 2)}
    assert any(row["seed_sd"] > 0 for row in scores("ua"))
    done, answer = [], experiment_cells.answer_job

    def stops(job, *progress):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        return answer(job, *progress)

    monkeypatch.setattr(experiment_cells, "answer_job", stops)
    assert run().exit_code == 130
    monkeypatch.setattr(experiment_cells, "answer_job", answer)
    assert run().exit_code == 0
    assert json.loads(Path("out.json").read_text()) == expected


def test_a_new_kind_of_model_needs_only_to_prepare_and_fit_and_reports_how_far_a_cell_is(work):
    Path("x.toml").write_text(FILE.replace('a = "a"', 'aaaa = "a"'))
    experiment = read_experiment("x.toml")
    said, reported = [], []

    class Mean:
        """Predicts the mean of the truth, and the first category."""

        def prepare(self, corpora, cache, bar):
            inputs = {name: np.fromiter(segments, object, len(segments)) for name, segments in corpora.items()}
            return experiment_models.Prepared(inputs, "start", "Aaaa, other")

        def fit(self, examples, seed, cache, progress):
            progress(1, 2, "half")
            self.truth = examples.truth.mean(0)
            return self

        def answers(self, segments):
            count = len(segments)
            return Answers(np.tile(self.truth, (count, 1)), np.tile([1.0, 0, 0], (count, 1)), np.zeros((count, 0)))

    experiment.models.clear()
    experiment.models["mean"] = Mean()

    @contextmanager
    def bar(title):
        yield lambda *done: reported.append((title, *done))

    with journal("out.json", {}, resumes=True) as book:
        experiment_cells.run_cells(experiment, book, Path("cache"), bar, said.append)
        answered = dict(experiment_cells.read_answers(book, experiment.cells()))
    assert said == ["aaaa is in the training data of the start of mean; this is not held-out"]
    cells = list(experiment.cells())
    title = "cells of mean"
    assert reported[:3] == [(title, 0.5, len(cells), "half"), (title, 1, len(cells)), (title, 1.5, len(cells), "half")]
    for cell, answers in answered.items():
        truth = experiment.corpora["aaaa"].truth
        held_out = {row for row, _ in answers} if cell.group.test == "aaaa" else set()
        expected = np.mean([one.emotion for row, one in enumerate(truth) if row not in held_out], axis=0)
        np.testing.assert_allclose([one.emotion for _, one in answers], np.tile(expected, (len(answers), 1)), rtol=1e-5)
    assert answered.keys() == set(cells)


@pytest.mark.slow
def test_ray_gives_the_same_table(work):
    pytest.importorskip("ray", reason="needs the extra ray")
    Path("x.toml").write_text(FILE.replace('said = "said.csv"', NETWORK))
    assert run().exit_code == 0
    expected = json.loads(Path("out.json").read_text())
    result = run("--engine", "ray")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("out.json").read_text()) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[models]", "[model]", "models is missing. Needed: models, corpora"),
        ("seeds = [0, 1]", "seed = 1", "unknown key seed. Known: models, corpora, train, folds"),
        ("seeds = [0, 1]", "seeds = [-1]", "seeds has -1"),
        ("seeds = [0, 1]", "seeds = []", "seeds is empty"),
        ("random:2", "random:1", "folds has 'random:1'. Give the name of a column, or random:10"),
        ('"speaker"', '"session"', "a: folds by session need two or more values of this column, and it has 0"),
        ("hidden = 8", "hiden = 8", "models.head: unknown key hiden"),
        ("epochs = 12", "epochs = 0", "epochs is 0. Needed: a number, as 40"),
        ('body = "double"', 'body = "double", pooling = "any"', "pooling is 'any'. Allowed: mean, mean+std"),
        ('by = ["gender"]', 'train = ["b"]', "train names b, which is not a corpus to train on. There are: a"),
        ('a = "a"', 'a = "c"', "c: cannot be opened"),
        ('a = "a"', "a = 5", "corpora.a: manifest is 5. Give a name in quotes"),
        ('"speaker", ', "5, ", "folds is 5. Give a name in quotes"),
        ('body = "double"', 'body = "double", layers = 0', "layers is 0. Needed: a whole number from 1"),
        ("seeds = [0, 1]", "seeds = ", "Give TOML or JSON"),
        (
            'body = "double"',
            'body = "double", network = "micro"',
            "has body and network. Give one of: body, network, finetune",
        ),
        ('body = "double", ', "", "models.head: has no kind. Give one of: body, network, finetune"),
        ('body = "double", hidden = 8', 'network = "micr"', "unknown student 'micr'. Did you mean 'micro'?"),
        ('body = "double"', 'network = "micro"', "models.head: unknown key hidden. Known: network, from, epochs"),
        ('body = "double", hidden = 8', 'network = "micro", max_dur = 0', "max_dur is 0. Needed: a number, as 4.0"),
        ('body = "double", hidden = 8', 'network = "micro", from = "no.safetensors"', "no.safetensors: "),
        ('body = "double", hidden = 8', 'network = "micro", from = "other.safetensors"', "other.safetensors: "),
    ],
)
def test_what_cannot_be_is_one_sentence(work, old, new, message):
    assert old in FILE
    Path("x.toml").write_text(FILE.replace(old, new))
    write_safetensors("other.safetensors", {"a": np.zeros(1, np.float32)}, {})
    result = run()
    assert result.exit_code == 1, result.output
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_options_that_do_not_combine_are_refused(work):
    assert "has no such model, only said, head" in run("--against", "other").output
    assert "--ray-address is of --engine ray" in run("--ray-address", "auto").output


def blobs(seed, apart=4.0, clips=120):
    rng = np.random.default_rng(seed)
    category = np.arange(clips) % 3
    centres = apart * np.eye(3)[category]
    features = np.concatenate([centres, np.zeros((clips, 2))], 1) + rng.standard_normal((clips, 5))
    truth = 0.5 + 0.2 * (centres - apart / 3) / apart
    return Examples(features.astype(np.float32), truth.astype(np.float32), category, 3)


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_head_learns_categories_and_dimensions_and_the_seed_repeats_it(hidden):
    train, test = blobs(0), blobs(1)
    before = torch.get_rng_state()
    config = DenseConfig(hidden=hidden, focal=1.0, learning_rate=0.02)
    first, second, other = (fit_dense(train, config, seed).answers(test.inputs) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert np.mean(first.probability.argmax(1) == test.category) > 0.85
    assert min(np.corrcoef(first.emotion[:, d], test.truth[:, d])[0, 1] for d in range(3)) > 0.7
    np.testing.assert_array_equal(first.emotion, second.emotion)
    assert not np.array_equal(first.emotion, other.emotion)


def test_clips_without_a_category_or_truth_are_not_fitted_on():
    train = blobs(0)
    half = np.arange(120) % 2 == 0
    wrong = Examples(
        train.inputs,
        np.where(half[:, None], train.truth, np.nan).astype(np.float32),
        np.where(half, train.category, -1),
        3,
    )
    found = fit_dense(wrong, DenseConfig(), 0).answers(blobs(1).inputs)
    assert np.mean(found.probability.argmax(1) == blobs(1).category) > 0.85
    assert np.isfinite(found.emotion).all()


def test_focal_loss_is_the_cross_entropy_at_gamma_0_and_weighs_doubt_above():
    logits, category = torch.randn(20, 4, generator=torch.manual_seed(0)), torch.arange(20) % 4
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = torch.nn.functional.cross_entropy(logits, category, weights)
    torch.testing.assert_close(focal_loss(logits, category, weights, 0.0), expected)
    p = torch.tensor(0.8)
    certain = torch.log(torch.stack([p, 1 - p]))[None]
    found = focal_loss(certain, torch.tensor([0]), torch.ones(2), 2.0)
    torch.testing.assert_close(found, -(0.2**2) * p.log())
    category[::2] = -1
    torch.testing.assert_close(
        focal_loss(logits, category, weights, 1.0), focal_loss(logits[1::2], category[1::2], weights, 1.0)
    )


def test_metric_loss_is_zero_where_distances_agree_up_to_scale():
    truth = torch.rand(12, 3, generator=torch.manual_seed(0))
    same = metric_loss(7 * truth @ torch.linalg.qr(torch.randn(3, 3)).Q, truth)
    assert float(same) < 1e-4 < float(metric_loss(truth.flip(0), truth))


def test_features_are_computed_once_and_a_long_clip_is_the_mean_of_its_parts(work):
    calls = []

    def embed(signals):
        calls.append(len(signals))
        return levels(signals)

    segments = read_experiment("x.toml").corpora["a"].segments
    one, two = (
        features.features(features.Frozen("k", embed), segments, Path("cache"), lambda *done: None) for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    assert sum(calls) == len(segments)
    other = features.features(features.Frozen("other", embed), segments[:2], Path("cache"), lambda *done: None)
    np.testing.assert_array_equal(other, one[:2])
    assert sum(calls) == len(segments) + 2


def test_a_time_axis_is_padded_with_nan_and_blocks_are_means():
    found = features.stacked([np.ones((2, 3, 4), np.float16), np.zeros((1, 5, 4), np.float16)])
    assert found.shape == (3, 5, 4) and found.dtype == np.float16
    assert np.isnan(found[:2, 3:]).all() and (found[2] == 0).all() and (found[:2, :3] == 1).all()
    np.testing.assert_array_equal(features._blocks(torch.arange(6.0)[:, None])[:, 0], [1.5, 4.5])


def test_attention_over_time_finds_the_token_that_matters_and_ignores_padding():
    rng = np.random.default_rng(0)
    category, place = np.arange(90) % 3, rng.integers(1, 12, 90)
    tokens = rng.standard_normal((90, 12, 8)).astype(np.float32)
    tokens[np.arange(90), place, :3] += 3 * np.eye(3)[category]
    tokens[np.arange(90), place, 3] += 6  # what attention can find
    tokens[::2, 11] = np.nan
    tokens[place == 11] = np.nan_to_num(tokens[place == 11])
    truth = np.repeat(category[:, None] / 4, 3, 1).astype(np.float32)
    config = DenseConfig(hidden=8, epochs=40, learning_rate=0.02, dropout=0.0)
    fitted = fit_dense(Examples(tokens[:60], truth[:60], category[:60], 3), config, 0)
    found = fitted.answers(tokens[60:])
    assert np.mean(found.probability.argmax(1) == category[60:]) > 0.8
    longer = np.concatenate([tokens[60:], np.full((30, 4, 8), np.nan, np.float32)], 1)
    np.testing.assert_allclose(fitted.answers(longer).emotion, found.emotion, atol=1e-5)


def test_a_pooling_of_an_embedding_is_an_error(work):
    with pytest.raises(Wav2SmallError, match="micro: pooling is 'max', but its embedding is pooled already"):
        features.open_frozen("micro", None, "max")


def test_an_unreadable_clip_stops_heads_and_is_left_out_of_models(work):
    Path("a/3.wav").write_bytes(b"damaged")
    result = run()
    assert result.exit_code == 1 and "a/3.wav" in result.stderr


def test_a_column_without_two_values_is_an_error_of_the_corpus(work):
    corpus = read_experiment("x.toml").corpora["a"]
    with pytest.raises(Wav2SmallError, match="a: folds by file2 need two"):
        corpus.folds("file2", 0)
    folds = corpus.folds("random:2", 0)
    assert [folds.count(fold) for fold in "01"] == [15, 15] and folds != corpus.folds("random:2", 1)
