"""Bodies: wav2vec2, HuBERT, DistilHuBERT, WavLM, data2vec-audio or Whisper encoders in the hub's format."""

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
from wav2small.train.teachers.whisper import WHISPER, WhisperBody, find_encoder

KINDS: dict[str, tuple[type[PretrainedConfig], Callable[[Any], PreTrainedModel], str]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, "wav2vec2."),
    "hubert": (HubertConfig, HubertModel, "hubert."),
    "wavlm": (WavLMConfig, WavLMModel, "wavlm."),
    "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel, "data2vec_audio."),
    "whisper": (WhisperConfig, WhisperEncoder, "encoder."),
}
"""``model_type`` -> configuration, encoder, and the prefix of its arrays in files that also contain a head."""
HEADS = re.compile(r"(quantizer|project_hid|project_q|lm_head|final_proj|classifier|projector|decoder|proj_out)\..*")
"""Arrays of other tasks in files of the hub, which a body does not use."""


class SpeechBody:
    """Pooled hidden states of all layers of an encoder on the signal.

    Args:
        encoder: encoder of one of ``KINDS``, except Whisper
        normalise: whether the input needs zero mean and unit variance
        bf16: compute in bfloat16
        device: torch device
        pooling: one of ``config.FIXED_POOLINGS``
        key: identifies the statistics of this body
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
        """Number of state tensors: the input of the first layer, then one per layer."""
        return int(self.encoder.config.num_hidden_layers) + 1

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.encoder.config.hidden_size)

    def statistics(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """Pooled states, float32, shape=(signals, layers, size); independent of the batching."""
        pool, times = FIXED[self.pooling]
        out = np.zeros((len(signals), self.layers, times * self.width), np.float32)
        for batch in self.batches(signals):
            sound, lengths = self.prepare([signals[index] for index in batch])
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                layers, real = self.states(sound.to(self.device), lengths.to(self.device), self.pooling)
                out[batch] = torch.stack([pool(state.float(), real) for state in layers], 1).cpu().numpy()
        return out

    @torch.inference_mode()
    def batch_statistics(self, signals: Tensor) -> Tensor:
        """Pooled states of signals of equal length on any device: (signals, samples) -> (signals, layers, size)."""
        return torch.from_numpy(self.statistics(list(signals.cpu().numpy()))).to(self.device)

    def batches(self, signals: Sequence[np.ndarray]) -> list[list[int]]:
        """Indices of the signals of each batch."""
        lengths = [len(signal) for signal in signals]
        return list(batches(lengths, same_length=not padding_is_safe(self.encoder.config)))

    def prepare(self, signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Input of the encoder, zero-padded, shape=(batch, samples), and the lengths in samples."""
        ready = [long_enough(signal) for signal in signals]
        return padded([unit_variance(signal) for signal in ready] if self.normalise else ready)

    def states(self, signals: Tensor, lengths: Tensor, pooling: str = "") -> tuple[list[Tensor], Tensor]:
        """States of each layer, (batch, tokens, width), and the mask of real tokens, (batch, tokens)."""
        return states(self.encoder, signals, lengths, pooling)


Body = WhisperBody | SpeechBody


def groups(body: Body, signals: Sequence[np.ndarray]) -> list[list[int]]:
    """Indices of the signals of each batch of a body."""
    lengths = [len(signal) for signal in signals]
    return list(batches(lengths)) if isinstance(body, WhisperBody) else body.batches(signals)


def last_states(body: Body, signals: Sequence[np.ndarray]) -> list[Tensor]:
    """Last hidden states of the real tokens of each signal, independent of the batching.

    Returns:
        float32, shape=(tokens, width) each
    """
    rows: dict[int, Tensor] = {}
    for group in groups(body, signals):
        batch, lengths = body.prepare([signals[index] for index in group])
        with torch.inference_mode(), torch.autocast(body.device.type, torch.bfloat16, enabled=body.bf16):
            layers, real = body.states(batch.to(body.device), lengths.to(body.device))
        rows |= zip(group, [state[kept].float() for state, kept in zip(layers[-1], real, strict=True)], strict=True)
    return [rows[index] for index in range(len(signals))]


def load_body(
    name: str, layers: int | None = None, pooling: str = "mean+std", bf16: bool = False, device: str = "cpu"
) -> Body:
    """Load a body.

    Args:
        name: folder, or ``owner/name`` on the hub or below WAV2SMALL_MODELS; ``whisper`` is Whisper base
        layers: number of layers to keep, from the first; None keeps all
        pooling: one of ``config.FIXED_POOLINGS``
        bf16: compute matrix products in bfloat16
        device: torch device

    Raises:
        WeightsError: if it is not available, not of a supported kind, has fewer layers, or its arrays do not fit
    """
    if name == WHISPER:
        return wrap(find_encoder(layers=layers), False, bf16, device, pooling)
    folder = find_folder(name)
    config = read_json(folder / "config.json")
    arrays = body_arrays(read_arrays(folder), str(config.get("model_type")), layers)
    encoder = build(config, folder, layers)
    load_strictly(encoder, arrays, str(folder))
    return wrap(encoder, wants_unit_variance(folder, config), bf16, device, pooling)


def wrap(encoder: PreTrainedModel, normalise: bool, bf16: bool, device: str, pooling: str = "mean+std") -> Body:
    """A body from an encoder with loaded weights."""
    used = {name: tensor for name, tensor in encoder.state_dict().items() if not TRAINING_ONLY.fullmatch(name)}
    key = fingerprint(used)
    encoder.eval()  # type: ignore[no-untyped-call]
    if isinstance(encoder, WhisperEncoder):
        return WhisperBody(encoder, bf16, device, pooling, key)
    return SpeechBody(encoder, normalise, bf16, device, pooling, key)


def build(config: Mapping[str, Any], where: str | Path, layers: int | None = None) -> PreTrainedModel:
    """Build the untrained encoder of a configuration.

    Args:
        config: content of config.json
        where: name of the file, for error messages
        layers: number of layers to keep, from the first; None keeps all

    Raises:
        WeightsError: if its kind is not supported, or it has fewer layers
    """
    kind = config.get("model_type")
    if kind not in KINDS:
        raise WeightsError(f"{where}: model_type is {kind!r}, supported: {', '.join(KINDS)}.")
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
        made.mask_time_prob = made.mask_time_prob or 0.05  # above 0, the model has the embedding of masked tokens
    return make(made)


def body_arrays(arrays: Arrays, kind: str, layers: int | None = None) -> Arrays:
    """Arrays of the encoder with its own names, without heads of other tasks and without omitted layers."""
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
    """Whether the encoder's input needs zero mean and unit variance, from preprocessor_config.json.

    Raises:
        WeightsError: if the file does not contain ``do_normalize``
    """
    if config.get("model_type") == "whisper":
        return False
    path = folder / "preprocessor_config.json"
    normalise = read_json(path).get("do_normalize")
    if not isinstance(normalise, bool):
        raise WeightsError(f"{path}: do_normalize is {normalise!r}, needed: true or false. Copy it from the hub again.")
    return normalise
