"""One loop of training in one file: its step, weights and optimiser, so that a run that was stopped goes on."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wav2small.errors import WeightsError
from wav2small.files import whole_file
from wav2small.train.interrupt import uninterrupted

WARM_UP = 0.1
"""Share of the steps in which the learning rate goes up; then it goes down by a cosine."""


class Phase:
    """What is trained, and how far it is.

    Args:
        path: of the checkpoint; resumed if it is there
        net: whose parameters are trained
        groups: of them, as AdamW takes them, each with its highest ``lr``
        steps: in all
        stamp: what the checkpoint must have been begun with
        seed: of dropout

    Raises:
        WeightsError: if the checkpoint is damaged, or was begun with something else
    """

    def __init__(
        self, path: Path, net: nn.Module, groups: list[dict[str, Any]], steps: int, stamp: str, seed: int
    ) -> None:
        self.path, self.net, self.steps, self.stamp, self.seed = path, net, steps, stamp, seed
        self.optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.step, self.best = 0, -math.inf
        if path.is_file():
            self._resume()

    def _resume(self) -> None:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            same = state["stamp"] == self.stamp
            if same:
                self.net.load_state_dict(state["net"])
                self.optimiser.load_state_dict(state["optimiser"])
                self.step, self.best = state["step"], state["best"]
        except (EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
            raise WeightsError(f"{self.path}: is no checkpoint, or damaged. Remove it to begin again.") from None
        if not same:
            raise WeightsError(f"{self.path}: is of a run with other settings. Remove it, or give the same.")

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "stamp": self.stamp,
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        with whole_file(self.path) as temporary:
            torch.save(state, temporary)

    def run(
        self,
        batches: Iterable[Any],
        loss: Callable[[Any], Tensor],
        tell: Callable[[float, float], None],
        every: int,
        evaluate: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the end, from where it is; ``evaluate`` is called, and the checkpoint written, each ``every`` steps.

        Args:
            batches: those from ``step`` on, as long as needed
            loss: of a batch
            tell: called with (steps done, steps)
        """
        self.net.train()
        try:
            for batch in batches:
                with uninterrupted():
                    torch.manual_seed(self.seed * 1_000_003 + self.step)
                    self._advance(loss(batch))
                    if self.step % every == 0 or self.step == self.steps:
                        self.net.eval()
                        evaluate()
                        self.net.train()
                        self.save()
                tell(self.step, self.steps)
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            self.net.eval()

    def _advance(self, loss: Tensor) -> None:
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * schedule(self.step, self.steps)
        self.optimiser.zero_grad()
        loss.backward()
        trained = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        self.optimiser.step()
        self.step += 1


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))
