"""The weights inside an ONNX file, without the package onnx, which is not a runtime dependency.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto for the numbers of the fields, and
https://protobuf.dev/programming-guides/encoding for how they are written.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

GRAPH, INITIALIZER = 7, 5
"""Fields of a model and of its graph."""
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
"""Fields of a tensor."""
DTYPES = {1: "<f4", 3: "<i1", 10: "<f2"}
"""Of the weights that ``export`` writes; others are left out."""
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


def read_weights(content: bytes) -> dict[str, np.ndarray]:
    """Every constant of a graph as float32, by its name: eight bits times their scale, sixteen bits widened."""
    stored = dict(_constants(memoryview(content)))
    found = {}
    for name, array in stored.items():
        base, _, form = name.rpartition(".")
        if form == "int8":
            found[base] = array * stored[f"{base}.scale"]
        elif form == "float16":
            found[base] = array.astype(np.float32)
        else:
            found[name] = array
    return found


def _constants(model: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    for number, graph in _fields(model):
        if number == GRAPH and isinstance(graph, memoryview):
            for part, tensor in _fields(graph):
                if part == INITIALIZER and isinstance(tensor, memoryview):
                    yield from _array(tensor)


def _array(tensor: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values; nothing if they are of another type or stored in another way."""
    shape: list[int] = []
    name, raw, dtype = "", None, ""
    for number, value in _fields(tensor):
        if number == DIMS:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == DATA_TYPE and isinstance(value, int):
            dtype = DTYPES.get(value, "")
        elif number == NAME and isinstance(value, memoryview):
            name = str(value, "utf-8")
        elif number == RAW_DATA:
            raw = value
    if dtype and isinstance(raw, memoryview):
        yield name, np.frombuffer(raw, dtype).reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        size = {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(kind)
        if size is None:
            assert kind == BYTES, f"no field of kind {kind}; ONNX Runtime has read this file"
            size, position = _varint(message, position)
        yield key >> 3, message[position : position + size]
        position += size


def _packed(values: memoryview) -> list[int]:
    found, position = [], 0
    while position < len(values):
        value, position = _varint(values, position)
        found.append(value)
    return found


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, and where the next value begins."""
    value, shift = 0, 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
