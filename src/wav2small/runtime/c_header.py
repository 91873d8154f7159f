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

FORMAT = 3
"""Of the header; ``w2s.c`` refuses any other."""
HEADER = "w2s_model.h"
LARGEST_TILE = 13
"""Outputs computed together: so many vectors, and two more, fit into the registers of most machines."""
LOG2_E = 1 / math.log(2)
LARGEST_SHIFT = 30
"""Of the 32-bit sum of a layer with one half added. A shift of 32 or more leaves 0: the row is written as zeros."""


@dataclass(frozen=True)
class Row:
    """A row of the table in C: a layer, and the shape of its input.

    ``arrays`` has ``weight``, ``bias`` and, for integers, ``shift``; a pooling has none. The axes of ``weight`` are
    (outputs, inputs, kernel_bands, kernel) in floats, (outputs, kernel, kernel_bands, inputs) in integers, and
    (kernel, outputs) for a depthwise layer in integers.
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
    def bias_bytes(self) -> int:
        """Of the bias's integer type; 0 without one."""
        return bytes_of(self.arrays["bias"]) if self.arrays else 0

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
        bands_first = weight.swapaxes(2, 3) if weight.ndim == 4 else weight
        found[place.layer.name] = {"weight": bands_first, "bias": bias}
    rows = [Row(place, found.get(place.layer.name, {})) for place in network.places()]
    if network.mels_are_channels:
        scale, shift = scale_and_shift(arrays, "norm0", network.batch_norm_eps)
    else:
        scale = np.ones(network.frontend.n_mels, np.float32)
        shift = 0 * scale
    return Contents(network, rows, {"input_scale": scale, "input_shift": shift} | heads(arrays))


def integers(arrays: Arrays, network: Network, source: str) -> Contents:
    """Integers as C has them: one half of the last place in each bias, and channels innermost in a column."""
    found = {}
    for place in network.convolutions():
        name = place.layer.name
        weight, bias, shift = with_half(arrays, name, source)
        inputs_last = np.moveaxis(weight, 0 if place.layer.depthwise else 1, -1)
        found[name] = {"weight": inputs_last, "bias": bias, "shift": shift}
    matrices = {"input_scale": arrays["input.scale"], "input_shift": arrays["input.shift"]}
    channels = network.layers[-1].outputs
    for name in ("lin", "sof"):
        weight, bias, shift = with_half(arrays, name, source)
        tokens = weight.reshape(len(weight), channels, -1).swapaxes(1, 2)
        matrices |= {f"{name}_weight": tokens, f"{name}_bias": bias, f"{name}_shift": shift}
    del matrices["sof_bias"]  # only halves, which C adds
    matrices |= {f"out_{part}": arrays[f"out.{part}"] for part in ("weight", "bias", "shift")}
    matrices["embedding_unit"] = np.array(2.0 ** -(int(arrays["value.bits"]) + fixed_point.EMBEDDING_BITS))
    rows = [Row(place, found.get(place.layer.name, {})) for place in network.places()]
    return Contents(network, rows, matrices, around=int(arrays.get("input.around", 0)))


