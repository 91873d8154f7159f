"""Students in integers only, as a C runtime computes them bit by bit: the arbiter for that. docs/integers.md says it.

A value v with b bits behind the point is the integer v x 2^b. A layer is products and a sum in 32 bits and a shift
to the right that rounds halves up; results that do not fit are cut to the largest that does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS, Micro, Student
from wav2small.network.layers import conv3x3, max_pool3x3, scale_and_shift
from wav2small.network.micro import shapes
from wav2small.network.weights import check_arrays

LOG_MEL_BITS = 6
"""Of the log-mel in dB, which fits into 16 bits."""
INPUT_BITS = 4
"""Of the first convolution's input."""
INPUT_SHIFT = 15
"""Of the scale that brings log-mel there."""
SCORE_BITS = 8
"""Of the logarithm to the base 2 of a token's weight in the pooling."""
EMBEDDING_BITS = 8
"""Of the embedding, beyond those of the values it is the mean of."""
EMOTION_BITS = 15
"""Of the answer."""
LARGEST_BIAS = 2**30
"""So that a sum with it fits into 32 bits: the products of a layer are below 2^29."""
POWERS = np.floor(2 ** (np.arange(2**SCORE_BITS) / 2**SCORE_BITS + 15) + 0.5).astype(np.int64)
"""2^(i / 256), 15 bits behind the point: a table of 256 numbers of 16 bits."""

Integers = Mapping[str, np.ndarray]
"""As :func:`to_integers` makes them: ``weight`` and ``shift`` int8, ``bias`` int32."""


class Pooling(NamedTuple):
    """What the pooling remembers from token to token: sums over 2^exponent, shape=(pooled,) each."""

    exponent: np.ndarray
    weights: np.ndarray
    values: np.ndarray


def to_log_mel(decibel: np.ndarray) -> np.ndarray:
    """Log-mel in dB to integers."""
    return np.asarray(np.floor(np.asarray(decibel, np.float64) * 2**LOG_MEL_BITS + 0.5), np.int64)


def watched(config: Micro) -> tuple[str, ...]:
    """Values whose power of two follows what training sees; that of ``hidden`` is the whole residual stream's."""
    return ("hidden", "value", *(f"inner{index}" for index in range(1, len(config.dilations) + 1)))


def weight_shapes(config: Student | Micro) -> dict[str, tuple[int, ...]]:
    """Layers and the shapes of their weights."""
    if isinstance(config, Micro):
        found = {name.removesuffix(".weight"): shape for name, shape in shapes(config).items() if "weight" in name}
        return {name: shape for name, shape in found.items() if "norm" not in name}
    token, channels = config.token_size, config.channels
    convolutions = range(1, config.early + config.late + 1)
    square = {f"conv{index}": (channels, 1 if index == 1 else channels, 3, 3) for index in convolutions}
    return {**square, "lin": (token, token), "sof": (token, token), "out": (len(OUTPUTS), token)}


def check_integers(arrays: Integers, config: Student | Micro, source: str) -> None:
    """Refuse arrays that are not those of this network: a name, a shape or a dtype.

    Raises:
        WeightsError: naming the array
    """
    expected: dict[str, tuple[tuple[int, ...], type]] = {}
    for layer, shape in weight_shapes(config).items():
        expected[f"{layer}.weight"] = (shape, np.int8)
        expected |= {f"{layer}.shift": (shape[:1], np.int8), f"{layer}.bias": (shape[:1], np.int32)}
    del expected["sof.bias"]
    expected |= {f"input.{part}": ((config.frontend.n_mels,), np.int32) for part in ("scale", "shift")}
    bits = watched(config) if isinstance(config, Micro) else ("value",)
    expected |= {f"{name}.bits": ((), np.int8) for name in bits}
    if isinstance(config, Student):
        expected["input.around"] = ((), np.int8)
    for name in sorted(expected.keys() | arrays.keys()):
        wanted = expected.get(name)
        found = (arrays[name].shape, arrays[name].dtype.type) if name in arrays else None
        if found != wanted:
            say = ["nothing" if one is None else f"{one[1].__name__} {one[0]}" for one in (found, wanted)]
            raise WeightsError(f"{source}: not the weights of this network; {name} is {say[0]}, needed: {say[1]}.")


