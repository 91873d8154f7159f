"""Weights to C: the text of ``w2s_model.h``, the header that the runtime in ``c/`` is compiled with.

The header says each number once, as exact hexadecimal floats or whole numbers: the front end and its tables, a table of
layers, and their weights. A network that is made of the same operators needs no line of C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.config import SAMPLING_RATE, Network, Place
from wav2small.network.frontend import hann, mel_filterbank
from wav2small.network.layers import folded, scale_and_shift
from wav2small.network.weights import Arrays, identity

FORMAT = 2
"""Of the header; ``w2s.c`` refuses any other."""
HEADER = "w2s_model.h"
LARGEST_TILE = 13
"""Outputs computed together: so many vectors, and two more, fit into the registers of most machines."""
LOG2_E = 1 / math.log(2)


@dataclass(frozen=True)
class Row:
    """A row of the table in C: a layer, and the shape of its input.

    ``arrays`` has ``weight`` (outputs, inputs, kernel_bands, kernel), ``bias`` and, for integers, ``shift``; a pooling
    has none.
    """

    place: Place
    arrays: Mapping[str, np.ndarray]

    @property
    def kind(self) -> str:
        """As the enumeration of w2s.c names it."""
        layer = self.place.layer
        return "W2S_MAX_POOL" if layer.pool else "W2S_DEPTHWISE" if layer.depthwise else "W2S_CONVOLUTION"

    @property
    def band_pad(self) -> int:
        """Rows of zeros above the bands, and below."""
        return self.place.layer.kernel[1] // 2

    @property
    def stride_bands(self) -> int:
        """Bands from one output to the next."""
        return self.place.layer.stride if self.place.layer.pool else 1

    @property
    def kept(self) -> int:
        """Columns of the input that the next block needs, at most."""
        return self.place.layer.reach + self.place.layer.stride - 1

    @property
    def rows(self) -> int:
        """Values in a column of the input."""
        return self.place.inputs * (self.place.mels + 2 * self.band_pad)

    @property
    def patch(self) -> int:
        """Values that one output is computed from."""
        return self.place.inputs * math.prod(self.place.layer.kernel)

    @property
    def numbers(self) -> list[int]:
        """Those of ``w2s_layer``, in its order, without the arrays."""
        layer, place = self.place.layer, self.place
        shape = [int(layer.adds), place.inputs, layer.outputs, place.mels, self.band_pad]
        steps = [layer.kernel[1], self.stride_bands, layer.kernel[0], layer.stride, layer.dilation]
        return [*shape, *steps, *layer.padding, place.frames, self.kept]


@dataclass(frozen=True)
class Contents:
    """What the header holds: the table of layers, and the matrices around the pooling.

    ``arrays`` are ``input_scale`` and ``input_shift`` of the log-mel, ``lin``, ``sof`` and ``out``; ``around`` is what
    the first layer's input is padded with.
    """

    network: Network
    rows: Sequence[Row]
    arrays: Mapping[str, np.ndarray]
    around: int = 0

    @property
    def tile(self) -> int:
        """The largest number of outputs that divides those of all layers, if it is worth it."""
        sizes = [row.place.layer.outputs for row in self.rows if row.kind == "W2S_CONVOLUTION"]
        common = math.gcd(*sizes, self.network.pooled)
        best = max(size for size in range(1, LARGEST_TILE + 1) if common % size == 0)
        return best if best >= 4 else 8


def header(path: str | Path) -> str:
    """The text of ``w2s_model.h`` for a student's safetensors file.

    Raises:
        WeightsError: if they are not the weights of a network that C can run
    """
    arrays, metadata, network = reference.load_student(path)
    check_runnable(network, str(path))
    contents = integers(arrays, network, str(path)) if network.integers else floats(arrays, network)
    metadata["name"] = metadata.get("name") or Path(path).stem
    text = [*about(metadata, identity(path), network), *sizes(contents)]
    text += ["#endif", "", "#ifdef W2S_WITH_WEIGHTS", ""]
    text += integer_tables(network) if network.integers else float_tables(network)
    text += [*weights(contents), "#endif"]
    return "\n".join(text) + "\n"


def check_runnable(network: Network, source: str) -> None:
    """Refuse a network that the C runtime has no operators or no room for.

    Raises:
        WeightsError: with the reason
    """
    frontend, places = network.frontend, network.places()
    numbers = [number for place in places for number in Row(place, {}).numbers]
    alone = [place for place in places if place.layer.depthwise]
    for is_runnable, reason in (
        (network.pooling == "tokens", "pools channels; C pools tokens"),
        (frontend.n_fft & (frontend.n_fft - 1) == 0, f"has an FFT of {frontend.n_fft}; C has powers of two"),
        (frontend.win_length % 2 == 0, f"has a window of {frontend.win_length} samples; C has even ones"),
        (max(numbers) < 256, f"has a layer with the number {max(numbers)}; C's table goes to 255"),
        (all(place.mels == 1 for place in places if place.layer.adds), "adds layers of more than one band"),
        (not any(place.layer.adds for place in alone), "adds to a depthwise layer"),
        (all(place.mels == place.layer.stride == 1 for place in alone), "has depthwise layers with bands or stride"),
    ):
        if not is_runnable:
            raise WeightsError(f"{source}: C cannot run this network, which {reason}")


def floats(arrays: Arrays, network: Network) -> Contents:
    """Float weights as C has them: batch norms folded in, softmax to the base 2."""
    found = {}
    for place in network.convolutions():
        weight, bias = folded(arrays, place.layer, network.batch_norm_eps)
        found[place.layer.name] = {"weight": bands_first(weight), "bias": bias}
    rows = [Row(place, found.get(place.layer.name, {})) for place in network.places()]
    if network.mels_are_channels:
        scale, shift = scale_and_shift(arrays, "norm0", network.batch_norm_eps)
    else:
        scale = np.ones(network.frontend.n_mels, np.float32)
        shift = 0 * scale
    return Contents(network, rows, {"input_scale": scale, "input_shift": shift} | heads(arrays))


def integers(arrays: Arrays, network: Network, source: str) -> Contents:
    """Integers as C has them."""
    names = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
    for name in names:
        if not -31 <= arrays[f"{name}.shift"].min() <= arrays[f"{name}.shift"].max() <= 46:
            raise WeightsError(f"{source}: a shift of {name} is not from -31 to 46; train again with smaller weights")
    parts = ("weight", "bias", "shift")
    found = {name: {part: arrays[f"{name}.{part}"] for part in parts if f"{name}.{part}" in arrays} for name in names}
    matrices = {f"{name}_{part}": array for name in ("lin", "sof", "out") for part, array in found[name].items()}
    matrices |= {"input_scale": arrays["input.scale"], "input_shift": arrays["input.shift"]}
    matrices["embedding_unit"] = np.array(2.0 ** -(int(arrays["value.bits"]) + fixed_point.EMBEDDING_BITS))
    for place in network.convolutions():
        found[place.layer.name]["weight"] = bands_first(found[place.layer.name]["weight"])
    rows = [Row(place, found.get(place.layer.name, {})) for place in network.places()]
    return Contents(network, rows, matrices, around=int(arrays.get("input.around", 0)))


def bands_first(weight: np.ndarray) -> np.ndarray:
    """(outputs, inputs, time, bands) to (outputs, inputs, bands, time); one without bands stays."""
    return weight.swapaxes(2, 3) if weight.ndim == 4 else weight


def heads(arrays: Arrays) -> dict[str, np.ndarray]:
    """The matrices around the pooling; the bias of ``sof`` is the same for every token, so that no softmax sees it."""
    found = {f"{name}_{part}": arrays[f"{name}.{part}"] for name in ("lin", "out") for part in ("weight", "bias")}
    return found | {"sof_weight": arrays["sof.weight"] * np.float32(LOG2_E)}


def about(metadata: Mapping[str, str], digest: str, network: Network) -> list[str]:
    """Whose weights they are."""
    facts = {
        "W2S_NAME": metadata["name"],
        "W2S_MODEL_VERSION": metadata.get("version", ""),
        "W2S_PRECISION": "int8" if network.integers else "fp32",
        "W2S_LICENCE": metadata.get("licence", ""),
        "W2S_TEACHER": metadata.get("teacher", ""),
        "W2S_TRAINING_DATA": metadata.get("training_data", ""),
        "W2S_SHA256": digest,
    }
    return [
        "/* Written by: wav2small export --to c. The numbers and weights of a model, for w2s.c; not to be edited. */",
        "#ifndef W2S_MODEL_H",
        "#define W2S_MODEL_H",
        *(f"#define {name} {quoted(text)}" for name, text in facts.items()),
        f"#define W2S_FORMAT {FORMAT}",
        f"#define W2S_ID 0x{digest[:8]}u",
    ]


def quoted(text: str) -> str:
    """A string in C: ASCII, and what else there is as octal escapes of its UTF-8."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode()) + '"'


