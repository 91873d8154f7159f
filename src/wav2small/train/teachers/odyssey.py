"""The teacher ``odyssey``: the baseline of the Odyssey 2024 challenge, WavLM-large with attentive statistics pooling.

Source: ``3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes`` on the hub, MIT, trained on MSP-Podcast. Its own code is
not executed. The model card and the training code of the challenge (github.com/msplabresearch/MSP-Podcast_Challenge)
define the names of the arrays, the pooling with a variance floor of 1e-5, the head of linear layer, layer norm and
ReLU, the order arousal, dominance, valence, and mean and std in the configuration. The card subtracts the mean; the
authors of Wav2Small add it, and so do we. The mean is -8e-5, so the difference is .002 standard deviations. In padded
batches the card's code may pool over one token of padding; here a clip's result is independent of its batch.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from wav2small.train.teachers.hub import check_config, find_folder, load_strictly, output_order, read_arrays, read_json
from wav2small.train.teachers.pooling import AttentiveStatistics
from wav2small.train.teachers.speech import PublishedTeacher, states

HUB_NAME = "3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes"
REVISION = "00d0e12ba9bf957f5aeea36e8663c8c61cb50ac9"
LICENCE = "MIT"
WAVLM_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": False,
    "num_buckets": 320,
    "max_bucket_distance": 800,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}
"""Configuration of ``microsoft/wavlm-large``; the checkpoint contains only its name, as ``ssl_type``."""


class Regression(nn.Module):
    """Hidden layers (linear, layer norm, ReLU), then one output per dimension."""

    def __init__(self, width: int, hidden: int, layers: int, outputs: int, dropout: float) -> None:
        super().__init__()
        sizes = [width, *[hidden] * layers]
        self.fc = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(), nn.Dropout(dropout))
            for before, after in pairwise(sizes)
        )
        self.out = nn.Sequential(nn.Linear(hidden, outputs))
        self.inp_drop = nn.Dropout(dropout)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, width) -> outputs (batch, outputs) and last hidden layer (batch, hidden)."""
        hidden = self.inp_drop(pooled)
        for layer in self.fc:
            hidden = layer(hidden)
        return self.out(hidden), hidden


class OdysseyNet(nn.Module):
    """WavLM, pooling and head, with the names of the published file.

    Args:
        config: configuration of the checkpoint
        order: indices of arousal, dominance and valence in its outputs
        body: configuration of WavLM
    """

    def __init__(self, config: dict[str, Any], order: list[int], body: WavLMConfig) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.order = order
        self.ssl_model = WavLMModel(body)
        self.pool_model = AttentiveStatistics(width)
        self.ser_model = Regression(
            2 * width,
            width,
            config["classifier_hidden_layers"],
            config["num_classes"],
            config["classifier_dropout_prob"],
        )

    def forward(self, signals: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised signals (batch, samples) -> A/D/V (batch, 3) and embedding (batch, size)."""
        layers, real = states(self.ssl_model, signals, lengths)
        emotion, embedding = self.ser_model(self.pool_model(layers[-1], real))
        return emotion[:, self.order], embedding


class Odyssey(PublishedTeacher):
    """The teacher from a folder in the format of the published checkpoint.

    Raises:
        WeightsError: if an array is missing or unknown, or the configuration is that of another network
    """

    name = "odyssey"
    licence = LICENCE

    def __init__(self, folder: Path, bf16: bool = False, device: str = "cpu") -> None:
        config = read_json(folder / "config.json")
        check_config(config, {"model_type": "ser", "num_classes": 3, "sampling_rate": 16000}, folder)
        net = OdysseyNet(config, output_order(config, folder), _body_config(config))
        load_strictly(net, read_arrays(folder), str(folder))
        self.mean, self.std = float(config["mean"]), float(config["std"])
        super().__init__(net, bf16, device)

    def normalise(self, signal: np.ndarray) -> np.ndarray:
        """(signal + mean) / std, with the plus sign as in the code of the authors of Wav2Small."""
        return ((signal + self.mean) / self.std).astype(np.float32)


def _body_config(config: dict[str, Any]) -> WavLMConfig:
    """Configuration of WavLM-large, or of the checkpoint named by another ``ssl_type``."""
    if config["ssl_type"] == "microsoft/wavlm-large":
        return WavLMConfig(**WAVLM_LARGE)
    folder = find_folder(config["ssl_type"])
    body = read_json(folder / "config.json")
    check_config(body, {"model_type": "wavlm"}, folder)
    return WavLMConfig.from_dict(body)


def odyssey(bf16: bool = False, device: str = "cpu") -> Odyssey:
    """Load the published teacher from WAV2SMALL_MODELS or the hub."""
    return Odyssey(find_folder(HUB_NAME, REVISION), bf16, device)
