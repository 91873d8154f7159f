"""Two dense layers on frozen features: arousal, dominance, valence and categories of a clip.

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

    def answers(self, inputs: np.ndarray) -> Answers:
        """Predictions for clips, features of shape=(clips, width)."""
        self.eval()
        with torch.inference_mode():
            emotion, logits, hidden = self(torch.from_numpy(inputs).float())
        return Answers(emotion.clip(0, 1).numpy(), logits.softmax(1).numpy(), hidden.numpy())


def fit_dense(examples: Examples, config: DenseConfig, seed: int) -> Dense:
    """Fit a head: 1 - CCC of A/D/V, and the focal loss of the categories, which all weigh the same.

    Args:
        examples: training examples
        config: settings
        seed: random seed of the weights, the dropout and the batches
    """
    spread = examples.inputs.std(0) + 1e-4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Dense(examples.inputs.mean(0), spread, examples.categories, config)
        optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        features, truth = torch.from_numpy(examples.inputs).float(), torch.from_numpy(examples.truth).float()
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
