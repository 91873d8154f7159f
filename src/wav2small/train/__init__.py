"""Teachers, labels and training. Only this part of the package needs the extra ``train``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from wav2small.errors import Wav2SmallError, missing_packages
from wav2small.files import check_writable


class Progress(Protocol):
    """Receives how far some work is."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Report that ``done`` of ``total`` units of work are complete; ``note`` is text to show with it."""


Bar = Callable[[str], AbstractContextManager[Progress]]
"""A progress bar with a title."""


def check_extra() -> None:
    """Check that the extra ``train`` is installed. Commands call this before they import from this package.

    Raises:
        MissingExtraError: if it is not installed
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise missing_packages("this", missing, "wav2small[train]")


def make_folder(folder: Path) -> None:
    """Create a folder for results if missing.

    Raises:
        Wav2SmallError: if it cannot be created or written
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Wav2SmallError(f"{folder}: cannot be created as a folder: {error.strerror}. Give another.") from None
    check_writable(folder / "any")


def choose_device(name: str = "auto") -> str:
    """Torch device for a name; ``auto`` is a GPU if there is one, else the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``

    Raises:
        Wav2SmallError: if this machine has no such device
    """
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", *(["cuda", *gpus] if gpus else [])]
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in known:
        raise Wav2SmallError(f"torch has no device {name!r} here. Available: {', '.join(known)}; or give auto.")
    return name
