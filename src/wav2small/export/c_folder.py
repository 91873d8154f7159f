"""Export of weights to a C folder: runtime, model header, project files of device frameworks, examples and a card.

If a C compiler is installed, the result is compiled and compared with the reference before it is written.
"""

from __future__ import annotations

import json
import re
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import wav2small
from wav2small.errors import NativeError, WeightsError
from wav2small.export.boards import Needs, check_board
from wav2small.export.card import CARD, body, licence_of
from wav2small.export.folder import whole_folder, write_files
from wav2small.network import reference
from wav2small.network.config import Network
from wav2small.network.probes import probes
from wav2small.network.weights import Arrays, identity, read_safetensors
from wav2small.runtime import compiler, native
from wav2small.runtime.c_header import HEADER, header
from wav2small.runtime.model import locate

NO_LICENCE = re.compile(r'^ *"?license"?: "",?\n', re.MULTILINE)
"""The line of a manifest, of weights that state no licence."""
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
        licence: licences of the weights and of their teachers
        needs: what the network takes of the board; None if no board was given
    """

    path: Path
    precision: str
    header_bytes: int
    error: float | None
    licence: str
    needs: Needs | None


def export_c(weights: str | Path, folder: str | Path, board: str | None = None) -> CFolder:
    """Write a folder that a C compiler, Arduino, PlatformIO, ESP-IDF, Zephyr or ESPHome can build.

    Args:
        weights: safetensors file of a student, or ``NAME[:PRECISION]`` of shipped weights, such as micro:int8
        folder: a new folder, or one that this function wrote
        board: name in ``BOARDS`` that has to hold the network; None for any

    Raises:
        WeightsError: if the C runtime does not support the student, the board cannot hold it, the folder has other
            content, or C and the reference differ
        NativeError: if a board is given and there is no C compiler
    """
    path = locate(weights, ".safetensors")
    text = header(path)
    arrays, _, network = reference.load_student(path)
    found = check_board(path, network, board) if board else None
    error = largest_error(path, arrays, network)
    metadata = read_safetensors(path)[1]
    write_folder(Path(folder), path, text, network)
    precision = "int8" if network.integers else "fp32"
    return CFolder(Path(folder), precision, len(text), error, licence_of(metadata), found)


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


def write_folder(folder: Path, weights: Path, text: str, network: Network) -> None:
    """Write the whole folder, or nothing.

    Args:
        folder: output folder
        weights: safetensors file
        text: model header
        network: of the weights
    """
    files = runtime_files(text, network.integers, "src/") | template_files(compiler.runtime() / "export", weights)
    metadata = read_safetensors(weights)[1]
    metadata |= {"name": metadata.get("name") or weights.stem, "min_length": str(network.frontend.win_length)}
    usage = files.pop(CARD).decode()
    files[CARD] = "\n".join(body(metadata, dict(sorted(files.items())), usage, ())).encode()
    with whole_folder(folder, f"src/{HEADER}") as made:
        write_files(made, files)


def template_files(templates: Path, weights: Path) -> dict[str, bytes]:
    """The files of a folder of templates, with the values of the weights in the places of ``$name`` and others."""
    values, files = template_values(weights), dict[str, bytes]()
    for source in sorted(templates.rglob("*")):
        if source.is_file() and source.suffix != ".pyc":
            content = string.Template(source.read_text("utf-8")).safe_substitute(values)
            files[source.relative_to(templates).as_posix()] = NO_LICENCE.sub("", content).encode()
    return files


def runtime_files(text: str, integers: bool, place: str = "") -> dict[str, bytes]:
    """The C sources of a model and its header, of this text, by their names after ``place``."""
    other = ("w2s_float.h",) if integers else ("w2s_integer.h", "w2s_dot.h")
    names = [name for name in compiler.SOURCES if name not in other]
    files = {f"{place}{name}": (compiler.runtime() / name).read_bytes() for name in names}
    return files | {f"{place}{HEADER}": text.encode("ascii")}


def template_values(weights: Path) -> dict[str, str]:
    """Values of the placeholders in the template files, quoted as in JSON and YAML."""
    metadata = read_safetensors(weights)[1]
    values = {
        "name": metadata.get("name") or weights.stem,
        "identifier": "".join(letter if letter.isalnum() else "_" for letter in weights.stem).lower(),
        "version": wav2small.__version__,
        "model_version": metadata.get("version", ""),
        "precision": metadata.get("precision", "fp32"),
        "licence": licence_of(metadata),
        "teacher": metadata.get("teacher", ""),
        "sha256": identity(weights),
    }
    return {key: json.dumps(value, ensure_ascii=False)[1:-1] for key, value in values.items()}
