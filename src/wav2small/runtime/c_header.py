"""Weights to C: the text of ``w2s_model.h``, the header that the runtime in ``c/`` is compiled with.

The header says each number once, as exact hexadecimal floats or whole numbers: the front end and its tables, a table of
layers, and their weights. A student that is made of the same operators needs no line of C.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network import fixed_frontend as integer_frontend
from wav2small.network import fixed_point as integer
from wav2small.network import reference
from wav2small.network.config import SAMPLING_RATE, Micro, Student
from wav2small.network.frontend import hann, mel_filterbank
from wav2small.network.layers import scale_and_shift
from wav2small.network.weights import Arrays, read_bytes

FORMAT = 2
"""Of the header; ``w2s.c`` refuses any other."""
HEADER = "w2s_model.h"
LARGEST_TILE = 13
"""Outputs computed together: so many vectors, and two more, fit into the registers of most machines."""
LOG2_E = 1 / math.log(2)


@dataclass(frozen=True)
class Layer:
    """A row of the table in C.

    ``arrays`` has ``weight`` (outputs, inputs, kernel_bands, kernel), ``bias`` and, for integers, ``shift``; a pooling
    has none.
    """

    kind: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    bands: int = 1
    band_pad: int = 0
    kernel_bands: int = 1
    stride_bands: int = 1
    residual: bool = False
    name: str = ""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Columns of the input that the next block needs, at most."""
        return (self.kernel - 1) * self.dilation + self.stride - 1

    @property
    def rows(self) -> int:
        """Values in a column of the input."""
        return self.inputs * (self.bands + 2 * self.band_pad)

    @property
    def patch(self) -> int:
        """Values that one output is computed from."""
        return self.inputs * self.kernel_bands * self.kernel


@dataclass(frozen=True)
class Network:
    """What the header holds: layers, and the matrices around the pooling."""

    layers: Sequence[Layer]
    token: int
    arrays: Mapping[str, np.ndarray]
    """``input_scale`` and ``input_shift`` of the log-mel, ``lin``, ``sof`` and ``out``."""
    around: int = 0
    """What is around the first layer's input."""

    @property
    def tile(self) -> int:
        """The largest number of outputs that divides those of all layers, if it is worth it."""
        sizes = [layer.outputs for layer in self.layers if layer.kind == "W2S_CONVOLUTION"]
        common = math.gcd(*sizes, len(self.arrays["lin_bias"]))
        best = max(size for size in range(1, LARGEST_TILE + 1) if common % size == 0)
        return best if best >= 4 else 8


def header(path: str | Path) -> str:
    """The text of ``w2s_model.h`` for a student's safetensors file.

    Raises:
        WeightsError: if they are not the weights of a student that C can run
    """
    arrays, metadata, config = reference.load_student(path)
    digest = hashlib.sha256(read_bytes(Path(path))).hexdigest()
    network = network_of(arrays, config, str(path))
    metadata["name"] = metadata.get("name") or Path(path).stem
    text = [*about(metadata, digest, config), *sizes(network, config)]
    text += ["#endif", "", "#ifdef W2S_WITH_WEIGHTS", ""]
    text += integer_tables(config) if config.integers else float_tables(config)
    text += [*weights(network, config), "#endif"]
    return "\n".join(text) + "\n"


def network_of(arrays: Arrays, config: Student | Micro, source: str) -> Network:
    """Layers and matrices as C has them: batch norms folded in, softmax to the base 2."""
    if isinstance(config, Micro):
        return integers(arrays, config, source) if config.integers else micro_floats(arrays, config)
    if config.pooling != "tokens":
        raise WeightsError(f"{source}: {config.name} pools channels, which C cannot; give a student that pools tokens")
    return integers(arrays, config, source) if config.integers else paper_floats(arrays, config)