def folded(arrays: Mapping[str, np.ndarray], config: Micro, source: str) -> dict[str, np.ndarray]:
    """Trained weights of ``micro`` as those that ``micro-int8`` begins with: each batch norm in the layer before it.

    Raises:
        WeightsError: if they are not those of ``micro``
    """
    check_arrays(arrays, shapes(config), source)
    pairs = {"conv": "norm"}
    for index in range(1, len(config.dilations) + 1):
        pairs |= {f"depth{index}": f"depthnorm{index}", f"point{index}": f"pointnorm{index}"}
    scale, shift = scale_and_shift(arrays, "norm0", config.batch_norm_eps)
    found = {"input_scale": scale, "input_shift": shift}
    for name, norm in pairs.items():
        scale, found[f"{name}.bias"] = scale_and_shift(arrays, norm, config.batch_norm_eps)
        found[f"{name}.weight"] = arrays[f"{name}.weight"] * scale[:, None, None]
    found |= {name: arrays[name] for name in ("lin.weight", "lin.bias", "out.weight", "out.bias")}
    return found | {"sof.weight": arrays["sof.weight"] * np.float32(1 / math.log(2))}  # the softmax is to the base 2


def to_integers(trained: Mapping[str, np.ndarray], config: Micro) -> dict[str, np.ndarray]:
    """The integers that run, from the arrays that the student ``micro-int8`` has after training."""
    bits = {name.removeprefix("top_"): int(power_for(top)) for name, top in trained.items() if name.startswith("top_")}
    scale, shift = input_integers(trained["input_scale"], trained["input_shift"])
    found = {"input.scale": scale.astype(np.int32), "input.shift": shift.astype(np.int32)}
    found |= {f"{name}.bits": np.array(places, np.int8) for name, places in bits.items()}
    layers = [("conv", INPUT_BITS, bits["hidden"])]
    for index in range(1, len(config.dilations) + 1):
        layers.append((f"depth{index}", bits["hidden"], bits[f"inner{index}"]))
        layers.append((f"point{index}", bits[f"inner{index}"], bits["hidden"]))
    for name, before, after in layers:
        found |= layer_integers(name, trained[f"{name}.weight"], trained[f"{name}.bias"], before, after)
    return found | head_integers(trained, bits["hidden"], bits["value"])


def square_integers(
    arrays: Mapping[str, np.ndarray], tops: Sequence[float], top_value: float, config: Student
) -> dict[str, np.ndarray]:
    """The integers of ``wav2small`` from its trained weights, by rounding them.

    A step of the input is half a dB, from ``amin`` on; what is around the log-mel, 0 dB, is ``input.around``.

    Args:
        arrays: of the float student
        tops: the largest value that each convolution gives
        top_value: the largest value that the pooling averages
        config: of the integer student
    """
    decibel, mels = 2.0**-3, config.frontend.n_mels
    start = -(2 ** (7 - INPUT_BITS)) - 10 * math.log10(config.frontend.amin) * decibel
    scale, shift = (np.full(mels, value, np.int32) for value in input_integers(np.array(decibel), np.array(start)))
    around = narrow(shift[:1].astype(np.int64), INPUT_SHIFT)[0]
    found: dict[str, np.ndarray] = {"input.scale": scale, "input.shift": shift}
    found |= {"input.around": np.array(around, np.int8)}
    bits = [INPUT_BITS, *map(int, power_for(np.array(tops)))]
    for index, (before, after) in enumerate(pairwise(bits), 1):
        factor, bias = scale_and_shift(arrays, f"norm{index}", config.batch_norm_eps)
        weight = arrays[f"conv{index}.weight"] * factor[:, None, None, None]
        if index == 1:
            weight, bias = weight / decibel, bias - weight.sum((1, 2, 3)) * start / decibel
        found |= layer_integers(f"conv{index}", weight, bias, before, after)
    value = int(power_for(top_value))
    heads = {**arrays, "sof.weight": arrays["sof.weight"] * np.float32(1 / math.log(2))}  # the softmax is to the base 2
    found |= {"value.bits": np.array(value, np.int8)}
    return found | head_integers(heads, bits[-1], value)


