"""Networks in integers only, as a C runtime computes them bit by bit: the arbiter for that. See docs/integers.md.

A value v with b fractional bits is the integer v x 2^b. A layer is products and a sum in 32 bits and a shift to the
right that rounds halves up; results that do not fit are cut to the largest that does. The values of a stream, which a
residual connection adds up, share their fractional bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS, Network
from wav2small.network.layers import as_columns, as_tokens, convolve, folded, max_pool, scale_and_shift
from wav2small.network.weights import check_arrays

LOG_MEL_BITS = 6
"""Of the log-mel in dB, which fits into 16 bits."""
INPUT_BITS = 4
"""Of the first convolution's input."""
INPUT_SHIFT = 15
"""Of the scale that brings log-mel there."""
DECIBEL_STEP = 2.0**-3
"""What a dB of log-mel becomes where the mels are an image."""
SCORE_BITS = 8
"""Of the logarithm to the base 2 of a token's weight in the pooling."""
EMBEDDING_BITS = 8
"""Of the embedding, beyond those of the values it is the mean of."""
EMOTION_BITS = 15
"""Of the answer."""
LARGEST_BIAS = 2**30
"""So that a sum with it fits into 32 bits: the products of a layer are below 2^29."""
POWERS = np.floor(2 ** (np.arange(2**SCORE_BITS) / 2**SCORE_BITS + 15) + 0.5).astype(np.int64)
"""2^(i / 256), 15 fractional bits: a table of 256 numbers of 16 bits."""

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


def watched(network: Network) -> tuple[str, ...]:
    """Streams whose fractional bits follow what training sees, and ``value``, what the pooling averages."""
    return (*network.streams(), "value")


def weight_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Layers and the shapes of their weights."""
    found = {place.layer.name: network.weight_shape(place) for place in network.convolutions()}
    found |= {"lin": network.pooling_shape, "sof": network.pooling_shape}
    return found | {"out": (len(OUTPUTS), network.pooled)}


def check_integers(arrays: Integers, network: Network, source: str) -> None:
    """Refuse arrays that are not those of this network: a name, a shape or a dtype.

    Raises:
        WeightsError: naming the array
    """
    expected: dict[str, tuple[tuple[int, ...], type]] = {}
    for layer, shape in weight_shapes(network).items():
        expected[f"{layer}.weight"] = (shape, np.int8)
        expected |= {f"{layer}.shift": (shape[:1], np.int8), f"{layer}.bias": (shape[:1], np.int32)}
    del expected["sof.bias"]
    expected |= {f"input.{part}": ((network.frontend.n_mels,), np.int32) for part in ("scale", "shift")}
    expected |= {f"{name}.bits": ((), np.int8) for name in (watched(network) if network.trained_int8 else ("value",))}
    if not network.mels_are_channels:
        expected["input.around"] = ((), np.int8)
    for name in sorted(expected.keys() | arrays.keys()):
        wanted = expected.get(name)
        found = (arrays[name].shape, arrays[name].dtype.type) if name in arrays else None
        if found != wanted:
            say = ["nothing" if one is None else f"{one[1].__name__} {one[0]}" for one in (found, wanted)]
            raise WeightsError(f"{source}: not the weights of this network; {name} is {say[0]}, needed: {say[1]}.")


def trainable(arrays: Mapping[str, np.ndarray], network: Network, source: str) -> dict[str, np.ndarray]:
    """Trained float weights as those that training in integers begins with: each batch norm in the layer before it.

    Args:
        arrays: of the float network
        network: whose mels are channels
        source: for errors

    Raises:
        WeightsError: if they are not those of the network
    """
    check_arrays(arrays, network.shapes(), source)
    scale, shift = scale_and_shift(arrays, "norm0", network.batch_norm_eps)
    found = {"input_scale": scale, "input_shift": shift}
    for place in network.convolutions():
        kernel, found[f"{place.layer.name}.bias"] = folded(arrays, place.layer, network.batch_norm_eps)
        found[f"{place.layer.name}.weight"] = kernel
    return found | pooling_arrays(arrays)


def pooling_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The matrices around the pooling, whose softmax is to the base 2."""
    found = {name: arrays[name] for name in ("lin.weight", "lin.bias", "out.weight", "out.bias")}
    return found | {"sof.weight": arrays["sof.weight"] * np.float32(1 / math.log(2))}


