"""The teacher ``dawn``: wav2vec2 of twelve layers, mean over time, dense, tanh, linear.

Source: Wagner et al. 2023, "Dawn of the transformer era in speech emotion recognition", arXiv:2203.07378;
``audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim`` on the hub, CC BY-NC-SA 4.0: research only. Known from its
model card, which has the head in full, and from its config.json and preprocessor_config.json: zero mean and unit
variance over the clip, and the order arousal, dominance, valence. The library's ``Wav2Vec2ForSequenceClassification``
loads its body, finds no head of its own and answers from a random one without an error; this does not.
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
    """Dense, tanh, linear, under the names of the published file."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, outputs)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, width) to the outputs and to the hidden layer."""
        hidden = self.dense(pooled).tanh()
        return self.out_proj(hidden), hidden


class DawnNet(nn.Module):
    """wav2vec2, mean over time and head, under the names of the published file.

    Args:
        config: the checkpoint's own
        order: which of its outputs are arousal, dominance and valence
    """

    def __init__(self, config: Wav2Vec2Config, order: list[int]) -> None:
        super().__init__()
        self.order = order
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = RegressionHead(config.hidden_size, len(order))

    def forward(self, signals: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised signals, (batch, samples), to A/D/V and the embedding."""
        layers, real = states(self.wav2vec2, signals, lengths)
        emotion, embedding = self.classifier(mean(layers[-1], real))
        return emotion[:, self.order], embedding


class Dawn(PublishedTeacher):
    """The teacher of a folder in the format of the published one.

    Raises:
        WeightsError: if an array is missing or left over, or the configuration is of another network
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
        """Zero mean, unit variance."""
        return unit_variance(signal)


def dawn(bf16: bool = False, device: str = "cpu") -> Dawn:
    """The published one, from WAV2SMALL_MODELS or the hub."""
    return Dawn(find_folder(HUB_NAME, REVISION), bf16, device)
