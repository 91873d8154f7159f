"""The encoder of Whisper base as a body for teachers: speech -> mean and spread of every layer's states.

Source: Radford et al. 2022, arXiv:2212.04356; ``openai/whisper-base`` on the hub, MIT licence. The library's own
``forward`` insists on 30 s of input; a short clip needs only the positions it has, at a tenth of the cost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
from wav2small.train.teachers.pooling import FIXED

ENCODER_FILE = "whisper-base-encoder.safetensors"
HUB_NAME = "openai/whisper-base"
REVISION = "e37978b90ca9030d5170a5c07aadb050351a65bb"
FINGERPRINT = "f3106a6c48cd87ac450d9060cc1718094aa0df2d88edb62a759a1ffc758d60c1"
"""``fingerprint`` of the encoder that our heads were fitted on."""

CONFIG = WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048)
MIN_LENGTH = 1600
"""Samples; a shorter signal is padded with zeros."""


def find_encoder(name: str = HUB_NAME, expected: str = FINGERPRINT, layers: int | None = None) -> WhisperEncoder:
    """The encoder, from ``ENCODER_FILE`` in the folder of models, else from a checkpoint as ``find_folder`` finds it.

    Args:
        name: on the hub, or a folder with a ``model.safetensors``
        expected: ``fingerprint`` that it must have, whole
        layers: how many of its layers to keep, from the first; None keeps all. Time is in proportion to them.

    Raises:
        WeightsError: if it is in neither place, or is not the one expected
    """
    alone = models_folder() / ENCODER_FILE
    path = alone if alone.is_file() else find_folder(name, REVISION) / WEIGHTS
    encoder = _read_encoder(path)
    if fingerprint(encoder.state_dict()) != expected:
        raise WeightsError(
            f"{path}: is not the Whisper encoder that the head was fitted on. "
            f"Needed: the encoder of {HUB_NAME} as published; remove the file to fetch it again."
        )
    encoder.layers = encoder.layers[:layers]
    encoder.eval()  # type: ignore[no-untyped-call]
    return encoder


def _read_encoder(path: Path) -> WhisperEncoder:
    """From a file that holds the encoder, or the whole model."""
    arrays, _ = read_safetensors(path)
    inner = {name: match[1] for name in arrays if (match := re.match(r"(?:model\.)?encoder\.(.+)", name))}
    encoder = WhisperEncoder(CONFIG)
    load_strictly(encoder, {inner[name]: arrays[name] for name in inner} or arrays, str(path))
    return encoder


class WhisperBody:
    """Statistics of the hidden states of every layer, the input of the first layer included.

    Args:
        encoder: as ``find_encoder`` gives it
        bf16: compute in bfloat16 where that is safe: twice as fast on processors that have it, and
            labels move by .0008 on average and .004 at most (60 clips of EmoDB)
        device: that torch computes on
        pooling: one of ``config.FIXED_POOLINGS``
        key: distinguishes its statistics from those of another body
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
        """How many sets of states there are: the convolutions' output, then one a layer."""
        return len(self.encoder.layers) + 1

    @property
    def width(self) -> int:
        """Numbers in a state."""
        return int(self.encoder.config.d_model)

    def statistics(self, signals: Sequence[np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """Mean and standard deviation over time, batched by length; a clip's answer does not depend on its batch.

        Args:
            signals: mono float32 at 16 kHz, at most 30 s, each shape=(samples,)
            batch_size: None is eight for a processor, which its caches hold, and all for a GPU

        Returns:
            float32, shape=(signals, layers, 2 x width)
        """
        order = sorted(range(len(signals)), key=lambda index: len(signals[index]))
        size = FIXED[self.pooling][1] * self.width
        out = np.zeros((len(signals), self.layers, size), np.float32)
        batch_size = batch_size or (8 if self.device.type == "cpu" else max(1, len(order)))
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            out[batch] = self._batch([signals[index] for index in batch])
        return out

    def _batch(self, signals: list[np.ndarray]) -> np.ndarray:
        batch, lengths = self.prepare(signals)
        pool, _ = FIXED[self.pooling]
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            states, kept = self.states(batch.to(self.device), lengths.to(self.device))
            pooled = [pool(state.float(), kept) for state in states]
        return torch.stack(pooled, 1).cpu().numpy()

    @torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
    def prepare(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Log-mels side by side, (batch, mels, frames), and how many frames each has."""
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

    def states(self, mel: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, mels, frames) -> a state (batch, tokens, width) a layer, and which tokens are real."""
        encoder = self.encoder
        real = torch.arange(mel.shape[2], device=mel.device)[None] < lengths[:, None]
        hidden = functional.gelu(encoder.conv1(mel)) * real[:, None]
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        real = torch.arange(hidden.shape[1], device=mel.device)[None] < ((lengths + 1) // 2)[:, None]
        mask = torch.zeros_like(real, dtype=hidden.dtype).masked_fill(~real, float("-inf"))[:, None, None]
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        states = [hidden]
        for layer in encoder.layers:
            answer = layer(hidden, mask)
            hidden = answer[0] if isinstance(answer, tuple) else answer  # transformers 5.0: also the attention
            states.append(hidden)
        return states, real


class Head(nn.Module):
    """Statistics of some layers -> A/D/V: a learned mean of the layers, one hidden layer, three outputs.

    ``categories`` further outputs name the category while the head is fitted; they are not kept.
    """

    def __init__(self, layers: int, width: int, hidden: int, dropout: float = 0.0, categories: int = 0) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(layers))
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, 3)
        self.category = nn.Linear(hidden, categories) if categories else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, statistics: Tensor) -> tuple[Tensor, Tensor | None]:
        """Standardised statistics, shape=(batch, layers, width), to A/D/V (batch, 3) and category logits."""
        hidden = self.embed(statistics)
        emotion = 0.5 + 0.1 * self.out(hidden)
        return emotion, None if self.category is None else self.category(hidden)

    def embed(self, statistics: Tensor) -> Tensor:
        """The hidden layer that everything is read from, shape=(batch, hidden)."""
        mixed = (statistics * self.mix.softmax(0)[:, None]).sum(1)
        hidden: Tensor = self.dropout(functional.gelu(self.hidden(self.dropout(mixed))))
        return hidden
