"""Students by name.

An entry point of the group ``wav2small.students`` is a :class:`wav2small.network.config.Network`, or a function
``(dropout) -> net`` that returns a :class:`wav2small.train.students.base.StudentNet` or any ``torch.nn.Module`` with
the same interface. ``train``, ``export``, ``bench`` and ``models`` then accept its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wav2small import plugins
from wav2small.errors import PluginError, Wav2SmallError
from wav2small.network.config import Network
from wav2small.network.reference import check_student
from wav2small.network.weights import ENCODER, NETWORK, Arrays, check_arrays, read_safetensors, stored_network
from wav2small.train.students.base import StudentNet as StudentNet
from wav2small.train.students.integer import IntegerStudent
from wav2small.train.students.layered import LayeredStudent

Make = Callable[[float], StudentNet]
"""Builds a student from its dropout."""


def build(student: str | Network | Make, dropout: float = 0.0, body: str = "") -> StudentNet:
    """Build an untrained student.

    Args:
        student: name of an entry point, a network, or what :func:`described` returns
        dropout: dropout before the output layer during training
        body: checkpoint in the hub's format that ``distilhubert`` starts from; "" for all other students

    Raises:
        PluginError: if no student has that name; the message names the closest one
        NetworkError: if it is an integer network without quantisation-aware training
        WeightsError: if the body is not available, damaged, or of another kind
        Wav2SmallError: if the student needs a body, or takes none

    Examples:
        >>> import torch
        >>> from wav2small.train.students import build
        >>> emotion, embedding = build("micro").eval()(torch.zeros(2, 16000))
        >>> emotion.shape, embedding.shape
        (torch.Size([2, 3]), torch.Size([2, 128]))
    """
    plugin = plugins.load(plugins.STUDENTS, student) if isinstance(student, str) else student
    if body:
        return from_body(plugin, student, body, dropout)
    if isinstance(plugin, Network):
        return IntegerStudent(plugin, dropout) if plugin.integers else LayeredStudent(plugin, dropout)
    net: StudentNet = plugin(dropout)
    return net


def from_body(plugin: Any, student: object, body: str, dropout: float) -> StudentNet:
    """A student whose class has the method ``from_body``, with the weights of a checkpoint.

    Raises:
        Wav2SmallError: if the student takes no body
    """
    if not hasattr(plugin, "from_body"):
        name = getattr(student, "name", student)
        raise Wav2SmallError(f"{name}: takes no body, which is the checkpoint of distilhubert. Leave out --body.")
    net: StudentNet = plugin.from_body(body, dropout)
    return net


def described(metadata: Mapping[str, str], source: str) -> str | Network | Make:
    """The student of a weights file: its network, what builds it, or its name if that is enough to build it.

    Raises:
        WeightsError: if the student is a ``Network`` and the metadata do not contain it, or it is an encoder of another
            kind than ``distilhubert``
        PluginError: if no student has that name; the message names the closest one
    """
    if ENCODER in metadata:
        from wav2small.train.students.distilhubert import described as described_encoder

        return described_encoder(metadata, source)
    name = metadata.get("student", "")
    if NETWORK in metadata or not name:
        return stored_network(metadata, source)
    try:
        is_data = isinstance(plugins.load(plugins.STUDENTS, name), Network)
    except PluginError as error:
        raise PluginError(f"{source}: {error}") from None
    return stored_network(metadata, source) if is_data else name


def description(net: nn.Module, name: str) -> dict[str, str]:
    """Metadata of a student: its name, and its network or what its method ``description`` returns, if it has one."""
    network = getattr(net, "network", None)
    if isinstance(network, Network):
        return {"student": name, NETWORK: network.to_json()}
    return {"student": name, **getattr(net, "description", dict)()}


def to_arrays(net: nn.Module) -> Arrays:
    """Copies of the arrays that inference needs, float32, by name."""
    state = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: value.detach().float().cpu().numpy().copy() for name, value in state.items()}


def start_from(net: nn.Module, path: Path) -> None:
    """Load initial weights: those of the same student, or those that its method ``start_from(arrays, source)`` accepts.

    Raises:
        WeightsError: if the file is damaged, or contains another student
    """
    arrays, _ = read_safetensors(path)
    own = getattr(net, "start_from", None)
    if own is not None and arrays.keys() != to_arrays(net).keys():
        own(arrays, str(path))
        return
    load_arrays(net, arrays, str(path))


def load_arrays(net: nn.Module, arrays: Arrays, source: str) -> None:
    """Load arrays into a net; names and shapes must match exactly. Arrays in float16 are converted to float32.

    Raises:
        WeightsError: if an array is missing, unknown or has the wrong shape
    """
    arrays = {n: array.astype(np.float32) if array.dtype == np.float16 else array for n, array in arrays.items()}
    check_arrays(arrays, {name: array.shape for name, array in to_arrays(net).items()}, source)
    net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, strict=False)


def from_arrays(arrays: Arrays, student: str | Network | Make, source: str = "weights") -> StudentNet:
    """A student with these arrays as weights, in evaluation mode.

    Raises:
        PluginError: if no student has that name; the message names the closest one
        WeightsError: if an array is missing, unknown or has the wrong shape, or the stored front end differs
    """
    if isinstance(student, Network) and not student.integers:
        check_student(arrays, student, source)
    net = build(student).eval()
    load_arrays(net, arrays, source)
    return net
