"""Pooling of hidden states over time: one vector per clip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

QUANTILES = (0.1, 0.5, 0.9)


def mean(state: Tensor, real: Tensor) -> Tensor:
    """Mean over the real tokens: (batch, tokens, width) and mask (batch, tokens) -> (batch, width)."""
    return (state * real[..., None]).sum(1) / real.sum(1)[:, None]


def mean_and_spread(state: Tensor, real: Tensor) -> Tensor:
    """Mean and standard deviation over the real tokens, shape=(batch, 2 x width)."""
    middle = mean(state, real)
    variance = mean((state - middle[:, None]).square(), real)
    return torch.cat([middle, variance.clamp_min(1e-6).sqrt()], 1)


def first(state: Tensor, real: Tensor) -> Tensor:
    """The first token, shape=(batch, width)."""
    return state[:, 0]


def maximum(state: Tensor, real: Tensor) -> Tensor:
    """Maximum over the real tokens, shape=(batch, width)."""
    return state.masked_fill(~real[..., None], float("-inf")).amax(1)


def quantile(state: Tensor, real: Tensor) -> Tensor:
    """``QUANTILES`` over the real tokens, shape=(batch, 3 x width)."""
    hidden = state.float().masked_fill(~real[..., None], float("nan"))
    quantiles = torch.nanquantile(hidden, torch.tensor(QUANTILES, device=state.device), 1)
    return torch.cat(list(quantiles), 1)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling: mean and standard deviation over time with learned attention weights.

    Source: Okabe et al. 2018, arXiv:1803.10963; names and variance floor are those of the Odyssey baseline.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sap_linear = nn.Linear(width, width)
        self.attention = nn.Parameter(torch.randn(width, 1))

    def forward(self, state: Tensor, real: Tensor) -> Tensor:
        """(batch, tokens, width) and the mask of real tokens (batch, tokens) -> (batch, 2 x width)."""
        score = (self.sap_linear(state).tanh() @ self.attention).squeeze(2).masked_fill(~real, float("-inf"))
        weight = score.softmax(1)[..., None]
        middle = (weight * state).sum(1)
        variance = (weight * state.square()).sum(1) - middle.square()
        return torch.cat([middle, variance.clamp_min(1e-5).sqrt()], 1)


Pool = Callable[[Tensor, Tensor], Tensor]
FIXED: dict[str, tuple[Pool, int]] = {
    "mean": (mean, 1),
    "mean+std": (mean_and_spread, 2),
    "first": (first, 1),
    "max": (maximum, 1),
    "quantile": (quantile, len(QUANTILES)),
}
"""Poolings without trained weights, and the factor by which they enlarge the width."""
