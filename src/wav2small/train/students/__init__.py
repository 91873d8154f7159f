"""Students by name: what a teacher's labels are learnt by. Each is one file, and an entry point.

An entry point of the group ``wav2small.students`` is a function ``(dropout) -> net``, and the net a ``torch.nn.Module``
with what :class:`Student` lists; ``train``, ``export``, ``bench`` and ``models`` then know it by its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from wav2small import plugins
from wav2small.network.weights import Arrays, check_arrays, read_safetensors


class Student(Protocol):
    """What a net has beside being a ``torch.nn.Module``.

    ``embedding_size`` is the length of the embedding, ``min_length`` the samples of the shortest signal.
    """

    embedding_size: int
    min_length: int

    def log_mel(self, signal: Tensor) -> Tensor:
        """Audio at 16 kHz, shape=(batch, samples), to dB in float32, shape=(batch, frames, mels)."""
        ...

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel to emotion, shape=(batch, 3), and embedding, shape=(batch, embedding_size), in float32."""
        ...


class StudentNet(nn.Module):
    """A :class:`Student` as the module that it is."""

    embedding_size: int
    min_length: int

    def log_mel(self, signal: Tensor) -> Tensor:
        raise NotImplementedError

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def build(name: str, dropout: float = 0.0) -> StudentNet:
    """An untrained student.

    Raises:
        PluginError: if there is none of that name, saying which is closest
    """
    net: StudentNet = plugins.load(plugins.STUDENTS, name)(dropout)
    return net


def to_arrays(net: nn.Module) -> Arrays:
    """The arrays that inference needs: copies, in float32."""
    state = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: value.detach().float().cpu().numpy().copy() for name, value in state.items()}


def start_from(net: nn.Module, path: Path) -> None:
    """Give a net trained weights to begin with: its own kind, or what its ``start_from(arrays, source)`` takes.

    Raises:
        WeightsError: if the file is damaged, or holds another student
    """
    arrays, _ = read_safetensors(path)
    own = getattr(net, "start_from", None)
    if own is not None and arrays.keys() != to_arrays(net).keys():
        own(arrays, str(path))
        return
    load_arrays(net, arrays, str(path))


def load_arrays(net: nn.Module, arrays: Arrays, source: str) -> None:
    """Give a net its own kind of arrays, exactly.

    Raises:
        WeightsError: if an array is missing, left over or misshapen
    """
    check_arrays(arrays, {name: array.shape for name, array in to_arrays(net).items()}, source)
    net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, strict=False)
