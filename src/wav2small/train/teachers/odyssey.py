"""The teacher ``odyssey``: the baseline of the Odyssey 2024 challenge, WavLM-large with attentive statistics pooling.

Source: ``3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes`` on the hub, MIT, trained on MSP-Podcast. Its own code is
never run. Known from its model card and from the training code of the challenge (github.com/msplabresearch/
MSP-Podcast_Challenge): the names of the arrays, the pooling with its floor of 1e-5 under the variance, the head of
linear, layer norm and ReLU, the order arousal, dominance, valence, and mean and std in the configuration. The card
subtracts the mean; the authors of Wav2Small add it, and so do we. The mean is -8e-5, so that is .002 of a standard
deviation. In a padded batch the card's code pools over one token of padding at times; here a clip is as if alone.
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
"""Of ``microsoft/wavlm-large``, which the configuration names as its ``ssl_type`` and says no more about."""


class Regression(nn.Module):
    """Hidden layers of linear, layer norm and ReLU, then one number a dimension."""

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
        """(batch, width) to the outputs and to the last hidden layer."""
        hidden = self.inp_drop(pooled)
        for layer in self.fc:
            hidden = layer(hidden)
        return self.out(hidden), hidden


class OdysseyNet(nn.Module):
    """WavLM, pooling and head, under the names of the published file.

    Args:
        config: the checkpoint's own
        order: which of its outputs are arousal, dominance and valence
        body: of its WavLM
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
        """Normalised signals, (batch, samples), to A/D/V and the embedding."""
        layers, real = states(self.ssl_model, signals, lengths)
        emotion, embedding = self.ser_model(self.pool_model(layers[-1], real))
        return emotion[:, self.order], embedding


class Odyssey(PublishedTeacher):
    """The teacher of a folder in the format of the published one.

    Raises:
        WeightsError: if an array is missing or left over, or the configuration is of another network
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
        """(signal + mean) / std, with the plus sign of Wav2Small's authors."""
        return ((signal + self.mean) / self.std).astype(np.float32)


def _body_config(config: dict[str, Any]) -> WavLMConfig:
    """Of WavLM-large, or of the ``config.json`` that another ``ssl_type`` has."""
    if config["ssl_type"] == "microsoft/wavlm-large":
        return WavLMConfig(**WAVLM_LARGE)
    folder = find_folder(config["ssl_type"])
    found = read_json(folder / "config.json")
    check_config(found, {"model_type": "wavlm"}, folder)
    return WavLMConfig.from_dict(found)


def odyssey(bf16: bool = False, device: str = "cpu") -> Odyssey:
    """The published one, from WAV2SMALL_MODELS or the hub."""
    return Odyssey(find_folder(HUB_NAME, REVISION), bf16, device)