def sizes(contents: Contents) -> list[str]:
    """What the memory of a stream is made of."""
    network, rows, frontend = contents.network, contents.rows, contents.network.frontend
    values = [f"{row.rows} * W2S_WIDTH({row.kept}, {row.place.frames})" for row in rows]
    values.append(f"{network.token_size} * W2S_WIDTH(0, {network.frames_a_token})")
    numbers = {
        "INTEGERS": int(network.integers),
        "SAMPLING_RATE": SAMPLING_RATE,
        "WIN_LENGTH": frontend.win_length,
        "HOP_LENGTH": frontend.hop_length,
        "N_FFT": frontend.n_fft,
        "N_MELS": frontend.n_mels,
        "LEVEL_FRAMES": network.level_frames if network.normalisation == "running" else 0,
        "FRAMES_A_TOKEN": network.frames_a_token,
        "N_LAYERS": len(rows),
        "TOKEN": network.token_size,
        "POOLED": network.pooled,
        "TILE": contents.tile,
        "AROUND": contents.around,
        "KERNEL_BANDS": max(row.place.layer.kernel[1] for row in rows),
        "KEPT": max(row.kept for row in rows),
        "PATCH": max(network.token_size, *(row.patch for row in rows)),
        "VALUES": "(" + " + ".join(values) + ")",
    }
    return [f"#define W2S_{name} {number}" for name, number in numbers.items()]


