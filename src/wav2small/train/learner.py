"""Training state of a student: the network, a linear map to the teacher's embedding, and the moving average."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.train import distributed
from wav2small.train.config import DistilConfig, TrainConfig
from wav2small.train.students import StudentNet

Emotions = Callable[[Tensor, Tensor], Tensor]
"""Loss of A/D/V: truth (batch, 3), prediction (batch, 3) -> scalar."""


class Guess(nn.Module):
    """Linear map from the student's embedding to the teacher's, used only during training.

    Args:
        inputs: size of the student's embedding
        mean: mean of the teacher's embeddings, the initial prediction, shape=(size,)
        variance: variance of the teacher's embeddings, summed over their dimensions
    """

    def __init__(self, inputs: int, mean: Tensor, variance: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(mean), inputs))
        self.bias = nn.Parameter(mean.clone())
        self.variance: Tensor
        self.register_buffer("variance", torch.tensor(float(variance)))

    def loss(self, truth: Tensor, own: Tensor) -> Tensor:
        """Squared error relative to the variance, a scalar; 0 if the teacher's embedding is empty or constant.

        Args:
            truth: the teacher's embeddings, shape=(batch, size)
            own: the student's embeddings, shape=(batch, inputs)
        """
        if not truth.shape[1]:
            return own.new_zeros(())
        guessed = distributed.gathered(functional.linear(own, self.weight, self.bias))
        return (guessed - truth).square().sum(1).mean() / self.variance.clamp_min(1e-8)


class Learner:
    """A student during training.

    Attributes:
        net: the trained student
        averaged: moving average of its weights, which is evaluated and stored
        guess: map to the teacher's embedding

    Args:
        net: the student
        mean: mean of the teacher's embeddings, shape=(size,)
        variance: variance of the teacher's embeddings, summed over their dimensions
        config: ``average``, ``tilt``, ``embedding``, ``bf16`` and ``compiled`` are used
        device: torch device
    """

    def __init__(
        self,
        net: StudentNet,
        mean: Tensor,
        variance: float,
        config: TrainConfig | DistilConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster where layers are 2-D
        self.net = net
        self.averaged = copy.deepcopy(net).eval()
        distributed.see_whole_batches(self.net)
        self.guess = Guess(net.embedding_size, mean, variance).to(self.device)
        self.config = config
        forward = self.net.features_to_emotion
        self.forward = torch.compile(forward, dynamic=False) if config.compiled else forward

    def modules(self, prefix: str = "") -> dict[str, nn.Module]:
        """Modules whose state a checkpoint contains, by name."""
        return {f"{prefix}net": self.net, f"{prefix}guess": self.guess, f"{prefix}averaged": self.averaged}

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return [p for p in (*self.net.parameters(), *self.guess.parameters()) if p.requires_grad]

    def loss(self, signal: Tensor, label: Tensor, embedding: Tensor, emotions: Emotions) -> Tensor:
        """Loss of a whole batch, a scalar; this process computes its share of the rows.

        Args:
            signal: signals at 16 kHz, shape=(batch, samples)
            label: the teacher's A/D/V, shape=(batch, 3)
            embedding: the teacher's embeddings, shape=(batch, size)
            emotions: loss of A/D/V
        """
        label, embedding = label.to(self.device), embedding.to(self.device)
        log_mel = self.log_mel(signal)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            emotion, own = self.forward(log_mel)
        loss = emotions(label, distributed.gathered(emotion))
        return loss + self.config.embedding * self.guess.loss(embedding, own) if self.config.embedding else loss

    @torch.no_grad()
    def log_mel(self, signal: Tensor) -> Tensor:
        """Log-mel of this process's rows of a batch, with a random equaliser, shape=(rows, frames, n_mels)."""
        share = distributed.share(len(signal))
        log_mel = self.net.log_mel(signal[share].to(self.device))
        equaliser = tilt(len(signal), log_mel.shape[2], self.config.tilt)[share]
        equalised: Tensor = log_mel + equaliser.to(self.device)
        return equalised

    @torch.no_grad()
    def move_average(self, step: int) -> None:
        """Update the moving average; its decay increases during the first steps."""
        keep = min(self.config.average, step / (step + 10))
        for slow, fast in zip(self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True):
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - keep)
            else:
                slow.copy_(fast)

    @torch.inference_mode()
    def predict(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V of whole int16 clips by the averaged student, shape=(clips, 3)."""
        predictions = []
        for signal in signals:
            padded = np.pad(signal, (0, max(0, self.net.min_length - len(signal))))
            floats = torch.from_numpy(padded.astype(np.float32) / 32768)
            predictions.append(self.averaged(floats[None].to(self.device))[0])
        return torch.cat(predictions).cpu().numpy()


def tilt(batch: int, n_mels: int, depth: float) -> Tensor:
    """A smooth random equaliser of up to ``depth`` dB for each clip, shape=(batch, 1, n_mels).

    A student whose features are samples has one column, to which nothing is added.
    """
    if n_mels == 1:
        return torch.zeros(batch, 1, 1)
    knots = (torch.rand(batch, 1, 5) * 2 - 1) * depth
    return functional.interpolate(knots, n_mels, mode="linear", align_corners=True)
