"""The teacher ``open``: the Whisper base encoder with an ensemble of heads fitted on openly licensed speech."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wav2small.errors import WeightsError
from wav2small.network.weights import read_safetensors, write_safetensors
from wav2small.train.teachers.base import TransformerTeacher
from wav2small.train.teachers.bodies import Body, load_body
from wav2small.train.teachers.hub import load_strictly
from wav2small.train.teachers.whisper import Head, WhisperBody, find_encoder

HEAD_FILE = Path(__file__).parents[2] / "data" / "open.safetensors"


class Heads:
    """Ensemble of heads on the same statistics; the prediction is their mean.

    Args:
        layers: indices of the layers that the heads use
        mean: mean of the training statistics, shape=(layers, width)
        spread: standard deviation of the training statistics, shape=(layers, width)
        heads: fitted heads
    """

    def __init__(self, layers: list[int], mean: np.ndarray, spread: np.ndarray, heads: list[Head]) -> None:
        self.layers, self.mean, self.spread = layers, mean, spread
        self.heads = [head.eval() for head in heads]

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        """A/D/V of statistics: (clips, all layers, width) -> (clips, 3)."""
        mean: np.ndarray = self.each(statistics).mean(0)
        return mean

    def each(self, statistics: np.ndarray) -> np.ndarray:
        """A/D/V of every head, shape=(heads, clips, 3)."""
        standard = self._standard(statistics)
        with torch.inference_mode():
            return np.stack([head(standard)[0].cpu().numpy() for head in self.heads])

    def embed(self, statistics: np.ndarray) -> np.ndarray:
        """Concatenated hidden layers of all heads, shape=(clips, heads x hidden)."""
        standard = self._standard(statistics)
        with torch.inference_mode():
            return np.concatenate([head.embed(standard).cpu().numpy() for head in self.heads], axis=1)

    def batch(self, statistics: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A/D/V (clips, 3) and embeddings of statistics (clips, all layers, width) on any device."""
        device = statistics.device
        mean, spread = (torch.as_tensor(array, device=device) for array in (self.mean, self.spread))
        standard = (statistics[:, self.layers] - mean) / spread
        hidden = [head.to(device).embed(standard) for head in self.heads]
        answers = [0.5 + 0.1 * head.out(own) for head, own in zip(self.heads, hidden, strict=True)]
        return torch.stack(answers).mean(0), torch.cat(hidden, 1)

    def _standard(self, statistics: np.ndarray) -> torch.Tensor:
        standard = (statistics[:, self.layers].astype(np.float32) - self.mean) / self.spread
        return torch.from_numpy(standard).to(self.heads[0].mix.device)  # where ``batch`` left the heads

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write float16 safetensors, without the category outputs."""
        arrays = {"mean": self.mean, "spread": self.spread}
        for index, head in enumerate(self.heads):
            for name, tensor in head.state_dict().items():
                if not name.startswith("category"):
                    arrays[f"{index}.{name}"] = tensor.cpu().numpy()
        halves = {name: array.astype(np.float16) for name, array in arrays.items()}
        write_safetensors(path, halves, {**metadata, "layers": ",".join(map(str, self.layers))})

    @classmethod
    def load(cls, path: Path) -> tuple[Heads, dict[str, str]]:
        """Read heads that :meth:`save` wrote, and their metadata.

        Raises:
            WeightsError: if an array is missing, unknown or has the wrong shape, or metadata are missing
        """
        arrays, metadata = read_safetensors(path)
        shape: tuple[int, ...] = getattr(arrays.get("0.hidden.weight"), "shape", ())
        absent = [key for key in ("name", "version", "licence") if not metadata.get(key)]
        if absent or len(shape) != 2 or not re.fullmatch(r"\d+(,\d+)*", metadata.get("layers", "")):
            lacking = ", ".join(absent) or "layers with 0.hidden.weight"
            raise WeightsError(f"{path}: not heads of a teacher: missing {lacking}. Write heads with wav2small fit.")
        layers = [int(layer) for layer in metadata["layers"].split(",")]
        heads = [Head(len(layers), shape[1], shape[0]) for name in arrays if name.endswith(".mix")]
        net = nn.ModuleList(heads)
        for name in ("mean", "spread"):
            net.register_buffer(name, torch.zeros(len(layers), shape[1]))
        load_strictly(net, arrays, str(path))
        return cls(layers, net.get_buffer("mean").numpy(), net.get_buffer("spread").numpy(), heads), metadata


class OpenTeacher(TransformerTeacher):
    """A teacher of a frozen body and fitted heads. The body is Whisper base, unless the file names another.

    Args:
        head: file of the heads; by default the shipped heads
        bf16: compute the encoder in bfloat16
        device: torch device

    Raises:
        WeightsError: if the encoder or the heads are not available
    """

    def __init__(self, head: Path = HEAD_FILE, bf16: bool = False, device: str = "cpu") -> None:
        self.heads, metadata = Heads.load(head)
        self.name = metadata["name"]
        self.version = metadata["version"]
        self.licence = metadata["licence"]
        self.body = _body(metadata, max(self.heads.layers), head, bf16, device)

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V followed by the hidden layers of all heads, shape=(signals, 3 + size)."""
        statistics = self.body.statistics(signals)
        return np.concatenate([self.heads(statistics), self.heads.embed(statistics)], axis=1)

    @torch.inference_mode()
    def label_batch(self, signals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Emotions (signals, 3) and embeddings (signals, size) of signals of equal length, on the device of the body.

        Args:
            signals: audio at 16 kHz, at most 30 s, shape=(signals, samples)
        """
        emotion, embedding = self.heads.batch(self.body.batch_statistics(signals))
        return emotion.clamp(0, 1), embedding


def _body(metadata: dict[str, str], layers: int, path: Path, bf16: bool, device: str) -> Body:
    if not metadata.get("body"):
        return WhisperBody(find_encoder(layers=layers), bf16, device)
    body = load_body(metadata["body"], int(metadata["body_layers"]), metadata["pooling"], bf16, device)
    if body.key != metadata["body_fingerprint"]:
        raise WeightsError(
            f"{path}: was fitted on a different version of {metadata['body']}. Copy that version, or fit again."
        )
    return body


def open_teacher(bf16: bool = False, device: str = "cpu") -> OpenTeacher:
    """Load the shipped teacher."""
    return OpenTeacher(HEAD_FILE, bf16, device)
