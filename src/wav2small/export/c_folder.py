"""Export of weights to a C folder: runtime, model header, and project files for Arduino, PlatformIO and Zephyr.

If a C compiler is installed, the result is compiled and compared with the reference before it is written.
"""

from __future__ import annotations

import shutil
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import wav2small
from wav2small.errors import NativeError, WeightsError
from wav2small.export.folder import whole_folder
from wav2small.network import reference
from wav2small.network.config import Network
from wav2small.network.probes import probes
from wav2small.network.weights import Arrays, identity, read_safetensors
from wav2small.runtime import compiler, native
from wav2small.runtime.c_header import HEADER, header
from wav2small.runtime.model import locate

TOLERANCE = 1e-4
"""Largest allowed difference of the emotion in float32. Integer networks must be bit-exact."""


@dataclass(frozen=True)
class CFolder:
    """A written folder.

    Attributes:
        path: the folder
        precision: ``fp32`` or ``int8``
        header_bytes: size of the model header
        error: largest difference of the emotion from the reference; None without a compiler
    """

    path: Path
    precision: str
    header_bytes: int
    error: float | None


def export_c(weights: str | Path, folder: str | Path) -> CFolder:
    """Write a folder that a C compiler, Arduino, PlatformIO or Zephyr can build.

    Args:
        weights: safetensors file of a student, or ``NAME[:PRECISION]`` of shipped weights, such as micro:int8
        folder: a new folder, or one that this function wrote

    Raises:
        WeightsError: if the C runtime does not support the student, the folder has other content, or C and the
            reference differ
    """
    path = locate(weights, ".safetensors")
    text = header(path)
    arrays, _, network = reference.load_student(path)
    error = largest_error(path, arrays, network)
    write_folder(Path(folder), path, text, network.integers)
    return CFolder(Path(folder), "int8" if network.integers else "fp32", len(text), error)


def largest_error(path: Path, arrays: Arrays, network: Network) -> float | None:
    """Largest difference of the emotion of C and the reference over :func:`probes`; None without a compiler.

    Raises:
        WeightsError: if it is larger than ``TOLERANCE``, or not zero for integer networks
    """
    try:
        library = native.library(path)
    except NativeError:
        return None
    largest = 0.0
    for label, signal in probes(network.frontend.win_length):
        actual, expected = library.answer(signal)[1], reference.forward(signal, arrays, network)[1]
        error = float(np.max(np.abs(actual - expected)))
        if not error <= (0 if network.integers else TOLERANCE):
            raise WeightsError(f"{path}: C differs by {error:.2g} from the reference on {label}; nothing was written")
        largest = max(largest, error)
    return largest


def write_folder(folder: Path, weights: Path, text: str, integers: bool) -> None:
    """Write the whole folder, or nothing.

    Args:
        folder: output folder
        weights: safetensors file
        text: model header
        integers: whether the network is an integer network
    """
    with whole_folder(folder, f"src/{HEADER}") as made:
        write_templates(compiler.runtime() / "export", made, weights)
        write_runtime(made / "src", text, integers)


def write_templates(templates: Path, folder: Path, weights: Path) -> None:
    """Copy a folder of templates, with the values of the weights in the places of ``$name`` and others."""
    values = template_values(weights)
    for source in sorted(templates.rglob("*")):
        if source.is_file():
            target = folder / source.relative_to(templates)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(string.Template(source.read_text("utf-8")).safe_substitute(values), "utf-8")


def write_runtime(folder: Path, text: str, integers: bool) -> None:
    """Write the C sources of a model and its header, of this text, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEADER).write_text(text, "ascii")
    for name in compiler.SOURCES:
        if name not in (("w2s_float.h",) if integers else ("w2s_integer.h", "w2s_dot.h")):
            shutil.copyfile(compiler.runtime() / name, folder / name)


def template_values(weights: Path) -> dict[str, str]:
    """Values of the placeholders in the template files, from the metadata of the weights."""
    metadata = read_safetensors(weights)[1]
    name = metadata.get("name") or weights.stem
    return {
        "name": name,
        "identifier": "".join(letter if letter.isalnum() else "_" for letter in weights.stem),
        "version": wav2small.__version__,
        "model_version": metadata.get("version", ""),
        "precision": metadata.get("precision", "fp32"),
        "licence": metadata.get("licence", ""),
        "teacher": metadata.get("teacher", ""),
        "student": metadata["student"],
        "sha256": identity(weights),
    }
