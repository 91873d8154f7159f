"""Two dense layers on frozen features: arousal, dominance, valence and categories of a clip.

Features with a time axis are pooled by attention, which is fitted together with the layers.

Source: two dense layers on the mean of frozen hidden states, as in arXiv:2411.02964.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from wav2small.network.config import OUTPUTS
from wav2small.train.config import DenseConfig
from wav2small.train.examples import Answers, Examples
from wav2small.train.loss import metric_loss, supervised_loss
from wav2small.train.teachers.pooling import AttentiveStatistics

UNITS = 128
"""Units that compute the attention over time, as in the published code of arXiv:2109.15053."""


class Attention(nn.Module):
    """Attentive statistics of standardised tokens; before training, the plain mean and standard deviation over time.

    Args:
        features: of the training clips, as :class:`Examples`
    """

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        tokens = features[torch.isfinite(features[..., 0])].float()
        self.mean, self.spread = tokens.mean(0), tokens.std(0) + 1e-4
        self.pool = AttentiveStatistics(len(self.mean), UNITS)
        nn.init.zeros_(self.pool.attention)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, tokens, width), NaN after the last token -> (batch, 2 x width)."""
        real = torch.isfinite(features[..., 0])
        features, real = features[:, : int(real.sum(1).max())], real[:, : int(real.sum(1).max())]
        standardised = (features.float() - self.mean) / self.spread
        pooled: Tensor = self.pool(standardised.masked_fill(~real[..., None], 0.0), real)
        return pooled


class Dense(nn.Module):
    """Standardised features -> hidden layer -> A/D/V and category logits; without hidden units it is linear.

    Args:
        features: of the training clips, as :class:`Examples`
        categories: number of categories
        config: settings
    """

    def __init__(self, features: Tensor, categories: int, config: DenseConfig) -> None:
        super().__init__()
        self.config = config
        self.pool = Attention(features) if features.ndim == 3 else nn.Identity()
        with torch.no_grad():
            pooled = torch.cat([self.pool(part).float() for part in torch.split(features, config.batch_size)])
        self.mean, self.spread = pooled.mean(0), pooled.std(0, unbiased=False) + 1e-4
        width = config.hidden or len(self.mean)
        self.hidden = nn.Sequential(nn.Linear(len(self.mean), width), nn.ReLU()) if config.hidden else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.emotion, self.category = nn.Linear(width, len(OUTPUTS)), nn.Linear(width, max(categories, 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, width) or (batch, tokens, width) -> A/D/V (batch, 3), category logits, hidden (batch, hidden)."""
        hidden = self.hidden(self.dropout((self.pool(features).float() - self.mean) / self.spread))
        dropped = self.dropout(hidden)
        return 0.5 + 0.1 * self.emotion(dropped), self.category(dropped), hidden

    def answers(self, inputs: np.ndarray) -> Answers:
        """Predictions for clips, features of shape=(clips, width) or (clips, tokens, width)."""
        self.eval()
        with torch.inference_mode():
            batches = map(self, torch.split(torch.from_numpy(inputs), self.config.batch_size))
            emotion, logits, hidden = map(torch.cat, zip(*batches, strict=True))
        return Answers(emotion.clip(0, 1).numpy(), logits.softmax(1).numpy(), hidden.numpy())


def fit_dense(examples: Examples, config: DenseConfig, seed: int) -> Dense:
    """Fit a head: 1 - CCC of A/D/V, and the focal loss of the categories, which all weigh the same.

    Args:
        examples: training examples
        config: settings
        seed: random seed of the weights, the dropout and the batches
    """
    features, truth = torch.from_numpy(examples.inputs), torch.from_numpy(examples.truth).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Dense(features, examples.categories, config)
        optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        category, balance = torch.from_numpy(examples.category), torch.from_numpy(examples.balance())
        for _ in range(config.epochs):
            for batch in torch.split(torch.randperm(len(features)), config.batch_size):
                emotion, logits, hidden = head(features[batch])
                target = truth[batch], category[batch]
                loss = supervised_loss(*target, emotion, logits, balance, config.ccc, config.focal)
                if config.metric:
                    loss = loss + config.metric * metric_loss(hidden, truth[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return head
