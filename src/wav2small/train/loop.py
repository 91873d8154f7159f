"""The training loop of students and teachers: steps, learning rate, evaluation and checkpoint.

All randomness depends only on (seed, step), so a resumed run equals an uninterrupted one.
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
"""Scores by name; empty if a task is not evaluated."""
Report = Callable[[dict[str, float]], None]
"""Called with each line of the log."""
NOTED = 20
"""Steps whose mean loss a progress bar shows."""
MAX_NORM = 1.0
"""Gradients are clipped to this norm."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a loop, whose checkpoint is written."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the same command resumes from step {step:,}")


@dataclass(frozen=True)
class Plan:
    """Length and learning rate schedule of a loop.

    Args:
        steps: number of steps
        warm_up: steps of linear warm-up
        evaluate_every: steps between evaluations, each with a checkpoint
        seed: random seed of dropout and of random losses
        weight_decay: weight decay of AdamW
    """

    steps: int
    warm_up: int
    evaluate_every: int
    seed: int
    weight_decay: float = 0.01


class Task(Generic[Batch]):
    """A training task: network, batches, loss and evaluation.

    Attributes:
        net: the network, in training mode during steps and in evaluation mode otherwise
    """

    net: nn.Module

    def modules(self) -> dict[str, nn.Module]:
        """Modules whose state the checkpoint contains, by name."""
        return {"net": self.net}

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of AdamW, each with its largest learning rate ``lr``."""
        raise NotImplementedError

    def batches(self, first: int) -> Iterable[Batch]:
        """The batches of all steps from ``first`` on."""
        raise NotImplementedError

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of a batch, a scalar."""
        raise NotImplementedError

    def mode(self, train: bool) -> None:
        """Switch the trained modules to training or evaluation mode."""
        self.net.train(train)

    def clipped(self) -> list[list[nn.Parameter]]:
        """Lists of parameters whose gradients are clipped together; by default one list with all."""
        return [[weight for group in self.groups() for weight in group["params"]]]

    def after_step(self, step: int) -> None:
        """Called after each step; ``step`` is the number of steps done."""

    def evaluate(self) -> Scores:
        """Scores on held-out data."""
        return {}

    def merits(self, scores: Scores) -> Scores:
        """Selection criterion of the best weights, for each separately stored network; by default the mean score."""
        return {"": float(np.mean(list(scores.values())))} if scores else {}

    def keep(self, line: dict[str, float], part: str) -> None:
        """Write the best weights so far.

        Args:
            line: line of the log
            part: key of :meth:`merits`
        """


class Loop(Generic[Batch]):
    """Training loop of a task.

    Attributes:
        step: number of steps done
        merits: merits of the last evaluation, by part
        best: best merit so far, by part
        due: whether an evaluation is pending at this step
        losses: losses since the last evaluation

    Args:
        folder: folder of the checkpoint and the log; an existing checkpoint is resumed
        task: the task
        plan: length and learning rate schedule
        settings: settings that a checkpoint must match, by name

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
        self.merits: Scores = {}
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
            raise WeightsError(f"{path}: not a checkpoint, or damaged. Remove it to start again.") from None

    def _check_settings(self, stored: Mapping[str, object]) -> None:
        given = self.settings
        other = [f"{key} {stored.get(key)}, given {given[key]}" for key in given if stored.get(key) != given[key]]
        if other:
            raise WeightsError(
                f"{self.folder}: contains a run with {'; '.join(other)}. Give the same settings to resume it, or "
                "another folder."
            )

    def save(self) -> None:
        """Write the checkpoint atomically; only process 0 writes."""
        if distributed.rank():
            return
        state: dict[str, object] = {name: module.state_dict() for name, module in self.task.modules().items()}
        state |= {"settings": self.settings, "optimiser": self.optimiser.state_dict()}
        state |= {"step": self.step, "best": self.best, "due": self.due, "losses": self.losses}
        with whole_file(self.folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def run(self, progress: Progress, report: Report = lambda line: None) -> None:
        """Train from the current step to the last. Ctrl-C stops between steps, after writing the checkpoint.

        Args:
            progress: called with (steps done, steps, loss and dev figure as text)
            report: called with each line of the log

        Raises:
            Interrupted: after Ctrl-C, when the checkpoint is written
        """
        start = time.monotonic()
        try:
            if self.due:
                self._evaluate(start, report)
            for batch in self.task.batches(self.step):
                with uninterrupted():
                    self.advance(batch)
                progress(self.step, self.plan.steps, self.note())
                if self.due:
                    self._evaluate(start, report)
        except KeyboardInterrupt:
            self.save()
            raise Interrupted(self.step) from None
        finally:
            self.task.mode(train=False)

    def note(self) -> str:
        """Mean loss of the last steps, and the merits of the last evaluation, as text."""
        ccc = ", ".join(f"{part} {merit:.3f}".strip() for part, merit in self.merits.items())
        return f"loss {np.mean(self.losses[-NOTED:]):.3f}" + (f", dev CCC {ccc}" if ccc else "")

    def advance(self, batch: Batch) -> float:
        """Run one step and return its loss."""
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
        """Finish an evaluation: store the weights if they are the best so far, write log and checkpoint."""
        self.merits = self.task.merits(scores)
        for part, merit in self.merits.items():
            if merit > self.best.get(part, -math.inf):
                self.best[part] = merit
                self.task.keep(line | scores, part)
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(line | scores) + "\n")
        self.due, self.losses = False, []
        self.save()


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Learning rate of a step relative to the largest: linear warm-up for ``warm_up`` steps, then cosine decay."""
    if step < warm_up:
        return (step + 1) / warm_up
    return float(0.5 * (1 + np.cos(np.pi * ((step - warm_up) / max(1, steps - warm_up)))))


def warm_up_steps(share: float, steps: int) -> int:
    """Number of warm-up steps for a share of all steps, at least one."""
    return max(1, round(share * steps))


def evaluate_every(steps: int) -> int:
    """Default number of steps between evaluations: a tenth of all steps, at most 300."""
    return max(1, min(300, steps // 10))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Context manager that delays Ctrl-C to the end of the block, in the main thread."""
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
