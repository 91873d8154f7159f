"""Fine-tuned cells of an experiment: V-FT, TAPT and P-TAPT by folds, resumed inside a cell, and what cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from wav2small.cli import main
from wav2small.errors import ManifestError
from wav2small.tables.manifest import read_manifest
from wav2small.tables.table import write_table
from wav2small.train.config import AdaptConfig, FinetuneConfig
from wav2small.train.examples import Examples

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining  # noqa: E402

from tiny_teachers import SMALL, scrambled  # noqa: E402
from wav2small.train.loop import Loop  # noqa: E402
from wav2small.train.tune import annotated, tune  # noqa: E402

LABELS = ("anger", "sadness", "happiness")
QUANTISER = {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8, "num_negatives": 5}
HOW = '{ finetune = "w2v2", batch_size = 4, steps = 2, max_dur = 0.4, evaluate_every = 1, hidden = 8'
FILE = f"""
folds = ["random:2"]

[models]
v-ft = {HOW} }}
tapt = {HOW}, adapt = "tapt", adapt_steps = 2 }}
p-tapt = {HOW}, adapt = "p-tapt", adapt_steps = 2, clusters = [3, 4] }}

[corpora]
a = "a"
"""
CONFIG = FinetuneConfig(steps=2, batch_size=4, max_dur=0.4, evaluate_every=1, hidden=8)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    rows = []
    for number in range(16):
        rng, label = np.random.default_rng(number), LABELS[number % 3]
        soundfile.write(f"a/{number}.wav", 0.1 * (1 + number % 3) * rng.standard_normal(5000), 16000)
        rows.append({"file": f"{number}.wav", "speaker": f"s{number % 4}", "label": label})
    write_table(rows, "a/manifest.csv")
    scrambled(Wav2Vec2ForPreTraining, Wav2Vec2Config(**SMALL, **QUANTISER), 3).save_pretrained("w2v2")
    Path("w2v2/preprocessor_config.json").write_text('{"do_normalize": true}')
    Path("x.toml").write_text(FILE)
    return tmp_path


def run():
    return CliRunner().invoke(main, ["experiment", "x.toml", "-o", "out.json", "--draws", "5", "--cache", "cache"])


def examples() -> Examples:
    segments = read_manifest("a")
    category = np.array([LABELS.index(segment.label) for segment in segments])
    return Examples(np.fromiter(segments, object, len(segments)), np.eye(3)[category] / 2, category, 4)


@pytest.mark.slow
def test_an_interrupted_cell_continues_where_it_stopped_and_leaves_no_checkpoints(work, monkeypatch):
    whole = run()
    assert whole.exit_code == 0, whole.output
    expected = json.loads(Path("out.json").read_text())
    assert {row["model"] for row in expected["scores"]} == {"v-ft", "tapt", "p-tapt"}
    advance, steps = Loop.advance, []

    def interrupted(self, batch):
        steps.append(len(self.task.net.state_dict()))
        if len(steps) == 20:  # in the last phase of the first cell of p-tapt
            raise KeyboardInterrupt
        return advance(self, batch)

    monkeypatch.setattr(Loop, "advance", interrupted)
    stopped = run()
    assert stopped.exit_code == 130, stopped.output
    assert [path.name for path in Path("cache/finetune").iterdir()], "the checkpoints of the cell"
    resumed = run()
    assert resumed.exit_code == 0, resumed.output
    assert json.loads(Path("out.json").read_text()) == expected
    assert len(steps) == 2 * (2 + (2 + 2) + (2 + 2 + 2)) + 1, "no step twice but the one that was stopped"
    assert not list(Path("cache/finetune").iterdir())


def test_categories_are_those_of_the_examples_and_clips_without_truth_are_left_out(work):
    given = examples()
    wrong = replace(given, truth=np.where(np.arange(16)[:, None] == 5, np.nan, given.truth))
    assert len(annotated(wrong).segments) == 15
    found = tune(wrong, "w2v2", 1, CONFIG, AdaptConfig(), Path("cache"), lambda *done: None).answers(given.inputs)
    assert found.emotion.shape == (16, 3) and found.hidden.shape == (16, 8)
    np.testing.assert_allclose(found.probability.sum(1), 1, atol=1e-5)
    assert (found.probability[:, 3] == 0).all(), "no clip of category 3 was trained on"
    one = replace(given, category=np.where(np.arange(16) % 4 == 1, given.category, -1))
    with pytest.raises(ManifestError, match="1 speaker has clips with a category"):
        annotated(one)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('adapt = "tapt"', 'adapt = "dapt"', "adapt is 'dapt'. Allowed: none, tapt, p-tapt"),
        ("clusters = [3, 4]", "clusters = [3, 1]", "clusters is [3, 1]. Needed: whole numbers above 1"),
        ("adapt_steps = 2 }", "adapt_steps = 0 }", "tapt, adapt_steps: steps is 0. Needed: a number"),
        ("hidden = 8 }", 'hidden = 8, trained = "all" }', "trained is 'all'. Allowed: none, no-cnn, full"),
        ("hidden = 8 }", "hidden = 8, layers = 3 }", "has 2 layers, asked for 3"),
        ("hidden = 8 }", "hidden = 8, seed = 3 }", "models.v-ft: unknown key seed. Known: finetune, layers, adapt"),
        ('v-ft = { finetune = "w2v2"', 'v-ft = { finetune = "w2v2", body = "micro"', "has body and finetune"),
    ],
)
def test_what_cannot_be_is_one_sentence(work, old, new, message):
    assert old in FILE
    Path("x.toml").write_text(FILE.replace(old, new, 1))
    result = run()
    assert result.exit_code == 1, result.output
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_tapt_of_a_body_without_its_task_is_an_error_before_training(work):
    body = Wav2Vec2ForPreTraining.from_pretrained("w2v2").wav2vec2
    body.save_pretrained("bare")
    Path("bare/preprocessor_config.json").write_text('{"do_normalize": true}')
    Path("x.toml").write_text(FILE.replace('"w2v2"', '"bare"'))
    result = run()
    assert result.exit_code == 1 and "has no quantiser, which TAPT needs" in result.stderr
