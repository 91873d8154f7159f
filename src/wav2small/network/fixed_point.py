"""Networks in integer arithmetic: the bit-exact reference of the C runtime. See docs/integers.md.

A value v with b fractional bits is the integer v x 2^b. A layer computes products and their sum in 32 bits, then shifts
right and rounds halves up; results outside the range saturate. All activations of a stream, which a residual connection
adds, have the same number of fractional bits.
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
"""Fractional bits of the log-mel in dB, which fits into 16 bits."""
INPUT_BITS = 4
"""Fractional bits of the first convolution's input."""
INPUT_SHIFT = 15
"""Right shift after the scale that converts log-mel to that input."""
DECIBEL_STEP = 2.0**-3
"""Input of the first convolution for one dB of log-mel, where the mels are an image."""
SCORE_BITS = 8
"""Fractional bits of a token's score: log2 of its weight in the pooling."""
EMBEDDING_BITS = 8
"""Fractional bits of the embedding, in addition to those of the values that it averages."""
EMOTION_BITS = 15
"""Fractional bits of the emotion."""
LARGEST_BIAS = 2**30
"""Largest magnitude of a bias. The products of a layer sum to less than 2^29, so the total fits into 32 bits."""
POWERS = np.floor(2 ** (np.arange(2**SCORE_BITS) / 2**SCORE_BITS + 15) + 0.5).astype(np.int64)
"""2^(i / 256) with 15 fractional bits: a table of 256 16-bit numbers."""

Integers = Mapping[str, np.ndarray]
"""Integer weights as :func:`to_integers` returns them: ``weight`` and ``shift`` int8, ``bias`` int32."""


class Pooling(NamedTuple):
    """State of the pooling: sums of weights and of weighted values, in units of 2^exponent; each shape=(pooled,)."""

    exponent: np.ndarray
    weights: np.ndarray
    values: np.ndarray


def to_log_mel(decibel: np.ndarray) -> np.ndarray:
    """Log-mel in dB as integers with ``LOG_MEL_BITS`` fractional bits, shape unchanged."""
    return np.asarray(np.floor(np.asarray(decibel, np.float64) * 2**LOG_MEL_BITS + 0.5), np.int64)


def watched(network: Network) -> tuple[str, ...]:
    """Names whose fractional bits depend on observed values: each stream, and ``value``, the input of the pooling."""
    return (*network.streams(), "value")


def weight_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shape of the weight of each layer, by name."""
    shapes = {place.layer.name: network.weight_shape(place) for place in network.convolutions()}
    shapes |= {"lin": network.pooling_shape, "sof": network.pooling_shape}
    return shapes | {"out": (len(OUTPUTS), network.pooled)}


def check_integers(arrays: Integers, network: Network, source: str) -> None:
    """Reject arrays whose names, shapes or dtypes are not those of the network.

    Raises:
        WeightsError: if an array is missing, unknown or has the wrong shape or dtype; the message names it
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
        actual = (arrays[name].shape, arrays[name].dtype.type) if name in arrays else None
        if actual != wanted:
            texts = ["nothing" if one is None else f"{one[1].__name__} {one[0]}" for one in (actual, wanted)]
            raise WeightsError(f"{source}: not the weights of this network; {name} is {texts[0]}, expected {texts[1]}.")


def trainable(arrays: Mapping[str, np.ndarray], network: Network, source: str) -> dict[str, np.ndarray]:
    """The initial weights of quantisation-aware training: batch norms folded into the layers.

    Args:
        arrays: trained weights of the float network
        network: the float network, with ``mels_are_channels``
        source: name of the weights, for error messages

    Returns:
        arrays by name, float32

    Raises:
        WeightsError: if the arrays are not those of the network
    """
    check_arrays(arrays, network.shapes(), source)
    scale, shift = scale_and_shift(arrays, "norm0", network.batch_norm_eps)
    weights = {"input_scale": scale, "input_shift": shift}
    for place in network.convolutions():
        kernel, weights[f"{place.layer.name}.bias"] = folded(arrays, place.layer, network.batch_norm_eps)
        weights[f"{place.layer.name}.weight"] = kernel
    return weights | pooling_arrays(arrays)


