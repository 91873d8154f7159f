"""Quantisation-aware training of integer networks, which the C runtime computes bit for bit. See docs/integers.md.

Activations are int8 times a power of two, and weights are int8 times a power of two per row, so a layer consists of
integer products, a sum in 32 bits, and a shift. Training applies the rounding in the forward pass with a
straight-through gradient; the powers follow the largest observed values.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.errors import NetworkError
from wav2small.network.config import Network
from wav2small.network.fixed_point import (
    INPUT_BITS,
    INPUT_SHIFT,
    LOG_MEL_BITS,
    SCORE_BITS,
    input_integers,
    power_for,
    row_powers,
    trainable,
    watched,
)
from wav2small.network.weights import Arrays
from wav2small.train.distributed import largest
from wav2small.train.students.layered import LayeredStudent, convolution, padded


class IntegerStudent(LayeredStudent):
    """The integer form of a network, initialised from trained float weights by :meth:`start_from`.

    Args:
        network: the integer network
        dropout: dropout before the output layer

    Raises:
        NetworkError: if the network does not use quantisation-aware training
    """

    def __init__(self, network: Network, dropout: float = 0.0) -> None:
        if not network.trained_int8:
            raise NetworkError(f"{network.name}: is quantised after training: wav2small export WEIGHTS --to integers")
        super().__init__(network, dropout)

    input_scale: Tensor
    input_shift: Tensor

    def add_layers(self, network: Network) -> None:
        """Add a convolution with bias for each layer, and a buffer with the largest value of each stream."""
        self.register_buffer("input_scale", torch.ones(network.frontend.n_mels))
        self.register_buffer("input_shift", torch.zeros(network.frontend.n_mels))
        for place in network.places():
            self.add_module(place.layer.name, convolution(place, network, bias=True))
        for name in watched(network):
            self.register_buffer(f"top_{name}", torch.zeros(()))

    def start_from(self, arrays: Arrays, source: str) -> None:
        """Load trained weights of the float form, with batch norms folded into the convolutions.

        Raises:
            WeightsError: if the arrays are not those of the float form
        """
        state = trainable(arrays, replace(self.network, integers=False), source)
        state |= {f"top_{name}": np.zeros((), np.float32) for name in watched(self.network)}
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})

    def bits(self, name: str) -> int:
        """Number of fractional bits of a stream."""
        return int(power_for(float(getattr(self, f"top_{name}"))))

    def grid(self, values: Tensor, name: str) -> Tensor:
        """Round the values of a stream to int8; during training, update its largest value."""
        if self.training:
            with torch.no_grad():
                top, seen = getattr(self, f"top_{name}"), largest(values.detach().abs().amax().float())
                top.copy_(torch.where(top == 0, seen, top.lerp(seen, 0.02)))
        return rounded(values, self.bits(name))

    def tokens(self, log_mel: Tensor) -> Tensor:
        """The layers: (batch, frames, n_mels) -> (batch, tokens, token_size)."""
        hidden = before = self._input(log_mel).transpose(1, 2)
        bits = INPUT_BITS
        for place in self.network.places():
            layer, module = place.layer, getattr(self, place.layer.name)
            weight, bias = on_grid(module, bits)
            options = (module.stride, module.padding, module.dilation, module.groups)
            output = functional.relu(functional.conv1d(padded(hidden, layer), weight, bias, *options))
            if layer.adds:
                output = before + rounded(output, self.bits(place.stream))
            before, hidden = hidden, self.grid(output, place.stream)
            bits = self.bits(place.stream)
        tokens: Tensor = hidden.transpose(1, 2)
        return tokens

    def _input(self, log_mel: Tensor) -> Tensor:
        """The int8 input of the first layer, from log-mel in dB."""
        steps = torch.floor(log_mel.double() * 2**LOG_MEL_BITS + 0.5)
        integers = input_integers(self.input_scale.cpu().numpy(), self.input_shift.cpu().numpy())
        scale, shift = (torch.from_numpy(array).to(log_mel.device) for array in integers)
        values = torch.floor((steps * scale + shift) / 2.0**INPUT_SHIFT + 0.5).clamp(-128, 127)
        scaled: Tensor = values / 2**INPUT_BITS
        return scaled.float()

    def features_to_emotion(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel, shape=(batch, frames, n_mels), to emotion (batch, 3) and embedding (batch, embedding_size)."""
        with torch.autocast(log_mel.device.type, enabled=False):
            tokens = self.tokens(log_mel.float())
            bits = self.bits(self.network.places()[-1].stream)
            value = self.grid(functional.linear(tokens, *on_grid(self.lin, bits)), "value")
            weight, _ = on_grid(self.sof, bits)
            score = rounded(functional.linear(tokens, weight), SCORE_BITS, 16)
            share = (score * math.log(2)).softmax(1)
            embedding = (value * share).sum(1)
            weight, _ = on_grid(self.out, 0)
            return functional.linear(self.dropout(embedding), weight, self.out.bias), embedding


def rounded(values: Tensor, bits: int, size: int = 8) -> Tensor:
    """Round to ``size``-bit integers over 2^bits, halves up, with a straight-through gradient inside the range."""
    low, high = -(2 ** (size - 1)) / 2.0**bits, (2 ** (size - 1) - 1) / 2.0**bits
    fitting = values.clamp(low, high)
    steps = torch.floor(fitting.detach() * 2.0**bits + 0.5) / 2.0**bits
    return fitting + (steps.clamp(low, high) - fitting.detach())


def on_grid(layer: nn.Conv1d | nn.Linear, bits: int) -> tuple[Tensor, Tensor | None]:
    """Rounded weight and bias of a layer whose input has ``bits`` fractional bits, with one power of two per row."""
    weight = layer.weight
    rows = torch.from_numpy(row_powers(weight.detach().cpu().numpy())).to(weight)
    factor = (2.0**rows).reshape(-1, *[1] * (weight.ndim - 1))
    scaled = weight * factor
    steps = scaled + (torch.floor(scaled.detach() + 0.5).clamp(-127, 127) - scaled.detach())
    if layer.bias is None:
        return steps / factor, None
    scaled = layer.bias * 2.0 ** (rows + bits)
    return steps / factor, (scaled + (torch.floor(scaled.detach() + 0.5) - scaled.detach())) / 2.0 ** (rows + bits)