def to_integers(trained: Mapping[str, np.ndarray], network: Network) -> dict[str, np.ndarray]:
    """The integers that run, from the arrays that a student in integers has after training."""
    bits = {name.removeprefix("top_"): int(power_for(top)) for name, top in trained.items() if name.startswith("top_")}
    scale, shift = input_integers(trained["input_scale"], trained["input_shift"])
    found = {"input.scale": scale.astype(np.int32), "input.shift": shift.astype(np.int32)}
    layers = {
        place.layer.name: (trained[f"{place.layer.name}.weight"], trained[f"{place.layer.name}.bias"])
        for place in network.convolutions()
    }
    return found | network_integers(layers, trained, bits, network)


def network_integers(
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]],
    pooling: Mapping[str, np.ndarray],
    bits: Mapping[str, int],
    network: Network,
) -> dict[str, np.ndarray]:
    """The integers of all layers.

    Args:
        layers: weight and bias of each, batch norms folded in
        pooling: as :func:`pooling_arrays` gives them
        bits: fractional bits of each stream, and of ``value``
        network: which layers there are
    """
    found = {f"{name}.bits": np.array(bits[name], np.int8) for name in watched(network) if network.trained_int8}
    found["value.bits"] = np.array(bits["value"], np.int8)
    before = INPUT_BITS
    for place in network.places():
        after = bits[place.stream]
        if not place.layer.pool:
            found |= layer_integers(place.layer.name, *layers[place.layer.name], before, after)
        before = after
    return found | head_integers(pooling, before, bits["value"])


def rounded(arrays: Mapping[str, np.ndarray], tops: Mapping[str, float], network: Network) -> dict[str, np.ndarray]:
    """The integers of a network from its trained float weights, by rounding them.

    Where the mels are an image, a step of the input is half a dB, from ``amin`` on, and what is around the log-mel,
    0 dB, is ``input.around``.

    Args:
        arrays: of the float network
        tops: the largest value of each stream, and of ``value``
        network: the integer network
    """
    eps = network.batch_norm_eps
    layers = {place.layer.name: folded(arrays, place.layer, eps) for place in network.convolutions()}
    bits = {name: int(power_for(top)) for name, top in tops.items()}
    if network.mels_are_channels:
        scale, shift = input_integers(*scale_and_shift(arrays, "norm0", eps))
        found = {"input.scale": scale.astype(np.int32), "input.shift": shift.astype(np.int32)}
    else:
        found, start = image_input(network)
        first = network.layers[0].name
        weight, bias = layers[first][0] / DECIBEL_STEP, layers[first][1]
        layers[first] = (weight, bias - layers[first][0].sum((1, 2, 3)) * start / DECIBEL_STEP)
    return found | network_integers(layers, pooling_arrays(arrays), bits, network)


