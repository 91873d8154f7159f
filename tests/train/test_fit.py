"""Heads: they learn from some speakers what holds for others, the same each time, from what annotation there is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import AudioError, ManifestError
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import load_norms

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from wav2small.train.config import FitConfig  # noqa: E402
from wav2small.train.heads import Batches, Corpus, fit_heads, load_corpora  # noqa: E402
from wav2small.train.loss import ccc_loss, grouped_ccc_loss  # noqa: E402
from wav2small.train.teachers.open import Heads  # noqa: E402

RATE = 16000
CONFIG = FitConfig(
    layers=(1, 2), hidden=16, dropout=0.1, folds=3, copies=1, epochs=40.0, batch_size=32, learning_rate=0.02, seed=1
)
CATEGORIES = ("anger", "sadness", "happiness", "neutral")


pytestmark = pytest.mark.usefixtures("one_thread")


class Body:
    """Three layers of four numbers: level, length, and two more; counts the clips and breaks off after some."""

    layers, bf16, key, pooling = 3, False, "", "mean+std"

    def __init__(self, clips: float = np.inf) -> None:
        self.clips, self.heard = clips, 0

    def statistics(self, signals: list[np.ndarray]) -> np.ndarray:
        self.heard += len(signals)
        if self.heard > self.clips:
            raise KeyboardInterrupt
        numbers = [[s.std(), len(s) / RATE, np.abs(s).max(), s[0]] for s in signals]
        return np.stack([np.add.outer(np.arange(3), row) for row in numbers]).astype(np.float32)


def silently(done: float, total: float) -> None:
    pass


def synthetic(name: str = "made", clips: int = 240, speakers: int = 12, seed: int = 0) -> Corpus:
    """Statistics of layer 2 that carry the answer behind a mixing matrix and noise; each speaker has an offset."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.1, 0.9, (clips, 3))
    speaker = np.arange(clips) % speakers
    statistics = rng.standard_normal((2, clips, 3, 8)) * 0.3
    statistics[:, :, 2] += 5 * truth @ np.random.default_rng(99).standard_normal((3, 8))
    statistics += 0.3 * rng.standard_normal((speakers, 8))[speaker][None, :, None]
    labels = [CATEGORIES[int(row[0] * 4)] for row in truth]
    return Corpus(name, statistics.astype("f4"), truth.astype("f4"), labels, np.ones(clips), speaker % 3)


def states(heads: Heads) -> list[np.ndarray]:
    return [tensor.numpy() for head in heads.heads for tensor in head.state_dict().values()]


def equal(one: Heads, other: Heads) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(states(one), states(other), strict=True))


@pytest.mark.slow
def test_heads_learn_what_holds_for_speakers_they_have_not_heard():
    heads, scores = fit_heads([synthetic(), synthetic("more", 120, seed=1)], CONFIG, silently)
    assert scores.keys() == {"made", "more"}
    assert min(score for corpus in scores.values() for score in corpus.values()) > 0.9
    fresh = synthetic("fresh", 60, seed=5)
    answers = heads(fresh.statistics[0])
    assert min(concordance_cc(fresh.truth[:, d], answers[:, d]) for d in range(3)) > 0.9
    assert len(heads.heads) == 3 and heads.each(fresh.statistics[0]).shape == (3, 60, 3)
    mix = [head.mix.detach().softmax(0).numpy() for head in heads.heads]
    assert all(weight[1] > weight[0] for weight in mix), "layer 2 is the one that knows"


def test_there_is_nothing_to_learn_from_noise():
    corpus = synthetic()
    _, scores = fit_heads(
        [replace(corpus, truth=corpus.truth[np.random.default_rng(0).permutation(240)])], CONFIG, silently
    )
    assert max(scores["made"].values()) < 0.25


@pytest.mark.slow
def test_a_head_never_sees_the_answers_for_the_speakers_it_is_scored_on():
    corpus = synthetic()
    told = corpus.truth.copy()
    told[corpus.folds == 1] = 0.5
    one, _ = fit_heads([corpus], CONFIG, silently)
    other, _ = fit_heads([replace(corpus, truth=told)], CONFIG, silently)
    same = [
        all(torch.equal(a, b) for a, b in zip(x.state_dict().values(), y.state_dict().values(), strict=True))
        for x, y in zip(one.heads, other.heads, strict=True)
    ]
    assert same == [False, True, False]


