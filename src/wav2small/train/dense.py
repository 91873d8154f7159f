"""Two dense layers on frozen features: arousal, dominance, valence and categories of a clip.

Source: two dense layers on the mean of frozen hidden states, as in arXiv:2411.02964; the focal loss is that of Lin et
al. 2017, arXiv:1708.02002.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import OUTPUTS
from wav2small.train.config import DenseConfig
from wav2small.train.loss import ccc_loss, metric_loss


class Answers(NamedTuple):
    """What a head predicts for clips.

    Attributes:
        emotion: A/D/V, 0 to 1, shape=(clips, 3)
        probability: of each category, shape=(clips, categories)
        hidden: the last layer before the outputs, shape=(clips, hidden)
    """

    emotion: np.ndarray
    probability: np.ndarray
    hidden: np.ndarray


class Dense(nn.Module):
    """Standardised features -> hidden layer -> A/D/V and category logits; without hidden units it is linear.

    Args:
        mean: of the features, shape=(width,)
        spread: standard deviation of the features, shape=(width,)
        categories: number of categories
        config: settings
    """

    def __init__(self, mean: np.ndarray, spread: np.ndarray, categories: int, config: DenseConfig) -> None:
        super().__init__()
        self.mean, self.spread = torch.from_numpy(mean).float(), torch.from_numpy(spread).float()
        width = config.hidden or len(mean)
        self.hidden = nn.Sequential(nn.Linear(len(mean), width), nn.ReLU()) if config.hidden else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.emotion, self.category = nn.Linear(width, len(OUTPUTS)), nn.Linear(width, max(categories, 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, width) -> A/D/V (batch, 3), category logits (batch, categories), hidden (batch, hidden)."""
        hidden = self.hidden(self.dropout((features - self.mean) / self.spread))
        dropped = self.dropout(hidden)
        return 0.5 + 0.1 * self.emotion(dropped), self.category(dropped), hidden

    def answers(self, features: np.ndarray) -> Answers:
        """Answers for clips, features of shape=(clips, width)."""
        self.eval()
        with torch.inference_mode():
            emotion, logits, hidden = self(torch.from_numpy(features).float())
        return Answers(emotion.clip(0, 1).numpy(), logits.softmax(1).numpy(), hidden.numpy())


@dataclass(frozen=True)
class Examples:
    """Training examples of a head.

    Attributes:
        features: shape=(clips, width)
        truth: A/D/V, NaN where there is none, shape=(clips, 3)
        category: number of the category, -1 where there is none, shape=(clips,)
        categories: how many there are
    """

    features: np.ndarray
    truth: np.ndarray
    category: np.ndarray
    categories: int


def fit_dense(examples: Examples, config: DenseConfig, seed: int) -> Dense:
    """Fit a head: 1 - CCC of A/D/V, and the focal loss of the categories, which all weigh the same.

    Args:
        examples: training examples
        config: settings
        seed: random seed of the weights, the dropout and the batches
    """
    spread = examples.features.std(0) + 1e-4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Dense(examples.features.mean(0), spread, examples.categories, config)
        optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        features, truth = torch.from_numpy(examples.features).float(), torch.from_numpy(examples.truth).float()
        category, weights = torch.from_numpy(examples.category), _balance(examples)
        for _ in range(config.epochs):
            for batch in torch.split(torch.randperm(len(features)), config.batch_size):
                emotion, logits, hidden = head(features[batch])
                loss = config.ccc * _concordance(truth[batch], emotion)
                loss = loss + focal_loss(logits, category[batch], weights, config.focal)
                if config.metric:
                    loss = loss + config.metric * metric_loss(hidden, truth[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return head


def focal_loss(logits: Tensor, category: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Weighted mean of -(1 - p)^gamma log p over the clips with a category, a scalar; gamma 0 is the cross-entropy.

    Args:
        logits: shape=(batch, categories)
        category: number of the true category, -1 where there is none, shape=(batch,)
        weights: of each category, shape=(categories,)
        gamma: how much less clips weigh that are classified with confidence
    """
    known = category >= 0
    if not known.any():
        return logits.sum() * 0
    log_p = functional.log_softmax(logits[known], 1).gather(1, category[known, None])[:, 0]
    weight = weights[category[known]]
    return -(weight * (1 - log_p.exp()) ** gamma * log_p).sum() / weight.sum()


def _concordance(truth: Tensor, emotion: Tensor) -> Tensor:
    known = torch.isfinite(truth).all(1)
    return ccc_loss(truth[known], emotion[known]).mean() if known.sum() > 1 else emotion.sum() * 0


def _balance(examples: Examples) -> Tensor:
    """Weight of each category, inversely proportional to its clips."""
    known = examples.category[examples.category >= 0]
    counts = np.bincount(known, minlength=max(examples.categories, 1))
    return torch.from_numpy(len(known) / np.maximum(counts, 1)).float()
