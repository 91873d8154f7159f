"""A ``Network`` in torch. Each layer is a module with the layer's name, so arrays and modules have equal names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.network.config import Layer, Network, Place
from wav2small.train.students.base import LogMelStudent


class LayeredStudent(LogMelStudent):
    """The float form of a network.

    Args:
        network: the network
        dropout: dropout before the output layer
    """

    def __init__(self, network: Network, dropout: float = 0.0) -> None:
        frontend, level = network.frontend, network.level_frames
        super().__init__(frontend, network.normalisation, level, network.stores_frontend)
        self.network = network
        self.add_layers(network)
        pooled, token = network.pooling_shape
        embedding_size = network.embedding_size
        self.add_outputs(pooled, dropout, token=token, embedding_size=embedding_size, score_bias=network.score_bias)

    def add_layers(self, network: Network) -> None:
        """Add a convolution and a batch norm for each layer that has arrays."""
        eps = network.batch_norm_eps
        if network.mels_are_channels:
            self.norm0 = nn.BatchNorm1d(network.frontend.n_mels, eps=eps)
        for place in network.convolutions():
            self.add_module(place.layer.name, convolution(place, network, bias=False))
            kind = nn.BatchNorm1d if network.mels_are_channels else nn.BatchNorm2d
            self.add_module(place.layer.norm, kind(place.layer.outputs, eps=eps))

    def tokens(self, log_mel: Tensor) -> Tensor:
        """The layers: (batch, frames, n_mels) -> (batch, tokens, token_size)."""
        if self.network.mels_are_channels:
            hidden = before = self.norm0(log_mel.transpose(1, 2))
        else:
            hidden = before = log_mel[:, None]
        for layer in self.network.layers:
            if layer.pool:
                side = (layer.kernel[0] // 2, layer.kernel[1] // 2)
                output = functional.max_pool2d(hidden, layer.kernel, layer.stride, side)
            else:
                output = getattr(self, layer.name)(padded(hidden, layer))
                output = functional.relu(getattr(self, layer.norm)(output))
            before, hidden = hidden, before + output if layer.adds else output
        tokens: Tensor = hidden.transpose(1, 2)
        return tokens if self.network.mels_are_channels else tokens.flatten(2)

    def pool(self, tokens: Tensor) -> Tensor:
        """Softmax pooling of tokens, or of channels with their Gram matrix, to (batch, embedding_size)."""
        if self.network.pooling == "tokens":
            return super().pool(tokens)
        channels = tokens.reshape(*tokens.shape[:2], self.network.pooled, -1).transpose(2, 3)  # channels are the last
        weight = self.sof(channels).float().softmax(1)
        pooled = (self.lin(channels).float() * weight).sum(1).transpose(1, 2)
        with torch.autocast(pooled.device.type, enabled=False):
            return torch.cat([pooled.flatten(1), (pooled @ pooled.transpose(1, 2)).flatten(1)], 1)


def convolution(place: Place, network: Network, bias: bool) -> nn.Conv1d | nn.Conv2d:
    """The module of a layer: 1-D over time if mels are channels, else 2-D over time and mels."""
    layer = place.layer
    groups = layer.outputs if layer.depthwise else 1
    padding = 0 if layer.causal else layer.reach // 2
    if network.mels_are_channels:
        return nn.Conv1d(
            place.inputs,
            layer.outputs,
            layer.kernel[0],
            stride=layer.stride,
            padding=padding,
            dilation=layer.dilation,
            groups=groups,
            bias=bias,
        )
    return nn.Conv2d(
        place.inputs,
        layer.outputs,
        layer.kernel,
        stride=(layer.stride, 1),
        padding=(padding, layer.kernel[1] // 2),
        dilation=(layer.dilation, 1),
        groups=groups,
        bias=bias,
    )


def padded(hidden: Tensor, layer: Layer) -> Tensor:
    """The input of a causal layer, zero-padded before the start; centred convolutions pad themselves."""
    if not layer.causal or not layer.reach:
        return hidden
    return functional.pad(hidden, (0, 0, layer.reach, 0) if hidden.ndim == 4 else (layer.reach, 0))
