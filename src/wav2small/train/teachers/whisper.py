"""The encoder of Whisper base as a body: speech -> mean and standard deviation of every layer's states.

Source: Radford et al. 2022, arXiv:2212.04356; ``openai/whisper-base`` on the hub, MIT licence. The ``forward`` of
transformers requires 30 s of input; here a short clip uses only its own positions, at a tenth of the cost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from wav2small.errors import WeightsError
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.weights import read_safetensors
from wav2small.train.teachers.hub import WEIGHTS, find_folder, fingerprint, load_strictly, models_folder
from wav2small.train.teachers.pooling import FIXED, prepended

ENCODER_FILE = "whisper-base-encoder.safetensors"
WHISPER = "whisper"
"""Short name of this body."""
HUB_NAME = "openai/whisper-base"
REVISION = "e37978b90ca9030d5170a5c07aadb050351a65bb"
FINGERPRINT = "f3106a6c48cd87ac450d9060cc1718094aa0df2d88edb62a759a1ffc758d60c1"
"""``fingerprint`` of the encoder that the shipped heads were fitted on."""

CONFIG = WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048)
CPU_BATCH = 8
"""Batch size on a CPU, so that activations fit into its caches."""
MIN_LENGTH = 1600
"""Shortest signal in samples; shorter signals are zero-padded."""


def find_encoder(name: str = HUB_NAME, expected: str = FINGERPRINT, layers: int | None = None) -> WhisperEncoder:
    """Load the encoder from ``ENCODER_FILE`` in the folder of models, else from a checkpoint (:func:`find_folder`).

    Args:
        name: name on the hub, or a folder with a ``model.safetensors``
        expected: required ``fingerprint`` of the complete encoder
        layers: number of layers to keep, from the first; None keeps all. The time is proportional to it.

    Raises:
        WeightsError: if it is not available, has another fingerprint, or has fewer layers
    """
    alone = models_folder() / ENCODER_FILE
    path = alone if alone.is_file() else find_folder(name, REVISION) / WEIGHTS
    encoder = _read_encoder(path)
    if fingerprint(encoder.state_dict()) != expected:
        raise WeightsError(
            f"{path}: not the Whisper encoder that the head was fitted on. "
            f"Needed: the published encoder of {HUB_NAME}; remove the file to fetch it again."
        )
    if layers is not None and not 1 <= layers <= CONFIG.encoder_layers:
        raise WeightsError(
            f"{path}: has {CONFIG.encoder_layers} layers, asked for {layers}. Ask for 1 or more of them."
        )
    encoder.layers = encoder.layers[:layers]
    encoder.config.encoder_layers = len(encoder.layers)
    encoder.eval()  # type: ignore[no-untyped-call]
    return encoder


def _read_encoder(path: Path) -> WhisperEncoder:
    """Read a file of the encoder, or of the whole model."""
    arrays, _ = read_safetensors(path)
    inner = {name: match[1] for name in arrays if (match := re.match(r"(?:model\.)?encoder\.(.+)", name))}
    encoder = WhisperEncoder(deepcopy(CONFIG))
    load_strictly(encoder, {inner[name]: arrays[name] for name in inner} or arrays, str(path))
    return encoder


class WhisperBody:
    """Pooled hidden states of all layers, including the input of the first layer.

    Args:
        encoder: encoder from :func:`find_encoder`
        bf16: compute in bfloat16: twice as fast on CPUs that support it; labels change by .0008 on average and .004 at
            most (60 clips of EmoDB)
        device: torch device
        pooling: one of ``config.FIXED_POOLINGS``
        key: identifies the statistics of this body
    """

    def __init__(
        self,
        encoder: WhisperEncoder,
        bf16: bool = False,
        device: str = "cpu",
        pooling: str = "mean+std",
        key: str = "",
    ) -> None:
        self.pooling, self.key = pooling, key
        self.device = torch.device(device)
        self.encoder = encoder
        self.encoder.to(self.device)  # type: ignore[arg-type]
        self.bf16 = bf16
        self.features = WhisperFeatureExtractor(encoder.config.num_mel_bins)  # type: ignore[no-untyped-call]

    @property
    def layers(self) -> int:
        """Number of state tensors: the output of the convolutions, then one per layer."""
        return len(self.encoder.layers) + 1

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.encoder.config.d_model)

    def statistics(self, signals: Sequence[np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """Pooled states, batched by length; independent of the batching.

        Args:
            signals: mono audio at 16 kHz, float32, at most 30 s, shape=(samples,) each
            batch_size: clips of a batch; None is ``CPU_BATCH`` on a CPU, and all clips on a GPU

        Returns:
            float32, shape=(signals, layers, size), with size = 2 x width for "mean+std"
        """
        order = sorted(range(len(signals)), key=lambda index: len(signals[index]))
        size = FIXED[self.pooling][1] * self.width
        out = np.zeros((len(signals), self.layers, size), np.float32)
        batch_size = batch_size or (CPU_BATCH if self.device.type == "cpu" else max(1, len(order)))
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            out[batch] = self._batch([signals[index] for index in batch])
        return out

    def _batch(self, signals: list[np.ndarray]) -> np.ndarray:
        batch, lengths = self.prepare(signals)
        pool, _ = FIXED[self.pooling]
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            states, kept = self.states(batch.to(self.device), lengths.to(self.device), self.pooling)
            pooled = [pool(state.float(), kept) for state in states]
        return torch.stack(pooled, 1).cpu().numpy()

    @torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
    def prepare(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Zero-padded log-mels, shape=(batch, mels, frames), and the number of frames of each."""
        padded = [np.pad(signal, (0, max(0, MIN_LENGTH - len(signal)))) for signal in signals]
        mels = [
            self.features(
                signal, sampling_rate=SAMPLING_RATE, padding="do_not_pad", return_tensors="pt"
            ).input_features[0]
            for signal in padded
        ]
        lengths = torch.tensor([mel.shape[1] for mel in mels])
        batch = torch.zeros(len(mels), mels[0].shape[0], int(lengths.max()))
        for row, mel in zip(batch, mels, strict=True):
            row[:, : mel.shape[1]] = mel
        return batch, lengths

    def states(self, mel: Tensor, lengths: Tensor, pooling: str = "") -> tuple[list[Tensor], Tensor]:
        """(batch, mels, frames) -> states of each layer (batch, tokens, width), and the mask of real tokens.

        They are as ``pooling`` needs them.
        """
        hidden, real = prepended(*self.tokens(mel, lengths), pooling)
        return self.encode(hidden, real), real

    def tokens(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the transformer with positions, (batch, tokens, width), and the mask of real tokens."""
        encoder = self.encoder
        real = torch.arange(mel.shape[2], device=mel.device)[None] < lengths[:, None]
        hidden = functional.gelu(encoder.conv1(mel)) * real[:, None]
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        real = torch.arange(hidden.shape[1], device=mel.device)[None] < ((lengths + 1) // 2)[:, None]
        return hidden + self.positions(hidden.shape[1]), real

    def positions(self, tokens: int) -> Tensor:
        """What is added to the output of the convolutions, shape=(tokens, width)."""
        positions: Tensor = self.encoder.embed_positions.weight[:tokens]
        return positions

    def encode(self, hidden: Tensor, real: Tensor) -> list[Tensor]:
        """States of each layer, shape=(batch, tokens, width), from the output of :meth:`tokens`."""
        mask = torch.zeros_like(real, dtype=hidden.dtype).masked_fill(~real, float("-inf"))[:, None, None]
        states = [hidden]
        for layer in self.encoder.layers:
            output = layer(hidden, mask)
            hidden = (
                output[0] if isinstance(output, tuple) else output
            )  # a tuple with the attention in transformers 5.0
            states.append(hidden)
        return states

    @torch.inference_mode()
    def batch_statistics(self, signals: Tensor) -> Tensor:
        """Pooled states of signals (signals, samples) of equal length, at least ``MIN_LENGTH``, on any device."""
        size = CPU_BATCH if self.device.type == "cpu" else max(1, len(signals))
        return torch.cat([self._equal(part) for part in torch.split(signals.to(self.device), size)])

    def _equal(self, signals: Tensor) -> Tensor:
        pool, _ = FIXED[self.pooling]
        mel = self.log_mel(signals)
        lengths = torch.full((len(mel),), mel.shape[2], device=mel.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            states, real = self.states(mel, lengths, self.pooling)
            return torch.stack([pool(state.float(), real) for state in states], 1)

    def log_mel(self, signals: Tensor) -> Tensor:
        """Log-mel of ``WhisperFeatureExtractor`` on any device: (signals, samples) -> (signals, mels, frames)."""
        features = self.features
        window = torch.hann_window(features.n_fft, device=signals.device)
        spectrum = torch.stft(signals, features.n_fft, features.hop_length, window=window, return_complex=True)
        power = spectrum[..., :-1].real.square() + spectrum[..., :-1].imag.square()
        mel_filters = torch.as_tensor(features.mel_filters, dtype=torch.float32, device=signals.device)
        decades = (mel_filters.T @ power).clamp_min(1e-10).log10()
        return (torch.maximum(decades, decades.amax((1, 2), keepdim=True) - 8) + 4) / 4


class Head(nn.Module):
    """Head from statistics to A/D/V: learned mean of the layers, one hidden layer, three outputs.

    Args:
        layers: number of layers of the statistics
        width: size of the statistics of a layer
        hidden: units of the hidden layer
        dropout: dropout before and after the hidden layer
        categories: number of category outputs during training; they are not stored
    """

    def __init__(self, layers: int, width: int, hidden: int, dropout: float = 0.0, categories: int = 0) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(layers))
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, 3)
        self.category = nn.Linear(hidden, categories) if categories else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, statistics: Tensor) -> tuple[Tensor, Tensor | None]:
        """Standardised statistics (batch, layers, width) -> A/D/V (batch, 3) and category logits."""
        hidden = self.embed(statistics)
        return self.emotion(hidden), None if self.category is None else self.category(hidden)

    def emotion(self, hidden: Tensor) -> Tensor:
        """A/D/V of the hidden layer: (batch, hidden) -> (batch, 3)."""
        emotion: Tensor = 0.5 + 0.1 * self.out(hidden)
        return emotion

    def embed(self, statistics: Tensor) -> Tensor:
        """The hidden layer, shape=(batch, hidden)."""
        mixed = (statistics * self.mix.softmax(0)[:, None]).sum(1)
        hidden: Tensor = self.dropout(functional.gelu(self.hidden(self.dropout(mixed))))
        return hidden
