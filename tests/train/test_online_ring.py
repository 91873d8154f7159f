"""The ring: shards follow from the step alone, a run that was stopped anywhere equals one that was not, to the bit."""

from __future__ import annotations

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wav2small.errors import ManifestError, Wav2SmallError, WeightsError

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

import online_world as world  # noqa: E402
from online_world import TINY, Inline, corpus, silently, tiny_teacher  # noqa: E402
from wav2small.train.config import DistilConfig  # noqa: E402
from wav2small.train.loop import CHECKPOINT, LOG  # noqa: E402
from wav2small.train.online import labels, ring  # noqa: E402
from wav2small.train.online.distil import Online, Pupil  # noqa: E402
from wav2small.train.online.draw import Draw  # noqa: E402
from wav2small.train.online.ring import SHARD_GROUPS, Recipe, Shards  # noqa: E402
from wav2small.train.online.run import Corpus, Run  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread", "ctrl_c")


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    world.inline(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two corpora, noise, and the files of two teachers."""
    folder = tmp_path_factory.mktemp("data")
    corpus(folder / "first", 10, 1)
    corpus(folder / "second", 7, 2)
    corpus(folder / "noise", 3, 3, lambda number: "")
    tiny_teacher(folder)
    tiny_teacher(folder, 2)
    return folder


@contextmanager
def no_bar(title: str):
    yield silently


def bar_until(step: int):
    """Ctrl-C when a step is done."""

    def progress(done: float, total: float, note: str = "") -> None:
        if done == step:
            raise KeyboardInterrupt

    @contextmanager
    def bar(title: str):
        yield progress if title == "distil" else silently

    return bar


def run(data: Path, folder: Path, bar=no_bar, say=silently, **options: object) -> Online:
    made = {
        "corpora": [Corpus(name, (str(data / name),)) for name in ("first", "second")],
        "pupils": [Pupil("micro")],
        "folder": folder,
        "teacher": str(data / "tiny1.safetensors"),
        "noise": str(data / "noise"),
        "config": TINY,
    }
    return Run(**{**made, **options}).start(bar, say)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """The folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        world.inline(patch)
        run(data, folder)
    return folder


def checkpoint(folder: Path) -> dict[str, object]:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def same(one: object, other: object) -> bool:
    """Bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def log(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_equals(folder: Path, whole: Path) -> None:
    assert same(checkpoint(folder), checkpoint(whole))
    assert (folder / "micro.safetensors").read_bytes() == (whole / "micro.safetensors").read_bytes()
    assert log(folder) == log(whole)


def test_the_log_has_each_student_corpus_and_dimension(whole):
    lines = log(whole)
    figures = {f"micro/{name}/{kind} {dimension}" for name in ("first", "second") for kind in ("ccc", "r")
               for dimension in ("arousal", "dominance", "valence")}  # fmt: skip
    assert [line["step"] for line in lines] == [2, 4, 6] and all(
        line.keys() == {"step", "loss", *figures} for line in lines
    )
    assert all(-1 <= line[key] <= 1 for line in lines for key in figures)


@pytest.mark.parametrize("step", range(1, 7))
def test_ctrl_c_after_a_step_loses_nothing(data, whole, tmp_path, step):
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, bar_until(step))
    assert checkpoint(tmp_path)["step"] == step
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


@pytest.mark.parametrize("step", range(6))
def test_a_crash_in_a_step_goes_back_to_the_last_checkpoint_and_ends_the_same(data, whole, tmp_path, monkeypatch, step):
    real = Online.loss

    def loss(task: Online, batch, number: int):
        assert number < step, "crash"
        return real(task, batch, number)

    monkeypatch.setattr(Online, "loss", loss)
    with pytest.raises(AssertionError, match="crash"):
        run(data, tmp_path)
    assert (checkpoint(tmp_path)["step"] if step >= 2 else 0) == step // 2 * 2
    monkeypatch.undo()
    world.inline(monkeypatch)
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


def test_a_run_that_is_resumed_makes_no_shard_again_but_those_it_needs(data, whole, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, bar_until(4))
    assert not list((tmp_path / "ring").rglob("000000.*")), "the first shard is gone"
    monkeypatch.setattr(Shards, "write", lambda *_: pytest.fail("a shard was made again"))
    run(data, tmp_path)
    assert_equals(tmp_path, whole)


def test_a_run_that_is_done_needs_no_shard_and_leaves_none(data, whole, tmp_path, monkeypatch):
    assert not list((whole / "ring").rglob("*.np?"))
    monkeypatch.setattr(ring, "_make", lambda number: pytest.fail("a shard was made"))
    before = (whole / CHECKPOINT).read_bytes()
    run(data, whole)
    assert (whole / CHECKPOINT).read_bytes() == before


def test_the_seed_repeats_and_another_differs(data, whole, tmp_path):
    torch.manual_seed(12345)
    run(data, tmp_path / "again")
    assert_equals(tmp_path / "again", whole)
    run(data, tmp_path / "other", config=replace(TINY, seed=2))
    assert not same(checkpoint(tmp_path / "other")["micro/net"], checkpoint(whole)["micro/net"])


def test_a_ring_of_its_own_is_kept_and_shared(data, whole, tmp_path, monkeypatch):
    run(data, tmp_path / "first", ring=tmp_path / "ring")
    assert_equals(tmp_path / "first", whole)
    last = Shards(tmp_path / "ring", TINY, (tmp_path / "ring" / "ring.txt").read_text().strip()).window(5)[1]
    assert len(list((tmp_path / "ring").rglob("*.npz"))) == len(list((tmp_path / "ring").rglob("*.npy"))) == last
    monkeypatch.setattr(Shards, "write", lambda *_: pytest.fail("a shard was made again"))
    run(data, tmp_path / "second", ring=tmp_path / "ring", config=replace(TINY, learning_rate=1e-3))
    assert not same(checkpoint(tmp_path / "second")["micro/net"], checkpoint(whole)["micro/net"])


@pytest.mark.parametrize(
    "change", [{"teacher": "tiny2.safetensors"}, {"config": replace(TINY, seed=2)}, {"corpora": ["first"]}]
)
def test_a_ring_of_another_teacher_or_other_audio_is_refused(data, tmp_path, change):
    run(data, tmp_path / "run", ring=tmp_path / "ring", config=replace(TINY, steps=1))
    if "teacher" in change:
        change = {"teacher": str(data / change["teacher"])}
    if "corpora" in change:
        change = {"corpora": [Corpus("first", (str(data / "first"),))]}
    with pytest.raises(ManifestError) as caught:
        run(data, tmp_path / "other", **{"ring": tmp_path / "ring", "config": replace(TINY, steps=1), **change})
    assert str(caught.value) == (
        f"{tmp_path}/ring: contains shards of other audio, another teacher or another composition. Give another folder."
    )


def test_a_run_of_another_teacher_students_noise_or_setting_is_not_resumed(data, tmp_path):
    one = replace(TINY, steps=1)
    run(data, tmp_path / "run", config=one, ring=tmp_path / "ring")
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    for change, words in (
        ({"config": replace(one, learning_rate=0.5)}, "learning_rate 0.003, given 0.5"),
        ({"pupils": [Pupil("micro-l")]}, "students "),
        ({"noise": None}, "noise "),
        ({"teacher": str(data / "tiny2.safetensors"), "ring": tmp_path / "ring2"}, "key "),
    ):
        with pytest.raises(WeightsError) as caught:
            run(data, tmp_path / "run", **{"config": one, "ring": tmp_path / "ring", **change})
        assert f"contains a run with {words}" in str(caught.value)
        assert str(caught.value).endswith("Give the same settings to resume it, or another folder.")
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_the_window_of_a_step_follows_from_the_step_and_each_clip_is_learnt_as_often_as_asked(tmp_path):
    config = DistilConfig(batch_size=64, group_size=8, reuse=4.0, ring=512)
    shards = Shards(tmp_path, config, "key")
    assert shards.size == 8 * SHARD_GROUPS
    windows = [shards.window(step) for step in range(0, 400)]
    again = Shards(tmp_path, config, "key")
    assert windows == [again.window(step) for step in range(400)]
    assert all(end - first <= 512 // shards.size for first, end in windows)
    assert all(one[0] <= other[0] and one[1] <= other[1] for one, other in pairwise(windows))
    shown = 300 * 64 / ((windows[399][1] - windows[99][1]) * shards.size)
    assert shown == pytest.approx(4, abs=0.1)
    one = Shards(tmp_path / "one", replace(config, ring=1), "key")
    assert all(one.window(step)[1] - one.window(step)[0] == 1 for step in range(50)), "never without a shard"


@pytest.fixture
def made(data, tmp_path):
    """A ring with the inputs of its shards."""

    class Held(Exception):
        pass

    found = []

    def hold(recipe, workers, keep):
        found.append(recipe)
        raise Held

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wav2small.train.online.run.ring", hold)
        with pytest.raises(Held):
            run(data, tmp_path / "held")
    recipe = found[0]
    return ring.Ring(recipe, Inline(1, None, None, (recipe,)))


def test_a_batch_follows_from_the_step_alone_and_its_groups_are_of_one_corpus(made):
    batches = [made.draw(step) for step in range(6)]
    for step in (5, 0, 3):
        again = made.draw(step)
        assert all(map(torch.equal, again, batches[step]))
    for batch in batches:
        assert batch.signal.shape[0] == 8 and batch.signal.shape[1] in (4000, 6400)
        assert batch.label.shape == (8, 3) and batch.embedding.shape == (8, 10)
        assert (batch.corpus.view(-1, 4) == batch.corpus.view(-1, 4)[:, :1]).all()
        assert batch.signal.abs().amax(1).min() > 0.94 and batch.signal.abs().max() <= 0.951
    assert {int(number) for batch in batches for number in batch.corpus} == {0, 1}
    assert len({batch.signal.numpy().tobytes() for batch in batches}) == 6


def test_clips_keep_their_own_labels(made, monkeypatch):
    """The teacher gives each clip of a batch the label that the ring has for it."""
    monkeypatch.setattr(labels, "LEVELS", (-25.0, -25.0))
    batch, labeller = made.draw(0), ring._work.labeller
    emotion, embedding = labeller(batch.signal, Draw((0,)))
    torch.testing.assert_close(embedding, batch.embedding, atol=2e-3, rtol=0)
    torch.testing.assert_close(emotion, batch.label, atol=2e-3, rtol=0)
    assert (embedding.roll(1, 0) - batch.embedding).abs().amax(1).median() > 0.005, "other clips have other labels"


def test_shards_behind_the_window_are_removed_and_memory_does_not_grow(made):
    for step in range(6):
        made.draw(step)
        first, _ = made.shards.window(step)
        there = {int(path.stem) for path in made.shards.folder.rglob("*.npz")}
        assert min(there) == first and {int(path.stem) for path in made.shards.folder.rglob("*.npy")} == there
        assert made.known.cache_info().currsize <= made.shards.held
    assert first > 0


def test_a_shard_counts_when_its_labels_are_there(made):
    made.draw(0)
    made.shards.path(0).with_suffix(".npz").unlink()
    before = made.shards.path(0).read_bytes()
    made.shards.path(0).write_bytes(b"half")
    assert not made.shards.is_ready(0) and made.shards.is_ready(1)
    ring._make(0)
    assert made.shards.path(0).read_bytes() == before


class Dying:
    """An executor whose workers die: at once, or while a shard is made."""

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once

    def submit(self, *_: object) -> Future[None]:
        if self.at_once:
            raise BrokenProcessPool("gone")
        future: Future[None] = Future()
        future.set_exception(BrokenProcessPool("gone"))
        return future


@pytest.mark.parametrize("at_once", [True, False])
def test_a_dead_worker_is_one_sentence(made, at_once):
    broken = ring.Ring(Recipe(None, None, made.shards, made.config), Dying(at_once))
    with pytest.raises(Wav2SmallError) as caught:
        broken.draw(0)
    assert str(caught.value) == (
        "a worker was killed, possibly because memory was exhausted. Run the command with fewer --workers."
    )


def test_what_a_worker_says_is_said(made, monkeypatch):
    def full(path: Path, array: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(Wav2SmallError, match=r"000000\.npy: cannot be written: No space left on device"):
        made.draw(0)
    assert not list(made.shards.folder.rglob("*.np?"))
