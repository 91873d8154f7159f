"""Fine-tune a body on the examples of one cell of an experiment: V-FT, or after TAPT or P-TAPT.

Training is that of ``finetune``. A fifth of the training speakers, at least one, select the weights. A clip is drawn
with the inverse frequency of its category, which replaces the weighted cross-entropy of arXiv:2110.06309.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wav2small.corpora.protocol import deal
from wav2small.errors import ManifestError
from wav2small.files import absolute
from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.windows import mean, parts
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train import Progress
from wav2small.train.adapt import check_tapt
from wav2small.train.annotated import Annotated, divided
from wav2small.train.config import AdaptConfig, FinetuneConfig, FitConfig
from wav2small.train.examples import Answers, Examples
from wav2small.train.fit import Finetune
from wav2small.train.teachers.bodies import load_body
from wav2small.train.teachers.tuned import TunedNet


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned body that predicts categories too.

    Attributes:
        net: the network
        numbers: number of the category of each of its category outputs
        categories: how many categories there are
        batch_size: clips of a batch
    """

    net: TunedNet
    numbers: Sequence[int]
    categories: int
    batch_size: int

    def answers(self, inputs: np.ndarray) -> Answers:
        """Predictions for segments; those of a segment above 30 s are the mean over its parts.

        Args:
            inputs: segments, shape=(clips,)

        Raises:
            AudioError: if a segment cannot be read
        """
        found = [
            self._answer(inputs[first : first + self.batch_size]) for first in range(0, len(inputs), self.batch_size)
        ]
        return Answers(*(np.concatenate(column) for column in zip(*found, strict=True)))

    @torch.inference_mode()
    def _answer(self, segments: Iterable[Segment]) -> Answers:
        signals = [segment_signal(segment) for segment in segments]
        clips = [list(parts([signal], len(signal) / SAMPLING_RATE)) for signal in signals]
        pooled = self.net.pooled([piece for clip in clips for piece in clip])
        emotion, logits = self.net.head(pooled)
        probability = torch.zeros(len(pooled), self.categories)
        probability[:, list(self.numbers)] = logits.float().softmax(1).cpu()
        columns = (emotion.float().clamp(0, 1).cpu(), probability, self.net.head.embed(pooled).float().cpu())
        ends = np.cumsum([len(clip) for clip in clips[:-1]], dtype=int)
        lengths = [[len(piece) for piece in clip] for clip in clips]
        return Answers(
            *(
                np.array([mean(own, of) for own, of in zip(np.split(column.numpy(), ends), lengths, strict=True)])
                for column in columns
            )
        )


def check_tuning(body: str, layers: int | None, adapt: AdaptConfig) -> None:
    """Check that a body can be loaded and adapted.

    Raises:
        WeightsError: if it is not available, or TAPT does not support it
    """
    loaded = load_body(body, layers)
    if adapt.kind == "tapt":
        check_tapt(body, loaded)


def tune(
    examples: Examples,
    body: str,
    layers: int | None,
    config: FinetuneConfig,
    adapt: AdaptConfig,
    cache: Path,
    progress: Progress,
) -> Tuned:
    """Fine-tune a body on segments, resuming from its folder in ``cache``, which is removed at the end.

    Args:
        examples: training examples, whose inputs are segments; those without a category or A/D/V are not used
        body: name of the body, as of ``load_body``
        layers: number of layers to keep, from the first; None keeps all
        config: settings of the fine-tuning
        adapt: settings of the task-adaptive pretraining
        cache: folder of the checkpoints of unfinished runs
        progress: called with (steps done, steps) of each phase

    Raises:
        ManifestError: if there are fewer than two speakers
        AudioError: if a segment cannot be read
    """
    corpus = annotated(examples)
    folder = cache / _digest(corpus, [body, layers, str(config), str(adapt)])

    @contextmanager
    def bar(title: str) -> Iterator[Progress]:
        yield lambda done, total, note="": progress(done, total, f"{title}, {note}")

    net, _ = Finetune([corpus], body, layers, config, adapt, folder, bar, lambda line: None).trained()
    shutil.rmtree(folder)
    numbers = sorted({int(label) for label in divided([corpus])[0][0].labels})
    return Tuned(net, numbers, examples.categories, config.batch_size)


def annotated(examples: Examples) -> Annotated:
    """Examples as an annotated corpus, whose labels are the numbers of the categories.

    Raises:
        ManifestError: if there are fewer than two speakers with categories and A/D/V
    """
    known = np.flatnonzero(np.isfinite(examples.truth).all(1) & (examples.category >= 0))
    segments = [examples.inputs[row] for row in known]
    speakers = [segment.speaker or segment.file for segment in segments]
    if len(set(speakers)) < 2:
        raise ManifestError(
            f"{len(set(speakers))} speaker has clips with a category and A/D/V outside a fold. "
            "Fine-tuning needs two or more, one of which selects the weights."
        )
    fold = deal(speakers, FitConfig.folds)
    return Annotated(
        "examples",
        segments,
        examples.truth[known].astype(np.float32),
        [f"{number:04d}" for number in examples.category[known]],
        examples.balance()[examples.category[known]].astype(np.float64),
        np.array([fold[speaker] for speaker in speakers]),
    )


def _digest(corpus: Annotated, settings: Sequence[object]) -> str:
    clips = [(absolute(s.path), s.start, s.end, label) for s, label in zip(corpus.segments, corpus.labels, strict=True)]
    text = json.dumps([clips, corpus.truth.tolist(), settings])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
