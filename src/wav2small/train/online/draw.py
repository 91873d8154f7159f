"""Random tensors on a device from one seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Draw:
    """Random numbers that depend only on the seed and the kind of device.

    Args:
        seed: numbers that form the seed, such as (seed of the run, step)
        device: device of the tensors
    """

    def __init__(self, seed: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        self.rng = np.random.default_rng(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers from ``low`` to ``high``."""
        return torch.rand(*shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers with mean 0 and variance 1."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def below(self, limit: Tensor) -> Tensor:
        """Integers from 0 to ``limit`` - 1, one for each value of ``limit``."""
        share = torch.rand(limit.shape, generator=self.generator, device=self.device, dtype=torch.float64)
        return (share * limit).long().clamp_max(limit - 1)

    def choose(self, weights: Tensor, count: int) -> Tensor:
        """``count`` indices, each drawn in proportion to its weight."""
        return torch.multinomial(weights, count, replacement=True, generator=self.generator)

    def rows(self, count: int, share: float) -> Tensor:
        """Indices of a random subset of ``count`` rows, each included with probability ``share``."""
        return torch.nonzero(self.uniform(count) < share)[:, 0]