def micro_floats(arrays: Arrays, config: Micro) -> Network:
    def fold(name: str, norm: str) -> dict[str, np.ndarray]:
        scale, shift = scale_and_shift(arrays, norm, config.batch_norm_eps)
        return {"weight": arrays[f"{name}.weight"] * scale[:, None, None], "bias": shift}

    folded = {"conv": fold("conv", "norm")}
    for index in range(1, len(config.dilations) + 1):
        folded |= {f"{kind}{index}": fold(f"{kind}{index}", f"{kind}norm{index}") for kind in ("depth", "point")}
    scale, shift = scale_and_shift(arrays, "norm0", config.batch_norm_eps)
    matrices = {"input_scale": scale, "input_shift": shift} | heads(arrays)
    return Network(micro_layers(folded, config), config.channels, matrices)


def integers(arrays: Arrays, config: Student | Micro, source: str) -> Network:
    names = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
    for name in names:
        if not -31 <= arrays[f"{name}.shift"].min() <= arrays[f"{name}.shift"].max() <= 46:
            raise WeightsError(f"{source}: a shift of {name} is not from -31 to 46; train again with smaller weights")
    parts = ("weight", "bias", "shift")
    found = {name: {part: arrays[f"{name}.{part}"] for part in parts if f"{name}.{part}" in arrays} for name in names}
    matrices = {f"{name}_{part}": array for name in ("lin", "sof", "out") for part, array in found[name].items()}
    matrices |= {"input_scale": arrays["input.scale"], "input_shift": arrays["input.shift"]}
    matrices["embedding_unit"] = np.array(2.0 ** -(int(arrays["value.bits"]) + integer.EMBEDDING_BITS))
    if isinstance(config, Micro):
        return Network(micro_layers(found, config), config.channels, matrices)
    for index in range(1, config.early + config.late + 1):
        found[f"conv{index}"]["weight"] = found[f"conv{index}"]["weight"].swapaxes(2, 3)  # bands, then time
    layers = paper_layers(found, config)
    return Network(layers, config.token_size, matrices, around=int(arrays["input.around"]))


def micro_layers(folded: Mapping[str, Mapping[str, np.ndarray]], config: Micro) -> list[Layer]:
    channels, last = config.channels, config.kernel - 1
    first = Layer("W2S_CONVOLUTION", config.frontend.n_mels, channels, config.kernel, config.stride, before=last)
    layers = [replace(first, name="conv", arrays=folded["conv"])]
    for index, dilation in enumerate(config.dilations, 1):
        depth = Layer("W2S_DEPTHWISE", channels, channels, config.kernel, dilation=dilation, before=last * dilation)
        point = Layer("W2S_CONVOLUTION", channels, channels, residual=True)
        named = ((f"depth{index}", depth), (f"point{index}", point))
        layers += [replace(layer, name=name, arrays=folded[name]) for name, layer in named]
    return layers


def paper_floats(arrays: Arrays, config: Student) -> Network:
    folded = {}
    for index in range(1, config.early + config.late + 1):
        scale, shift = scale_and_shift(arrays, f"norm{index}", config.batch_norm_eps)
        weight = (arrays[f"conv{index}.weight"] * scale[:, None, None, None]).swapaxes(2, 3)  # bands, then time
        folded[f"conv{index}"] = {"weight": weight, "bias": shift}
    ones = np.ones(config.frontend.n_mels, np.float32)
    matrices = {"input_scale": ones, "input_shift": 0 * ones} | heads(arrays)
    return Network(paper_layers(folded, config), config.token_size, matrices)


def paper_layers(folded: Mapping[str, Mapping[str, np.ndarray]], config: Student) -> list[Layer]:
    layers, channels, inputs, bands = [], config.channels, 1, config.frontend.n_mels
    square = Layer("W2S_CONVOLUTION", channels, channels, 3, before=1, after=1, band_pad=1, kernel_bands=3)
    for index in range(1, config.early + config.late + 1):
        name = f"conv{index}"
        layers.append(replace(square, inputs=inputs, bands=bands, name=name, arrays=folded[name]))
        inputs = channels
        if index == config.early:
            layers.append(replace(square, kind="W2S_MAX_POOL", bands=bands, stride=2, stride_bands=2))
            bands = (bands + 1) // 2
    return layers


