"""Base classes of torch students: front end, pooling over time and outputs. Subclasses implement ``tokens``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import OUTPUTS, Frontend
from wav2small.network.frontend import dft_kernel, hann, mel_filterbank


class StudentNet(nn.Module):
    """Interface of a student for training and export.

    Attributes:
        embedding_size: length of the embedding
        min_length: samples of the shortest signal

    Examples:
        >>> from wav2small.train.students import build
        >>> net = build("micro")
        >>> net.embedding_size, net.min_length
        (128, 400)
    """

    embedding_size: int
    min_length: int

    def log_mel(self, signal: Tensor) -> Tensor:
        """Audio at 16 kHz, shape=(batch, samples), to dB in float32, shape=(batch, frames, mels).

        A student on the signal returns the signal, normalised, shape=(batch, samples, 1).
        """
        raise NotImplementedError

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel to emotion, shape=(batch, 3), and embedding, shape=(batch, embedding_size), in float32."""
        raise NotImplementedError

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Audio at 16 kHz, shape=(batch, samples), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        return self.features_to_emotion(self.log_mel(signal))


class LogMelStudent(StudentNet):
    """A student on log-mel features, with pooling over time and linear outputs.

    A subclass implements ``tokens``, and calls ``add_outputs`` after it has created its layers.

    Args:
        frontend: window, hop and mel bands
        normalisation: ``utterance``, or ``running`` over ``level_frames``
        level_frames: length of the running level, in frames
        is_stored: whether the DFT and mel matrices are parameters in the weights file; otherwise an FFT is used

    Source: arXiv:2408.13920, layers 0 to 2 and 12 to 13.
    """

    lin: nn.Linear
    sof: nn.Linear
    dropout: nn.Dropout
    out: nn.Linear

    def __init__(
        self, frontend: Frontend, normalisation: str = "utterance", level_frames: int = 0, is_stored: bool = True
    ) -> None:
        super().__init__()
        self.frontend, self.normalisation, self._level_frames = frontend, normalisation, level_frames
        self.min_length = frontend.win_length
        self._is_stored = is_stored
        mel = torch.from_numpy(mel_filterbank(frontend).astype(np.float32))
        if is_stored:
            real, imag = dft_kernel(frontend)
            self.dft_real, self.dft_imag = frozen(real[:, None]), frozen(imag[:, None])
            self.mel: Tensor = nn.Parameter(mel.T.contiguous(), requires_grad=False)
        else:
            self.window: Tensor
            self.register_buffer("window", torch.from_numpy(hann(frontend).astype(np.float32)), persistent=False)
            self.register_buffer("mel", mel, persistent=False)

    def add_outputs(
        self, pooled: int, dropout: float, *, token: int, embedding_size: int, score_bias: bool = True
    ) -> None:
        """Add pooling and output layers; called last, so that parameters are in the order of the layers.

        Args:
            pooled: number of pooled values
            dropout: dropout before the output layer
            token: size of the input of the pooling
            embedding_size: length of the embedding
            score_bias: whether the softmax score has a bias
        """
        self.embedding_size = embedding_size
        self.lin = nn.Linear(token, pooled)
        self.sof = nn.Linear(token, pooled, bias=score_bias)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(embedding_size, len(OUTPUTS))

    def normalise(self, signal: Tensor) -> Tensor:
        """Zero mean and unit variance of each signal, in a new tensor, shape=(batch, samples)."""
        centred = signal - signal.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        return centred / (variance + self.frontend.variance_floor).sqrt()

    def mel_power(self, signal: Tensor) -> Tensor:
        """Power of each mel band: (batch, samples) -> (batch, frames, n_mels)."""
        frontend = self.frontend
        if not self._is_stored:
            frames = signal.unfold(1, frontend.win_length, frontend.hop_length) * self.window
            spectrum: Tensor = torch.fft.rfft(frames, frontend.n_fft)
            power: Tensor = spectrum.real.square() + spectrum.imag.square()
            return torch.matmul(power, self.mel)
        real = functional.conv1d(signal[:, None], self.dft_real, stride=frontend.hop_length)
        imag = functional.conv1d(signal[:, None], self.dft_imag, stride=frontend.hop_length)
        return functional.linear((real.square() + imag.square()).transpose(1, 2), self.mel)

    def log_mel(self, signal: Tensor) -> Tensor:
        """Normalised log-mel in dB, always in float32: (batch, samples) -> (batch, frames, n_mels)."""
        with torch.autocast(signal.device.type, enabled=False):
            if self.normalisation == "utterance":
                power = self.mel_power(self.normalise(signal.float()))
            else:
                power = self.mel_power(signal.float())
                level = running_mean(power.sum(2), self._level_frames) + self.frontend.variance_floor
                power = power / level[:, :, None]
            decibel: Tensor = 10 * power.clamp_min(self.frontend.amin).log10()
            return decibel

    def tokens(self, log_mel: Tensor) -> Tensor:
        """(batch, frames, n_mels) -> (batch, tokens, token size)."""
        raise NotImplementedError

    def pool(self, tokens: Tensor) -> Tensor:
        """Softmax pooling over time, in float32: (batch, tokens, size) -> (batch, pooled)."""
        weight = self.sof(tokens).float().softmax(1)
        pooled: Tensor = (self.lin(tokens).float() * weight).sum(1)
        return pooled

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel, shape=(batch, frames, n_mels), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        embedding = self.pool(self.tokens(log_mel))
        with torch.autocast(embedding.device.type, enabled=False):
            emotion: Tensor = self.out(self.dropout(embedding))
            return emotion, embedding


def running_mean(values: Tensor, length: int) -> Tensor:
    """Mean of the last ``length`` values, or of all so far if there are fewer: (batch, frames) -> (batch, frames)."""
    sums = functional.pad(values.double().cumsum(1), (1, 0))
    ends = torch.arange(1, values.shape[1] + 1, device=values.device)
    counts = ends.clamp_max(length)
    return ((sums[:, ends] - sums[:, ends - counts]) / counts).float()


def frozen(array: np.ndarray) -> nn.Parameter:
    """A float32 parameter that is stored but not trained."""
    return nn.Parameter(torch.from_numpy(array.astype(np.float32)), requires_grad=False)
