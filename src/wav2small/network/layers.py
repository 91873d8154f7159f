"""Operations of the layers in NumPy. Time is the first axis, channels the last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from wav2small.network.config import NORM, Layer, Network


def batch_norm(hidden: np.ndarray, name: str, arrays: Mapping[str, np.ndarray], eps: float) -> np.ndarray:
    """Batch norm in inference: each channel (last axis) with its running mean and variance, then scale and bias."""
    scale = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"] + np.float32(eps))
    return np.asarray((hidden - arrays[f"{name}.running_mean"]) * scale + arrays[f"{name}.bias"])


def scale_and_shift(arrays: Mapping[str, np.ndarray], norm: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm as one scale and one shift per channel, float32, each shape=(channels,)."""
    weight, bias, mean, variance = (arrays[f"{norm}.{part}"].astype(np.float64) for part in NORM)
    scale = weight / np.sqrt(variance + eps)
    return scale.astype(np.float32), (bias - mean * scale).astype(np.float32)


def folded(arrays: Mapping[str, np.ndarray], layer: Layer, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution with its batch norm folded in."""
    scale, shift = scale_and_shift(arrays, layer.norm, eps)
    kernel = arrays[f"{layer.name}.weight"]
    return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), shift


def convolve(hidden: np.ndarray, weight: np.ndarray, layer: Layer, around: float = 0) -> np.ndarray:
    """A convolution without bias and batch norm.

    Args:
        hidden: input of the layer, shape=(time, mels, inputs)
        weight: shape=(outputs, inputs, taps), or (outputs, inputs, taps, mels)
        layer: kernel, stride, dilation and padding
        around: padding value

    Returns:
        shape=(time / stride, mels, outputs)
    """
    weight = weight.reshape(*weight.shape[:2], *layer.kernel)
    side = layer.kernel[1] // 2
    padded = np.pad(hidden, (layer.padding, (side, side), (0, 0)), constant_values=around)
    if layer.kernel == (1, 1) and not layer.depthwise:
        flat = padded.reshape(-1, padded.shape[2]) @ weight[:, :, 0, 0].T
        return np.asarray(flat.reshape(*padded.shape[:2], -1)[:: layer.stride])
    if layer.depthwise:
        taps = [part * weight[:, 0, tap, mel] for tap, mel, part in _under(padded, layer)]
        return np.asarray(np.sum(taps, axis=0)[:: layer.stride])
    patches = np.lib.stride_tricks.sliding_window_view(padded, (layer.reach + 1, layer.kernel[1]), axis=(0, 1))
    patches = patches[..., :: layer.dilation, :]
    return np.asarray(np.tensordot(patches, weight, axes=((2, 3, 4), (1, 2, 3)))[:: layer.stride])


def _under(padded: np.ndarray, layer: Layer) -> Iterator[tuple[int, int, np.ndarray]]:
    """For each kernel position (tap, mel), the aligned slice of the padded input, (time, mels, channels)."""
    frames, mels = padded.shape[0] - layer.reach, padded.shape[1] - layer.kernel[1] + 1
    for tap in range(layer.kernel[0]):
        for mel in range(layer.kernel[1]):
            yield tap, mel, padded[tap * layer.dilation :][:frames, mel : mel + mels]


def max_pool(hidden: np.ndarray, layer: Layer) -> np.ndarray:
    """Max-pool with stride 2 in time and mels: (time, mels, channels) halved, rounded up."""
    side = layer.kernel[1] // 2
    padded = np.pad(hidden, (layer.padding, (side, side), (0, 0)), constant_values=-np.inf)
    patches = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, axis=(0, 1))
    return np.asarray(patches[:: layer.stride, :: layer.stride].max((-2, -1)))


def softmax_mean(value: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Weighted mean over time (first axis); the weights are the softmax of the score over time.

    Source: arXiv:2408.13920, layer 12.
    """
    weight = np.exp(score - score.max(0))
    return np.asarray((value * weight).sum(0) / weight.sum(0))


def as_columns(features: np.ndarray, network: Network) -> np.ndarray:
    """Log-mel (time, mels) as the first layer's input: (time, mels, 1), or (time, 1, mels) if mels are channels."""
    return features[:, None] if network.mels_are_channels else features[:, :, None]


def as_tokens(hidden: np.ndarray) -> np.ndarray:
    """The last layer's output, (time, mels, channels), as tokens, (time, channels x mels)."""
    return hidden.transpose(0, 2, 1).reshape(len(hidden), -1)
