"""Frozen features of clips: embeddings of a model or a teacher, or states of an encoder, kept in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wav2small.errors import Wav2SmallError
from wav2small.evaluation.predictors import file_sha256
from wav2small.files import absolute, whole_file
from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.backends import of_file
from wav2small.runtime.model import load
from wav2small.runtime.windows import mean, parts
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train.config import ATTENTIVE

if TYPE_CHECKING:
    from torch import Tensor

    from wav2small.train import Progress

CHUNK = 64
"""Clips of one file of the cache."""
BLOCK = 4
"""States of 20 ms whose mean is one token of features with a time axis, so that a corpus fits into memory."""
WHISPER = "whisper"
"""Name of the encoder of Whisper base."""


@dataclass(frozen=True)
class Frozen:
    """Something that makes features and is not trained.

    Attributes:
        key: identifies the features
        embed: signals -> features of each, shape=(width,), or with a time axis, shape=(tokens, width)
        training_data: names of corpora with commas between them; empty where it is not known
    """

    key: str
    embed: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray] | np.ndarray]
    training_data: str = ""


def open_frozen(body: str, layers: int | None = None, pooling: str = "mean") -> Frozen:
    """Open what makes features.

    Args:
        body: a model (NAME[:PRECISION] or a file of weights) or ``teacher:NAME``, whose embedding is used; ``whisper``,
            or an encoder in the hub's format (folder, or owner/name), whose last layer is pooled over time
        layers: number of layers of an encoder to keep, from the first; None keeps all
        pooling: of an encoder; with ``attentive``, features have a time axis, which a head pools

    Raises:
        Wav2SmallError: if a pooling is given for the embedding of a model
        WeightsError: if it is not available
        MissingExtraError: if an encoder or teacher needs the extra ``train``
    """
    if body == WHISPER or Path(body).is_dir() or ("/" in body and not Path(body).is_file()):
        return _encoder(body, layers, pooling)
    if pooling != "mean":
        raise Wav2SmallError(
            f"{body}: pooling is {pooling!r}, but its embedding is pooled already. Leave it out, or name an encoder."
        )
    if body.startswith("teacher:"):
        return _teacher(body.removeprefix("teacher:"))
    model = load(body, of_file(body))
    key = f"{model.metadata.get('name')} {model.metadata.get('sha256')}"
    return Frozen(key, lambda signals: list(map(model.embed, signals)), model.metadata.get("training_data", ""))


def _teacher(name: str) -> Frozen:
    from wav2small.train.teachers import load_teacher

    teacher = load_teacher(name)
    key = f"teacher {teacher.name} {teacher.version} {file_sha256(name)}"
    return Frozen(key, lambda signals: teacher.label_and_embed(signals)[1])


def _encoder(name: str, layers: int | None, pooling: str) -> Frozen:
    from wav2small.train import check_extra

    check_extra()
    from wav2small.train.teachers.bodies import last_states, load_body

    body = load_body(name, layers, pooling)
    if pooling == ATTENTIVE:
        return Frozen(f"{body.key} blocks of {BLOCK}", lambda signals: list(map(_blocks, last_states(body, signals))))
    return Frozen(f"{body.key} {pooling}", lambda signals: body.statistics(signals)[:, -1])


def _blocks(states: Tensor) -> np.ndarray:
    """Means of ``BLOCK`` consecutive states, shape=(tokens, width) -> (blocks, width), float16."""
    starts = np.arange(0, len(states), BLOCK)
    lengths = np.diff([*starts, len(states)])
    return (np.add.reduceat(states.numpy(), starts) / lengths[:, None]).astype(np.float16)


def features(frozen: Frozen, segments: Sequence[Segment], cache: Path, progress: Progress) -> np.ndarray:
    """Features of every segment; those of a segment above 30 s are the mean over its parts, or their concatenation.

    Args:
        frozen: what makes them
        segments: of a manifest
        cache: folder that keeps them, so that an interrupted run continues
        progress: called with (clips done, clips)

    Returns:
        float32, shape=(segments, width); with a time axis float16, shape=(segments, tokens, width), as :func:`stacked`

    Raises:
        AudioError: if a segment cannot be read
    """
    from wav2small.train import make_folder

    make_folder(cache)
    found = []
    for first in range(0, len(segments), CHUNK):
        chunk = segments[first : first + CHUNK]
        path = cache / f"{_digest(frozen, chunk)}.npy"
        if not path.is_file():
            values = _embedded(frozen, chunk)
            with whole_file(path) as temporary:
                np.save(temporary, values)
        found.append(np.load(path))
        progress(first + len(chunk), len(segments))
    return stacked(found)


def stacked(features: Sequence[np.ndarray]) -> np.ndarray:
    """Features of several sets of clips as one array; a time axis is padded with NaN to the longest.

    Args:
        features: each of shape=(clips, width) or (clips, tokens, width); also anything else with one row a clip
    """
    if features[0].ndim < 3:
        return np.concatenate(features)
    longest = max(part.shape[1] for part in features)
    out = np.full((sum(map(len, features)), longest, features[0].shape[2]), np.nan, features[0].dtype)
    for rows, part in zip(
        np.split(out, np.cumsum([len(part) for part in features[:-1]], dtype=int)), features, strict=True
    ):
        rows[:, : part.shape[1]] = part
    return out


def _digest(frozen: Frozen, segments: Sequence[Segment]) -> str:
    files = [(absolute(segment.path), segment.start, segment.end) for segment in segments]
    return hashlib.sha256(json.dumps([frozen.key, files]).encode()).hexdigest()[:24]


def _embedded(frozen: Frozen, segments: Sequence[Segment]) -> np.ndarray:
    signals = [segment_signal(segment) for segment in segments]
    clips = [list(parts([signal], len(signal) / SAMPLING_RATE)) for signal in signals]
    values = frozen.embed([part for clip in clips for part in clip])
    found, first = [], 0
    for clip in clips:
        own = values[first : first + len(clip)]
        joined = np.concatenate(own) if own[0].ndim == 2 else mean(own, [len(part) for part in clip]).astype(np.float32)
        found.append(joined[None])
        first += len(clip)
    return stacked(found)
