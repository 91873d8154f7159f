"""The training loop: steps, learning rate, evaluations and the checkpoint, for students and for teachers' bodies.

Everything random follows from (seed, step), so a run that was stopped and resumed equals one that was not.
"""

from __future__ import annotations

import json
import math
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wav2small.errors import WeightsError
from wav2small.files import whole_file
from wav2small.train import Progress, distributed, make_folder

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
Batch = TypeVar("Batch")
Scores = dict[str, float]
"""Name of a score to its value; empty where a task is not evaluated."""
Report = Callable[[dict[str, float]], None]
"""Called with each line of the log."""
MAX_NORM = 1.0
"""Gradients are scaled down to this norm."""


@dataclass(frozen=True)
class Plan:
    """How long a loop runs, and at which learning rate.

    Args:
        steps: in all
        warm_up: steps in which the learning rate rises
        evaluate_every: steps from one evaluation and checkpoint to the next
        seed: random seed of dropout and of what a loss draws
        weight_decay: of AdamW
    """

    steps: int
    warm_up: int
    evaluate_every: int
    seed: int
    weight_decay: float = 0.01


class Task(Generic[Batch]):
    """What a loop trains: a network with its batches, its loss and its evaluation.

    Attributes:
        net: in training mode during steps, in evaluation mode otherwise
    """

    net: nn.Module

    def modules(self) -> dict[str, nn.Module]:
        """All that the checkpoint holds the state of, by name."""
        return {"net": self.net}

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups as AdamW takes them, each with its highest learning rate ``lr``."""
        raise NotImplementedError

    def batches(self, first: int) -> Iterable[Batch]:
        """The batches of all steps from ``first`` on."""
        raise NotImplementedError

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of a batch, a scalar."""
        raise NotImplementedError

    def mode(self, train: bool) -> None:
        """Put what is trained in training or in evaluation mode."""
        self.net.train(train)

    def clipped(self) -> list[list[nn.Parameter]]:
        """Lists of parameters whose gradients are scaled down together; by default all."""
        return [[weight for group in self.groups() for weight in group["params"]]]

    def after_step(self, step: int) -> None:
        """Called after each step with the number of steps done."""

    def evaluate(self) -> Scores:
        """Scores on held-out data."""
        return {}

    def merits(self, scores: Scores) -> Scores:
        """What decides which weights are kept, for each network that is kept by itself: by default the mean score."""
        return {"": float(np.mean(list(scores.values())))} if scores else {}

    def keep(self, line: dict[str, float], part: str) -> None:
        """Write the weights of a key of ``merits``, the best so far; ``line`` is that of the log."""


class Loop(Generic[Batch]):
    """A task with its optimiser, its step and its folder.

    Attributes:
        step: steps done
        best: highest merit so far of each network that is kept
        due: whether an evaluation is outstanding at this step
        losses: since the last evaluation

    Args:
        folder: for the checkpoint and the log; a checkpoint in it is resumed
        task: what is trained
        plan: how long, and at which learning rate
        settings: what a checkpoint must have been started with, by name

    Raises:
        WeightsError: if the checkpoint is damaged, or has other settings
    """

    def __init__(self, folder: Path, task: Task[Batch], plan: Plan, settings: Mapping[str, object]) -> None:
        self.folder, self.task, self.plan, self.settings = folder, task, plan, dict(settings)
        self.optimiser = torch.optim.AdamW(task.groups(), weight_decay=plan.weight_decay)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.clipped = task.clipped()
        self.trained = [weight for weights in self.clipped for weight in weights]
        self.step, self.due = 0, False
        self.best: dict[str, float] = {}
        self.losses: list[float] = []
        make_folder(folder)
        if (folder / CHECKPOINT).is_file():
            self._resume()

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._check_settings(state["settings"])
            for name, module in self.task.modules().items():
                module.load_state_dict(state[name])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.best, self.due, self.losses = (state[key] for key in ("step", "best", "due", "losses"))
        except (AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
            raise WeightsError(f"{path}: is not a checkpoint, or damaged. Remove it to start again.") from None

    def _check_settings(self, found: Mapping[str, object]) -> None:
        asked = self.settings
        other = [f"{key} {found.get(key)}, asked for {asked[key]}" for key in asked if found.get(key) != asked[key]]
        if other:
            raise WeightsError(
                f"{self.folder}: holds a run with {'; '.join(other)}. Give the same to resume it, or another folder."
            )

    def save(self) -> None:
        """Write the checkpoint, whole or not at all; of several processes, one writes."""
        if distributed.rank():
            return
        state: dict[str, object] = {name: module.state_dict() for name, module in self.task.modules().items()}
        state |= {"settings": self.settings, "optimiser": self.optimiser.state_dict()}
        state |= {"step": self.step, "best": self.best, "due": self.due, "losses": self.losses}
        with whole_file(self.folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def run(self, progress: Progress, report: Report = lambda line: None) -> None:
        """Train to the end from where the loop is. Ctrl-C takes effect between steps and loses nothing.

        Args:
            progress: called with (steps done, steps)
            report: called with each line of the log
        """
        start = time.monotonic()
        try:
            if self.due:
                self._evaluate(start, report)
            for batch in self.task.batches(self.step):
                with uninterrupted():
                    self.advance(batch)
                progress(self.step, self.plan.steps)
                if self.due:
                    self._evaluate(start, report)
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            self.task.mode(train=False)

    def advance(self, batch: Batch) -> float:
        """One step; returns its loss."""
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * schedule(self.step, self.plan.steps, self.plan.warm_up)
        self.task.mode(train=True)
        loss = self.task.loss(batch, self.step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        distributed.sum_gradients(self.trained)
        for weights in self.clipped:
            torch.nn.utils.clip_grad_norm_(weights, MAX_NORM)
        self.optimiser.step()
        self.step += 1
        self.task.after_step(self.step)
        self.losses.append(loss.item())
        self.due = self.step % self.plan.evaluate_every == 0 or self.step == self.plan.steps
        return self.losses[-1]

    def _evaluate(self, start: float, report: Report) -> None:
        if distributed.rank():
            self.due, self.losses = False, []
            return
        self.task.mode(train=False)
        scores = self.task.evaluate()
        line = {"step": self.step, "loss": float(np.mean(self.losses)), "seconds": round(time.monotonic() - start, 1)}
        with uninterrupted():
            self.record(line, scores)
        report(line | scores)

    def record(self, line: dict[str, float], scores: Scores) -> None:
        """End an evaluation: keep the weights if their mean score is the best so far, write log and checkpoint."""
        for part, merit in self.task.merits(scores).items():
            if merit > self.best.get(part, -math.inf):
                self.best[part] = merit
                self.task.keep(line | scores, part)
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(line | scores) + "\n")
        self.due, self.losses = False, []
        self.save()


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Learning rate of a step as a share of the highest: up linearly for ``warm_up`` steps, then down by a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return float(0.5 * (1 + np.cos(np.pi * ((step - warm_up) / max(1, steps - warm_up)))))


def warm_up_steps(share: float, steps: int) -> int:
    """Steps of a warm-up that is a share of all steps, at least one."""
    return max(1, round(share * steps))


def evaluate_every(steps: int) -> int:
    """Steps between evaluations where no number is set: a tenth of all steps, 300 at most."""
    return max(1, min(300, steps // 10))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end; only the main thread receives it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[tuple[Any, ...]] = []
    before = signal.signal(signal.SIGINT, lambda *event: pressed.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed and callable(before):
        before(*pressed[0])
