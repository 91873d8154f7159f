"""Students by name: what a teacher's labels are learnt by.

An entry point of the group ``wav2small.students`` is a :class:`wav2small.network.config.Network`, or a function
``(dropout) -> net`` whose net is a :class:`wav2small.train.students.base.StudentNet`, or any ``torch.nn.Module`` that
has what this lists; ``train``, ``export``, ``bench`` and ``models`` then know it by its name.
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
    """An untrained student.

    Args:
        student: name of an entry point, or a network
        dropout: share of the embedding that is zeroed before the last layer while training

    Raises:
        PluginError: if there is none of that name, saying which is closest
        NetworkError: if it is a network in integers that are not trained

    Examples:
        >>> import torch
        >>> from wav2small.train.students import build
        >>> emotion, embedding = build("micro").eval()(torch.zeros(2, 16000))
        >>> emotion.shape, embedding.shape
        (torch.Size([2, 3]), torch.Size([2, 128]))
    """
    found = plugins.load(plugins.STUDENTS, student) if isinstance(student, str) else student
    if isinstance(found, Network):
        return IntegerStudent(found, dropout) if found.integers else LayeredStudent(found, dropout)
    net: StudentNet = found(dropout)
    return net


def described(metadata: Mapping[str, str], source: str) -> str | Network:
    """What metadata say about their student: its network, or its name where the network is code.

    Raises:
        WeightsError: if it is a network that is data, and is not described
        PluginError: if there is no student of that name, saying which is closest
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
    """What metadata say about a student: its name and, where it is data, its network."""
    network = getattr(net, "network", None)
    return {"student": name} | ({NETWORK: network.to_json()} if isinstance(network, Network) else {})


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


def from_arrays(arrays: Arrays, student: str | Network, source: str = "weights") -> StudentNet:
    """A student with these arrays as its weights, ready to answer.

    Raises:
        PluginError: if there is no student of that name, saying which is closest
        WeightsError: if an array is missing, left over, misshapen, or made for another front end
    """
    if isinstance(student, Network) and not student.integers:
        check_student(arrays, student, source)
    net = build(student).eval()
    load_arrays(net, arrays, source)
    return net
