"""The student ``micro`` in readable NumPy: the arbiter for its torch, ONNX and C forms.

Everything is causal, so that a device can run it frame by frame: log-mel over a running level, one strided
convolution, residual blocks of a depthwise and a pointwise convolution, and a softmax over time as the pooling.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wav2small.network.config import OUTPUTS, Micro
from wav2small.network.layers import NORM, batch_norm, softmax_mean


def shapes(config: Micro) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array in a file of weights; the front end follows from the config and is not stored."""
    channels, mels, kernel = config.channels, config.frontend.n_mels, config.kernel
    found: dict[str, tuple[int, ...]] = {f"norm0.{part}": (mels,) for part in NORM}
    found["conv.weight"] = (channels, mels, kernel)
    found |= {f"norm.{part}": (channels,) for part in NORM}
    for index in range(1, len(config.dilations) + 1):
        found[f"depth{index}.weight"] = (channels, 1, kernel)
        found[f"point{index}.weight"] = (channels, channels, 1)
        for norm in ("depthnorm", "pointnorm"):
            found |= {f"{norm}{index}.{part}": (channels,) for part in NORM}
    found |= {"lin.weight": (config.pooled, channels), "lin.bias": (config.pooled,)}
    found |= {"sof.weight": (config.pooled, channels)}
    return found | {"out.weight": (len(OUTPUTS), config.pooled), "out.bias": (len(OUTPUTS),)}


def tokens(log_mel: np.ndarray, arrays: Mapping[str, np.ndarray], config: Micro) -> np.ndarray:
    """The convolutions: (frames, n_mels) to (ceil(frames / stride), channels)."""
    hidden = batch_norm(log_mel, "norm0", arrays, config.batch_norm_eps)
    hidden = causal_conv(hidden, arrays["conv.weight"])[:: config.stride]
    hidden = np.maximum(batch_norm(hidden, "norm", arrays, config.batch_norm_eps), 0)
    for index, dilation in enumerate(config.dilations, 1):
        inner = depthwise(hidden, arrays[f"depth{index}.weight"], dilation)
        inner = np.maximum(batch_norm(inner, f"depthnorm{index}", arrays, config.batch_norm_eps), 0)
        inner = inner @ arrays[f"point{index}.weight"][:, :, 0].T
        hidden = hidden + np.maximum(batch_norm(inner, f"pointnorm{index}", arrays, config.batch_norm_eps), 0)
    return np.asarray(hidden)


def pool(tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Each value of ``lin`` is averaged over time with the softmax of ``sof`` as its weight: to (pooled,)."""
    return softmax_mean(tokens @ arrays["lin.weight"].T + arrays["lin.bias"], tokens @ arrays["sof.weight"].T)


def causal_conv(hidden: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(time, inputs) with weight (outputs, inputs, kernel) to (time, outputs); zeros before the start."""
    kernel = weight.shape[2]
    padded = np.pad(hidden, ((kernel - 1, 0), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=0)
    return np.asarray(np.tensordot(patches, weight, axes=((1, 2), (1, 2))))


def depthwise(hidden: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
    """Each channel with its own kernel, weight (channels, 1, kernel); taps ``dilation`` frames apart."""
    kernel = weight.shape[2]
    padded = np.pad(hidden, (((kernel - 1) * dilation, 0), (0, 0)))
    taps = [padded[tap * dilation :][: len(hidden)] * weight[:, 0, tap] for tap in range(kernel)]
    return np.asarray(np.sum(taps, axis=0))
