"""``micro`` in integers, trained to be: what a C runtime repeats bit by bit. docs/integers.md has the arithmetic.

Every value between two layers is an eight-bit integer times a power of two, every weight likewise with one power a
row, so that a layer is integer products, a sum in 32 bits, and a shift. While training, rounding is in the forward
pass and passed over in the backward one, and the powers follow the largest values seen.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import MICRO, Micro
from wav2small.network.fixed_point import (
    INPUT_BITS,
    INPUT_SHIFT,
    LOG_MEL_BITS,
    SCORE_BITS,
    folded,
    input_integers,
    power_for,
    row_powers,
    watched,
)
from wav2small.network.weights import Arrays
from wav2small.train.distributed import largest
from wav2small.train.students.micro import MicroNet


class MicroInt8(MicroNet):
    """The integer student. Make it from trained weights of ``micro``: :meth:`start_from`.

    Args:
        config: of the ``micro`` it is made from
        dropout: as in ``micro``
    """

    def __init__(self, config: Micro = MICRO, dropout: float = 0.0) -> None:
        super().__init__(config, dropout)
        for name in [name for name, _ in self.named_children() if "norm" in name]:
            delattr(self, name)
        mels, channels = config.frontend.n_mels, config.channels
        self.register_buffer("input_scale", torch.ones(mels))
        self.register_buffer("input_shift", torch.zeros(mels))
        self.conv = nn.Conv1d(mels, channels, config.kernel, config.stride)
        for index, dilation in enumerate(config.dilations, 1):
            depth = nn.Conv1d(channels, channels, config.kernel, dilation=dilation, groups=channels)
            self.add_module(f"depth{index}", depth)
            self.add_module(f"point{index}", nn.Conv1d(channels, channels, 1))
        for name in watched(config):
            self.register_buffer(f"top_{name}", torch.zeros(()))

    def start_from(self, arrays: Arrays, source: str) -> None:
        """Take over trained weights of ``micro``, batch norms folded into the convolutions before them.

        Raises:
            WeightsError: if they are not those of ``micro``
        """
        state = folded(arrays, self.config, source) | {
            f"top_{name}": np.zeros((), np.float32) for name in watched(self.config)
        }
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})

    def bits(self, name: str) -> int:
        """How many of the eight bits of a watched value are behind the point."""
        return int(power_for(float(getattr(self, f"top_{name}"))))

    def grid(self, values: Tensor, name: str) -> Tensor:
        """A watched value on its eight bits; while training, its largest is followed."""
        if self.training:
            with torch.no_grad():
                top, seen = getattr(self, f"top_{name}"), largest(values.detach().abs().amax().float())
                top.copy_(torch.where(top == 0, seen, top.lerp(seen, 0.02)))
        return rounded(values, self.bits(name))

    def tokens(self, log_mel: Tensor) -> Tensor:
        """The convolutions: (batch, frames, n_mels) -> (batch, ceil(frames / stride), channels)."""
        kernel = self.config.kernel
        steps = torch.floor(log_mel.double() * 2**LOG_MEL_BITS + 0.5)
        integers = input_integers(self.input_scale.cpu().numpy(), self.input_shift.cpu().numpy())
        scale, shift = (torch.from_numpy(array).to(log_mel.device) for array in integers)
        values = torch.floor((steps * scale + shift) / 2.0**INPUT_SHIFT + 0.5).clamp(-128, 127)
        hidden = (values / 2**INPUT_BITS).float().transpose(1, 2)
        weight, bias = on_grid(self.conv, INPUT_BITS)
        hidden = functional.conv1d(functional.pad(hidden, (kernel - 1, 0)), weight, bias, self.config.stride)
        hidden = self.grid(functional.relu(hidden), "hidden")
        for index, dilation in enumerate(self.config.dilations, 1):
            depth, point = getattr(self, f"depth{index}"), getattr(self, f"point{index}")
            bits = self.bits("hidden")
            weight, bias = on_grid(depth, bits)
            padded = functional.pad(hidden, ((kernel - 1) * dilation, 0))
            inner = functional.conv1d(padded, weight, bias, dilation=dilation, groups=hidden.shape[1])
            inner = self.grid(functional.relu(inner), f"inner{index}")
            inner = functional.conv1d(inner, *on_grid(point, self.bits(f"inner{index}")))
            hidden = self.grid(hidden + rounded(functional.relu(inner), bits), "hidden")
        return hidden.transpose(1, 2)

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel, shape=(batch, frames, n_mels), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        with torch.autocast(log_mel.device.type, enabled=False):
            tokens = self.tokens(log_mel.float())
            bits = self.bits("hidden")
            value = self.grid(functional.linear(tokens, *on_grid(self.lin, bits)), "value")
            weight, _ = on_grid(self.sof, bits)
            score = rounded(functional.linear(tokens, weight), SCORE_BITS, 16)
            share = (score * math.log(2)).softmax(1)
            embedding = (value * share).sum(1)
            weight, _ = on_grid(self.out, 0)
            return functional.linear(self.dropout(embedding), weight, self.out.bias), embedding


def rounded(values: Tensor, bits: int, size: int = 8) -> Tensor:
    """To the nearest of the integers of ``size`` bits over 2^bits, halves up; the gradient passes where it fits."""
    low, high = -(2 ** (size - 1)) / 2.0**bits, (2 ** (size - 1) - 1) / 2.0**bits
    fitting = values.clamp(low, high)
    steps = torch.floor(fitting.detach() * 2.0**bits + 0.5) / 2.0**bits
    return fitting + (steps.clamp(low, high) - fitting.detach())


def on_grid(layer: nn.Module, bits: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer whose input has ``bits`` behind the point, each row on its own power of two."""
    weight = layer.weight
    rows = torch.from_numpy(row_powers(weight.detach().cpu().numpy())).to(weight)
    factor = (2.0**rows).reshape(-1, *[1] * (weight.ndim - 1))
    scaled = weight * factor
    steps = scaled + (torch.floor(scaled.detach() + 0.5).clamp(-127, 127) - scaled.detach())
    if layer.bias is None:
        return steps / factor, None
    scaled = layer.bias * 2.0 ** (rows + bits)
    return steps / factor, (scaled + (torch.floor(scaled.detach() + 0.5) - scaled.detach())) / 2.0 ** (rows + bits)


def micro_int8(dropout: float = 0.0) -> MicroInt8:
    """The integer form of the student as it ships."""
    return MicroInt8(MICRO, dropout)