def float_tables(network: Network) -> list[str]:
    """Lines of C with the constants and arrays of the float front end: window, cosines and mel filters."""
    frontend = network.frontend
    bands, mel = mel_by_bin(mel_filterbank(frontend) / 4, frontend.n_mels)  # the FFT gives twice the spectrum
    return [
        f"#define W2S_VARIANCE_FLOOR {hexadecimal(frontend.variance_floor)}",
        f"#define W2S_LOWEST {hexadecimal(10 * math.log10(frontend.amin))}",
        *array("float", "hann", hann(frontend)[: frontend.win_length // 2 + 1]),
        *array("float", "cosine", np.cos(2 * np.pi * np.arange(frontend.n_fft // 2 + 1) / frontend.n_fft)),
        *array("uint8_t", "mel_band", bands),
        *array("float", "mel_weight", mel),
    ]


def integer_tables(network: Network) -> list[str]:
    """Lines of C with the constants and arrays of the fixed-point front end, and the powers for the softmax."""
    table = fixed_frontend.tables(network)
    bands, mel = mel_by_bin(table.mel, network.frontend.n_mels)
    numbers = {
        "WINDOW_SHIFT": table.window_shift,
        "POWER_SHIFT": table.power_shift,
        "MEAN_BITS": fixed_frontend.MEAN_BITS,
        "VARIANCE_BITS": fixed_frontend.VARIANCE_BITS,
        "LEVEL_SHIFT": fixed_frontend.LEVEL_SHIFT,
        "LEVEL_FLOOR": table.level_floor,
        "LOG2_UNIT": table.log2_unit,
        "DECIBEL": table.decibel,
        "LOWEST": fixed_frontend.lowest(network),
        "INPUT_SHIFT": fixed_point.INPUT_SHIFT,
    }
    return [
        *(f"#define W2S_{name} {number}" for name, number in numbers.items()),
        *array("int16_t", "hann", table.hann),
        *array("int32_t", "cosine", table.cosine),
        *array("uint8_t", "mel_band", bands),
        *array("int16_t", "mel_weight", mel),
        *array("int32_t", "log2", table.log2),
        *array("uint16_t", "powers", fixed_point.POWERS),
    ]


def mel_by_bin(filters: np.ndarray, n_mels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each bin the lower of the two bands that it is in, and both weights; the last bin is in none.

    Args:
        filters: shape=(n_bins, n_mels)
        n_mels: number of bands, at least 2

    Returns:
        shape=(n_bins - 1,) and (n_bins - 1, 2)
    """
    used = filters[:-1] != 0
    bands = np.minimum(np.where(used.any(1), used.argmax(1), 0), n_mels - 2)
    weights = np.take_along_axis(filters[:-1], bands[:, None] + np.arange(2), axis=1)
    assert not filters[-1].any() and not filters[0].any()
    assert np.array_equal(weights.sum(1), filters[:-1].sum(1)), "a bin is in more than two bands"
    return bands, weights


def weights(contents: Contents) -> list[str]:
    """Arrays of the layers, the table of layers, and the matrices around the pooling."""
    are_integers, matrices, tile = contents.network.integers, contents.arrays, contents.tile
    kind = ("int8_t", "int32_t") if are_integers else ("float", "float")
    text = [*array(kind[1], "input_scale", matrices["input_scale"])]
    text += array(kind[1], "input_shift", matrices["input_shift"])
    for row in contents.rows:
        is_tiled = not are_integers and row.kind == "W2S_CONVOLUTION"
        types = {"weight": kind[0], "bias": kind[1], "shift": "int8_t"}
        for part, values in row.arrays.items():
            flat = values.reshape(row.place.layer.outputs, -1)
            text += array(types[part], f"{row.place.layer.name}_{part}", tiled(flat, tile) if is_tiled else flat)
    text += table(contents)
    for name in ("lin", "sof"):
        matrix = matrices[f"{name}_weight"]
        text += array(kind[0], f"{name}_weight", matrix if are_integers else tiled(matrix, tile))
    bias = matrices["lin_bias"]
    text += array(kind[1], "lin_bias", bias if are_integers else tiled(bias[:, None], tile))
    text += array(kind[0], "out_weight", matrices["out_weight"]) + array(kind[1], "out_bias", matrices["out_bias"])
    if are_integers:
        text.append(f"#define W2S_EMBEDDING_UNIT {hexadecimal(float(matrices['embedding_unit']))}")
        for name in ("lin", "sof", "out"):
            text += array("int8_t", f"{name}_shift", matrices[f"{name}_shift"])
    return text


def table(contents: Contents) -> list[str]:
    """The rows that ``w2s_layer`` in w2s.c names; the last one is the input of the pooling."""
    lines = []
    for row in contents.rows:
        name = row.place.layer.name
        arrays = [f"w2s_{name}_{part}" if part in row.arrays else "0" for part in ("weight", "bias", "shift")]
        lines.append(f"    {{{', '.join([row.kind, *map(str, row.numbers), *arrays])}}},")
    network, channels = contents.network, contents.network.layers[-1].outputs
    bands = network.token_size // channels
    end = [0, channels, 0, bands, 0, 1, 1, 1, 1, 1, 0, 0, network.frames_a_token, 0, 0, 0, 0]
    lines.append(f"    {{W2S_CONVOLUTION, {', '.join(map(str, end))}}},")
    return [f"static const w2s_layer w2s_layers[{len(lines)}] = {{", *lines, "};"]


def tiled(matrix: np.ndarray, tile: int) -> np.ndarray:
    """(outputs, inputs) to (tiles, inputs, tile), rows of zeros at the end if they do not divide."""
    full = np.pad(matrix, ((0, -len(matrix) % tile), (0, 0)))
    return full.reshape(-1, tile, matrix.shape[1]).swapaxes(1, 2)


def array(kind: str, name: str, values: np.ndarray) -> list[str]:
    """A constant array in C, flat but for a last axis of two."""
    flat = values.ravel()
    number = hexadecimal if kind == "float" else str
    words = [number(value) for value in flat.tolist()]
    shape = f"[{values.shape[0]}][2]" if name == "mel_weight" else f"[{flat.size}]"
    if name == "mel_weight":
        words = [f"{{{low}, {high}}}" for low, high in zip(words[::2], words[1::2], strict=True)]
    lines = ["    " + ", ".join(words[start : start + 12]) + "," for start in range(0, len(words), 12)]
    return [f"static const {kind} w2s_{name}{shape} = {{", *lines, "};"]


def hexadecimal(value: float) -> str:
    """A float32, exactly."""
    mantissa, _, exponent = float(np.float32(value)).hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}f"
