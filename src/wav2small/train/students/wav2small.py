"""Wav2Small in torch, layer by layer as the paper has it: 72,477 parameters, 67,395 of them trained.

Source: arXiv:2408.13920. Beside it the 17K variant of the same group, which pools channels and appends their Gram
matrix, and the 72K network with a running level, which can stream.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import FRONTEND, OUTPUTS, STUDENT, STUDENTS, Frontend, Student
from wav2small.network.frontend import dft_kernel, mel_filterbank
from wav2small.network.reference import check_student
from wav2small.network.weights import Arrays


class LogMelStudent(nn.Module):
    """What students on the paper's log-mel share: front end, pooling over time, outputs.

    A student adds ``tokens``, (batch, frames, n_mels) to (batch, tokens, size), and then calls ``add_outputs``.

    Args:
        frontend: window, hop and mel bands
    """

    normalisation = "utterance"

    def __init__(self, frontend: Frontend = FRONTEND) -> None:
        super().__init__()
        self.frontend = frontend
        self.min_length = frontend.win_length
        real, imag = dft_kernel(frontend)
        self.dft_real = frozen(real[:, None])
        self.dft_imag = frozen(imag[:, None])
        self.mel = frozen(mel_filterbank(frontend).T)

    def add_outputs(self, pooled: int, embedding_size: int, dropout: float) -> None:
        """The layers behind the tokens; last, so that the parameters stand in the order of the layers."""
        self.embedding_size = embedding_size
        self.lin = nn.Linear(pooled, pooled)
        self.sof = nn.Linear(pooled, pooled)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(embedding_size, len(OUTPUTS))

    def normalise(self, signal: Tensor) -> Tensor:
        """Zero mean and unit variance of each signal, in a new tensor, shape=(batch, samples)."""
        centred = signal - signal.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        return centred / (variance + self.frontend.variance_floor).sqrt()

    def mel_power(self, signal: Tensor) -> Tensor:
        """Power of each mel band: (batch, samples) -> (batch, frames, n_mels)."""
        real = functional.conv1d(signal[:, None], self.dft_real, stride=self.frontend.hop_length)
        imag = functional.conv1d(signal[:, None], self.dft_imag, stride=self.frontend.hop_length)
        return functional.linear((real.square() + imag.square()).transpose(1, 2), self.mel)

    def decibel(self, power: Tensor) -> Tensor:
        """10 log10, not below ``amin``."""
        return 10 * power.clamp_min(self.frontend.amin).log10()

    def log_mel(self, signal: Tensor) -> Tensor:
        """Normalised log-mel in dB, always in float32: (batch, samples) -> (batch, frames, n_mels)."""
        with torch.autocast(signal.device.type, enabled=False):
            return self.decibel(self.mel_power(self.normalise(signal.float())))

    def pool(self, tokens: Tensor) -> Tensor:
        """A softmax over time weighs each value, in float32: (batch, tokens, size) -> (batch, size)."""
        weight = self.sof(tokens).float().softmax(1)
        return (self.lin(tokens).float() * weight).sum(1)

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel, shape=(batch, frames, n_mels), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        embedding = self.pool(self.tokens(log_mel))
        with torch.autocast(embedding.device.type, enabled=False):
            return self.out(self.dropout(embedding)), embedding

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Audio at 16 kHz, shape=(batch, samples), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        return self.features_to_emotion(self.log_mel(signal))


class Wav2Small(LogMelStudent):
    """Signal to arousal, dominance, valence, and the pooled embedding they are read from.

    Args:
        config: sizes and front end
        dropout: share of the embedding that is zeroed before the last layer while training
    """

    def __init__(self, config: Student = STUDENT, dropout: float = 0.0) -> None:
        super().__init__(config.frontend)
        self.config = config
        self.normalisation = config.normalisation
        for index in range(1, config.early + config.late + 1):
            inputs = 1 if index == 1 else config.channels
            self.add_module(f"conv{index}", nn.Conv2d(inputs, config.channels, 3, padding=1, bias=False))
            self.add_module(f"norm{index}", nn.BatchNorm2d(config.channels, eps=config.batch_norm_eps))
        pooled = config.channels if config.pooling == "gram" else config.token_size
        self.add_outputs(pooled, config.embedding_size, dropout)

    def log_mel(self, signal: Tensor) -> Tensor:
        """The same, over the running level if the student has one."""
        if self.normalisation != "running":
            return super().log_mel(signal)
        with torch.autocast(signal.device.type, enabled=False):
            power = self.mel_power(signal.float())
            level = running_mean(power.sum(2), self.config.level_frames) + self.frontend.variance_floor
            return self.decibel(power / level[:, :, None])

    def tokens(self, log_mel: Tensor) -> Tensor:
        """The convolutions: (batch, frames, n_mels) -> (batch, ceil(frames / 2), channels x mels)."""
        hidden = log_mel[:, None]
        for index in range(1, self.config.early + self.config.late + 1):
            convolved = getattr(self, f"conv{index}")(hidden)
            hidden = functional.relu(getattr(self, f"norm{index}")(convolved))
            if index == self.config.early:
                hidden = functional.max_pool2d(hidden, 3, stride=2, padding=1)
        return hidden.transpose(1, 2).flatten(2)

    def pool(self, tokens: Tensor) -> Tensor:
        """The same, of whole tokens or of channels: (batch, tokens, size) -> (batch, embedding_size)."""
        if self.config.pooling == "gram":
            return self.pool_gram(tokens.unflatten(2, (self.config.channels, -1)).transpose(2, 3))
        return super().pool(tokens)

    def pool_gram(self, tokens: Tensor) -> Tensor:
        """The same for channels, (batch, tokens, mels, channels), and their Gram matrix beside it."""
        weight = self.sof(tokens).float().softmax(1)
        pooled = (self.lin(tokens).float() * weight).sum(1).transpose(1, 2)
        with torch.autocast(pooled.device.type, enabled=False):
            return torch.cat([pooled.flatten(1), (pooled @ pooled.transpose(1, 2)).flatten(1)], 1)


def wav2small(dropout: float = 0.0) -> Wav2Small:
    """The paper's student."""
    return Wav2Small(STUDENT, dropout)


def wav2small_running(dropout: float = 0.0) -> Wav2Small:
    """The paper's student with a running level."""
    return Wav2Small(STUDENTS["wav2small-running"], dropout)


def wav2small_17k(dropout: float = 0.0) -> Wav2Small:
    """The 17K variant."""
    return Wav2Small(STUDENTS["wav2small-17k"], dropout)


def running_mean(values: Tensor, length: int) -> Tensor:
    """Mean of the last ``length`` values, or of those there are: (batch, frames) -> (batch, frames)."""
    sums = functional.pad(values.double().cumsum(1), (1, 0))
    ends = torch.arange(1, values.shape[1] + 1, device=values.device)
    counts = ends.clamp_max(length)
    return ((sums[:, ends] - sums[:, ends - counts]) / counts).float()


def frozen(array: np.ndarray) -> nn.Parameter:
    """A float32 parameter that is saved and counted but never trained."""
    return nn.Parameter(torch.from_numpy(array.astype(np.float32)), requires_grad=False)


def from_arrays(arrays: Arrays, config: Student = STUDENT, dropout: float = 0.0) -> Wav2Small:
    """The network with these arrays as its weights.

    Raises:
        WeightsError: if an array is missing, left over, misshapen, or made for another front end
    """
    check_student(arrays, config)
    net = Wav2Small(config, dropout)
    unused = net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in unused.missing_keys) and not unused.unexpected_keys
    return net
