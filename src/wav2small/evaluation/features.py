"""Frozen features of clips: embeddings of a model or a teacher, or pooled states of an encoder, kept in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wav2small.evaluation.predictors import file_sha256
from wav2small.files import absolute, whole_file
from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.backends import of_file
from wav2small.runtime.model import load
from wav2small.runtime.windows import mean, parts
from wav2small.tables.manifest import Segment, segment_signal

if TYPE_CHECKING:
    from wav2small.train import Progress

CHUNK = 64
"""Clips of one file of the cache."""
WHISPER = "whisper"
"""Name of the encoder of Whisper base."""


@dataclass(frozen=True)
class Frozen:
    """Something that makes features and is not trained.

    Attributes:
        key: identifies the features
        embed: signals -> features, shape=(signals, width)
        training_data: names of corpora with commas between them; empty where it is not known
    """

    key: str
    embed: Callable[[Sequence[np.ndarray]], np.ndarray]
    training_data: str = ""


def open_frozen(body: str, layers: int | None = None, pooling: str = "mean") -> Frozen:
    """Open what makes features.

    Args:
        body: a model (NAME[:PRECISION] or a file of weights) or ``teacher:NAME``, whose embedding is used; ``whisper``,
            or an encoder in the hub's format (folder, or owner/name), whose last layer is pooled over time
        layers: number of layers of an encoder to keep, from the first; None keeps all
        pooling: of an encoder

    Raises:
        WeightsError: if it is not available
        MissingExtraError: if an encoder or teacher needs the extra ``train``
    """
    if body.startswith("teacher:"):
        return _teacher(body.removeprefix("teacher:"))
    if body == WHISPER or Path(body).is_dir() or ("/" in body and not Path(body).is_file()):
        return _encoder(body, layers, pooling)
    model = load(body, of_file(body))
    key = f"{model.metadata.get('name')} {model.metadata.get('sha256')}"
    return Frozen(
        key, lambda signals: np.stack(list(map(model.embed, signals))), model.metadata.get("training_data", "")
    )


def _teacher(name: str) -> Frozen:
    from wav2small.train.teachers import load_teacher

    teacher = load_teacher(name)
    key = f"teacher {teacher.name} {teacher.version} {file_sha256(name)}"
    return Frozen(key, lambda signals: teacher.label_and_embed(signals)[1])


def _encoder(name: str, layers: int | None, pooling: str) -> Frozen:
    from wav2small.train import check_extra

    check_extra()
    from wav2small.train.teachers.bodies import load_body, wrap
    from wav2small.train.teachers.whisper import find_encoder

    body = (
        wrap(find_encoder(layers=layers), False, False, "cpu", pooling)
        if name == WHISPER
        else load_body(name, layers, pooling)
    )
    return Frozen(f"{body.key} {pooling}", lambda signals: body.statistics(signals)[:, -1])


def features(frozen: Frozen, segments: Sequence[Segment], cache: Path, progress: Progress) -> np.ndarray:
    """Features of every segment; those of a segment above 30 s are the mean over its parts.

    Args:
        frozen: what makes them
        segments: of a manifest
        cache: folder that keeps them, so that an interrupted run continues
        progress: called with (clips done, clips)

    Returns:
        float32, shape=(segments, width)

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
    return np.concatenate(found)


def _digest(frozen: Frozen, segments: Sequence[Segment]) -> str:
    files = [(absolute(segment.path), segment.start, segment.end) for segment in segments]
    return hashlib.sha256(json.dumps([frozen.key, files]).encode()).hexdigest()[:24]


def _embedded(frozen: Frozen, segments: Sequence[Segment]) -> np.ndarray:
    signals = [segment_signal(segment) for segment in segments]
    clips = [list(parts([signal], len(signal) / SAMPLING_RATE)) for signal in signals]
    values = frozen.embed([part for clip in clips for part in clip])
    ends = np.cumsum([len(clip) for clip in clips[:-1]], dtype=int)
    means = [mean(own, [len(part) for part in clip]) for clip, own in zip(clips, np.split(values, ends), strict=True)]
    return np.array(means, np.float32)
