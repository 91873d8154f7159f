"""DistilHuBERT as a student: HuBERT's convolutions, two transformer layers, mean over time, and a head for A/D/V.

Its layers and its weights files are those of a HuBERT encoder that ``finetune`` trained, which is therefore exported as
this student.

Source: Chang et al. 2022, arXiv:2110.01900 (DistilHuBERT); arXiv:2512.23435 for emotion on phones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wav2small.errors import Wav2SmallError, WeightsError
from wav2small.train.config import FinetuneConfig
from wav2small.train.students.base import StudentNet
from wav2small.train.teachers.bodies import Body, SpeechBody, load_body
from wav2small.train.teachers.pooling import mean
from wav2small.train.teachers.speech import MIN_LENGTH, VARIANCE_FLOOR
from wav2small.train.teachers.tuned import TunedNet, described_body, description

KIND = "hubert"
"""The ``model_type`` of the encoder."""
POOLING = "mean"


class DistilHubert(StudentNet):
    """A HuBERT encoder with any number of layers as a student; its convolutions are not trained.

    Args:
        dropout: dropout of the head
        body: the encoder, which becomes a part of the student
        hidden: units of the hidden layer of the head, the embedding

    Raises:
        Wav2SmallError: if no body is given
    """

    min_length = MIN_LENGTH

    def __init__(
        self, dropout: float = 0.0, body: SpeechBody | None = None, hidden: int = FinetuneConfig.hidden
    ) -> None:
        if body is None:
            raise Wav2SmallError(
                "distilhubert: starts from a checkpoint in the format of ntu-spml/distilhubert. Give --body FOLDER, or "
                "from in an experiment."
            )
        super().__init__()
        encoder: Any = body.encoder
        encoder.masked_spec_embed = None  # used in pretraining only
        encoder.feature_extractor._freeze_parameters()
        tuned = TunedNet(body, POOLING, hidden, dropout)
        self.encoder, self.norm, self.head = encoder, tuned.norm, tuned.head
        self.normalise, self.embedding_size = body.normalise, hidden
        config = encoder.config
        self.hop_length = math.prod(config.conv_stride)
        strides = [math.prod(config.conv_stride[:layer]) for layer in range(len(config.conv_stride))]
        self.field = 1 + sum((k - 1) * s for k, s in zip(config.conv_kernel, strides, strict=True))
        self.described = description(body, POOLING, self.head)

    @classmethod
    def from_body(cls, name: str, dropout: float = 0.0) -> DistilHubert:
        """The student with the weights of a checkpoint and a random head.

        Args:
            name: folder in the hub's format, or ``owner/name``
            dropout: dropout of the head

        Raises:
            WeightsError: if the checkpoint is not available, damaged, or of another kind than HuBERT
        """
        return cls(dropout, checked(load_body(name), name))

    def log_mel(self, signal: Tensor) -> Tensor:
        """The input of the encoder, which is the signal: (batch, samples) -> (batch, samples, 1)."""
        signal = signal.float()
        if self.normalise:
            signal = signal - signal.mean(1, keepdim=True)
            signal = signal / (signal.square().mean(1, keepdim=True) + VARIANCE_FLOOR).sqrt()
        return signal[..., None]

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """The output of :meth:`log_mel` to emotion, shape=(batch, 3), and embedding, shape=(batch, embedding_size)."""
        signal = log_mel[..., 0]
        tokens = self.encoder(signal).last_hidden_state.float()
        with torch.autocast(tokens.device.type, enabled=False):
            embedding = self.head.embed(self.norm(self._mean(tokens, signal))[:, None])
            return self.head.emotion(embedding), embedding

    def _mean(self, tokens: Tensor, signal: Tensor) -> Tensor:
        """Mean over time; in training, whose clips are padded, without tokens of constant samples."""
        if not self.training:
            return tokens.mean(1)
        highest, lowest = (functional.max_pool1d(s * signal[:, None], self.field, self.hop_length) * s for s in (1, -1))
        return mean(tokens, (highest > lowest)[:, 0])

    def description(self) -> dict[str, str]:
        """Metadata that :func:`described` needs."""
        return self.described


def checked(body: Body, source: str) -> SpeechBody:
    """The body, if it is a HuBERT.

    Raises:
        WeightsError: if it is of another kind
    """
    kind = body.encoder.config.model_type
    if kind != KIND or not isinstance(body, SpeechBody):
        raise WeightsError(f"{source}: model_type is {kind!r}, needed: {KIND!r}, as in ntu-spml/distilhubert.")
    return body


def described(metadata: Mapping[str, str], source: str) -> Callable[[float], DistilHubert]:
    """A function that builds the student of a weights file, of ``train`` or of ``finetune``, from its dropout.

    Raises:
        WeightsError: if the encoder is of another kind than HuBERT, or its pooling is not the mean
    """
    if metadata["pooling"] != POOLING:
        raise WeightsError(f"{source}: pooling is {metadata['pooling']!r}, needed: {POOLING!r}; finetune it again.")
    return lambda dropout: DistilHubert(
        dropout, checked(described_body(metadata, source), source), int(metadata["hidden"])
    )
