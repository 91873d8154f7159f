"""Any wav2vec2, HuBERT, DistilHuBERT, WavLM, data2vec-audio or Whisper encoder in the hub's format, as a body."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from wav2small.errors import WeightsError
from wav2small.network.weights import Arrays
from wav2small.train.teachers.hub import TRAINING_ONLY, find_folder, fingerprint, load_strictly, read_arrays, read_json
from wav2small.train.teachers.pooling import FIXED
from wav2small.train.teachers.speech import batches, long_enough, padded, padding_is_safe, states, unit_variance
from wav2small.train.teachers.whisper import WhisperBody

KINDS: dict[str, tuple[type[PretrainedConfig], Callable[[Any], PreTrainedModel], str]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, "wav2vec2."),
    "hubert": (HubertConfig, HubertModel, "hubert."),
    "wavlm": (WavLMConfig, WavLMModel, "wavlm."),
    "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel, "data2vec_audio."),
    "whisper": (WhisperConfig, WhisperEncoder, "encoder."),
}
"""``model_type`` to configuration, encoder, and what its arrays' names begin with where a head is in the file too."""
HEADS = re.compile(r"(quantizer|project_hid|project_q|lm_head|final_proj|classifier|projector|decoder|proj_out)\..*")
"""Of other tasks, in files of the hub; a body is without."""


