"""``micro`` as a stream, in NumPy: each sample is computed once, and what the next block needs of the last is kept.

The tokens are those of ``reference.micro`` over everything that was heard so far, whatever the blocks are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wav2small.network import fixed_point as integer
from wav2small.network.config import Micro
from wav2small.network.frontend import hann, mel_filterbank, running_mean
from wav2small.network.layers import folded, scale_and_shift

DEPTH_POINT = ("depth", "point")
"""Layers of a block."""

Weights = Mapping[str, np.ndarray]
"""Float32 arrays by the names of the ONNX graph: each batch norm is in the convolution before it."""


def names(config: Micro) -> list[str]:
    """The names of the weights."""
    layers = ["conv", *(f"{layer}{index}" for index in range(1, len(config.dilations) + 1) for layer in DEPTH_POINT)]
    found = [f"{layer}.{part}" for layer in (*layers, "lin", "out") for part in ("weight", "bias")]
    return ["norm0.scale", "norm0.shift", "sof.weight", *found]


def weights_from_arrays(arrays: Mapping[str, np.ndarray], config: Micro) -> Weights:
    """The weights of a safetensors file; integers become the numbers they stand for, and nothing between is rounded."""
    if config.integers:
        arrays = integer.to_floats(arrays, config)[0]
    scale, shift = scale_and_shift(arrays, "norm0", config.batch_norm_eps)
    found = {"norm0.scale": scale, "norm0.shift": shift}
    pairs = {"conv": "norm"}
    for index in range(1, len(config.dilations) + 1):
        pairs |= {f"depth{index}": f"depthnorm{index}", f"point{index}": f"pointnorm{index}"}
    for name, norm in pairs.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = folded(arrays, name, norm, config.batch_norm_eps)
    return found | {name: arrays[name] for name in ("lin.weight", "lin.bias", "sof.weight", "out.weight", "out.bias")}


class Causal:
    """The network and what it remembers. ``state`` lists that; it does not grow with what is heard.

    Args:
        weights: by the names of the ONNX graph, not changed
        config: sizes and front end
    """

    def __init__(self, weights: Weights, config: Micro) -> None:
        self.config = config
        frontend = config.frontend
        mel = mel_filterbank(frontend)
        heard = np.flatnonzero(mel.any(1))
        self._bins = slice(int(heard[0]), int(heard[-1]) + 1)
        self._mel = np.repeat(mel[self._bins], 2, axis=0)  # a row for each part of a complex number
        self._hann = hann(frontend)
        self._scale = weights["norm0.scale"].ravel() * np.float32(10 / np.log(10))
        self._shift = weights["norm0.shift"].ravel()
        self._conv = np.ascontiguousarray(weights["conv.weight"].transpose(2, 1, 0).reshape(-1, config.channels))
        self._blocks = [
            (
                np.ascontiguousarray(weights[f"depth{index}.weight"][:, 0].T),
                weights[f"depth{index}.bias"],
                np.ascontiguousarray(weights[f"point{index}.weight"][:, :, 0].T),
                weights[f"point{index}.bias"],
            )
            for index in range(1, len(config.dilations) + 1)
        ]
        self._conv_bias = weights["conv.bias"]
        self._pool = np.ascontiguousarray(np.concatenate([weights["lin.weight"], weights["sof.weight"]]).T)
        self._pool_bias = weights["lin.bias"]
        self._out, self._out_bias = weights["out.weight"], weights["out.bias"]
        self.reset()

    def reset(self) -> None:
        """Forget everything that was heard."""
        config, last = self.config, self.config.kernel - 1
        self._signal = np.zeros(0, np.float32)
        self._powers = np.zeros(0)
        self._frames = 0
        self._mels = np.zeros((last, config.frontend.n_mels), np.float32)
        self._pasts = [np.zeros((last * dilation, config.channels), np.float32) for dilation in config.dilations]

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What is remembered: the end of the signal, the level's frames, and what each convolution looks back to."""
        pasts = {f"depth{index}": past for index, past in enumerate(self._pasts, 1)}
        return {"signal": self._signal, "level": self._powers, "conv": self._mels, **pasts}

    @property
    def token_length(self) -> int:
        """Samples from a token to the next."""
        return self.config.frontend.hop_length * self.config.stride

    def token_end(self, index: int) -> int:
        """Samples that must have been heard for a token, counted from 0."""
        return index * self.token_length + self.config.frontend.win_length

    def push(self, signal: np.ndarray) -> np.ndarray:
        """The tokens whose frames end with these samples.

        Args:
            signal: what follows on what was pushed before, at 16 kHz, float32, shape=(samples,)

        Returns:
            shape=(tokens, channels), one token for every second frame; none if no frame is complete
        """
        log_mel = self._log_mel(signal)
        if not len(log_mel):
            return np.zeros((0, self.config.channels), np.float32)
        hidden = np.concatenate([self._mels, log_mel * self._scale + self._shift])
        kernel, stride = self.config.kernel, self.config.stride
        first = -self._frames % stride
        self._frames += len(log_mel)
        self._mels = hidden[len(log_mel) :]
        hidden = rows(hidden[first:], kernel, stride) @ self._conv
        hidden = np.maximum(hidden + self._conv_bias, 0)
        for index in range(len(self._blocks)):
            hidden = self._block(hidden, index)
        return hidden

    def partial(self, tokens: np.ndarray) -> np.ndarray:
        """The softmax mean over these tokens alone, one or more, so that it can be merged with that over others.

        Returns:
            shape=(3, pooled): the largest score, and the sums of weights and of weighted values, with the weight
            exp(score - largest)
        """
        both = tokens @ self._pool
        value, score = both[:, : self.config.pooled], both[:, self.config.pooled :]
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
        frontend = self.config.frontend
        signal = np.concatenate([self._signal, signal])
        count = frontend.num_frames(len(signal))
        self._signal = signal[count * frontend.hop_length :].copy()
        if not count:
            return np.zeros((0, frontend.n_mels), np.float32)
        frames = rows(signal[:, None], frontend.win_length, frontend.hop_length)
        spectrum = np.ascontiguousarray(np.fft.rfft(frames * self._hann, frontend.n_fft)[:, self._bins])
        power = np.square(spectrum.view(np.float64)) @ self._mel
        powers = np.concatenate([self._powers, power.sum(1)])
        level = running_mean(powers, self.config.level_frames)[-count:]
        self._powers = powers[max(0, len(powers) - self.config.level_frames + 1) :].copy()
        normalised = power / (level + frontend.variance_floor)[:, None]
        return np.asarray(np.log(np.maximum(normalised, frontend.amin)), np.float32)

    def _block(self, hidden: np.ndarray, index: int) -> np.ndarray:
        """A depthwise and a pointwise convolution beside the tokens."""
        depth, depth_bias, point, point_bias = self._blocks[index]
        dilation, past = self.config.dilations[index], self._pasts[index]
        padded = np.concatenate([past, hidden])
        self._pasts[index] = padded[len(hidden) :]
        step, size = padded.strides
        taps = np.ndarray((*hidden.shape, len(depth)), padded.dtype, padded, 0, (step, size, dilation * step))
        inner = np.einsum("tck,kc->tc", taps, depth) + depth_bias
        inner = np.maximum(inner, 0, out=inner) @ point
        inner += point_bias
        return np.asarray(np.maximum(inner, 0, out=inner) + hidden)


def rows(values: np.ndarray, length: int, step: int) -> np.ndarray:
    """Every ``length`` rows of (time, size), ``step`` apart, each flat: a view, (windows, length x size)."""
    values = np.ascontiguousarray(values)
    count = max(0, (len(values) - length) // step + 1)
    size = values.strides[0]
    return np.ndarray((count, length * values.shape[1]), values.dtype, values, 0, (step * size, values.itemsize))
