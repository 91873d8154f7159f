"""The teacher ``dawn``: wav2vec2 with twelve layers, mean over time, dense layer, tanh, linear layer.

Source: Wagner et al. 2023, "Dawn of the transformer era in speech emotion recognition", arXiv:2203.07378;
``audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim`` on the hub, CC BY-NC-SA 4.0 (research only). The head is
described in the model card; zero mean and unit variance over the clip, and the order arousal, dominance, valence are
from config.json and preprocessor_config.json. ``Wav2Vec2ForSequenceClassification`` of transformers loads this body
with a random head, without an error; this module reports missing arrays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from wav2small.train.teachers.hub import check_config, find_folder, load_strictly, output_order, read_arrays, read_json
from wav2small.train.teachers.pooling import mean
from wav2small.train.teachers.speech import PublishedTeacher, states, unit_variance

HUB_NAME = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
REVISION = "6eba34a2485ea31cb03600241787c3a5edab8626"
LICENCE = "CC-BY-NC-SA-4.0"
CONFIG = {"model_type": "wav2vec2", "feat_extract_norm": "layer", "do_stable_layer_norm": True, "pooling_mode": "mean"}


class RegressionHead(nn.Module):
    """Dense layer, tanh, linear layer, with the names of the published file."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, outputs)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, width) -> outputs (batch, outputs) and hidden layer (batch, width)."""
        hidden = self.dense(pooled).tanh()
        return self.out_proj(hidden), hidden


class DawnNet(nn.Module):
    """wav2vec2, mean over time and head, with the names of the published file.

    Args:
        config: configuration of the checkpoint
        order: indices of arousal, dominance and valence in its outputs
    """

    def __init__(self, config: Wav2Vec2Config, order: list[int]) -> None:
        super().__init__()
        self.order = order
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = RegressionHead(config.hidden_size, len(order))

    def forward(self, signals: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised signals (batch, samples) -> A/D/V (batch, 3) and embedding (batch, size)."""
        layers, real = states(self.wav2vec2, signals, lengths)
        emotion, embedding = self.classifier(mean(layers[-1], real))
        return emotion[:, self.order], embedding


class Dawn(PublishedTeacher):
    """The teacher from a folder in the format of the published checkpoint.

    Raises:
        WeightsError: if an array is missing or unknown, or the configuration is that of another network
    """

    name = "dawn"
    licence = LICENCE

    def __init__(self, folder: Path, bf16: bool = False, device: str = "cpu") -> None:
        config = read_json(folder / "config.json")
        check_config(config, CONFIG, folder)
        check_config(read_json(folder / "preprocessor_config.json"), {"do_normalize": True}, folder)
        net = DawnNet(Wav2Vec2Config.from_dict(config), output_order(config, folder))
        load_strictly(net, read_arrays(folder), str(folder))
        super().__init__(net, bf16, device)

    def normalise(self, signal: np.ndarray) -> np.ndarray:
        """The signal with zero mean and unit variance."""
        return unit_variance(signal)


def dawn(bf16: bool = False, device: str = "cpu") -> Dawn:
    """Load the published teacher from WAV2SMALL_MODELS or the hub."""
    return Dawn(find_folder(HUB_NAME, REVISION), bf16, device)