def heads(arrays: Arrays) -> dict[str, np.ndarray]:
    """The matrices around the pooling; the bias of ``sof`` is the same for every token, so that no softmax sees it."""
    found = {f"{name}_{part}": arrays[f"{name}.{part}"] for name in ("lin", "out") for part in ("weight", "bias")}
    return found | {"sof_weight": arrays["sof.weight"] * np.float32(LOG2_E)}


def about(metadata: Mapping[str, str], digest: str, config: Student | Micro) -> list[str]:
    """Whose weights they are."""
    facts = {
        "W2S_NAME": metadata["name"],
        "W2S_MODEL_VERSION": metadata.get("version", ""),
        "W2S_PRECISION": "int8" if config.integers else "fp32",
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


def sizes(network: Network, config: Student | Micro) -> list[str]:
    """What the memory of a stream is made of."""
    frontend, layers, frames = config.frontend, network.layers, 1
    values = []
    for layer in layers:
        values.append(f"{layer.rows} * W2S_WIDTH({layer.kept}, {frames})")
        frames *= layer.stride
    values.append(f"{network.token} * W2S_WIDTH(0, {frames})")
    numbers = {
        "INTEGERS": int(config.integers),
        "SAMPLING_RATE": SAMPLING_RATE,
        "WIN_LENGTH": frontend.win_length,
        "HOP_LENGTH": frontend.hop_length,
        "N_FFT": frontend.n_fft,
        "N_MELS": frontend.n_mels,
        "LEVEL_FRAMES": config.level_frames if config.normalisation == "running" else 0,
        "FRAMES_A_TOKEN": frames,
        "N_LAYERS": len(layers),
        "TOKEN": network.token,
        "POOLED": len(network.arrays["lin_bias"]),
        "TILE": network.tile,
        "AROUND": network.around,
        "KERNEL_BANDS": max(layer.kernel_bands for layer in layers),
        "KEPT": max(layer.kept for layer in layers),
        "PATCH": max(network.token, *(layer.patch for layer in layers)),
        "VALUES": "(" + " + ".join(values) + ")",
    }
    return [f"#define W2S_{name} {number}" for name, number in numbers.items()]


def float_tables(config: Student | Micro) -> list[str]:
    frontend = config.frontend
    bands, mel = mel_by_bin(mel_filterbank(frontend) / 4, frontend.n_mels)  # the FFT gives twice the spectrum
    return [
        f"#define W2S_VARIANCE_FLOOR {hexadecimal(frontend.variance_floor)}",
        f"#define W2S_LOWEST {hexadecimal(10 * math.log10(frontend.amin))}",
        *array("float", "hann", hann(frontend)[: frontend.win_length // 2 + 1]),
        *array("float", "cosine", np.cos(2 * np.pi * np.arange(frontend.n_fft // 2 + 1) / frontend.n_fft)),
        *array("uint8_t", "mel_band", bands),
        *array("float", "mel_weight", mel),
    ]


def integer_tables(config: Student | Micro) -> list[str]:
    table = integer_frontend.tables(config)
    bands, mel = mel_by_bin(table.mel, config.frontend.n_mels)
    numbers = {
        "WINDOW_SHIFT": table.window_shift,
        "POWER_SHIFT": table.power_shift,
        "MEAN_BITS": integer_frontend.MEAN_BITS,
        "VARIANCE_BITS": integer_frontend.VARIANCE_BITS,
        "LEVEL_SHIFT": integer_frontend.LEVEL_SHIFT,
        "LEVEL_FLOOR": table.level_floor,
        "LOG2_UNIT": table.log2_unit,
        "DECIBEL": table.decibel,
        "LOWEST": integer_frontend.lowest(config),
        "INPUT_SHIFT": integer.INPUT_SHIFT,
    }
    return [
        *(f"#define W2S_{name} {number}" for name, number in numbers.items()),
        *array("int16_t", "hann", table.hann),
        *array("int32_t", "cosine", table.cosine),
        *array("uint8_t", "mel_band", bands),
        *array("int16_t", "mel_weight", mel),
        *array("int32_t", "log2", table.log2),
        *array("uint16_t", "powers", integer.POWERS),
    ]


def mel_by_bin(filters: np.ndarray, n_mels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each bin the lower of the two bands that hear it, and both weights; the last bin is heard by none.

    Args:
        filters: shape=(n_bins, n_mels)

    Returns:
        shape=(n_bins - 1,) and (n_bins - 1, 2)
    """
    heard = filters[:-1] != 0
    bands = np.minimum(np.where(heard.any(1), heard.argmax(1), 0), n_mels - 2)
    weights = np.take_along_axis(filters[:-1], bands[:, None] + np.arange(2), axis=1)
    assert not filters[-1].any() and not filters[0].any()
    assert np.array_equal(weights.sum(1), filters[:-1].sum(1)), "a bin is heard by more than two bands"
    return bands, weights


def weights(network: Network, config: Student | Micro) -> list[str]:
    """Arrays of the layers, the table of layers, and the matrices around the pooling."""
    kind = ("int8_t", "int32_t") if config.integers else ("float", "float")
    text = [*array(kind[1], "input_scale", network.arrays["input_scale"])]
    text += array(kind[1], "input_shift", network.arrays["input_shift"])
    for layer in network.layers:
        is_tiled = not config.integers and layer.kind == "W2S_CONVOLUTION"
        types = {"weight": kind[0], "bias": kind[1], "shift": "int8_t"}
        for part, values in layer.arrays.items():
            rows = values.reshape(layer.outputs, -1)
            text += array(types[part], f"{layer.name}_{part}", tiled(rows, network.tile) if is_tiled else rows)
    text += table(network)
    matrices = network.arrays
    for name in ("lin", "sof"):
        matrix = matrices[f"{name}_weight"]
        text += array(kind[0], f"{name}_weight", matrix if config.integers else tiled(matrix, network.tile))
    bias = matrices["lin_bias"]
    text += array(kind[1], "lin_bias", bias if config.integers else tiled(bias[:, None], network.tile))
    text += array(kind[0], "out_weight", matrices["out_weight"]) + array(kind[1], "out_bias", matrices["out_bias"])
    if config.integers:
        text.append(f"#define W2S_EMBEDDING_UNIT {hexadecimal(float(matrices['embedding_unit']))}")
        for name in ("lin", "sof", "out"):
            text += array("int8_t", f"{name}_shift", matrices[f"{name}_shift"])
    return text


def table(network: Network) -> list[str]:
    """The rows that ``w2s_layer`` in w2s.c names; the last one is the input of the pooling."""
    rows, frames = [], 1
    for layer in network.layers:
        numbers = [int(layer.residual), layer.inputs, layer.outputs, layer.bands, layer.band_pad]
        numbers += [layer.kernel_bands, layer.stride_bands, layer.kernel, layer.stride, layer.dilation]
        numbers += [layer.before, layer.after, frames, layer.kept]
        arrays = [f"w2s_{layer.name}_{part}" if part in layer.arrays else "0" for part in ("weight", "bias", "shift")]
        rows.append(f"    {{{', '.join([layer.kind, *map(str, numbers), *arrays])}}},")
        frames *= layer.stride
    channels = network.layers[-1].outputs
    end = [0, channels, 0, network.token // channels, 0, 1, 1, 1, 1, 1, 0, 0, frames, 0, 0, 0, 0]
    rows.append(f"    {{W2S_CONVOLUTION, {', '.join(map(str, end))}}},")
    return [f"static const w2s_layer w2s_layers[{len(rows)}] = {{", *rows, "};"]


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
