"""A fine-tuned teacher: encoder, pooling and head in one file, with their configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wav2small.errors import WeightsError
from wav2small.network.weights import ENCODER, Arrays, write_safetensors
from wav2small.train.config import ATTENTIVE
from wav2small.train.teachers.base import TransformerTeacher
from wav2small.train.teachers.bodies import Body, build, groups, wrap
from wav2small.train.teachers.hub import TRAINING_ONLY, load_strictly
from wav2small.train.teachers.pooling import FIXED, AttentiveStatistics
from wav2small.train.teachers.whisper import Head

NEEDED = ("name", "version", "licence", ENCODER, "normalise", "pooling", "hidden")
"""Required metadata keys of such a file."""


class TunedNet(nn.Module):
    """Body, pooling of the last hidden state, layer norm, and a head for A/D/V.

    Args:
        body: the body; its encoder may be trained
        pooling: one of ``config.POOLINGS``
        hidden: units of the hidden layer
        dropout: dropout before and after the hidden layer
        categories: number of category outputs during training; they are not stored
    """

    def __init__(self, body: Body, pooling: str, hidden: int, dropout: float = 0.0, categories: int = 0) -> None:
        super().__init__()
        self.body = [body]  # in a list, because only its encoder is a submodule
        self.pooling = pooling
        self.encoder = body.encoder
        self.pool = AttentiveStatistics(body.width) if pooling == ATTENTIVE else None
        size = body.width * (2 if pooling == ATTENTIVE else FIXED[pooling][1])
        self.norm = nn.LayerNorm(size)
        self.head = Head(1, size, hidden, dropout, categories)
        self.to(body.device)

    def pooled(self, signals: Sequence[np.ndarray]) -> Tensor:
        """Input of the head, shape=(signals, 1, size); independent of the batching."""
        (body,) = self.body
        rows: dict[int, Tensor] = {}
        for group in groups(body, signals):
            batch, lengths = body.prepare([signals[index] for index in group])
            layers, real = body.states(batch.to(body.device), lengths.to(body.device), self.pooling)
            pool = self.pool or FIXED[self.pooling][0]
            rows |= zip(group, pool(layers[-1].float(), real), strict=True)
        pooled: Tensor = self.norm(torch.stack([rows[index] for index in range(len(signals))]))
        return pooled[:, None]

    def forward(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor | None]:
        """Signals at 16 kHz -> A/D/V (signals, 3) and logits of the categories."""
        outputs: tuple[Tensor, Tensor | None] = self.head(self.pooled(signals))
        return outputs

    def arrays(self) -> Arrays:
        """Arrays for inference, float16, by name."""
        state = self.state_dict().items()
        kept = {n: t for n, t in state if not n.startswith("head.category") and not TRAINING_ONLY.fullmatch(n)}
        return {name: tensor.detach().cpu().numpy().astype(np.float16) for name, tensor in kept.items()}

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the teacher with its configuration."""
        (body,) = self.body
        write_safetensors(path, self.arrays(), metadata | description(body, self.pooling, self.head))


def description(body: Body, pooling: str, head: Head) -> dict[str, str]:
    """Metadata that :func:`described_body` and a head need: the encoder's configuration, pooling and hidden units."""
    config = body.encoder.config.to_dict()
    return {
        ENCODER: json.dumps({key: value for key, value in config.items() if is_json(value)}),
        "normalise": json.dumps(bool(getattr(body, "normalise", False))),
        "pooling": pooling,
        "hidden": str(head.hidden.out_features),
    }


def described_body(metadata: Mapping[str, str], source: str, bf16: bool = False, device: str = "cpu") -> Body:
    """The body that metadata of :func:`description` describe, with random weights.

    Raises:
        WeightsError: if its kind is not supported
    """
    return wrap(build(json.loads(metadata[ENCODER]), source), json.loads(metadata["normalise"]), bf16, device)


def is_json(value: Any) -> bool:
    """Whether a value can be written as JSON; a configuration may contain a dtype."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


class TunedTeacher(TransformerTeacher):
    """A teacher that :meth:`TunedNet.save` wrote.

    Args:
        path: name of the file, for error messages
        arrays: arrays of the file
        metadata: metadata of the file
        bf16: compute matrix products in bfloat16
        device: torch device

    Raises:
        WeightsError: if an array is missing or unknown, or a metadata key of ``NEEDED`` is missing
    """

    def __init__(self, path: Path, arrays: Arrays, metadata: dict[str, str], bf16: bool, device: str) -> None:
        absent = [key for key in NEEDED if not metadata.get(key)]
        if absent:
            raise WeightsError(
                f"{path}: not a teacher: missing {', '.join(absent)}. Write a teacher with wav2small finetune."
            )
        body = described_body(metadata, str(path), bf16, device)
        self.net = TunedNet(body, metadata["pooling"], int(metadata["hidden"])).eval()
        load_strictly(self.net, arrays, str(path))
        self.name, self.version, self.licence = (metadata[key] for key in ("name", "version", "licence"))
        self.bf16, self.device = bf16, torch.device(device)

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V followed by the hidden layer, shape=(signals, 3 + size)."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            pooled = self.net.pooled(signals)
            outputs = torch.cat([self.net.head(pooled)[0], self.net.head.embed(pooled)], 1)
        return outputs.float().cpu().numpy()
