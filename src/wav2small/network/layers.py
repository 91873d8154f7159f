"""What the references share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NORM = ("weight", "bias", "running_mean", "running_var")
"""The arrays of a batch norm; the last two are not parameters."""


def batch_norm(hidden: np.ndarray, name: str, arrays: Mapping[str, np.ndarray], eps: float) -> np.ndarray:
    """Each channel, the last axis, with its running mean and variance, then scale and shift."""
    scale = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"] + np.float32(eps))
    return np.asarray((hidden - arrays[f"{name}.running_mean"]) * scale + arrays[f"{name}.bias"])


def scale_and_shift(arrays: Mapping[str, np.ndarray], norm: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm as one factor and one summand a channel, in float32."""
    weight, bias, mean, variance = (arrays[f"{norm}.{part}"].astype(np.float64) for part in NORM)
    scale = weight / np.sqrt(variance + eps)
    return scale.astype(np.float32), (bias - mean * scale).astype(np.float32)


def folded(arrays: Mapping[str, np.ndarray], name: str, norm: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """A convolution and the batch norm after it as one: kernel and bias."""
    scale, shift = scale_and_shift(arrays, norm, eps)
    kernel = arrays[f"{name}.weight"]
    return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), shift


def softmax_mean(value: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The mean over time, the first axis, with the softmax of the score over time as the weight."""
    weight = np.exp(score - score.max(0))
    return np.asarray((value * weight).sum(0) / weight.sum(0))


def conv3x3(hidden: np.ndarray, weight: np.ndarray, around: float = 0) -> np.ndarray:
    """(time, mels, inputs) with weight (outputs, inputs, 3, 3) to (time, mels, outputs); ``around`` is around it."""
    padded = np.pad(hidden, ((1, 1), (1, 1), (0, 0)), constant_values=around)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    return np.asarray(np.tensordot(patches, weight, axes=((2, 3, 4), (1, 2, 3))))


def max_pool3x3(hidden: np.ndarray) -> np.ndarray:
    """The largest of 3 x 3, every second row and column: (time, mels, channels) halved, rounded up."""
    padded = np.pad(hidden, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2]
    return np.asarray(patches.max((-2, -1)))