def image_input(network: Network) -> tuple[dict[str, np.ndarray], float]:
    """The arrays that bring dB to the first layer of an image, and the value that 0 dB gets."""
    start = -(2 ** (7 - INPUT_BITS)) - 10 * math.log10(network.frontend.amin) * DECIBEL_STEP
    pair = input_integers(np.array(DECIBEL_STEP), np.array(start))
    scale, shift = (np.full(network.frontend.n_mels, value, np.int32) for value in pair)
    around = narrow(shift[:1].astype(np.int64), INPUT_SHIFT)[0]
    return {"input.scale": scale, "input.shift": shift, "input.around": np.array(around, np.int8)}, start


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
    """Weight, bias if there is one, and shift of a layer, from the fractional bits before it to those after."""
    rows = row_powers(weight.astype(np.float64))
    steps = np.floor(weight.astype(np.float64) * 2.0 ** rows.reshape(-1, *[1] * (weight.ndim - 1)) + 0.5)
    found = {f"{name}.weight": np.clip(steps, -127, 127).astype(np.int8)}
    found[f"{name}.shift"] = (rows + before - after).astype(np.int8)
    if bias is not None:
        steps = np.floor(bias * 2.0 ** (rows + before) + 0.5)
        found[f"{name}.bias"] = np.clip(steps, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    return found


def to_floats(integers: Integers, network: Network) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The same weights as arrays of the float network, and the factor of each row of a weight, as 8-bit ONNX has them.

    Values between the layers are not rounded there; batch norms do nothing but add the biases.

    Args:
        integers: of a network with ``trained_int8``, which keeps the bits of its streams
        network: in integers
    """
    found: dict[str, np.ndarray] = {}
    factors: dict[str, np.ndarray] = {}

    def norm(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        found.update({f"{name}.weight": weight, f"{name}.bias": bias, f"{name}.running_mean": np.zeros(len(bias))})
        found[f"{name}.running_var"] = np.full(len(bias), 1 - network.batch_norm_eps)

    def add(name: str, source: int, target: int, factor: float = 1.0) -> np.ndarray:
        rows = wide(integers[f"{name}.shift"]) - source + target
        weight = integers[f"{name}.weight"]
        factors[f"{name}.weight"] = factor * 2.0 ** -rows.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{name}.weight"] = weight * factors[f"{name}.weight"]
        return np.asarray(integers.get(f"{name}.bias", 0) * 2.0 ** -(rows + source))

    bits = {name: int(integers[f"{name}.bits"]) for name in watched(network)}
    unit = 2.0 ** -(INPUT_SHIFT + INPUT_BITS)
    norm("norm0", integers["input.scale"] * unit * 2**LOG_MEL_BITS, integers["input.shift"] * unit)
    before = INPUT_BITS
    for place in network.places():
        after = bits[place.stream]
        bias = add(place.layer.name, before, after)
        norm(place.layer.norm, np.ones(len(bias)), bias)
        before = after
    found["lin.bias"] = add("lin", before, bits["value"])
    add("sof", before, SCORE_BITS, math.log(2))
    found["out.bias"] = add("out", bits["value"] + EMBEDDING_BITS, EMOTION_BITS)
    return {n: a.astype(np.float32) for n, a in found.items()}, {n: a.astype(np.float32) for n, a in factors.items()}


def power_for(top: np.ndarray | float) -> np.ndarray:
    """The most fractional bits with which ``top`` still fits into eight with a sign; 4 for nothing but zero."""
    values = np.asarray(top, np.float64)
    return np.clip(np.floor(np.log2(127 / np.where(values > 0, values, 127 / 16))), -16, 24).astype(np.int64)


def row_powers(weight: np.ndarray) -> np.ndarray:
    """That of each row of a weight, shape=(rows,)."""
    return power_for(np.abs(weight).reshape(len(weight), -1).max(1))


def input_integers(scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of the log-mel as whole numbers: (log-mel x scale + shift) >> INPUT_SHIFT."""
    factor = 2.0 ** (INPUT_SHIFT + INPUT_BITS)
    return np.floor(scale * (factor / 2**LOG_MEL_BITS) + 0.5), np.floor(shift * factor + 0.5)


def forward(log_mel: np.ndarray, arrays: Integers, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion.

    Args:
        log_mel: integers with ``LOG_MEL_BITS``, shape=(frames, n_mels)
        arrays: as :func:`to_integers` makes them
        network: whose weights they are

    Returns:
        embedding, integers with ``EMBEDDING_BITS`` more than the values, and emotion with ``EMOTION_BITS``
    """
    return answer(pool(tokens(log_mel, arrays, network), arrays), arrays)


def features_to_emotion(decibel: np.ndarray, arrays: Integers, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """The same from log-mel in dB, as numbers: embedding and emotion in float32."""
    return to_numbers(forward(to_log_mel(decibel), arrays, network), arrays)


def to_numbers(answer: tuple[np.ndarray, np.ndarray], arrays: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion of :func:`forward` in float32, exactly."""
    embedding, emotion = answer
    scale = 2.0 ** -(int(arrays["value.bits"]) + EMBEDDING_BITS)
    return (embedding * scale).astype(np.float32), (emotion * 2.0**-EMOTION_BITS).astype(np.float32)


def tokens(log_mel: np.ndarray, arrays: Integers, network: Network) -> np.ndarray:
    """The layers, eight bits each: (frames, n_mels) to (tokens, token_size).

    Products are summed as float64, which has them exactly, since NumPy multiplies integers slowly.
    """
    hidden = narrow(log_mel * wide(arrays["input.scale"]) + wide(arrays["input.shift"]), INPUT_SHIFT)
    hidden = before = as_columns(hidden, network)
    around = int(arrays.get("input.around", 0))
    for layer in network.layers:
        if layer.pool:
            output = max_pool(hidden.astype(np.float64), layer).astype(np.int64)
        else:
            weight = arrays[f"{layer.name}.weight"].astype(np.float64)
            sums = convolve(hidden.astype(np.float64), weight, layer, around).astype(np.int64)
            output = narrow(np.maximum(sums + wide(arrays[f"{layer.name}.bias"]), 0), arrays[f"{layer.name}.shift"])
        before, hidden = hidden, np.minimum(before + output, 127) if layer.adds else output
        around = 0
    return as_tokens(hidden)


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
    """A copy in int64, in which products and sums of the integers do not overflow."""
    return array.astype(np.int64)
