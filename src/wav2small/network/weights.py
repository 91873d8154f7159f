"""Weights files: safetensors in NumPy, sha256, and the index of the weights that ship with the package.

A safetensors file contains eight bytes of header size, a JSON header and the arrays.
Source: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.errors import WeightsError, closest
from wav2small.files import whole_file
from wav2small.network.config import Network
from wav2small.network.licences import joined

DATA = Path(__file__).parents[1] / "data"
INDEX = "index.json"
PRECISIONS = ("fp32", "int8")
"""In the order in which :func:`resolve` prefers them."""
NETWORK = "network"
"""Metadata key of the network's JSON."""
ENCODER = "encoder"
"""Metadata key of the configuration of an encoder, as in the hub's config.json."""
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1"}
MAX_HEADER_BYTES = 100_000_000

Arrays = dict[str, np.ndarray]


def read_safetensors(path: str | Path) -> tuple[Arrays, dict[str, str]]:
    """Read every array and the metadata of a safetensors file.

    Args:
        path: the file, with any suffix

    Returns:
        arrays by name (writable copies), and metadata by key

    Raises:
        WeightsError: if the file is missing, truncated, or not safetensors

    Examples:
        >>> from wav2small.network.weights import read_safetensors, write_safetensors
        >>> write_safetensors("a.safetensors", {"bias": np.zeros(3, np.float32)}, {"name": "a"})
        >>> arrays, metadata = read_safetensors("a.safetensors")
        >>> arrays["bias"].shape, metadata
        ((3,), {'name': 'a'})
    """
    path = Path(path)
    content = read_bytes(path)
    header, start = read_header(content, path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path}: metadata in the header is not text by key. Fetch or write the file again.")
    body = memoryview(content)[start:]
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: offsets(item[1], path, item[0])):
        begin, next_end = offsets(entry, path, name)
        if not begin == end <= next_end <= len(body):
            raise WeightsError(
                f"{path}: array {name!r} is bytes {begin} to {next_end} of {len(body)}, expected from {end}: "
                "the file is truncated or damaged. Fetch it again."
            )
        arrays[name] = to_array(body[begin:next_end], entry, path, name)
        end = next_end
    if end != len(body):
        raise WeightsError(f"{path}: {len(body) - end} bytes after the last array: damaged; fetch it again.")
    return {name: arrays[name] for name in header}, metadata


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; the same content gives the same bytes.

    Args:
        path: the file
        arrays: arrays by name; stored little-endian, widest dtype first, the order of the reference implementation
        metadata: text by key

    Raises:
        WeightsError: if safetensors does not support a dtype

    Examples:
        >>> from wav2small.network.weights import write_safetensors
        >>> write_safetensors("a.safetensors", {"bias": np.zeros(3, np.float32)}, {"name": "a"})
    """
    with whole_file(path) as temporary:
        Path(temporary).write_bytes(to_bytes(arrays, metadata))


def to_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, as :func:`write_safetensors` writes it."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    chunks, end = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        chunk = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        shape = list(array.shape)
        header[name] = {"dtype": dtype_name(array, name), "shape": shape, "data_offsets": [end, end + len(chunk)]}
        chunks.append(chunk)
        end += len(chunk)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def check_arrays(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Reject arrays whose names, shapes or dtypes (float32) are not those of a network.

    Args:
        arrays: arrays by name
        shapes: expected shapes by name
        source: name of the weights, for error messages

    Raises:
        WeightsError: if an array is missing, unknown, has the wrong shape or dtype, or contains NaN; the message
            names it
    """
    missing = sorted(shapes.keys() - arrays.keys())
    left_over = sorted(arrays.keys() - shapes.keys())
    if missing or left_over:
        problems = (("missing", missing), ("left over", left_over))
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems if names)
        raise WeightsError(f"{source}: not the weights of this network; {listed}.")
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32:
            raise WeightsError(
                f"{source}: {name} is {arrays[name].dtype} {arrays[name].shape}, this network has float32 {shape}."
            )
        if not np.all(np.isfinite(arrays[name])):
            raise WeightsError(
                f"{source}: {name} contains NaN or infinite values. Train again, or fetch the file again."
            )