def test_scores_are_of_the_held_out_fold():
    corpus = synthetic()
    heads, scores = fit_heads([corpus], CONFIG, silently)
    each = heads.each(corpus.statistics[0])
    held_out = each[corpus.folds, np.arange(len(corpus.folds))]
    expected = {name: concordance_cc(corpus.truth[:, d], held_out[:, d]) for d, name in enumerate(OUTPUTS)}
    assert scores["made"] == pytest.approx(expected, abs=1e-6)


def test_the_seed_repeats_and_another_differs():
    one, scores = fit_heads([synthetic()], replace(CONFIG, epochs=3, heads_a_fold=2), silently)
    again, same = fit_heads([synthetic()], replace(CONFIG, epochs=3, heads_a_fold=2), silently)
    other, _ = fit_heads([synthetic()], replace(CONFIG, epochs=3, heads_a_fold=2, seed=2), silently)
    assert equal(one, again) and scores == same and len(one.heads) == 6
    assert not equal(one, other)
    assert not torch.equal(one.heads[0].mix, one.heads[1].mix)


def test_a_clip_that_nobody_recognised_counts_for_nothing():
    corpus = synthetic()
    wrong = corpus.truth.copy()
    wrong[::2] = 1 - wrong[::2]
    weights = np.where(np.arange(240) % 2, 1.0, 0.0)
    heads, _ = fit_heads([replace(corpus, truth=wrong, weights=weights)], CONFIG, silently)
    answers = heads(corpus.statistics[0])
    assert min(concordance_cc(corpus.truth[:, d], answers[:, d]) for d in range(3)) > 0.85


def test_the_loss_is_one_minus_the_metric():
    rng = np.random.default_rng(0)
    truth, prediction = rng.random((50, 3)), rng.random((50, 3)) * 0.3 + 0.5
    loss = ccc_loss(torch.from_numpy(truth), torch.from_numpy(prediction)).numpy()
    np.testing.assert_allclose(1 - loss, [concordance_cc(truth[:, d], prediction[:, d]) for d in range(3)], atol=1e-6)


@pytest.mark.parametrize("folds", [[0] * 240, [2] * 240])
def test_one_fold_alone_is_said(folds):
    with pytest.raises(ManifestError, match="all clips have one speaker or one fold"):
        fit_heads([replace(synthetic(), folds=np.array(folds))], CONFIG, silently)


def test_two_corpora_of_one_name_are_said():
    with pytest.raises(ManifestError, match="two manifests have the same name: made, made"):
        fit_heads([synthetic(), synthetic(seed=1)], CONFIG, silently)


def corpus_of(folder: Path, rows: list[dict[str, object]], seed: int = 0) -> Path:
    """A folder with manifest.csv and audio for each of its files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for row in rows:
        soundfile.write(folder / str(row["file"]), rng.uniform(0.01, 0.2) * rng.standard_normal(4000), RATE)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def clips(count: int = 12, **columns: object) -> list[dict[str, object]]:
    """Rows; a column is a value, or a function of the row's number."""
    return [
        {"file": f"{n}.wav", **{name: value(n) if callable(value) else value for name, value in columns.items()}}
        for n in range(count)
    ]


def load(folder: Path, body: Body | None = None, cache: str = "cache", **changes: object) -> Corpus:
    [corpus] = load_corpora(str(folder), body or Body(), replace(CONFIG, **changes), folder.parent / cache, silently)
    return corpus


def test_categories_stand_for_their_norms_and_what_has_none_is_left_out(tmp_path):
    labels = ["Anger", "sadness", "no such feeling", "HAPPINESS"]
    corpus = load(corpus_of(tmp_path / "acted", clips(4, speaker="a", label=labels.__getitem__)))
    norms = load_norms()
    expected = [norms[name].emotion for name in ("anger", "sadness", "happiness")]
    np.testing.assert_allclose(corpus.truth, expected)
    assert corpus.labels == ["anger", "sadness", "happiness"] and corpus.name == "acted"
    assert corpus.statistics.shape == (2, 3, 3, 4)