def head_integers(trained: Mapping[str, np.ndarray], hidden: int, value: int) -> dict[str, np.ndarray]:
    """The matrices around the pooling, from the bits of tokens and of what is averaged."""
    found = layer_integers("lin", trained["lin.weight"], trained["lin.bias"], hidden, value)
    found |= layer_integers("sof", trained["sof.weight"], None, hidden, SCORE_BITS)
    return found | layer_integers(
        "out", trained["out.weight"], trained["out.bias"], value + EMBEDDING_BITS, EMOTION_BITS
    )


def layer_integers(
    name: str, weight: np.ndarray, bias: np.ndarray | None, before: int, after: int
) -> dict[str, np.ndarray]:
    """Weight, bias if there is one, and shift of a layer, from the bits behind the point before it to those after."""
    rows = row_powers(weight.astype(np.float64))
    steps = np.floor(weight.astype(np.float64) * 2.0 ** rows.reshape(-1, *[1] * (weight.ndim - 1)) + 0.5)
    found = {f"{name}.weight": np.clip(steps, -127, 127).astype(np.int8)}
    found[f"{name}.shift"] = (rows + before - after).astype(np.int8)
    if bias is not None:
        steps = np.floor(bias * 2.0 ** (rows + before) + 0.5)
        found[f"{name}.bias"] = np.clip(steps, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    return found


def to_floats(integers: Integers, config: Micro) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The same weights as arrays of ``micro``, and the factor of each row of a weight: what an eight-bit ONNX file has.

    Values between the layers are not rounded there; batch norms do nothing but add the biases.
    """
    found: dict[str, np.ndarray] = {}
    factors: dict[str, np.ndarray] = {}

    def norm(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        found.update({f"{name}.weight": weight, f"{name}.bias": bias, f"{name}.running_mean": np.zeros(len(bias))})
        found[f"{name}.running_var"] = np.full(len(bias), 1 - config.batch_norm_eps)

    def add(name: str, source: int, target: int, factor: float = 1.0) -> np.ndarray:
        rows = wide(integers[f"{name}.shift"]) - source + target
        weight = integers[f"{name}.weight"]
        factors[f"{name}.weight"] = factor * 2.0 ** -rows.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{name}.weight"] = weight * factors[f"{name}.weight"]
        return np.asarray(integers.get(f"{name}.bias", 0) * 2.0 ** -(rows + source))

    bits = {name.removesuffix(".bits"): int(places) for name, places in integers.items() if name.endswith(".bits")}
    unit = 2.0 ** -(INPUT_SHIFT + INPUT_BITS)
    norm("norm0", integers["input.scale"] * unit * 2**LOG_MEL_BITS, integers["input.shift"] * unit)
    bias = add("conv", INPUT_BITS, bits["hidden"])
    norm("norm", np.ones(len(bias)), bias)
    for index in range(1, len(config.dilations) + 1):
        layers = {"depth": (bits["hidden"], bits[f"inner{index}"]), "point": (bits[f"inner{index}"], bits["hidden"])}
        for layer, (source, target) in layers.items():
            bias = add(f"{layer}{index}", source, target)
            norm(f"{layer}norm{index}", np.ones(len(bias)), bias)
    found["lin.bias"] = add("lin", bits["hidden"], bits["value"])
    add("sof", bits["hidden"], SCORE_BITS, math.log(2))
    found["out.bias"] = add("out", bits["value"] + EMBEDDING_BITS, EMOTION_BITS)
    return {n: a.astype(np.float32) for n, a in found.items()}, {n: a.astype(np.float32) for n, a in factors.items()}


def power_for(top: np.ndarray | float) -> np.ndarray:
    """The most bits behind the point with which ``top`` still fits into eight with a sign; 4 for nothing but zero."""
    values = np.asarray(top, np.float64)
    return np.clip(np.floor(np.log2(127 / np.where(values > 0, values, 127 / 16))), -16, 24).astype(np.int64)


def row_powers(weight: np.ndarray) -> np.ndarray:
    """That of each row of a weight, shape=(rows,)."""
    return power_for(np.abs(weight).reshape(len(weight), -1).max(1))


def input_integers(scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of the log-mel as whole numbers: (log-mel x scale + shift) >> INPUT_SHIFT."""
    factor = 2.0 ** (INPUT_SHIFT + INPUT_BITS)
    return np.floor(scale * (factor / 2**LOG_MEL_BITS) + 0.5), np.floor(shift * factor + 0.5)


def forward(log_mel: np.ndarray, arrays: Integers, config: Student | Micro) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion.

    Args:
        log_mel: integers with ``LOG_MEL_BITS``, shape=(frames, n_mels)
        arrays: as :func:`to_integers` makes them
        config: of the student that they are

    Returns:
        embedding, integers with ``EMBEDDING_BITS`` more than the values, and emotion with ``EMOTION_BITS``
    """
    return answer(pool(tokens(log_mel, arrays, config), arrays), arrays)


def features_to_emotion(
    decibel: np.ndarray, arrays: Integers, config: Student | Micro
) -> tuple[np.ndarray, np.ndarray]:
    """The same from log-mel in dB, as numbers: embedding and emotion in float32."""
    return to_numbers(forward(to_log_mel(decibel), arrays, config), arrays)


def to_numbers(answer: tuple[np.ndarray, np.ndarray], arrays: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion of :func:`forward` in float32, exactly."""
    embedding, emotion = answer
    scale = 2.0 ** -(int(arrays["value.bits"]) + EMBEDDING_BITS)
    return (embedding * scale).astype(np.float32), (emotion * 2.0**-EMOTION_BITS).astype(np.float32)


def tokens(log_mel: np.ndarray, arrays: Integers, config: Student | Micro) -> np.ndarray:
    """The convolutions, eight bits each: (frames, n_mels) to (tokens, size)."""
    hidden = narrow(log_mel * wide(arrays["input.scale"]) + wide(arrays["input.shift"]), INPUT_SHIFT)
    return micro_tokens(hidden, arrays, config) if isinstance(config, Micro) else square_tokens(hidden, arrays, config)


def square_tokens(hidden: np.ndarray, arrays: Integers, config: Student) -> np.ndarray:
    """Those of ``wav2small``: (frames, n_mels) to (ceil(frames / 2), channels x mels).

    Products are summed as float64, which has them exactly, since NumPy multiplies integers slowly.
    """
    around = int(arrays["input.around"])
    hidden = hidden[:, :, None]
    for index in range(1, config.early + config.late + 1):
        weight = arrays[f"conv{index}.weight"].astype(np.float64)
        sums = conv3x3(hidden.astype(np.float64), weight, around if index == 1 else 0).astype(np.int64)
        hidden = narrow(np.maximum(sums + wide(arrays[f"conv{index}.bias"]), 0), arrays[f"conv{index}.shift"])
        if index == config.early:
            hidden = max_pool3x3(hidden.astype(np.float64)).astype(np.int64)
    return hidden.transpose(0, 2, 1).reshape(len(hidden), -1)


def micro_tokens(hidden: np.ndarray, arrays: Integers, config: Micro) -> np.ndarray:
    """Those of ``micro``: (frames, n_mels) to (ceil(frames / stride), channels)."""
    kernel, last = config.kernel, config.kernel - 1
    padded = np.pad(hidden, ((last, 0), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=0)[:: config.stride]
    sums = np.tensordot(patches, wide(arrays["conv.weight"]), axes=((1, 2), (1, 2))) + wide(arrays["conv.bias"])
    hidden = narrow(np.maximum(sums, 0), arrays["conv.shift"])
    for index, dilation in enumerate(config.dilations, 1):
        padded = np.pad(hidden, ((last * dilation, 0), (0, 0)))
        weight = wide(arrays[f"depth{index}.weight"])[:, 0]
        sums = wide(arrays[f"depth{index}.bias"]) + np.sum(
            [padded[tap * dilation :][: len(hidden)] * weight[:, tap] for tap in range(kernel)], axis=0
        )
        inner = narrow(np.maximum(sums, 0), arrays[f"depth{index}.shift"])
        sums = inner @ wide(arrays[f"point{index}.weight"])[:, :, 0].T + wide(arrays[f"point{index}.bias"])
        hidden = np.minimum(hidden + narrow(np.maximum(sums, 0), arrays[f"point{index}.shift"]), 127)
    return hidden


def pool(tokens: np.ndarray, arrays: Integers) -> Pooling:
    """What the pooling remembers of these tokens, one after the other, as a stream has them."""
    state = Pooling(*(np.full(len(arrays["lin.weight"]), start, np.int64) for start in (-(2**15), 0, 0)))
    for token in tokens:
        state = pool_token(state, token, arrays)
    return state


def pool_token(state: Pooling, token: np.ndarray, arrays: Integers) -> Pooling:
    """One token more: its weight is 2^score, kept relative to the largest whole exponent so far."""
    value = narrow(dot(token, "lin", arrays), arrays["lin.shift"])
    score = narrow(token @ wide(arrays["sof.weight"]).T, arrays["sof.shift"], 16)
    whole, rest = score >> SCORE_BITS, score & (2**SCORE_BITS - 1)
    exponent = np.maximum(state.exponent, whole)
    older = np.minimum(exponent - state.exponent, 62)
    weight = POWERS[rest] >> np.minimum(exponent - whole, 62)
    return Pooling(exponent, (state.weights >> older) + weight, (state.values >> older) + weight * value)


def merge(older: Pooling, newer: Pooling) -> Pooling:
    """Two parts of a window as one: what is over the smaller power of two loses the places below the larger."""
    exponent = np.maximum(older.exponent, newer.exponent)
    places = [np.minimum(exponent - part.exponent, 62) for part in (older, newer)]
    weights = (older.weights >> places[0]) + (newer.weights >> places[1])
    return Pooling(exponent, weights, (older.values >> places[0]) + (newer.values >> places[1]))


def answer(state: Pooling, arrays: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion of what was pooled."""
    mean = embedding(state)
    return mean, narrow(dot(mean, "out", arrays), arrays["out.shift"], 32)


def embedding(state: Pooling) -> np.ndarray:
    """The weighted mean, cut towards zero as C divides."""
    values = state.values << EMBEDDING_BITS
    return np.asarray(np.sign(values) * (np.abs(values) // state.weights))


def dot(values: np.ndarray, name: str, arrays: Integers) -> np.ndarray:
    """A linear layer, not yet shifted."""
    return np.asarray(values @ wide(arrays[f"{name}.weight"]).T + wide(arrays[f"{name}.bias"]))


def narrow(sums: np.ndarray, shift: np.ndarray | int, size: int = 8) -> np.ndarray:
    """Shift to the right, halves up, and cut to ``size`` bits with a sign; a shift below zero is one to the left."""
    places = np.asarray(shift, np.int64)
    right, left = np.maximum(places, 0), np.maximum(-places, 0)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return np.asarray(np.clip(((sums + half) >> right) << left, -(2 ** (size - 1)), 2 ** (size - 1) - 1))


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64)
