"""A GPU that is not there: it computes on the CPU, remembers which memory is its own, and is as strict as one.

What mixes its tensors with others, or reads them without ``.cpu()``, is refused as CUDA would. Values are real, so
that what is answered on it can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("cuda", 0)


class PretendGpu(TorchFunctionMode):
    """While it is entered, there is a device ``cuda``."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[int, Any] = {}

    def holds(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.memory

    def take(self, tensor: Tensor) -> None:
        """Its memory is on the GPU from now on, and never used for anything else."""
        storage = tensor.untyped_storage()
        if storage.data_ptr():
            self.memory[storage.data_ptr()] = storage

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords, name = dict(keywords or {}), getattr(function, "__name__", "")
        if function == Tensor.device.__get__:
            return DEVICE if self.holds(arguments[0]) else function(*arguments)
        if name in ("to", "cpu"):
            return self.moved((arguments[0], "cpu") if name == "cpu" else arguments, keywords)
        inputs = list(tensors((arguments[:1] if name == "__deepcopy__" else arguments, keywords)))
        if name in ("numpy", "__array__") and self.holds(inputs[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
        asked = keywords.get("device")
        is_there = any(map(self.holds, inputs)) if asked is None else torch.device(asked).type == "cuda"
        if asked is not None:
            keywords["device"] = "cpu"
        elif name not in ("copy_", "_has_compatible_shallow_copy_type") and function != Tensor.data.__set__:
            self.check(name, inputs)
        found = function(*arguments, **keywords)
        if is_there and name != "copy_":
            for tensor in tensors(found):
                self.take(tensor)
        return found

    def moved(self, arguments: Any, keywords: dict[str, Any]) -> Tensor:
        """``Tensor.to``: to a device, to a type, to both, or to those of another tensor."""
        tensor, *rest = arguments
        devices = [word for word in (*rest, *keywords.values()) if is_device(word)]
        like = next((word for word in rest if isinstance(word, Tensor)), tensor)
        there = torch.device(devices[0]).type == "cuda" if devices else self.holds(like)
        rest = ["cpu" if is_device(word) else word for word in rest]
        found = tensor.to(*rest, **{key: "cpu" if is_device(word) else word for key, word in keywords.items()})
        if self.holds(found) != there:
            found = found.clone()
        if there:
            self.take(found)
        return found

    def check(self, name: str, inputs: list[Tensor]) -> None:
        """Refuse inputs of two devices; a number may come from the CPU, and so may an index."""
        if name in ("__getitem__", "__setitem__") and self.holds(inputs[0]):
            return
        there = {self.holds(tensor) for tensor in inputs if tensor.numel() and (tensor.dim() or self.holds(tensor))}
        if len(there) > 1:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")


def is_device(word: Any) -> bool:
    return isinstance(word, (str, torch.device))


def tensors(found: Any) -> Iterator[Tensor]:
    """All that are in it."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        for value in found.values():
            yield from tensors(value)
    elif isinstance(found, (list, tuple)):
        for value in found:
            yield from tensors(value)
