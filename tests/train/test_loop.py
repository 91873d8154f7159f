"""The training loop: the learning rate of each step, resume equals uninterrupted, and the checkpoint is whole."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2small.errors import Wav2SmallError, WeightsError

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from wav2small.train.config import AdaptConfig, FinetuneConfig, TrainConfig  # noqa: E402
from wav2small.train.loop import (  # noqa: E402
    CHECKPOINT,
    LOG,
    Interrupted,
    Loop,
    Plan,
    Task,
    evaluate_every,
    schedule,
    warm_up_steps,
)

PLAN = Plan(steps=7, warm_up=3, evaluate_every=3, seed=1)
SETTINGS = {"width": 2, "name": "line"}
TRAINING = Path(__file__).parents[2] / "docs" / "training.md"

pytestmark = pytest.mark.usefixtures("one_thread")


class Line(Task[torch.Tensor]):
    """A linear layer with dropout that learns to add; its score at each evaluation is given."""

    def __init__(self, scores: list[float] | None = None) -> None:
        torch.manual_seed(3)
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.3))
        self.scores, self.kept, self.modes = scores, [], []

    def groups(self) -> list[dict[str, object]]:
        return [{"params": list(self.net.parameters()), "lr": 0.1}]

    def batches(self, first: int) -> Iterator[torch.Tensor]:
        for step in range(first, PLAN.steps):
            yield torch.rand(4, 2, generator=torch.Generator().manual_seed(step))

    def loss(self, batch: torch.Tensor, step: int) -> torch.Tensor:
        self.modes.append(self.net.training)
        return (self.net(batch)[:, 0] - batch.sum(1)).square().mean()

    def evaluate(self) -> dict[str, float]:
        assert not self.net.training
        return {} if self.scores is None else {"score": self.scores.pop(0)}

    def keep(self, line: dict[str, float], part: str) -> None:
        self.kept.append(line["step"])


def silently(*_: object) -> None:
    pass


def weights(task: Line) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in task.net.parameters()]


def trained(folder: Path) -> list[torch.Tensor]:
    task = Line()
    Loop(folder, task, PLAN, SETTINGS).run(silently)
    return weights(task)


@given(st.integers(1, 300), st.integers(0, 300))
def test_the_learning_rate_rises_linearly_to_its_maximum_and_falls_by_a_cosine_to_zero(warm_up, after):
    steps = warm_up + after
    rates = [schedule(step, steps, warm_up) for step in range(steps + 1)]
    assert rates[warm_up - 1] == max(rates) == 1, "the last step of the warm-up has the maximum"
    assert all(rate < 1 for rate in rates[: warm_up - 1]), "and it is the first"
    assert rates[:warm_up] == pytest.approx([step / warm_up for step in range(1, warm_up + 1)])
    fall = [0.5 + 0.5 * math.cos(math.pi * step / max(1, after)) for step in range(after + 1)]
    assert rates[warm_up:] == pytest.approx(fall, abs=1e-12)


@pytest.mark.parametrize("warm_up", [1, 2, 5])
def test_the_optimiser_has_the_rate_of_each_step(tmp_path, warm_up):
    plan, task = Plan(PLAN.steps, warm_up, 3, 1), Line()
    loop = Loop(tmp_path, task, plan, SETTINGS)
    rates = []
    for batch in task.batches(0):
        loop.advance(batch)
        rates.append(loop.optimiser.param_groups[0]["lr"])
    assert rates == [0.1 * schedule(step, PLAN.steps, warm_up) for step in range(PLAN.steps)]
    assert rates.index(0.1) + 1 == warm_up


def test_the_warm_up_of_students_is_what_the_documents_say():
    (steps,) = re.findall(r"(\d+) steps up", TRAINING.read_text(encoding="utf-8"))
    assert TrainConfig().warm_up == int(steps) == 200
    assert FinetuneConfig().warm_up == AdaptConfig().warm_up == 0.1
    assert [warm_up_steps(0.1, steps) for steps in (1, 3000, 10_000)] == [1, 300, 1000]


def test_evaluations_are_a_tenth_of_the_steps_apart_and_300_at_most():
    assert [evaluate_every(steps) for steps in (1, 19, 20, 2999, 3000, 20_000)] == [1, 1, 2, 299, 300, 300]


@pytest.mark.parametrize("stop", range(1, PLAN.steps + 1))
def test_resumed_is_uninterrupted(tmp_path, stop):
    def progress(done: float, total: float, note: str) -> None:
        assert total == PLAN.steps
        if done == stop:
            raise KeyboardInterrupt

    whole = trained(tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"the same command resumes from step {stop}"):
        Loop(tmp_path / "parts", Line(), PLAN, SETTINGS).run(progress)
    parts = trained(tmp_path / "parts")
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))
    lines = [(tmp_path / name / LOG).read_text().splitlines() for name in ("whole", "parts")]
    found = [[(line["step"], line["loss"]) for line in map(json.loads, log)] for log in lines]
    assert found[0] == found[1] and [step for step, _ in found[0]] == [3, 6, 7]


def test_the_net_is_in_training_mode_in_steps_alone(tmp_path):
    task = Line()
    Loop(tmp_path, task, PLAN, SETTINGS).run(silently)
    assert task.modes == [True] * PLAN.steps and not task.net.training


def test_the_best_scores_are_kept_also_after_a_resume(tmp_path):
    first, second = Line([0.2, 0.1]), Line([0.3])
    with pytest.raises(KeyboardInterrupt):
        Loop(tmp_path, first, PLAN, SETTINGS).run(silently, lambda line: interrupt(line["step"] == 6))
    loop = Loop(tmp_path, second, PLAN, SETTINGS)
    assert loop.best == {"": 0.2}
    loop.run(silently)
    assert (first.kept, second.kept) == ([3], [7])


def interrupt(now: bool) -> None:
    if now:
        raise KeyboardInterrupt


def test_a_task_without_scores_keeps_nothing_and_logs_its_loss(tmp_path):
    task = Line()
    Loop(tmp_path, task, PLAN, SETTINGS).run(silently)
    assert task.kept == [] and json.loads((tmp_path / LOG).read_text().splitlines()[0]).keys() == {
        "step",
        "loss",
        "seconds",
    }


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_within_a_step_waits_for_its_end(tmp_path):
    class Interrupted(Line):
        def loss(self, batch: torch.Tensor, step: int) -> torch.Tensor:
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(batch, step)

    with pytest.raises(KeyboardInterrupt):
        Loop(tmp_path / "parts", Interrupted(), PLAN, SETTINGS).run(silently)
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == 5
    whole, parts = trained(tmp_path / "whole"), trained(tmp_path / "parts")
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    loop = Loop(tmp_path, Line(), PLAN, SETTINGS)
    loop.save()
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(Wav2SmallError, match="No space left on device"):
        loop.run(silently)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, LOG}


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path):
    Loop(tmp_path, Line(), PLAN, SETTINGS).save()
    Loop(tmp_path, Line(), PLAN, SETTINGS)
    with pytest.raises(WeightsError) as caught:
        Loop(tmp_path, Line(), PLAN, {"width": 3, "name": "line", "extra": 1})
    assert str(caught.value) == (
        f"{tmp_path}: contains a run with width 2, given 3; extra None, given 1. "
        "Give the same settings to resume it, or another folder."
    )
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=rf"{CHECKPOINT}: not a checkpoint, or damaged\. Remove it"):
        Loop(tmp_path, Line(), PLAN, SETTINGS)
