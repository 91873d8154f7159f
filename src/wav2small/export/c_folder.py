"""Weights to a folder of C: runtime, header, and what Arduino, PlatformIO and Zephyr need to find them.

Where a C compiler is, the result is compiled and compared with its reference first, or refused.
"""

from __future__ import annotations

import shutil
import string
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from wav2small.errors import NativeError, WeightsError
from wav2small.network import reference
from wav2small.network.config import Network
from wav2small.network.probes import probes
from wav2small.network.weights import Arrays, identity, read_safetensors
from wav2small.runtime import native
from wav2small.runtime.c_header import HEADER, header
from wav2small.runtime.model import locate

TOLERANCE = 1e-4
"""Of the emotion in floats; integers are equal to the bit."""


@dataclass(frozen=True)
class CFolder:
    """A folder that was written; ``error`` is the largest difference from the reference, None without a compiler."""

    path: Path
    precision: str
    header_bytes: int
    error: float | None


def export_c(weights: str | Path, folder: str | Path) -> CFolder:
    """Write a folder that a compiler, Arduino, PlatformIO or Zephyr takes as it is.

    Args:
        weights: a student's safetensors file, or ``NAME[:PRECISION]`` that ships, such as micro:int8
        folder: must not be there, or be one that was written by this

    Raises:
        WeightsError: if C cannot run that student, the folder has other content, or C and the reference differ
    """
    path = locate(weights, ".safetensors")
    text = header(path)
    arrays, _, network = reference.load_student(path)
    error = largest_error(path, arrays, network)
    write_folder(Path(folder), path, text, network.integers)
    return CFolder(Path(folder), "int8" if network.integers else "fp32", len(text), error)


def largest_error(path: Path, arrays: Arrays, network: Network) -> float | None:
    """Over :func:`network.probes`, or None if there is no compiler to try it with.

    Raises:
        WeightsError: if it is larger than ``TOLERANCE``, or not zero for integers
    """
    try:
        library = native.library(path)
    except NativeError:
        return None
    largest = 0.0
    for label, signal in probes(network.frontend.win_length):
        found, expected = library.answer(signal)[1], reference.forward(signal, arrays, network)[1]
        error = float(np.max(np.abs(found - expected)))
        if not error <= (0 if network.integers else TOLERANCE):
            raise WeightsError(f"{path}: C differs by {error:.2g} from the reference on {label}; nothing was written")
        largest = max(largest, error)
    return largest


def write_folder(folder: Path, weights: Path, text: str, integers: bool) -> None:
    """All of it in a folder beside, which then takes its place."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "src" / HEADER).is_file():
        raise WeightsError(f"{folder}: has other content; give a folder that is new, or was written by this")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        values = facts(weights)
        for source in sorted((native.runtime() / "export").rglob("*")):
            if source.is_file():
                target = made / source.relative_to(native.runtime() / "export")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(string.Template(source.read_text("utf-8")).safe_substitute(values), "utf-8")
        (made / "src").mkdir()
        (made / "src" / HEADER).write_text(text, "ascii")
        for name in native.SOURCES:
            if name not in (("w2s_float.h",) if integers else ("w2s_integer.h", "w2s_dot.h")):
                shutil.copyfile(native.runtime() / name, made / "src" / name)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)


def facts(weights: Path) -> dict[str, str]:
    """What the files of the folder say about the weights."""
    metadata = read_safetensors(weights)[1]
    name = metadata.get("name") or weights.stem
    return {
        "name": name,
        "identifier": "".join(letter if letter.isalnum() else "_" for letter in weights.stem),
        "version": version("wav2small"),
        "model_version": metadata.get("version", ""),
        "precision": metadata.get("precision", "fp32"),
        "licence": metadata.get("licence", ""),
        "teacher": metadata.get("teacher", ""),
        "student": metadata["student"],
        "sha256": identity(weights),
    }