def with_half(arrays: Arrays, name: str, source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, bias and shift of a layer. The bias contains what rounds the shift: one half, if it is to the right.

    Raises:
        WeightsError: if C cannot shift so far
    """
    weight, shift = arrays[f"{name}.weight"].copy(), arrays[f"{name}.shift"].astype(np.int64)
    if not -31 <= shift.min() <= shift.max() <= 46 or (shift == LARGEST_SHIFT + 1).any():
        raise WeightsError(
            f"{source}: a shift of {name} is not from -31 to {LARGEST_SHIFT} or 32 to 46; "
            "train again with smaller weights"
        )
    bias = arrays.get(f"{name}.bias", np.zeros(len(shift))).astype(np.int64)
    bias += np.where(shift > 0, 1 << (shift - 1).clip(0), 0)
    is_zero = shift > LARGEST_SHIFT
    weight[is_zero] = bias[is_zero] = shift[is_zero] = 0
    return weight, bias, shift


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
        "PATCH": to_words(max(network.token_size, *(row.patch for row in rows))),
        "VALUES": "(" + " + ".join(values) + ")",
    }
    if network.integers:
        shifts = [row.arrays["shift"].min() for row in rows if row.arrays]
        shifts += [contents.arrays[f"{name}_shift"].min() for name in ("lin", "sof")]
        kernels = {row.place.layer.kernel[0] for row in rows if row.kind == "W2S_DEPTHWISE"}
        numbers["LEFT_SHIFTS"] = int(min(shifts) < 0)
        numbers["DEPTHWISE_KERNEL"] = kernels.pop() if len(kernels) == 1 else 0
    return [f"#define W2S_{name} {number}" for name, number in numbers.items()]


def to_words(size: int) -> int:
    """The next multiple of four."""
    return -(-size // 4) * 4


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
    first, bins, mel = mel_by_band(table.mel)
    quarter = (2 * table.cosine[: network.frontend.n_fft // 4 + 1]).clip(max=2**31 - 1)
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
        *array("int32_t", "cosine", quarter),
        *array("uint8_t" if network.frontend.n_fft <= 512 else "uint16_t", "mel_first", first),
        *array("uint8_t" if network.frontend.n_fft <= 512 else "uint16_t", "mel_bins", bins),
        *array("uint16_t", "mel_filters", mel),
        *array("uint16_t", "log2", table.log2 % 2**16),
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


def mel_by_band(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each band its first bin and number of bins, shape=(n_mels,), and the weights of all bands in turn.

    Args:
        filters: shape=(n_bins, n_mels); bin 0 and the last bin are in no band
    """
    assert not filters[-1].any() and not filters[0].any()
    used = [np.flatnonzero(band) for band in filters.T]
    first, last = (np.array([bins[end] if len(bins) else 1 for bins in used]) for end in (0, -1))
    bins = np.array([end - start + 1 for start, end in zip(first, last, strict=True)])
    return first, bins, np.concatenate([band[a : a + n] for band, a, n in zip(filters.T, first, bins, strict=True)])


def weights(contents: Contents) -> list[str]:
    """Arrays of the layers, the table of layers, and the matrices around the pooling."""
    matrices, text = dict(contents.arrays), []
    for row in contents.rows:
        name, is_in_rows = row.place.layer.name, row.kind == "W2S_CONVOLUTION"
        for part, values in row.arrays.items():
            rows = weight_rows(values, contents) if part == "weight" and is_in_rows else values
            text += weight_array(f"{name}_{part}", rows, contents)
    text += table(contents)
    for name in ("lin", "sof"):
        matrices[f"{name}_weight"] = weight_rows(matrices[f"{name}_weight"], contents)
    if contents.network.integers:
        text.append(f"#define W2S_EMBEDDING_UNIT {hexadecimal(float(matrices.pop('embedding_unit')))}")
    else:
        matrices["lin_bias"] = tiled(matrices["lin_bias"][:, None], contents.tile)
    return text + [line for name, values in matrices.items() for line in weight_array(name, values, contents)]


def weight_array(name: str, values: np.ndarray, contents: Contents) -> list[str]:
    """An array in the smallest of the types that C expects: all weights and shifts of integers have 8 bits."""
    if not contents.network.integers:
        return array("float", name, values)
    if name.endswith(("_weight", "_shift")) and not name.startswith("input_"):
        return array("int8_t", name, values)
    return array("int32_t" if name.startswith(("input_", "out_")) else f"int{8 * bytes_of(values)}_t", name, values)


def bytes_of(values: np.ndarray) -> int:
    """Bytes of the integer type that holds these values, 2 or 4."""
    return 2 if -(2**15) <= values.min() <= values.max() < 2**15 else 4


def weight_rows(weight: np.ndarray, contents: Contents) -> np.ndarray:
    """A row for each output: floats in tiles of rows, integers with zeros up to whole words of four."""
    flat = weight.reshape(len(weight), -1)
    if contents.network.integers:
        return np.pad(flat, ((0, 0), (0, to_words(flat.shape[1]) - flat.shape[1])))
    return tiled(flat, contents.tile)


def table(contents: Contents) -> list[str]:
    """The rows that ``w2s_layer`` in w2s.c names; the last one is the input of the pooling."""
    are_integers = contents.network.integers
    parts = ("weight", "shift", "bias") if are_integers else ("weight", "bias")
    lines = []
    for row in contents.rows:
        arrays = [f"w2s_{row.place.layer.name}_{part}" if row.arrays else "0" for part in parts]
        numbers = [*row.numbers, *([row.bias_bytes] if are_integers else [])]
        lines.append(f"    {{{', '.join([row.kind, *map(str, numbers), *arrays])}}},")
    network, channels = contents.network, contents.network.layers[-1].outputs
    bands = network.token_size // channels
    end = [0, channels, 0, bands, 0, bands, 1, 1, 1, 1, 0, 0, network.frames_a_token, 0, *[0] * are_integers]
    lines.append(f"    {{W2S_CONVOLUTION, {', '.join(map(str, end))}, {', '.join('0' for _ in parts)}}},")
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
