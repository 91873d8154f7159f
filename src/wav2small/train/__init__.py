"""Teachers, labels and training: the only part of the package that needs the extra ``train``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from wav2small.errors import MissingExtraError, Wav2SmallError
from wav2small.files import check_writable

Progress = Callable[[float, float], None]
"""Called with (done, total)."""


def check_extra() -> None:
    """Raise ``MissingExtraError`` if the extra is not installed; a command asks before it imports from here."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"this needs {' and '.join(missing)}, not here yet: pip install 'wav2small[train]'")


def make_folder(folder: Path) -> None:
    """Make a folder for results, and raise ``Wav2SmallError`` now if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Wav2SmallError(f"{folder}: cannot be made a folder: {error.strerror}. Name another.") from None
    check_writable(folder / "any")


def choose_device(name: str = "auto") -> str:
    """A device of torch by its name; ``auto`` is a GPU where there is one.

    Raises:
        Wav2SmallError: if torch has none of that name here
    """
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", *(["cuda", *gpus] if gpus else [])]
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in known:
        raise Wav2SmallError(f"torch has no device {name!r} here. There is {', '.join(known)}; or say auto.")
    return name
