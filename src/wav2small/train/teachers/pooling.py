"""Pooling of hidden states over time: one vector per clip.

Source: the ten poolings that Vaessen and van Leeuwen 2021, arXiv:2109.15053, compare.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.train.config import CLS

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def mean(state: Tensor, real: Tensor) -> Tensor:
    """Mean over the real tokens: (batch, tokens, width) and mask (batch, tokens) -> (batch, width)."""
    return (state * real[..., None]).sum(1) / real.sum(1)[:, None]


def mean_and_spread(state: Tensor, real: Tensor) -> Tensor:
    """Mean and standard deviation over the real tokens, shape=(batch, 2 x width)."""
    centre = mean(state, real)
    variance = mean((state - centre[:, None]).square(), real)
    return torch.cat([centre, variance.clamp_min(1e-6).sqrt()], 1)


def first(state: Tensor, real: Tensor) -> Tensor:
    """The first token, shape=(batch, width)."""
    return state[:, 0]


def last(state: Tensor, real: Tensor) -> Tensor:
    """The last real token, shape=(batch, width)."""
    return _at(state, real.sum(1) - 1)


def middle(state: Tensor, real: Tensor) -> Tensor:
    """The middle one of the real tokens, the later one of two, shape=(batch, width).

    The published code returns the last token here.
    """
    return _at(state, real.sum(1) // 2)


def random(state: Tensor, real: Tensor) -> Tensor:
    """A random one of the real tokens, shape=(batch, width).

    It depends only on the number of tokens, so the result of a clip is repeatable and independent of its batch.
    """
    places = [int(np.random.default_rng(count).integers(count)) for count in real.sum(1).tolist()]
    return _at(state, torch.tensor(places, device=state.device))


def _at(state: Tensor, place: Tensor) -> Tensor:
    """The token of each clip at ``place``, shape=(batch,)."""
    return state[torch.arange(len(state), device=state.device), place]


def maximum(state: Tensor, real: Tensor) -> Tensor:
    """Maximum over the real tokens, shape=(batch, width)."""
    return state.masked_fill(~real[..., None], float("-inf")).amax(1)


def quantile(state: Tensor, real: Tensor) -> Tensor:
    """``QUANTILES`` over the real tokens, shape=(batch, 5 x width)."""
    hidden = state.float().masked_fill(~real[..., None], float("nan"))
    quantiles = torch.nanquantile(hidden, torch.tensor(QUANTILES, device=state.device), 1)
    return torch.cat(list(quantiles), 1)


def prepended(hidden: Tensor, real: Tensor, pooling: str) -> tuple[Tensor, Tensor]:
    """Tokens and their mask; with the pooling ``config.CLS``, a token of ones is before the first one.

    This token has no trained weights, as in the published code of arXiv:2109.15053. Its state is trained where the
    encoder is fine-tuned; in a frozen encoder, it is the response of the layers to a constant.

    Args:
        hidden: input of the transformer, shape=(batch, tokens, width)
        real: mask of real tokens, shape=(batch, tokens)
        pooling: name of a pooling
    """
    if pooling != CLS:
        return hidden, real
    return functional.pad(hidden, (0, 0, 1, 0), value=1.0), functional.pad(real, (1, 0), value=True)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling: mean and standard deviation over time with learned attention weights.

    Source: Okabe et al. 2018, arXiv:1803.10963; names and variance floor are those of the Odyssey baseline.

    Args:
        width: size of a state
        hidden: units that compute the attention; None is ``width``
    """

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        self.sap_linear = nn.Linear(width, hidden or width)
        self.attention = nn.Parameter(torch.randn(hidden or width, 1))

    def forward(self, state: Tensor, real: Tensor) -> Tensor:
        """(batch, tokens, width) and the mask of real tokens (batch, tokens) -> (batch, 2 x width)."""
        score = (self.sap_linear(state).tanh() @ self.attention).squeeze(2).masked_fill(~real, float("-inf"))
        weight = score.softmax(1)[:, None]
        centre = (weight @ state)[:, 0]
        variance = (weight @ state.square())[:, 0] - centre.square()
        return torch.cat([centre, variance.clamp_min(1e-5).sqrt()], 1)


Pool = Callable[[Tensor, Tensor], Tensor]
FIXED: dict[str, tuple[Pool, int]] = {
    "mean": (mean, 1),
    "mean+std": (mean_and_spread, 2),
    "quantile": (quantile, len(QUANTILES)),
    "max": (maximum, 1),
    "first": (first, 1),
    CLS: (first, 1),
    "last": (last, 1),
    "middle": (middle, 1),
    "random": (random, 1),
}
"""Poolings without trained weights, and the factor by which they enlarge the width."""