def test_annotations_of_people_go_before_norms(tmp_path):
    rows = clips(3, speaker="a", label="anger", arousal=lambda n: n / 10, dominance=0.5, valence=0.25)
    rows[2] |= dict.fromkeys(OUTPUTS, "")
    corpus = load(corpus_of(tmp_path / "rated", rows))
    np.testing.assert_allclose(corpus.truth[:2], [[0.0, 0.5, 0.25], [0.1, 0.5, 0.25]])
    np.testing.assert_allclose(corpus.truth[2], load_norms()["anger"].emotion)


@pytest.mark.parametrize("label", ["", "no such feeling"])
def test_a_manifest_without_annotations_is_said(tmp_path, label):
    with pytest.raises(ManifestError, match="no row has arousal, dominance and valence, or a category with a norm"):
        load(corpus_of(tmp_path / "plain", clips(3, label=label)))


def test_folds_never_share_a_speaker(tmp_path):
    rows = clips(30, speaker=lambda n: f"s{n * 7 % 8}", label="anger")
    corpus = load(corpus_of(tmp_path / "named", rows))
    folds = {row["speaker"]: set() for row in rows}
    for row, fold in zip(rows, corpus.folds, strict=True):
        folds[row["speaker"]].add(int(fold))
    assert all(len(found) == 1 for found in folds.values())
    assert set(corpus.folds) == {0, 1, 2}


def test_the_manifests_own_folds_are_kept(tmp_path):
    corpus = load(corpus_of(tmp_path / "own", clips(8, speaker=lambda n: f"s{n}", label="anger", fold=lambda n: n % 4)))
    assert corpus.folds.tolist() == [0, 1, 2, 0, 0, 1, 2, 0]
    partly = clips(8, speaker=lambda n: f"s{n // 4}", label="anger", fold=lambda n: n % 4 or "")
    assert load(corpus_of(tmp_path / "partly", partly)).folds.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"speaker": "s1", "fold": lambda n: n % 2}, "speaker s1 is in fold 0 and in fold 1"),
        ({"speaker": "s1", "fold": "train"}, "0.wav: fold is 'train'"),
        ({"speaker": "s1", "fold": "-1"}, "0.wav: fold is '-1'"),
        ({"extra": "a=1;recognised_pct=high"}, "0.wav: extra has recognised_pct=high"),
        ({"extra": "recognised_pct="}, "0.wav: extra has recognised_pct=."),
        ({"extra": "recognised_pct=120"}, "0.wav: extra has recognised_pct=120"),
    ],
)
def test_folds_and_agreement_that_are_none_are_said(tmp_path, columns, sentence):
    with pytest.raises(ManifestError) as caught:
        load(corpus_of(tmp_path / "odd", clips(4, label="anger", **columns)))
    assert sentence in str(caught.value)


def test_agreement_is_the_share_of_listeners(tmp_path):
    extras = ["recognised_pct=95.00;natural_pct=90.00", "", "natural_pct=10;recognised_pct=40", "free text; a=b=c"]
    corpus = load(corpus_of(tmp_path / "heard", clips(4, label="anger", extra=extras.__getitem__)))
    np.testing.assert_allclose(corpus.weights, [0.95, 1.0, 0.4, 1.0])


def test_statistics_are_kept_and_a_stopped_run_goes_on(tmp_path):
    folder = corpus_of(tmp_path / "acted", clips(12, speaker=lambda n: f"s{n}", label="anger"))
    whole, body = load(folder, cache="one"), Body()
    with pytest.raises(KeyboardInterrupt):
        load(folder, Body(clips=13), cache="two")
    parts = load(folder, body, cache="two")
    np.testing.assert_array_equal(parts.statistics, whole.statistics)
    assert body.heard == 12, "the first copy was done"
    np.testing.assert_array_equal(load(folder, Body(clips=0), cache="two").statistics, whole.statistics)


