"""The student ``micro`` in torch: causal, frame by frame, for the smallest devices. Ours; see docs/training.md."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import MICRO, Micro
from wav2small.network.frontend import mel_filterbank
from wav2small.network.reference import check_student
from wav2small.network.weights import Arrays
from wav2small.train.students.wav2small import running_mean


class MicroNet(nn.Module):
    """Signal to arousal, dominance, valence, and the pooled embedding they are read from.

    Args:
        config: sizes and front end
        dropout: share of the embedding that is zeroed before the last layer while training
    """

    def __init__(self, config: Micro = MICRO, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.embedding_size = config.embedding_size
        self.min_length = config.frontend.win_length
        channels = config.channels
        window = torch.hann_window(config.frontend.win_length, dtype=torch.float64).float()
        self.register_buffer("window", window, persistent=False)
        mel = torch.from_numpy(mel_filterbank(config.frontend).astype(np.float32))
        self.register_buffer("mel", mel, persistent=False)
        self.norm0 = nn.BatchNorm1d(config.frontend.n_mels, eps=config.batch_norm_eps)
        self.conv = nn.Conv1d(config.frontend.n_mels, channels, config.kernel, config.stride, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=config.batch_norm_eps)
        for index, dilation in enumerate(config.dilations, 1):
            depth = nn.Conv1d(channels, channels, config.kernel, dilation=dilation, groups=channels, bias=False)
            self.add_module(f"depth{index}", depth)
            self.add_module(f"depthnorm{index}", nn.BatchNorm1d(channels, eps=config.batch_norm_eps))
            self.add_module(f"point{index}", nn.Conv1d(channels, channels, 1, bias=False))
            self.add_module(f"pointnorm{index}", nn.BatchNorm1d(channels, eps=config.batch_norm_eps))
        self.lin = nn.Linear(channels, config.pooled)
        self.sof = nn.Linear(channels, config.pooled, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(config.pooled, 3)

    def log_mel(self, signal: Tensor) -> Tensor:
        """Log-mel over the running level in dB, in float32: (batch, samples) -> (batch, frames, n_mels)."""
        frontend = self.config.frontend
        with torch.autocast(signal.device.type, enabled=False):
            frames = signal.float().unfold(1, frontend.win_length, frontend.hop_length) * self.window
            spectrum = torch.fft.rfft(frames, frontend.n_fft)
            power = (spectrum.real.square() + spectrum.imag.square()) @ self.mel
            level = running_mean(power.sum(2), self.config.level_frames) + frontend.variance_floor
            return 10 * (power / level[:, :, None]).clamp_min(frontend.amin).log10()

    def tokens(self, log_mel: Tensor) -> Tensor:
        """The convolutions: (batch, frames, n_mels) -> (batch, ceil(frames / stride), channels)."""
        kernel = self.config.kernel
        hidden = self.conv(functional.pad(self.norm0(log_mel.transpose(1, 2)), (kernel - 1, 0)))
        hidden = functional.relu(self.norm(hidden))
        for index, dilation in enumerate(self.config.dilations, 1):
            padded = functional.pad(hidden, ((kernel - 1) * dilation, 0))
            inner = functional.relu(getattr(self, f"depthnorm{index}")(getattr(self, f"depth{index}")(padded)))
            inner = functional.relu(getattr(self, f"pointnorm{index}")(getattr(self, f"point{index}")(inner)))
            hidden = hidden + inner
        return hidden.transpose(1, 2)

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel, shape=(batch, frames, n_mels), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        tokens = self.tokens(log_mel)
        weight = self.sof(tokens).float().softmax(1)
        embedding = (self.lin(tokens).float() * weight).sum(1)
        with torch.autocast(embedding.device.type, enabled=False):
            return self.out(self.dropout(embedding)), embedding

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Audio at 16 kHz, shape=(batch, samples), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        return self.features_to_emotion(self.log_mel(signal))


def micro(dropout: float = 0.0) -> MicroNet:
    """The student as it ships."""
    return MicroNet(MICRO, dropout)


def from_arrays(arrays: Arrays, config: Micro = MICRO) -> MicroNet:
    """The network with these arrays as its weights.

    Raises:
        WeightsError: if an array is missing, left over or misshapen
    """
    check_student(arrays, config)
    net = MicroNet(config)
    net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, strict=False)
    return net