class SpeechBody:
    """Statistics of the states of every layer of an encoder whose input is the waveform.

    Args:
        encoder: of one of ``KINDS`` but Whisper
        normalise: whether it wants zero mean and unit variance
        bf16, device, pooling, key: as of ``WhisperBody``
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        normalise: bool,
        bf16: bool = False,
        device: str = "cpu",
        pooling: str = "mean+std",
        key: str = "",
    ) -> None:
        self.device = torch.device(device)
        self.encoder = encoder
        self.encoder.to(self.device)  # type: ignore[arg-type]
        self.normalise, self.bf16, self.pooling, self.key = normalise, bf16, pooling, key

    @property
    def layers(self) -> int:
        """How many sets of states there are: what enters the first layer, then one a layer."""
        return int(self.encoder.config.num_hidden_layers) + 1

    @property
    def width(self) -> int:
        """Numbers in a state."""
        return int(self.encoder.config.hidden_size)

    def statistics(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """Pooled states, shape=(signals, layers, numbers); a clip's answer does not depend on its batch."""
        pool, times = FIXED[self.pooling]
        out = np.zeros((len(signals), self.layers, times * self.width), np.float32)
        for batch in self.batches(signals):
            sound, lengths = self.prepare([signals[index] for index in batch])
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                found, real = self.states(sound.to(self.device), lengths.to(self.device))
                out[batch] = torch.stack([pool(state.float(), real) for state in found], 1).cpu().numpy()
        return out

    @torch.inference_mode()
    def batch_statistics(self, signals: Tensor) -> Tensor:
        """Of signals of one length on any device, shape=(signals, samples) to (signals, layers, numbers)."""
        return torch.from_numpy(self.statistics(list(signals.cpu().numpy()))).to(self.device)

    def batches(self, signals: Sequence[np.ndarray]) -> list[list[int]]:
        """Indices of signals that may go together."""
        lengths = [len(signal) for signal in signals]
        return list(batches(lengths, same_length=not padding_is_safe(self.encoder.config)))

    def prepare(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Signals as the encoder wants them, side by side, (batch, samples), and their lengths."""
        ready = [long_enough(signal) for signal in signals]
        return padded([unit_variance(signal) for signal in ready] if self.normalise else ready)

    def states(self, signals: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """A state (batch, tokens, width) a layer, and which tokens are real."""
        return states(self.encoder, signals, lengths)


Body = WhisperBody | SpeechBody


def load_body(
    name: str, layers: int | None = None, pooling: str = "mean+std", bf16: bool = False, device: str = "cpu"
) -> Body:
    """A frozen body.

    Args:
        name: a folder, or ``owner/name`` on the hub or below WAV2SMALL_MODELS
        layers: how many of its layers to keep, from the first; default: all
        pooling: one of ``config.FIXED_POOLINGS``
        bf16: matrix products in bfloat16
        device: that torch computes on

    Raises:
        WeightsError: if it is not to be had, is of no known kind, has fewer layers, or its arrays are not its own
    """
    folder = find_folder(name)
    config = read_json(folder / "config.json")
    arrays = body_arrays(read_arrays(folder), str(config.get("model_type")), layers)
    encoder = build(config, folder, layers)
    load_strictly(encoder, arrays, str(folder))
    return wrap(encoder, wants_unit_variance(folder, config), bf16, device, pooling)


def wrap(encoder: PreTrainedModel, normalise: bool, bf16: bool, device: str, pooling: str = "mean+std") -> Body:
    """An encoder with its arrays as a body."""
    used = {name: tensor for name, tensor in encoder.state_dict().items() if not TRAINING_ONLY.fullmatch(name)}
    key = fingerprint(used)
    encoder.eval()  # type: ignore[no-untyped-call]
    if isinstance(encoder, WhisperEncoder):
        return WhisperBody(encoder, bf16, device, pooling, key)
    return SpeechBody(encoder, normalise, bf16, device, pooling, key)


def build(config: Mapping[str, Any], where: str | Path, layers: int | None = None) -> PreTrainedModel:
    """The encoder of a configuration, untrained.

    Raises:
        WeightsError: if its kind is not known, or it has fewer layers than asked for
    """
    kind = config.get("model_type")
    if kind not in KINDS:
        raise WeightsError(f"{where}: model_type is {kind!r}, known as a body: {', '.join(KINDS)}.")
    make_config, make, _ = KINDS[kind]
    made = make_config.from_dict(dict(config))
    depth = "encoder_layers" if kind == "whisper" else "num_hidden_layers"
    if layers is not None and not 1 <= layers <= getattr(made, depth):
        raise WeightsError(
            f"{where}: has {getattr(made, depth)} layers, asked for {layers}. Ask for 1 or more of them."
        )
    setattr(made, depth, layers or getattr(made, depth))
    made.apply_spec_augment = False
    if kind != "whisper":
        made.layerdrop = 0.0
        made.mask_time_prob = made.mask_time_prob or 0.05  # above 0 there is what stands for masked tokens
    return make(made)


def body_arrays(arrays: Arrays, kind: str, layers: int | None = None) -> Arrays:
    """Those of the encoder under its own names, without heads of other tasks and without layers that are left out."""
    prefix = KINDS[kind][2] if kind in KINDS else ""
    bare = {name.removeprefix("model.") if kind == "whisper" else name: array for name, array in arrays.items()}
    has_prefix = kind != "whisper" and any(name.startswith(prefix) for name in bare)
    if kind == "whisper":
        has_prefix = any(name.startswith("encoder.layers.") for name in bare)
    kept = {name: array for name, array in bare.items() if not (has_prefix and HEADS.fullmatch(name))}
    if has_prefix:
        kept = {name.removeprefix(prefix) if name.startswith(prefix) else name: a for name, a in kept.items()}
    beyond = re.compile(r"(?:encoder\.)?layers\.(\d+)\..*")
    return {
        name: array
        for name, array in kept.items()
        if layers is None or not ((found := beyond.fullmatch(name)) and int(found[1]) >= layers)
    }


def wants_unit_variance(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the encoder wants zero mean and unit variance, by its preprocessor_config.json.

    Raises:
        WeightsError: if the file does not say
    """
    if config.get("model_type") == "whisper":
        return False
    path = folder / "preprocessor_config.json"
    found = read_json(path).get("do_normalize")
    if not isinstance(found, bool):
        raise WeightsError(f"{path}: do_normalize is {found!r}, needed: true or false. Copy it from the hub again.")
    return found