def test_another_seed_or_segment_has_other_statistics(tmp_path):
    rows = clips(6, label="anger", start=0.05, end=0.2)
    folder = corpus_of(tmp_path / "acted", clips(6, label="anger"))
    first = load(folder).statistics
    assert not np.array_equal(load(folder, seed=2).statistics, first)
    (folder / "manifest.csv").unlink()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    cut = load(folder).statistics
    np.testing.assert_allclose(first[0, :, 0, 1] - cut[0, :, 0, 1], 0.1, atol=2e-3)


def test_the_first_copy_is_clean_and_every_copy_is_surrounded(tmp_path):
    corpus = load(corpus_of(tmp_path / "acted", clips(12, label="anger")), copies=2)
    durs = corpus.statistics[:, :, 0, 1]
    assert durs.min() > 0.19 and durs.max() < 0.25 * 1.25 + 2.4
    assert np.ptp(durs, axis=0).min() > 0.01, "silence of another length each time"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    folder = corpus_of(tmp_path / "acted", clips(3, label="anger"))
    (folder / "1.wav").write_text("no audio")
    with pytest.raises(AudioError, match=r"1\.wav: cannot be decoded"):
        load(folder)
    assert not list(tmp_path.rglob("*.npy"))


def test_the_name_of_a_corpus_is_that_of_its_folder_or_file(tmp_path, monkeypatch):
    folder = corpus_of(tmp_path / "acted", clips(3, label="anger"))
    (folder / "part.csv").write_bytes((folder / "manifest.csv").read_bytes())
    monkeypatch.chdir(folder)
    for source, name in (("manifest.csv", "acted"), (".", "acted"), ("part.csv", "part"), (str(folder), "acted")):
        [corpus] = load_corpora(source, Body(), CONFIG, tmp_path / "cache", silently)
        assert corpus.name == name


def test_manifests_with_a_comma_between_are_one_corpus_whose_speakers_share_their_fold(tmp_path):
    rows = clips(12, speaker=lambda n: f"s{n // 2}", label="anger")
    first = corpus_of(tmp_path / "acted", rows)
    variants = [{**row, "file": f"v{row['file']}"} for row in rows[:6] if row["speaker"] != "s1"]
    second = corpus_of(tmp_path / "voices", variants, 1)
    one, other = load_corpora(f"{first},{second}", Body(), CONFIG, tmp_path / "cache", silently)
    assert (one.name, other.name, one.group, other.group) == ("acted", "voices", "acted", "acted")
    fold = {row["speaker"]: number for row, number in zip(rows, one.folds, strict=True)}
    assert other.folds.tolist() == [fold[row["speaker"]] for row in variants]
    [alone] = load_corpora(str(second), Body(), CONFIG, tmp_path / "cache", silently)
    assert alone.folds.tolist() != other.folds.tolist(), "dealt alone they are in other folds"


def test_own_folds_that_disagree_within_a_corpus_are_said(tmp_path):
    first, second = (
        corpus_of(tmp_path / name, clips(3, speaker="a", label="anger", fold=fold))
        for name, fold in (("x", 0), ("y", 1))
    )
    with pytest.raises(ManifestError, match="speaker a is in fold 0 and in fold 1"):
        load_corpora(f"{first},{second}", Body(), CONFIG, tmp_path / "cache", silently)


def test_a_folder_whose_name_has_a_comma_is_one_manifest(tmp_path):
    folder = corpus_of(tmp_path / "one, two", clips(3, label="anger"))
    assert load(folder).name == "one, two"


def test_a_batch_is_groups_of_one_corpus_and_variants_belong_to_theirs():
    parts = [synthetic("a", seed=1), replace(synthetic("b", seed=2), group="a"), synthetic("c", 60, seed=3)]
    numbered = [replace(c, truth=np.full_like(c.truth, n), group=c.group or c.name) for n, c in enumerate(parts)]
    width = numbered[0].statistics.shape[3]
    config = replace(CONFIG, batch_size=96, group_size=32)
    batches = Batches(numbered, 0, sorted(CATEGORIES), np.zeros((2, width)), np.ones((2, width)), config, 0)
    drawn = [batches.draw()[1][:, 0].numpy().reshape(3, 32) for _ in range(60)]
    groups = np.concatenate(drawn)
    kinds = [frozenset(np.unique(group)) for group in groups]
    assert {*kinds} == {frozenset({0, 1}), frozenset({2})}
    share = np.mean([kind == {2} for kind in kinds])
    assert share == pytest.approx(np.sqrt(40) / (np.sqrt(40) + np.sqrt(320)), abs=0.08)


