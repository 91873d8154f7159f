"""Students by name.

An entry point of the group ``wav2small.students`` is a :class:`wav2small.network.config.Network`, or a function
``(dropout) -> net`` that returns a :class:`wav2small.train.students.base.StudentNet` or any ``torch.nn.Module`` with
the same interface. ``train``, ``export``, ``bench`` and ``models`` then accept its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from wav2small import plugins
from wav2small.errors import PluginError
from wav2small.network.config import Network
from wav2small.network.reference import check_student
from wav2small.network.weights import NETWORK, Arrays, check_arrays, read_safetensors, stored_network
from wav2small.train.students.base import StudentNet as StudentNet
from wav2small.train.students.integer import IntegerStudent
from wav2small.train.students.layered import LayeredStudent


def build(student: str | Network, dropout: float = 0.0) -> StudentNet:
    """Build an untrained student.

    Args:
        student: name of an entry point, or a network
        dropout: dropout before the output layer during training

    Raises:
        PluginError: if no student has that name; the message names the closest one
        NetworkError: if it is an integer network without quantisation-aware training

    Examples:
        >>> import torch
        >>> from wav2small.train.students import build
        >>> emotion, embedding = build("micro").eval()(torch.zeros(2, 16000))
        >>> emotion.shape, embedding.shape
        (torch.Size([2, 3]), torch.Size([2, 128]))
    """
    plugin = plugins.load(plugins.STUDENTS, student) if isinstance(student, str) else student
    if isinstance(plugin, Network):
        return IntegerStudent(plugin, dropout) if plugin.integers else LayeredStudent(plugin, dropout)
    net: StudentNet = plugin(dropout)
    return net


def described(metadata: Mapping[str, str], source: str) -> str | Network:
    """The student of a weights file: its network, or its name if the network is a torch module.

    Raises:
        WeightsError: if the student is a ``Network`` and the metadata do not contain it
        PluginError: if no student has that name; the message names the closest one
    """
    name = metadata.get("student", "")
    if NETWORK in metadata or not name:
        return stored_network(metadata, source)
    try:
        is_data = isinstance(plugins.load(plugins.STUDENTS, name), Network)
    except PluginError as error:
        raise PluginError(f"{source}: {error}") from None
    return stored_network(metadata, source) if is_data else name


def description(net: nn.Module, name: str) -> dict[str, str]:
    """Metadata of a student: its name and, if it is a ``Network``, the network."""
    network = getattr(net, "network", None)
    return {"student": name} | ({NETWORK: network.to_json()} if isinstance(network, Network) else {})


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
    """Load arrays into a net; names and shapes must match exactly.

    Raises:
        WeightsError: if an array is missing, unknown or has the wrong shape
    """
    check_arrays(arrays, {name: array.shape for name, array in to_arrays(net).items()}, source)
    net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, strict=False)


def from_arrays(arrays: Arrays, student: str | Network, source: str = "weights") -> StudentNet:
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
