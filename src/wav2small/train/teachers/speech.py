"""Encoders on the signal (wav2vec2 and similar), in batches that do not change a clip's result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from wav2small.network.config import SAMPLING_RATE
from wav2small.train.config import CLS
from wav2small.train.teachers.base import TransformerTeacher
from wav2small.train.teachers.hub import TRAINING_ONLY, fingerprint
from wav2small.train.teachers.pooling import prepended

MIN_LENGTH = 1600
"""Shortest signal in samples; shorter signals are zero-padded."""
VARIANCE_FLOOR = 1e-7
"""Added to the variance of a signal before the division by its square root."""
BATCH_DUR = 120.0
"""Seconds of audio in a batch, including padding: about 2 GB for a large network in float32."""


def unit_variance(signal: np.ndarray) -> np.ndarray:
    """The signal with zero mean and unit variance over the clip, float32, shape=(samples,).

    Source: ``Wav2Vec2FeatureExtractor`` of transformers with ``do_normalize``.
    """
    normalised: np.ndarray = (signal - signal.mean()) / np.sqrt(signal.var() + VARIANCE_FLOOR)
    return normalised.astype(np.float32)


def padding_is_safe(config: PretrainedConfig) -> bool:
    """Whether the states of a clip are independent of padding. Otherwise a batch must contain clips of equal length.

    A group norm in the first convolution computes statistics over time, including padding. The positional convolutions
    of data2vec and some HuBERT models have several layers, through which padding affects the clip.
    """
    positions_leak = config.model_type == "data2vec-audio" or getattr(config, "conv_pos_batch_norm", False)
    return getattr(config, "feat_extract_norm", "group") == "layer" and not positions_leak


def batches(lengths: Sequence[int], same_length: bool = False) -> Iterator[list[int]]:
    """Indices of the signals of each batch, sorted by length, with at most ``BATCH_DUR`` seconds including padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        full = (len(batch) + 1) * lengths[index] > BATCH_DUR * SAMPLING_RATE
        if batch and (full or (same_length and lengths[index] != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(signals: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Signals zero-padded to equal length, shape=(batch, samples), and their lengths in samples."""
    lengths = [len(signal) for signal in signals]
    out = np.zeros((len(signals), max(lengths)), np.float32)
    for row, signal in zip(out, signals, strict=True):
        row[: len(signal)] = signal
    return torch.from_numpy(out), torch.tensor(lengths)


def long_enough(signal: np.ndarray) -> np.ndarray:
    """The signal, zero-padded to at least ``MIN_LENGTH``."""
    return np.pad(signal, (0, max(0, MIN_LENGTH - len(signal))))


def token_counts(lengths: Tensor, config: PretrainedConfig) -> Tensor:
    """Number of tokens of signals with these lengths in samples, of the same shape."""
    counts = lengths
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        counts = torch.div(counts - kernel, stride, rounding_mode="floor") + 1
    return counts


def is_real(lengths: Tensor, config: PretrainedConfig, samples: int) -> Tensor:
    """Mask of the tokens that are not padding, in a batch of ``samples`` samples, shape=(batch, tokens)."""
    tokens = int(token_counts(torch.tensor(samples), config))
    return torch.arange(tokens, device=lengths.device)[None] < token_counts(lengths, config)[:, None]


def states(
    encoder: PreTrainedModel, signals: Tensor, lengths: Tensor, pooling: str = ""
) -> tuple[list[Tensor], Tensor]:
    """Hidden states of an encoder: of the convolutions, then of each layer; the last one includes the final norm.

    Args:
        encoder: Wav2Vec2Model, HubertModel, WavLMModel or Data2VecAudioModel
        signals: normalised signals, shape=(batch, samples)
        lengths: samples of each signal without padding, shape=(batch,)
        pooling: the states are as this pooling needs them (:func:`prepended`)

    Returns:
        states of each layer, (batch, tokens, width), and the mask of real tokens, (batch, tokens)
    """
    mask = torch.arange(signals.shape[1], device=signals.device)[None] < lengths[:, None]
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")  # of torch, caused by WavLM
    real = is_real(lengths, encoder.config, signals.shape[1])
    transformer = encoder.get_submodule("encoder")

    def prepend(_: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Any]) -> tuple[tuple[Tensor, ...], Any]:
        hidden, kept = prepended(arguments[0], real, pooling)
        return (hidden,), named | {"attention_mask": None if mask.all() else kept}

    hooks = [transformer.register_forward_pre_hook(prepend, with_kwargs=True)] if pooling == CLS else []
    try:
        output = encoder(signals, attention_mask=None if mask.all() else mask.long(), output_hidden_states=True)
    finally:
        for hook in hooks:
            hook.remove()
    layers = [*output.hidden_states[:-1], output.last_hidden_state]
    return layers, prepended(layers[-1], real, pooling)[1]


class PublishedTeacher(TransformerTeacher):
    """A published network as a teacher.

    Args:
        net: module (signals, lengths) -> A/D/V (batch, 3) and embedding (batch, size)
        bf16: compute matrix products in bfloat16
        device: torch device
    """

    def __init__(self, net: nn.Module, bf16: bool = False, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.net = net.eval().to(self.device)
        self.bf16 = bf16
        used = {name: tensor for name, tensor in net.state_dict().items() if not TRAINING_ONLY.fullmatch(name)}
        self.version = fingerprint(used)[:12]

    def normalise(self, signal: np.ndarray) -> np.ndarray:
        """The signal with the normalisation of the network's training."""
        raise NotImplementedError

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """A/D/V followed by the embedding of each signal, shape=(signals, 3 + size)."""
        ready = [self.normalise(long_enough(signal)) for signal in signals]
        rows: dict[int, np.ndarray] = {}
        for batch in batches([len(signal) for signal in ready]):
            sound, lengths = padded([ready[index] for index in batch])
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                emotion, embedding = self.net(sound.to(self.device), lengths.to(self.device))
            rows |= zip(batch, torch.cat([emotion, embedding], 1).float().cpu().numpy(), strict=True)
        return np.stack([rows[index] for index in range(len(signals))])