def test_the_loss_within_groups_does_not_see_what_lies_between_them():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.random((64, 3)))
    offset = torch.tensor([[0.0], [5.0]]).repeat_interleave(32, 0)
    wrong = truth[torch.cat([torch.randperm(32), 32 + torch.randperm(32)])]
    assert float(grouped_ccc_loss(truth + offset, wrong + offset, 32, 0.0).mean()) < 0.05, "pooled, it looks right"
    assert float(grouped_ccc_loss(truth + offset, wrong + offset, 32, 1.0).mean()) > 0.7
    assert float(grouped_ccc_loss(truth, truth, 32, 0.5).mean()) == pytest.approx(0, abs=1e-6)
    halves = [ccc_loss(truth[part], wrong[part]).mean() for part in (slice(32), slice(32, 64))]
    expected = 0.25 * sum(halves) / 2 + 0.75 * ccc_loss(truth, wrong).mean()
    assert float(grouped_ccc_loss(truth, wrong, 32, 0.25).mean()) == pytest.approx(float(expected), abs=1e-6)


@pytest.fixture
def encoder(monkeypatch) -> None:
    """The command computes statistics with the double."""
    monkeypatch.setattr("wav2small.train.fit.find_encoder", lambda layers: None)
    monkeypatch.setattr("wav2small.train.fit.WhisperBody", lambda *_: Body())
    monkeypatch.setattr("wav2small.cli.fit.FitConfig", lambda **options: replace(CONFIG, epochs=1.0, **options))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


def test_the_command_writes_heads_that_say_what_they_are(encoder, tmp_path):
    rows = clips(12, speaker=lambda n: f"s{n}", label=lambda n: CATEGORIES[n % 4])
    folders = [corpus_of(tmp_path / name, rows, seed) for seed, name in enumerate(("first", "second"))]
    output = tmp_path / "heads.safetensors"
    result = run(*folders, "-o", output, "--cache", tmp_path / "cache", "--name", "mine", "--version", 3, "--copies", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("first: CCC on held-out speakers: arousal ")
    lines = result.stderr.splitlines()
    for number, line in enumerate(lines[:-1], 1):
        assert line.startswith(f"head {number} of 3: CCC on the held-out speakers of fold {number - 1}: arousal ")
    assert len(lines) == 4 and lines[3].startswith(f"{output}: teacher mine 3, ") and lines[3].endswith(" KB")
    heads, metadata = Heads.load(output)
    assert len(heads.heads) == 3 and heads.layers == [1, 2]
    assert {key: metadata[key] for key in ("name", "version", "licence", "training_data")} == {
        "name": "mine",
        "version": "3",
        "licence": "Apache-2.0",
        "training_data": "first, second",
    }
    assert json.loads(metadata["recipe"])["copies"] == 1
    assert json.loads(metadata["ccc"])["unheard speakers"].keys() == {"first", "second"}


def test_what_cannot_be_done_is_one_sentence(encoder, tmp_path):
    folder = corpus_of(tmp_path / "plain", clips(3))
    result = run(folder, "-o", tmp_path / "heads.safetensors", "--cache", tmp_path / "cache")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"wav2small: {folder}: no row has arousal, dominance and valence, or a category")
    result = run(folder, "-o", tmp_path / "none" / "heads.safetensors")
    assert (result.exit_code, "cannot be written: there is no folder" in result.stderr) == (1, True)
    (tmp_path / "file").touch()
    acted = corpus_of(tmp_path / "acted", clips(3, label="anger"))
    result = run(acted, "-o", tmp_path / "heads.safetensors", "--cache", tmp_path / "file")
    assert (result.exit_code, "cannot be created as a folder" in result.stderr) == (1, True)


def test_help_has_an_example_and_numbers_have_bounds():
    assert "Example:\n    wav2small fit open/emodb open/emogator -o open.safetensors" in run("--help").output
    assert run("x", "-o", "y", "--copies", -1).exit_code == run("x", "-o", "y", "--seed", -1).exit_code == 2
