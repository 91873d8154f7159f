"""The paper's other students: MobileNets V3 and V4 on the same log-mel, with the pooling of Wav2Small.

Source: arXiv:2408.13920 names the family and the 3.12M parameters of one network. The trunks of timm, without their
last convolution and classifier, are our choice. See docs/students.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wav2small.errors import missing_packages
from wav2small.network.config import FRONTEND
from wav2small.network.weights import check_arrays, read_safetensors
from wav2small.train.students.base import LogMelStudent

try:
    import timm
except ModuleNotFoundError:
    raise missing_packages("this student", ["timm"], "wav2small[mobilenet]") from None

HEADS = ("classifier.", "conv_head.", "norm_head.")
"""Prefixes of timm's arrays after the trunk."""


class MobileNet(LogMelStudent):
    """Log-mel as an image with one channel, a trunk with a stride of 32 (16 tokens per second), pooling and outputs.

    Args:
        trunk: name of the trunk in timm
        dropout: dropout before the output layer
        imagenet: safetensors file of timm's weights for initialisation; None is random. Nothing is downloaded.

    Raises:
        WeightsError: if the file does not contain that trunk
    """

    def __init__(self, trunk: str, dropout: float = 0.0, imagenet: str | Path | None = None) -> None:
        super().__init__(FRONTEND)
        made: Any = timm.create_model(trunk, pretrained=False, in_chans=1, features_only=True, out_indices=(-1,))
        channels = made.feature_info.channels()[-1]
        self.trunk: nn.Module = made
        if imagenet is not None:
            self.trunk.load_state_dict(imagenet_trunk(imagenet, self.trunk.state_dict()), strict=False)
        self.trunk.to(memory_format=torch.channels_last)  # twice as fast to train on a CPU
        self.add_outputs(channels, dropout, token=channels, embedding_size=channels)

    def tokens(self, log_mel: Tensor) -> Tensor:
        """Tokens of the trunk, averaged over mels: (batch, frames, n_mels) -> (batch, tokens, channels)."""
        (hidden,) = self.trunk(log_mel[:, None])
        tokens: Tensor = hidden.mean(3).transpose(1, 2)
        return tokens


def imagenet_trunk(path: str | Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Trunk weights of an ImageNet classifier, with the first kernels summed over the colour channels."""
    arrays = {name: array for name, array in read_safetensors(path)[0].items() if not name.startswith(HEADS)}
    arrays = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    if "conv_stem.weight" in arrays:
        arrays["conv_stem.weight"] = arrays["conv_stem.weight"].sum(1, keepdims=True)
    shapes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    check_arrays(arrays, shapes, str(path))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def mobilenetv3_small(dropout: float = 0.0) -> MobileNet:
    """MobileNetV3-Small: 1.6M parameters."""
    return MobileNet("mobilenetv3_small_100", dropout)


def mobilenetv3_large(dropout: float = 0.0) -> MobileNet:
    """MobileNetV3-Large: 4.8M parameters."""
    return MobileNet("mobilenetv3_large_100", dropout)


def mobilenetv4_small(dropout: float = 0.0) -> MobileNet:
    """MobileNetV4-Conv-Small: 3.1M parameters (3.12M in the paper)."""
    return MobileNet("mobilenetv4_conv_small", dropout)


def mobilenetv4_medium(dropout: float = 0.0) -> MobileNet:
    """MobileNetV4-Conv-Medium: 9.1M parameters."""
    return MobileNet("mobilenetv4_conv_medium", dropout)
