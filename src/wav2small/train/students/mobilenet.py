"""The paper's other students: MobileNets V3 and V4 on its log-mel, pooled over time as Wav2Small is.

Source: arXiv:2408.13920 names the family and the 3.12M parameters of one; that the trunks are timm's, without their
last convolution and classifier, is ours. See docs/students.md.
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
"""Prefixes of what timm stores behind the trunk."""


class MobileNet(LogMelStudent):
    """Log-mel as a picture with one channel, a trunk with a stride of 32 (16 tokens a second), pooling, outputs.

    Args:
        trunk: its name in timm
        dropout: share of the embedding that is zeroed before the last layer while training
        imagenet: a safetensors file of timm's weights to begin with; none: from scratch. Nothing is downloaded.

    Raises:
        WeightsError: if the file holds no such trunk
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
        """The trunk, and the mean of the mels that are left, here one: (batch, frames, n_mels) -> (.., channels)."""
        (hidden,) = self.trunk(log_mel[:, None])
        tokens: Tensor = hidden.mean(3).transpose(1, 2)
        return tokens


def imagenet_trunk(path: str | Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trunk of a classifier of pictures, its first kernels summed over red, green and blue."""
    arrays = {name: array for name, array in read_safetensors(path)[0].items() if not name.startswith(HEADS)}
    arrays = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    if "conv_stem.weight" in arrays:
        arrays["conv_stem.weight"] = arrays["conv_stem.weight"].sum(1, keepdims=True)
    shapes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    check_arrays(arrays, shapes, str(path))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def mobilenetv3_small(dropout: float = 0.0) -> MobileNet:
    """1.6M parameters."""
    return MobileNet("mobilenetv3_small_100", dropout)


def mobilenetv3_large(dropout: float = 0.0) -> MobileNet:
    """4.8M parameters."""
    return MobileNet("mobilenetv3_large_100", dropout)


def mobilenetv4_small(dropout: float = 0.0) -> MobileNet:
    """3.1M parameters, the paper's 3.12M."""
    return MobileNet("mobilenetv4_conv_small", dropout)


def mobilenetv4_medium(dropout: float = 0.0) -> MobileNet:
    """9.1M parameters."""
    return MobileNet("mobilenetv4_conv_medium", dropout)