def sha256(path: str | Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    return sha256_of(read_bytes(Path(path)))


def sha256_of(content: bytes) -> str:
    """Hexadecimal sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def identity(path: str | Path) -> str:
    """Hexadecimal sha256 of arrays and metadata, without the description of the network.

    C code identifies weights by it. A change of the description's format does not change it.
    """
    arrays, metadata = read_safetensors(path)
    metadata.pop(NETWORK, None)
    return sha256_of(to_bytes(arrays, metadata))


def stored_network(metadata: Mapping[str, str], source: str) -> Network:
    """The network in the metadata of a weights file.

    Raises:
        WeightsError: if the metadata contain no network
        NetworkError: if the description of the network is not valid
    """
    if NETWORK not in metadata:
        raise WeightsError(
            f"{source}: its metadata do not contain a network; it was written by another version. Train or export again"
        )
    return Network.from_json(metadata[NETWORK], source)


def licence_of(path: str | Path) -> str:
    """The licences of the weights and their teachers, from the metadata; "" if there are none."""
    _, metadata = read_safetensors(path)
    return joined([metadata.get("teacher_licence", ""), metadata.get("licence", "")])


def read_index(folder: Path = DATA) -> list[dict[str, Any]]:
    """The index of shipped weights: one row per file, with name, version, precision, file, bytes, sha256 and licence.

    Raises:
        WeightsError: if the folder has no index
    """
    path = folder / INDEX
    if not path.is_file():
        raise WeightsError(f"{path}: missing, so no weights are installed. Reinstall the package, or give a path.")
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def present(folder: Path = DATA) -> list[dict[str, Any]]:
    """The rows of the index whose file is here: a wheel has not all that the repository has."""
    return [row for row in read_index(folder) if (folder / row["file"]).is_file()]


def shipped_names(folder: Path = DATA) -> list[str]:
    """Names that :func:`resolve` accepts; empty if the folder has no index."""
    return sorted({row["name"] for row in read_index(folder)}) if (folder / INDEX).is_file() else []


def full_name(row: Mapping[str, Any]) -> str:
    """The full name of a row of the index, which commands and ``load`` accept: ``micro``, ``micro:int8``."""
    return str(row["name"]) if row["precision"] == PRECISIONS[0] else f"{row['name']}:{row['precision']}"


def split_precision(name: str) -> tuple[str, str]:
    """Split ``NAME[:PRECISION]`` into name and precision, which is "" if it is not given.

    Raises:
        WeightsError: if the precision is not one of ``PRECISIONS``
    """
    base, colon, precision = name.partition(":")
    if colon and precision not in PRECISIONS:
        raise WeightsError(f"{name!r}: the precision is {precision!r}, known: {', '.join(PRECISIONS)}.")
    return base, precision


def resolve(name: str, suffix: str = ".onnx", folder: Path = DATA) -> Path:
    """The path of shipped weights, after a check of their sha256.

    Args:
        name: ``NAME[:PRECISION]``, such as ``micro`` or ``micro:int8``; without a precision, fp32 or the only one that
            ships
        suffix: ``.onnx``, or ``.safetensors`` for the arrays
        folder: folder of ``index.json``

    Raises:
        WeightsError: if no weights of this name and precision ship, or the file is missing or damaged
    """
    base, precision = split_precision(name)
    rows = read_index(folder)
    named = [row for row in rows if row["name"] == base]
    if not named:
        known = (full_name(row) for row in rows)
        raise WeightsError(f"{name!r}: no such weights.{closest(name, known)}; or give the path of a file.")
    fitting = [row for row in named if precision in ("", row["precision"]) and row["file"].endswith(suffix)]
    if not fitting:
        ships = ", ".join(f"{full_name(row)} {Path(row['file']).suffix}" for row in named)
        raise WeightsError(f"{name}: does not ship as {suffix}. These ship: {ships}.")
    row = min(fitting, key=lambda row: PRECISIONS.index(row["precision"]))
    path = folder / str(row["file"])
    if not path.is_file():
        raise WeightsError(
            f"{name}: ships in the repository only, as src/wav2small/data/{row['file']}, and is not in this package. "
            "Give the path of that file, or install a checkout: pip install -e ."
        )
    digest = sha256(path)
    if digest != row["sha256"]:
        raise WeightsError(
            f"{path}: sha256 is {digest[:12]}..., expected {row['sha256'][:12]}...: the file is damaged. "
            "Install the package again."
        )
    return path


def weights_name(metadata: Mapping[str, str], prefix: str = "") -> str:
    """Name, version and precision of weights as one text, from metadata keys with ``prefix``."""
    return " ".join(filter(None, (metadata.get(prefix + key, "") for key in ("name", "version", "precision"))))


def check_made_for(what: str, name: str, digest: str, metadata: Mapping[str, str]) -> None:
    """Reject a calibration or head that was fitted with other weights than those in use.

    The ONNX and safetensors files that ship under one name count as the same weights.

    Args:
        what: subject of the error message, such as "the calibration"
        name: name of the weights that it was fitted with, from :func:`weights_name`
        digest: sha256 of the file of these weights
        metadata: metadata of the weights in use, with the ``sha256`` of their file

    Raises:
        WeightsError: if the weights differ; the message names both
    """
    given = metadata.get("sha256", "")
    if digest != given and digest not in same_weights(given):
        raise WeightsError(
            f"{what} is of {name} (sha256 {digest[:12]}...), the weights are {weights_name(metadata)} "
            f"(sha256 {given[:12]}...)"
        )


def same_weights(digest: str, folder: Path = DATA) -> set[str]:
    """sha256 of every shipped file with the same name, version and precision as the file with this sha256.

    Includes the :func:`identity` of its arrays, by which C and the browser name it.
    """
    rows = read_index(folder) if (folder / INDEX).is_file() else []
    named = {(row["name"], row["version"], row["precision"]) for row in rows if row["sha256"] == digest}
    same = [row for row in rows if (row["name"], row["version"], row["precision"]) in named]
    arrays = [folder / row["file"] for row in same if row["file"].endswith(".safetensors")]
    return {row["sha256"] for row in same} | {identity(path) for path in arrays if path.is_file()}


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        WeightsError: if it cannot be read
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None


def read_header(content: bytes, path: Path) -> tuple[dict[str, Any], int]:
    """Parse the header of a safetensors file.

    Returns:
        entries by name, and the offset of the data in bytes

    Raises:
        WeightsError: if the header is truncated, larger than ``MAX_HEADER_BYTES`` or not JSON
    """
    size = int.from_bytes(content[:8], "little")
    if size > min(len(content) - 8, MAX_HEADER_BYTES) or content[8:9] != b"{":  # less than 8 bytes: below zero
        raise WeightsError(f"{path}: not a safetensors file, or truncated in its header. Fetch it again.")
    try:
        header = json.loads(content[8 : 8 + size].decode())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is not JSON ({error}): the file is damaged. Fetch it again.") from None
    return header, 8 + size


def offsets(entry: Any, path: Path, name: str) -> tuple[int, int]:
    """Start and end of an array, in bytes from the start of the data.

    Raises:
        WeightsError: if the header entry has no offsets
    """
    pair = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(value, int) for value in pair):
        raise WeightsError(f"{path}: array {name!r} has no data_offsets in the header. Fetch the file again.")
    return pair[0], pair[1]


def to_array(chunk: memoryview, entry: dict[str, Any], path: Path, name: str) -> np.ndarray:
    """One array from its bytes, as a copy.

    Args:
        chunk: bytes of the array
        entry: header entry, with ``dtype`` and ``shape``
        path: name of the file, for error messages
        name: name of the array, for error messages

    Raises:
        WeightsError: if the dtype is not in ``DTYPES``, the shape is not valid, or the number of bytes does not fit
    """
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WeightsError(f"{path}: array {name!r} is {dtype}, supported: {', '.join(DTYPES)}. Convert it.")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise WeightsError(f"{path}: array {name!r} has the shape {shape!r} in the header. Fetch the file again.")
    expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if len(chunk) != expected:
        raise WeightsError(f"{path}: array {name!r} has {len(chunk)} bytes, {dtype} {shape} needs {expected}.")
    return np.frombuffer(chunk, DTYPES[dtype]).reshape(shape).copy()


def dtype_name(array: np.ndarray, name: str) -> str:
    """Name of an array's dtype in safetensors, such as ``F32``.

    Raises:
        WeightsError: if the dtype is not in ``DTYPES``
    """
    for known, dtype in DTYPES.items():
        if array.dtype.newbyteorder("<") == np.dtype(dtype):
            return known
    raise WeightsError(f"array {name!r} is {array.dtype}, supported: {', '.join(DTYPES)}. Convert it.")
