"""Fit a teacher's heads on annotated manifests. There is one head per fold of speakers; the teacher is their mean.

The design is ours. The input of a head is the mean and standard deviation of hidden states over time, because the open
corpora have a few dozen speakers and larger heads overfit to them. The loss is 1 - CCC, the reported metric, half of it
within groups of one corpus, because scores on a new corpus depend only on variation within it; plus the cross-entropy
of the category, which separates categories with the same norm. Every clip is trimmed and padded with near silence of
random length, both clean and distorted, so that edges, level and channel do not predict the category. The sampling
weight of a corpus is the square root of its number of clips; that of a clip is the share of raters who recognised it,
if known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wav2small.errors import ManifestError
from wav2small.files import whole_file
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Segment
from wav2small.train import Progress, make_folder
from wav2small.train.annotated import example, read_group
from wav2small.train.config import FinetuneConfig, FitConfig
from wav2small.train.loss import annotation_loss
from wav2small.train.teachers.bodies import Body
from wav2small.train.teachers.open import Heads
from wav2small.train.teachers.whisper import Head

CHUNK = 64
"""Clips whose statistics are computed between two reports of the progress."""
CorpusScores = dict[str, dict[str, float]]
"""Name of a corpus to the CCC of each dimension."""


@dataclass(frozen=True)
class Corpus:
    """The annotated clips of one manifest, with the statistics of the encoder.

    Attributes:
        name: name of the corpus
        statistics: float32, shape=(copies, clips, layers, width)
        truth: annotated A/D/V, shape=(clips, 3)
        labels: category of each clip
        weights: sampling weight of each clip, shape=(clips,)
        folds: fold of each clip, shape=(clips,)
        group: manifests with the same group count as one corpus: clips, and variants of them
    """

    name: str
    statistics: np.ndarray
    truth: np.ndarray
    labels: list[str]
    weights: np.ndarray
    folds: np.ndarray
    group: str = ""


def load_corpora(source: str, body: Body, config: FitConfig, cache: Path, progress: Progress) -> list[Corpus]:
    """Read the annotated segments of a corpus and compute their statistics, or read these from the cache.

    Args:
        source: manifest, or comma-separated manifests of one corpus
        body: encoder
        config: settings of the heads
        cache: folder for statistics
        progress: called with (clips done, clips) for each manifest, each copy of a clip counted

    Returns:
        one corpus per manifest

    Raises:
        ManifestError: as :func:`read_annotated`
        AudioError: if a segment cannot be read
    """
    parts = read_group(source, config.folds)
    return [
        Corpus(
            part.name,
            _statistics(part.segments, body, config, cache / part.name, progress),
            part.truth,
            part.labels,
            part.weights,
            part.folds,
            parts[0].name,
        )
        for part in parts
    ]


def _statistics(segments: list[Segment], body: Body, config: FitConfig, cache: Path, progress: Progress) -> np.ndarray:
    files = [s.file if (s.start, s.end) == (0, None) else [s.file, s.start, s.end] for s in segments]
    other = [body.key, body.layers, body.pooling]
    key = json.dumps([files, config.silence_dur, config.seed, body.bf16, *other]).encode()
    digest, parts = hashlib.sha256(key).hexdigest()[:8], []
    make_folder(cache)
    for copy in range(config.copies + 1):
        path = cache / f"copy{copy}-{digest}.npy"
        if not path.is_file():
            with whole_file(path) as temporary:
                np.save(temporary, _one_copy(segments, body, copy, config, progress))
        parts.append(np.load(path).astype(np.float32))
        progress((copy + 1) * len(segments), (config.copies + 1) * len(segments))
    return np.stack(parts)


def _one_copy(segments: list[Segment], body: Body, copy: int, config: FitConfig, progress: Progress) -> np.ndarray:
    parts = []
    for first in range(0, len(segments), CHUNK):
        signals = []
        for index in range(first, min(first + CHUNK, len(segments))):
            rng = np.random.default_rng([config.seed, copy, index])
            signals.append(example(segments, index, copy > 0, rng, config.silence_dur))
        parts.append(body.statistics(signals).astype(np.float16))
        progress(copy * len(segments) + first + len(signals), (config.copies + 1) * len(segments))
    return np.concatenate(parts)


def fit_heads(
    corpora: Sequence[Corpus],
    config: FitConfig,
    progress: Progress,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Heads, CorpusScores]:
    """Fit the heads of every fold on the speakers of the other folds.

    Args:
        corpora: annotated clips
        config: how
        progress: called with (heads done, heads)
        report: called with a sentence about each head

    Returns:
        the heads, and the CCC of each dimension on held-out speakers, by corpus

    Raises:
        ManifestError: if all speakers are in one fold, or two corpora have the same name
    """
    _check(corpora)
    layers = list(config.layers)
    clean = np.concatenate(
        [corpus.statistics[:, :, layers].reshape(-1, len(layers), corpus.statistics.shape[3]) for corpus in corpora]
    )
    mean, spread = clean.mean(0), clean.std(0) + 1e-4
    categories = sorted({label for corpus in corpora for label in corpus.labels})
    answers = [np.zeros((config.heads_a_fold, len(corpus.truth), 3), np.float32) for corpus in corpora]
    heads: list[Head] = []
    total = config.folds * config.heads_a_fold
    for fold in range(config.folds):
        for number in range(config.heads_a_fold):
            progress(len(heads), total)
            batches = Batches(corpora, fold, categories, mean, spread, config, number)
            head = _fit_head(batches, len(layers), mean.shape[1], len(categories), config)
            heads.append(head)
            for corpus, answer in zip(corpora, answers, strict=True):
                held_out = corpus.folds == fold
                one = Heads(layers, mean, spread, [head])
                answer[number, held_out] = one(corpus.statistics[0, held_out])
            report(f"head {len(heads)} of {total}: {_held_out_ccc(corpora, [a[number] for a in answers], fold)}")
    progress(total, total)
    scores = {
        corpus.name: {name: concordance_cc(corpus.truth[:, d], answer.mean(0)[:, d]) for d, name in enumerate(OUTPUTS)}
        for corpus, answer in zip(corpora, answers, strict=True)
    }
    return Heads(layers, mean, spread, heads), scores


def _held_out_ccc(corpora: Sequence[Corpus], answers: Sequence[np.ndarray], fold: int) -> str:
    """CCC of one head on the speakers of its fold, the mean over corpora, as text."""
    held_out = [corpus.folds == fold for corpus in corpora]
    pairs = [(c.truth[rows], a[rows]) for c, a, rows in zip(corpora, answers, held_out, strict=True) if rows.sum() > 1]
    if not pairs:
        return f"fold {fold}, no held-out clips"
    means = [np.mean([concordance_cc(t[:, d], p[:, d]) for t, p in pairs]) for d in range(len(OUTPUTS))]
    figures = ", ".join(f"{name} {mean:.3f}" for name, mean in zip(OUTPUTS, means, strict=True))
    return f"CCC on the held-out speakers of fold {fold}: {figures}"


def _check(corpora: Sequence[Corpus]) -> None:
    if len({fold for corpus in corpora for fold in corpus.folds}) < 2:
        raise ManifestError("all clips have one speaker or one fold. Needed: at least two, for fitting and scoring.")
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):
        raise ManifestError(f"two manifests have the same name: {', '.join(names)}. Rename a folder or a file.")


class Batches:
    """Random batches of the clips outside a fold, in groups of one corpus.

    A corpus is drawn in proportion to the square root of its size.

    Args:
        corpora: corpora with statistics
        fold: the held-out fold
        categories: names of the categories
        mean: mean of the statistics, shape=(layers, width)
        spread: standard deviation of the statistics, shape=(layers, width)
        config: settings of the heads
        number: number of the head within the fold
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        fold: int,
        categories: list[str],
        mean: np.ndarray,
        spread: np.ndarray,
        config: FitConfig,
        number: int,
    ) -> None:
        self.rng = np.random.default_rng([config.seed, fold, number])
        self.config = config
        kept = [np.flatnonzero(corpus.folds != fold) for corpus in corpora]
        self.clips = sum(len(index) for index in kept)
        pairs = list(zip(corpora, kept, strict=True))
        self.statistics = np.concatenate(
            [(c.statistics[:, i][:, :, list(config.layers)] - mean) / spread for c, i in pairs], axis=1
        )
        self.truth = np.concatenate([c.truth[i] for c, i in pairs])
        self.labels = np.concatenate([[categories.index(c.labels[k]) for k in i] for c, i in pairs]).astype(int)
        weights = np.concatenate([c.weights[i] for c, i in pairs])
        names = np.concatenate([[c.group or c.name] * len(i) for c, i in pairs])
        self.groups = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
        self.weights = [weights[group] / weights[group].sum() for group in self.groups]
        chance = np.sqrt([len(group) for group in self.groups])
        self.chance = chance / chance.sum()

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Statistics (batch, layers, width), truth (batch, 3), category (batch,); groups of a corpus are contiguous."""
        return self.draw_labelled()[:3]

    def draw_labelled(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The result of :meth:`draw`, and the number of each clip's corpus, (batch,)."""
        size = self.config.group_size
        drawn = self.rng.choice(len(self.groups), self.config.batch_size // size, p=self.chance)
        clip = np.concatenate([self.rng.choice(self.groups[g], size, p=self.weights[g]) for g in drawn])
        copy = self.rng.integers(len(self.statistics), size=len(clip))
        statistics = torch.from_numpy(self.statistics[copy, clip])
        labels = torch.from_numpy(self.labels[clip])
        return statistics, torch.from_numpy(self.truth[clip]), labels, torch.from_numpy(np.repeat(drawn, size))


def _fit_head(batches: Batches, layers: int, width: int, categories: int, config: FitConfig) -> Head:
    torch.manual_seed(int(batches.rng.integers(2**31)))
    head = Head(layers, width, config.hidden, config.dropout, categories)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = max(20, int(config.epochs * batches.clips / config.batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps)
    for _ in range(steps):
        statistics, truth, category = batches.draw()
        emotion, logits = head(statistics)
        loss = annotation_loss(
            truth, category, emotion, logits, config.category_weight, config.group_size, config.within
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return head.eval()


def describe(config: FitConfig | FinetuneConfig, sources: Sequence[str], scores: CorpusScores) -> dict[str, str]:
    """Metadata of a teacher: settings, training data, and scores on held-out speakers."""
    return {
        "recipe": json.dumps(asdict(config)),
        "training_data": ", ".join(sources),
        "teacher": "people's annotations where there are any, else category norms",
        "ccc": json.dumps({"unheard speakers": scores}),
    }


def in_words(scores: CorpusScores) -> str:
    """Scores as text, one line per corpus."""
    lines = []
    for corpus, score in scores.items():
        figures = ", ".join(f"{dimension} {value:.3f}" for dimension, value in score.items())
        lines.append(f"{corpus}: CCC on held-out speakers: {figures}")
    return "\n".join(lines)
