"""A teacher whose body was trained too: encoder, pooling and head in one file, which says how to build them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wav2small.errors import WeightsError
from wav2small.network.weights import Arrays, write_safetensors
from wav2small.train.config import ATTENTIVE
from wav2small.train.teachers.base import TransformerTeacher
from wav2small.train.teachers.bodies import Body, build, wrap
from wav2small.train.teachers.hub import TRAINING_ONLY, load_strictly
from wav2small.train.teachers.pooling import FIXED, AttentiveStatistics
from wav2small.train.teachers.speech import batches
from wav2small.train.teachers.whisper import Head, WhisperBody

NEEDED = ("name", "version", "licence", "encoder", "normalise", "pooling", "hidden")
"""What the metadata of such a file must say."""


class TunedNet(nn.Module):
    """States of a body's last layer, pooled and normalised, through a hidden layer to A/D/V.

    Args:
        body: whose encoder is trained, or not
        pooling: one of ``config.POOLINGS``
        hidden: numbers of the hidden layer
        dropout: before it and after
        categories: that it also names while it is trained; not kept
    """

    def __init__(self, body: Body, pooling: str, hidden: int, dropout: float = 0.0, categories: int = 0) -> None:
        super().__init__()
        self.body = [body]  # in a list, as its encoder alone is a module
        self.pooling = pooling
        self.encoder = body.encoder
        self.pool = AttentiveStatistics(body.width) if pooling == ATTENTIVE else None
        size = body.width * (2 if pooling == ATTENTIVE else FIXED[pooling][1])
        self.norm = nn.LayerNorm(size)
        self.head = Head(1, size, hidden, dropout, categories)
        self.to(body.device)

    def pooled(self, signals: Sequence[np.ndarray]) -> Tensor:
        """What the head reads, (signals, 1, size); each signal's own, whatever else is there."""
        (body,) = self.body
        rows: dict[int, Tensor] = {}
        for group in groups(body, signals):
            batch, lengths = body.prepare([signals[index] for index in group])
            layers, real = body.states(batch.to(body.device), lengths.to(body.device))
            pool = self.pool or FIXED[self.pooling][0]
            rows |= zip(group, pool(layers[-1].float(), real), strict=True)
        pooled: Tensor = self.norm(torch.stack([rows[index] for index in range(len(signals))]))
        return pooled[:, None]

    def forward(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor | None]:
        """Signals at 16 kHz to A/D/V, (signals, 3), and logits of the categories."""
        found: tuple[Tensor, Tensor | None] = self.head(self.pooled(signals))
        return found

    def arrays(self) -> Arrays:
        """What inference needs, in float16."""
        state = self.state_dict().items()
        kept = {n: t for n, t in state if not n.startswith("head.category") and not TRAINING_ONLY.fullmatch(n)}
        return {name: tensor.detach().cpu().numpy().astype(np.float16) for name, tensor in kept.items()}

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the whole teacher, and how to build it."""
        (body,) = self.body
        config = body.encoder.config.to_dict()
        extra = {
            "encoder": json.dumps({key: value for key, value in config.items() if is_json(value)}),
            "normalise": json.dumps(bool(getattr(body, "normalise", False))),
            "pooling": self.pooling,
            "hidden": str(self.head.hidden.out_features),
        }
        write_safetensors(path, self.arrays(), metadata | extra)


def is_json(value: Any) -> bool:
    """Whether a value can be written as JSON; a configuration holds a dtype at times."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def groups(body: Body, signals: Sequence[np.ndarray]) -> list[list[int]]:
    """Indices of signals that may go through a body together."""
    lengths = [len(signal) for signal in signals]
    return list(batches(lengths)) if isinstance(body, WhisperBody) else body.batches(signals)


class TunedTeacher(TransformerTeacher):
    """What ``TunedNet.save`` wrote.

    Args:
        path: for messages
        arrays, metadata: of the file
        bf16: matrix products in bfloat16
        device: that torch computes on

    Raises:
        WeightsError: if an array is missing or left over, or the metadata do not say how to build it
    """

    def __init__(self, path: Path, arrays: Arrays, metadata: dict[str, str], bf16: bool, device: str) -> None:
        absent = [key for key in NEEDED if not metadata.get(key)]
        if absent:
            raise WeightsError(f"{path}: is not a teacher, it lacks {', '.join(absent)}. Make it: wav2small finetune.")
        encoder = build(json.loads(metadata["encoder"]), path)
        body = wrap(encoder, json.loads(metadata["normalise"]), bf16, device)
        self.net = TunedNet(body, metadata["pooling"], int(metadata["hidden"])).eval()
        load_strictly(self.net, arrays, str(path))
        self.name, self.version, self.licence = (metadata[key] for key in ("name", "version", "licence"))
        self.bf16, self.device = bf16, torch.device(device)

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V, then the hidden layer, shape=(signals, 3 + size)."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            pooled = self.net.pooled(signals)
            found = torch.cat([self.net.head(pooled)[0], self.net.head.embed(pooled)], 1)
        return found.float().cpu().numpy()
