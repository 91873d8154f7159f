"""A causal network as a stream, in NumPy: each sample is computed once, and each layer keeps what it still needs.

The tokens are those of ``network.reference`` over the whole signal until then, whatever the blocks are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np

from wav2small.network import fixed_point
from wav2small.network.config import Network, Place
from wav2small.network.frontend import hann, mel_filterbank, running_mean
from wav2small.network.layers import folded, scale_and_shift

Weights = Mapping[str, np.ndarray]
"""Float32 arrays by the names of the ONNX graph: each batch norm is in the convolution before it."""


def names(network: Network) -> list[str]:
    """The names of the weights."""
    layers = [*(layer.name for layer in network.layers), "lin", "out"]
    return ["norm0.scale", "norm0.shift", "sof.weight", *(f"{name}.{p}" for name in layers for p in ("weight", "bias"))]


def weights_from_arrays(arrays: Mapping[str, np.ndarray], network: Network) -> Weights:
    """The weights of a safetensors file; integers become the numbers they stand for, and nothing between is rounded."""
    if network.integers:
        arrays = fixed_point.to_floats(arrays, network)[0]
    scale, shift = scale_and_shift(arrays, "norm0", network.batch_norm_eps)
    found = {"norm0.scale": scale, "norm0.shift": shift}
    for layer in network.layers:
        found[f"{layer.name}.weight"], found[f"{layer.name}.bias"] = folded(arrays, layer, network.batch_norm_eps)
    return found | {name: arrays[name] for name in ("lin.weight", "lin.bias", "sof.weight", "out.weight", "out.bias")}


BLAS_WORK = 4 * 65536
BLAS_VECTOR_WORK = 4 * 2304
"""Multiplications of a call below which OpenBLAS stays on one thread."""


class CausalLayer:
    """A convolution that is given its input in blocks.

    ``past`` holds the end of its input, shape=(reach, inputs), zeros before the first block.

    Args:
        weights: of the network
        place: of the layer
    """

    def __init__(self, weights: Weights, place: Place) -> None:
        self._layer, self._inputs = place.layer, place.inputs
        kernel = weights[f"{place.layer.name}.weight"]
        self._bias = weights[f"{place.layer.name}.bias"]
        by_tap = kernel[:, 0].T if place.layer.depthwise else kernel.transpose(2, 1, 0).reshape(-1, place.layer.outputs)
        self._kernel = np.ascontiguousarray(by_tap)
        self.reset()

    def reset(self) -> None:
        """Begin anew, after silence."""
        self.past = np.zeros((self._layer.reach, self._inputs), np.float32)
        self._seen = 0

    def push(self, columns: np.ndarray) -> np.ndarray:
        """The outputs that end with these columns, shape=(columns, inputs) to (outputs, channels)."""
        layer = self._layer
        padded = np.concatenate([self.past, columns]) if layer.reach else columns
        first, self._seen = -self._seen % layer.stride, self._seen + len(columns)
        self.past = padded[len(padded) - layer.reach :].copy()  # a view would keep all of it
        padded = padded[first:]
        if layer.depthwise:
            sums = np.einsum("tck,kc->tc", taps(padded, layer.kernel[0], layer.dilation, layer.stride), self._kernel)
        elif layer.dilation == 1:
            sums = product(rows(padded, layer.kernel[0], layer.stride), self._kernel)
        else:
            under = taps(padded, layer.kernel[0], layer.dilation, layer.stride)
            sums = product(under.transpose(0, 2, 1).reshape(len(under), -1), self._kernel)
        sums += self._bias
        return np.asarray(np.maximum(sums, 0, out=sums))


class Causal:
    """The network and its state, which does not grow with the signal.

    Args:
        weights: by the names of the ONNX graph, not changed
        network: one that ``is_causal``
    """

    def __init__(self, weights: Weights, network: Network) -> None:
        self.network = network
        frontend = network.frontend
        mel = mel_filterbank(frontend)
        used = np.flatnonzero(mel.any(1))
        self._bins = slice(int(used[0]), int(used[-1]) + 1)
        self._mel = np.repeat(mel[self._bins], 2, axis=0)  # a row for each part of a complex number
        self._hann = hann(frontend)
        self._scale = weights["norm0.scale"].ravel() * np.float32(10 / np.log(10))
        self._shift = weights["norm0.shift"].ravel()
        self._layers = [CausalLayer(weights, place) for place in network.places()]
        self._pool = np.ascontiguousarray(np.concatenate([weights["lin.weight"], weights["sof.weight"]]).T)
        self._pool_bias = weights["lin.bias"]
        self._out, self._out_bias = weights["out.weight"], weights["out.bias"]
        self.reset()

    def another(self) -> Causal:
        """The same network at its beginning; the weights are shared."""
        other = copy(self)
        other._layers = [copy(layer) for layer in self._layers]
        other.reset()
        return other

    def reset(self) -> None:
        """Begin anew, as after loading."""
        self._signal = np.zeros(0, np.float32)
        self._powers = np.zeros(0)
        for layer in self._layers:
            layer.reset()

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The end of the signal, the level's frames, and the columns that layers look back to."""
        found: dict[str, np.ndarray] = {"signal": self._signal, "level": self._powers}
        for layer, kept in zip(self.network.layers, self._layers, strict=True):
            found |= {layer.name: kept.past} if layer.reach else {}
        return found

    @property
    def token_length(self) -> int:
        """Samples from a token to the next."""
        return self.network.frontend.hop_length * self.network.frames_a_token

    def token_end(self, index: int) -> int:
        """Samples that a token needs, counted from 0."""
        return index * self.token_length + self.network.frontend.win_length

    def push(self, signal: np.ndarray) -> np.ndarray:
        """The tokens whose frames end with these samples.

        Args:
            signal: what follows on what was pushed before, at 16 kHz, float32, shape=(samples,)

        Returns:
            shape=(tokens, token_size); none if no token is complete
        """
        hidden = before = self._log_mel(signal) * self._scale + self._shift
        for layer, convolution in zip(self.network.layers, self._layers, strict=True):
            if not len(hidden):
                return np.zeros((0, self.network.token_size), np.float32)
            output = convolution.push(hidden)
            before, hidden = hidden, before + output if layer.adds else output
        return hidden

    def partial(self, tokens: np.ndarray) -> np.ndarray:
        """The softmax mean over these tokens alone, one or more, so that it can be merged with that over others.

        Returns:
            shape=(3, pooled): the largest score, and the sums of weights and of weighted values, with the weight
            exp(score - largest)
        """
        both = product(tokens, self._pool)
        value, score = both[:, : self.network.pooled], both[:, self.network.pooled :]
        largest = score.max(0)
        weight = np.exp(score - largest)
        return np.array([largest, weight.sum(0), (weight * value).sum(0)])

    def answer(self, partials: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Embedding, and arousal, dominance and valence, not clipped, shape=(3,), of all the tokens in these."""
        merged = np.array(partials)
        share = np.exp(merged[:, 0] - merged[:, 0].max(0))
        weights, values = np.einsum("pkc,pc->kc", merged[:, 1:], share)
        embedding = values / weights + self._pool_bias
        return embedding, self._out @ embedding + self._out_bias

    def _log_mel(self, signal: np.ndarray) -> np.ndarray:
        """Natural logarithm of the mel power over the level, of each frame that is complete now."""
        frontend = self.network.frontend
        signal = np.concatenate([self._signal, signal])
        count = frontend.num_frames(len(signal))
        self._signal = signal[count * frontend.hop_length :].copy()
        if not count:
            return np.zeros((0, frontend.n_mels), np.float32)
        frames = rows(signal[:, None], frontend.win_length, frontend.hop_length)
        spectrum = np.ascontiguousarray(np.fft.rfft(frames * self._hann, frontend.n_fft)[:, self._bins])
        power = product(np.square(spectrum.view(np.float64)), self._mel)
        powers = np.concatenate([self._powers, power.sum(1)])
        level = running_mean(powers, self.network.level_frames)[-count:]
        self._powers = powers[max(0, len(powers) - self.network.level_frames + 1) :].copy()
        normalised = power / (level + frontend.variance_floor)[:, None]
        return np.asarray(np.log(np.maximum(normalised, frontend.amin)), np.float32)


def product(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``values @ weights``, on this thread alone, (rows, inputs) by (inputs, outputs).

    OpenBLAS, which NumPy's wheels use, starts its threads for more than ``BLAS_WORK`` products of a matrix or
    ``BLAS_VECTOR_WORK`` of a vector. In a stream they cost ten times what they save.

    Source: interface/gemm.c and interface/gemv.c of OpenBLAS, GEMM_MULTITHREAD_THRESHOLD.
    """
    step = max(2, BLAS_WORK // weights.size)
    if len(values) == 1 and weights.size > BLAS_VECTOR_WORK:
        return np.asarray((np.repeat(values, 2, axis=0) @ weights)[:1])
    if len(values) <= step:
        return np.asarray(values @ weights)
    return np.concatenate([product(values[start : start + step], weights) for start in range(0, len(values), step)])


def rows(values: np.ndarray, length: int, step: int) -> np.ndarray:
    """Every ``length`` rows of (time, size), ``step`` apart, each flat: a view, (windows, length x size)."""
    values = np.ascontiguousarray(values)
    count = max(0, (len(values) - length) // step + 1)
    size = values.strides[0]
    return np.ndarray((count, length * values.shape[1]), values.dtype, values, 0, (step * size, values.itemsize))


def taps(values: np.ndarray, kernel: int, dilation: int, stride: int) -> np.ndarray:
    """What the taps of a kernel see of (time, size): a view, shape=(outputs, size, kernel)."""
    values = np.ascontiguousarray(values)
    count = max(0, (len(values) - (kernel - 1) * dilation - 1) // stride + 1)
    step, size = values.strides
    shape = (count, values.shape[1], kernel)
    return np.ndarray(shape, values.dtype, values, 0, (stride * step, size, dilation * step))
