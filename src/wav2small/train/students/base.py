"""What every student in torch has: a front end, pooling over time, outputs. A student adds its ``tokens``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import OUTPUTS, Frontend
from wav2small.network.frontend import dft_kernel, hann, mel_filterbank


class StudentNet(nn.Module):
    """What training and export ask of a student beside being a module.

    ``embedding_size`` is the length of the embedding, ``min_length`` the samples of the shortest signal.

    Examples:
        >>> from wav2small.train.students import build
        >>> net = build("micro")
        >>> net.embedding_size, net.min_length
        (128, 400)
    """

    embedding_size: int
    min_length: int

    def log_mel(self, signal: Tensor) -> Tensor:
        """Audio at 16 kHz, shape=(batch, samples), to dB in float32, shape=(batch, frames, mels)."""
        raise NotImplementedError

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel to emotion, shape=(batch, 3), and embedding, shape=(batch, embedding_size), in float32."""
        raise NotImplementedError

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Audio at 16 kHz, shape=(batch, samples), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        return self.features_to_emotion(self.log_mel(signal))


class LogMelStudent(StudentNet):
    """Signal to arousal, dominance, valence, and the pooled embedding that they are read from.

    A student calls ``add_outputs`` after it has made its layers, and has ``tokens``.

    Args:
        frontend: window, hop and mel bands
        normalisation: ``utterance``, or ``running`` over ``level_frames``
        level_frames: frames of the running level
        is_stored: the DFT and the mel bands are parameters, in the file of weights; else they are computed by an FFT
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
        """The layers behind the tokens; last, so that the parameters stand in the order of the layers.

        Args:
            pooled: values that are pooled
            dropout: share of the embedding that is zeroed before the last layer while training
            token: values that each of them is computed from
            embedding_size: what the outputs are read from
            score_bias: the score of the softmax has a bias
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
        """A softmax over time weighs each value, in float32: (batch, tokens, size) -> (batch, pooled)."""
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
    """Mean of the last ``length`` values, or of those there are: (batch, frames) -> (batch, frames)."""
    sums = functional.pad(values.double().cumsum(1), (1, 0))
    ends = torch.arange(1, values.shape[1] + 1, device=values.device)
    counts = ends.clamp_max(length)
    return ((sums[:, ends] - sums[:, ends - counts]) / counts).float()


def frozen(array: np.ndarray) -> nn.Parameter:
    """A float32 parameter that is saved and counted but never trained."""
    return nn.Parameter(torch.from_numpy(array.astype(np.float32)), requires_grad=False)