def pooling_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The matrices of pooling and output, with ``sof`` scaled for a softmax to base 2."""
    weights = {name: arrays[name] for name in ("lin.weight", "lin.bias", "out.weight", "out.bias")}
    return weights | {"sof.weight": arrays["sof.weight"] * np.float32(1 / math.log(2))}


def to_integers(trained: Mapping[str, np.ndarray], network: Network) -> dict[str, np.ndarray]:
    """Integer weights for inference, from the arrays of a student after quantisation-aware training."""
    bits = {name.removeprefix("top_"): int(power_for(top)) for name, top in trained.items() if name.startswith("top_")}
    scale, shift = input_integers(trained["input_scale"], trained["input_shift"])
    result = {"input.scale": scale.astype(np.int32), "input.shift": shift.astype(np.int32)}
    layers = {
        place.layer.name: (trained[f"{place.layer.name}.weight"], trained[f"{place.layer.name}.bias"])
        for place in network.convolutions()
    }
    return result | network_integers(layers, trained, bits, network)


def network_integers(
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]],
    pooling: Mapping[str, np.ndarray],
    bits: Mapping[str, int],
    network: Network,
) -> dict[str, np.ndarray]:
    """Integer weights of all layers.

    Args:
        layers: weight and bias of each layer, with folded batch norm
        pooling: matrices from :func:`pooling_arrays`
        bits: fractional bits of each stream, and of ``value``
        network: the integer network

    Returns:
        arrays by name
    """
    result = {f"{name}.bits": np.array(bits[name], np.int8) for name in watched(network) if network.trained_int8}
    result["value.bits"] = np.array(bits["value"], np.int8)
    before = INPUT_BITS
    for place in network.places():
        after = bits[place.stream]
        if not place.layer.pool:
            result |= layer_integers(place.layer.name, *layers[place.layer.name], before, after)
        before = after
    return result | head_integers(pooling, before, bits["value"])


def quantise(arrays: Mapping[str, np.ndarray], bits: Mapping[str, int], network: Network) -> dict[str, np.ndarray]:
    """Post-training quantisation: integer weights from trained float weights.

    Where the mels are an image, one step of the input is half a dB, starting at ``amin``, and ``input.around`` is the
    value that pads the image: 0 dB.

    Args:
        arrays: weights of the float network
        bits: fractional bits of each stream, and of ``value``
        network: the integer network

    Returns:
        arrays by name
    """
    eps = network.batch_norm_eps
    layers = {place.layer.name: folded(arrays, place.layer, eps) for place in network.convolutions()}
    if network.mels_are_channels:
        scale, shift = input_integers(*scale_and_shift(arrays, "norm0", eps))
        result = {"input.scale": scale.astype(np.int32), "input.shift": shift.astype(np.int32)}
    else:
        result, start = image_input(network)
        first = network.layers[0].name
        weight, bias = layers[first][0] / DECIBEL_STEP, layers[first][1]
        layers[first] = (weight, bias - layers[first][0].sum((1, 2, 3)) * start / DECIBEL_STEP)
    return result | network_integers(layers, pooling_arrays(arrays), bits, network)


def image_input(network: Network) -> tuple[dict[str, np.ndarray], float]:
    """The arrays that scale dB to the input of the first layer, and the input value of 0 dB."""
    start = -(2 ** (7 - INPUT_BITS)) - 10 * math.log10(network.frontend.amin) * DECIBEL_STEP
    pair = input_integers(np.array(DECIBEL_STEP), np.array(start))
    scale, shift = (np.full(network.frontend.n_mels, value, np.int32) for value in pair)
    around = narrow(shift[:1].astype(np.int64), INPUT_SHIFT)[0]
    return {"input.scale": scale, "input.shift": shift, "input.around": np.array(around, np.int8)}, start


def head_integers(trained: Mapping[str, np.ndarray], hidden: int, value: int) -> dict[str, np.ndarray]:
    """Integer weights of pooling and output, from the fractional bits of the tokens and of ``value``."""
    result = layer_integers("lin", trained["lin.weight"], trained["lin.bias"], hidden, value)
    result |= layer_integers("sof", trained["sof.weight"], None, hidden, SCORE_BITS)
    return result | layer_integers(
        "out", trained["out.weight"], trained["out.bias"], value + EMBEDDING_BITS, EMOTION_BITS
    )


def layer_integers(
    name: str, weight: np.ndarray, bias: np.ndarray | None, before: int, after: int
) -> dict[str, np.ndarray]:
    """Integer weight, bias (if any) and shift of a layer whose input and output have these fractional bits."""
    rows = row_powers(weight.astype(np.float64))
    steps = np.floor(weight.astype(np.float64) * 2.0 ** rows.reshape(-1, *[1] * (weight.ndim - 1)) + 0.5)
    result = {f"{name}.weight": np.clip(steps, -127, 127).astype(np.int8)}
    result[f"{name}.shift"] = (rows + before - after).astype(np.int8)
    if bias is not None:
        steps = np.floor(bias * 2.0 ** (rows + before) + 0.5)
        result[f"{name}.bias"] = np.clip(steps, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    return result


def to_floats(integers: Integers, network: Network) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Integer weights as arrays of the float network, for the int8 ONNX file.

    The float network does not round activations; its batch norms only add the biases.

    Args:
        integers: weights of a network with ``trained_int8``, which stores the bits of its streams
        network: the integer network

    Returns:
        float32 arrays by name, and for each weight the scale of each row
    """
    floats: dict[str, np.ndarray] = {}
    factors: dict[str, np.ndarray] = {}

    def norm(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        floats.update({f"{name}.weight": weight, f"{name}.bias": bias, f"{name}.running_mean": np.zeros(len(bias))})
        floats[f"{name}.running_var"] = np.full(len(bias), 1 - network.batch_norm_eps)

    def add(name: str, source: int, target: int, factor: float = 1.0) -> np.ndarray:
        rows = wide(integers[f"{name}.shift"]) - source + target
        weight = integers[f"{name}.weight"]
        factors[f"{name}.weight"] = factor * 2.0 ** -rows.reshape(-1, *[1] * (weight.ndim - 1))
        floats[f"{name}.weight"] = weight * factors[f"{name}.weight"]
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
    floats["lin.bias"] = add("lin", before, bits["value"])
    add("sof", before, SCORE_BITS, math.log(2))
    floats["out.bias"] = add("out", bits["value"] + EMBEDDING_BITS, EMOTION_BITS)
    return {n: a.astype(np.float32) for n, a in floats.items()}, {n: a.astype(np.float32) for n, a in factors.items()}


def power_for(top: np.ndarray | float) -> np.ndarray:
    """The most fractional bits with which ``top`` fits into int8; 4 if ``top`` is zero."""
    values = np.asarray(top, np.float64)
    return np.clip(np.floor(np.log2(127 / np.where(values > 0, values, 127 / 16))), -16, 24).astype(np.int64)


def row_powers(weight: np.ndarray) -> np.ndarray:
    """:func:`power_for` of each row of a weight, shape=(rows,)."""
    return power_for(np.abs(weight).reshape(len(weight), -1).max(1))


def input_integers(scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of the log-mel as integers: (log-mel x scale + shift) >> INPUT_SHIFT."""
    factor = 2.0 ** (INPUT_SHIFT + INPUT_BITS)
    return np.floor(scale * (factor / 2**LOG_MEL_BITS) + 0.5), np.floor(shift * factor + 0.5)


def forward(log_mel: np.ndarray, arrays: Integers, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion of a signal, as integers.

    Args:
        log_mel: integers with ``LOG_MEL_BITS`` fractional bits, shape=(frames, n_mels)
        arrays: integer weights, as :func:`to_integers` returns them
        network: the integer network

    Returns:
        embedding, shape=(pooled,), with ``EMBEDDING_BITS`` + ``value.bits`` fractional bits, and emotion, shape=(3,),
        with ``EMOTION_BITS``
    """
    return read_pool(pool(tokens(log_mel, arrays, network), arrays), arrays)


def features_to_emotion(decibel: np.ndarray, arrays: Integers, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion in float32, from log-mel in dB, shape=(frames, n_mels)."""
    return to_numbers(forward(to_log_mel(decibel), arrays, network), arrays)


def to_numbers(integers: tuple[np.ndarray, np.ndarray], arrays: Integers) -> tuple[np.ndarray, np.ndarray]:
    """The integers of :func:`forward` as float32 values, without rounding."""
    embedding, emotion = integers
    scale = 2.0 ** -(int(arrays["value.bits"]) + EMBEDDING_BITS)
    return (embedding * scale).astype(np.float32), (emotion * 2.0**-EMOTION_BITS).astype(np.float32)


def tokens(log_mel: np.ndarray, arrays: Integers, network: Network) -> np.ndarray:
    """The layers in int8 arithmetic: (frames, n_mels) to (tokens, token_size).

    Products are summed in float64, where they are exact, because NumPy's integer matrix product is slow.
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
    """The pooling state after these tokens, (tokens, token_size), in order."""
    state = Pooling(*(np.full(len(arrays["lin.weight"]), start, np.int64) for start in (-(2**15), 0, 0)))
    for token in tokens:
        state = pool_token(state, token, arrays)
    return state


def pool_token(state: Pooling, token: np.ndarray, arrays: Integers) -> Pooling:
    """The pooling state after one more token: weight 2^score, relative to the largest integer exponent so far."""
    value = narrow(dot(token, "lin", arrays), arrays["lin.shift"])
    score = narrow(token @ wide(arrays["sof.weight"]).T, arrays["sof.shift"], 16)
    whole, rest = score >> SCORE_BITS, score & (2**SCORE_BITS - 1)
    exponent = np.maximum(state.exponent, whole)
    older = np.minimum(exponent - state.exponent, 62)
    weight = POWERS[rest] >> np.minimum(exponent - whole, 62)
    return Pooling(exponent, (state.weights >> older) + weight, (state.values >> older) + weight * value)


def merge(older: Pooling, newer: Pooling) -> Pooling:
    """The pooling state of two parts of a window; the part with the smaller exponent loses its lowest bits."""
    exponent = np.maximum(older.exponent, newer.exponent)
    places = [np.minimum(exponent - part.exponent, 62) for part in (older, newer)]
    weights = (older.weights >> places[0]) + (newer.weights >> places[1])
    return Pooling(exponent, weights, (older.values >> places[0]) + (newer.values >> places[1]))


def read_pool(state: Pooling, arrays: Integers) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and emotion of a pooling state."""
    mean = embedding(state)
    return mean, narrow(dot(mean, "out", arrays), arrays["out.shift"], 32)


def embedding(state: Pooling) -> np.ndarray:
    """The weighted mean, truncated towards zero as in C."""
    values = state.values << EMBEDDING_BITS
    return np.asarray(np.sign(values) * (np.abs(values) // state.weights))


def dot(values: np.ndarray, name: str, arrays: Integers) -> np.ndarray:
    """A linear layer before its shift."""
    return np.asarray(values @ wide(arrays[f"{name}.weight"]).T + wide(arrays[f"{name}.bias"]))


def narrow(sums: np.ndarray, shift: np.ndarray | int, size: int = 8) -> np.ndarray:
    """Right shift with halves rounded up, saturated to ``size`` signed bits; a negative shift is a left shift."""
    places = np.asarray(shift, np.int64)
    right, left = np.maximum(places, 0), np.maximum(-places, 0)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return np.asarray(np.clip(((sums + half) >> right) << left, -(2 ** (size - 1)), 2 ** (size - 1) - 1))


def wide(array: np.ndarray) -> np.ndarray:
    """A copy in int64, where products and sums do not overflow."""
    return array.astype(np.int64)
