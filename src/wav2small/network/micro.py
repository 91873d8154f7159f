"""The student ``micro``, our own design: causal, depthwise-separable convolutions over frames of 10 ms.

A strided convolution over the log-mel is followed by residual blocks of a depthwise and a pointwise convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from wav2small.network.config import Frontend, Layer, Network

FRONTEND = Frontend(n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=60.0, fmax=7800.0, variance_floor=2e-5)


def _layers(channels: int, kernel: int, stride: int, dilations: Sequence[int]) -> Iterator[Layer]:
    yield Layer("conv", channels, (kernel, 1), stride, causal=True, norm="norm")
    for number, dilation in enumerate(dilations, 1):
        yield Layer(
            f"depth{number}",
            channels,
            (kernel, 1),
            dilation=dilation,
            causal=True,
            depthwise=True,
            norm=f"depthnorm{number}",
        )
        yield Layer(f"point{number}", channels, causal=True, norm=f"pointnorm{number}", adds=True)


def micro(
    name: str = "micro",
    channels: int = 64,
    pooled: int = 128,
    kernel: int = 5,
    stride: int = 2,
    dilations: Sequence[int] = (1, 1, 2, 2, 4),
    frontend: Frontend = FRONTEND,
) -> Network:
    """A ``micro`` network of any size.

    Args:
        name: name of the network
        channels: channels of every layer
        pooled: values of the embedding
        kernel: taps of the convolutions in time
        stride: stride of the first convolution, in frames
        dilations: dilation of the depthwise convolution of each block
        frontend: window, hop and mel bands

    Raises:
        NetworkError: if a value is out of range
    """
    layers = tuple(_layers(channels, kernel, stride, dilations))
    return Network(name, frontend, "running", 3.0, layers, "tokens", pooled, mels_are_channels=True, trained_int8=True)


MICRO = micro()
"""The student that ships: 53,267 parameters."""
MICRO_L = micro("micro-l", channels=128, pooled=192)
"""A larger ``micro``: 163,539 parameters."""
MICRO_INT8 = replace(MICRO, name="micro-int8", integers=True)
"""``micro`` in integer arithmetic, from quantisation-aware training."""
MICRO_L_INT8 = replace(MICRO_L, name="micro-l-int8", integers=True)
"""``micro-l`` in integer arithmetic, from quantisation-aware training."""
