"""Labelled clips in memory, and random batches of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wav2small.errors import ManifestError
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train import Progress
from wav2small.train.config import TrainConfig
from wav2small.train.embedding import from_text

Batch = tuple[Tensor, Tensor, Tensor]
"""Signals (batch, samples), labels (batch, 3) and teacher embeddings (batch, size); size 0 without embeddings."""


class Clips:
    """Labelled clips as int16, in buckets of similar length.

    Args:
        segments: segments with the teacher's emotion
        config: largest duration of a clip, and width of a bucket
        progress: called with (clips read, clips)

    Raises:
        ManifestError: if embeddings differ in size
        AudioError: if a segment cannot be read
    """

    def __init__(self, segments: Sequence[Segment], config: TrainConfig, progress: Progress) -> None:
        self.labels = np.array([segment.emotion for segment in segments], np.float32)
        self.embeddings = _embeddings(segments)
        self.corpora = [segment.column("corpus") for segment in segments]
        self.signals: list[np.ndarray] = []
        for done, segment in enumerate(segments, 1):
            self.signals.append(np.round(np.clip(segment_signal(segment), -1, 1) * 32767).astype(np.int16))
            progress(done, len(segments))
        self.arrange(config)

    def arrange(self, config: TrainConfig) -> None:
        """Assign the clips to buckets of similar length."""
        self.config = config
        widths = [min(config.max_dur, len(s) / SAMPLING_RATE) / config.bucket_dur for s in self.signals]
        bucket = np.maximum(1, np.ceil(np.round(widths, 3))).astype(int)
        self.buckets = {int(width): np.flatnonzero(bucket == width) for width in np.unique(bucket)}

    def draw(self, step: int) -> Batch:
        """The batch of a step, which depends only on the seed and the step."""
        batch_size = self.config.batch_size
        rng = np.random.default_rng([self.config.seed, step])
        widths = list(self.buckets)
        sizes = np.array([len(self.buckets[width]) for width in widths])
        width = widths[rng.choice(len(widths), p=sizes / sizes.sum())]
        index = self._grouped(width, rng) if self.config.within else rng.choice(self.buckets[width], batch_size)
        samples = round(width * self.config.bucket_dur * SAMPLING_RATE)
        batch = np.stack([_placed(self.signals[i], samples, rng) for i in index])
        return torch.from_numpy(batch), torch.from_numpy(self.labels[index]), torch.from_numpy(self.embeddings[index])

    def _grouped(self, width: int, rng: np.random.Generator) -> np.ndarray:
        """Clips of a bucket in groups of one corpus; a corpus is drawn in proportion to its clips in the bucket."""
        bucket, size = self.buckets[width], self.config.group_size
        corpora = np.array(self.corpora)[bucket]
        chosen = rng.choice(corpora, self.config.batch_size // size)
        return np.concatenate([rng.choice(bucket[corpora == corpus], size) for corpus in chosen])


def _embeddings(segments: Sequence[Segment]) -> np.ndarray:
    """Teacher embeddings, float32, shape=(segments, size); size 0 if any segment has none."""
    texts = [segment.fields.get("embedding", "") for segment in segments]
    if not all(texts):
        return np.zeros((len(segments), 0), np.float32)
    embeddings = [from_text(text, segment.file) for text, segment in zip(texts, segments, strict=True)]
    sizes = sorted({len(embedding) for embedding in embeddings})
    if len(sizes) > 1:
        raise ManifestError(f"embeddings have sizes {sizes[0]} and {sizes[-1]}. Label all clips with one teacher.")
    return np.stack(embeddings)


def _placed(signal: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A signal cut or zero-padded at a random position to ``samples``, float32 in [-1, 1]."""
    offset = int(rng.integers(abs(samples - len(signal)) + 1))
    floats = signal.astype(np.float32) / 32768
    if len(signal) >= samples:
        return floats[offset : offset + samples]
    return np.pad(floats, (offset, samples - len(signal) - offset))
