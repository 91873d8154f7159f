"""Fit a teacher's heads on annotated manifests: one head a fold of speakers, their mean is the teacher.

What is ours here, and why. A head reads means and spreads of hidden states, not the states: the open corpora have a
few dozen speakers, and anything larger learns those. Loss: 1 - CCC, which is what is reported, plus cross-entropy of
the category, which keeps apart what shares a norm. Every clip is seen trimmed and surrounded by near silence of
random length, as it is and distorted, so that neither edges, level nor channel tell the category. A corpus counts
by the square root of its clips, and a clip by the share of listeners who recognised it, where that is known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wav2small.corpora.protocol import deal
from wav2small.errors import ManifestError
from wav2small.files import whole_file
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.tables.manifest import Segment, load_norms, read_manifest, segment_signal
from wav2small.train import make_folder
from wav2small.train.distort import distort, random_speed, surround, trim
from wav2small.train.teachers.bodies import Body
from wav2small.train.teachers.open import Heads
from wav2small.train.teachers.whisper import Head

Tell = Callable[[float, float], None]


@dataclass(frozen=True)
class FitConfig:
    """How heads are fitted; chosen by speaker-disjoint folds of the open corpora (docs/log.md)."""

    layers: tuple[int, ...] = (1, 2, 3, 4)
    hidden: int = 88
    dropout: float = 0.4
    folds: int = 5
    heads_a_fold: int = 1
    copies: int = 2
    silence_dur: float = 1.2
    epochs: float = 30.0
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    category_weight: float = 0.3
    seed: int = 1


@dataclass(frozen=True)
class Corpus:
    """The annotated clips of one manifest; ``statistics`` has shape (copies, clips, layers, width)."""

    name: str
    statistics: np.ndarray
    truth: np.ndarray
    labels: list[str]
    weights: np.ndarray
    folds: np.ndarray


@dataclass(frozen=True)
class Annotated:
    """The annotated segments of one manifest, without those of a split ``test``; one row each in every array."""

    name: str
    segments: list[Segment]
    truth: np.ndarray
    labels: list[str]
    weights: np.ndarray
    folds: np.ndarray


def read_annotated(source: str, folds: int) -> Annotated:
    """Segments with A/D/V or a category that has a norm, and how their speakers are dealt into folds.

    Raises:
        ManifestError: if there are none, or a fold or agreement is no number
    """
    norms = load_norms()
    known = [s for s in read_manifest(source) if s.emotion is not None or s.label in norms]
    segments = [s for s in known if not s.split.startswith("test")]
    if not segments:
        where = "outside the split test " if known else ""
        raise ManifestError(
            f"{source}: no row {where}has arousal, dominance and valence, or a category that the norms know."
        )
    truth = [s.emotion if s.emotion is not None else norms[s.label].emotion for s in segments]
    path = Path(source).absolute()
    return Annotated(
        name=path.parent.name if path.name == "manifest.csv" else path.stem if path.is_file() else path.name,
        segments=segments,
        truth=np.array(truth, np.float32),
        labels=[segment.label.lower() for segment in segments],
        weights=np.array([_agreement(segment) for segment in segments]),
        folds=_folds(segments, folds),
    )


def load_corpus(source: str, body: Body, config: FitConfig, cache: Path, tell: Tell) -> Corpus:
    """Read the annotated segments of a manifest and compute their statistics, or take them from the cache.

    Raises:
        ManifestError: as :func:`read_annotated`
        AudioError: if a segment cannot be read
    """
    found = read_annotated(source, config.folds)
    statistics = _statistics(found.segments, body, config, cache / found.name, tell)
    return Corpus(found.name, statistics, found.truth, found.labels, found.weights, found.folds)


def _statistics(segments: list[Segment], body: Body, config: FitConfig, cache: Path, tell: Tell) -> np.ndarray:
    files = [s.file if (s.start, s.end) == (0, None) else [s.file, s.start, s.end] for s in segments]
    other = [body.key, body.layers, body.pooling] if body.key else []
    key = json.dumps([files, config.silence_dur, config.seed, body.bf16, *other]).encode()
    digest, parts = hashlib.sha256(key).hexdigest()[:8], []
    make_folder(cache)
    for copy in range(config.copies + 1):
        path = cache / f"copy{copy}-{digest}.npy"
        if not path.is_file():
            with whole_file(path) as temporary:
                np.save(temporary, _one_copy(segments, body, copy, config, tell))
        parts.append(np.load(path).astype(np.float32))
        tell(copy + 1, config.copies + 1)
    return np.stack(parts)


def _one_copy(segments: list[Segment], body: Body, copy: int, config: FitConfig, tell: Tell) -> np.ndarray:
    parts, size = [], 256
    for first in range(0, len(segments), size):
        signals = []
        for index in range(first, min(first + size, len(segments))):
            rng = np.random.default_rng([config.seed, copy, index])
            signals.append(example(segments, index, copy > 0, rng, config.silence_dur))
        parts.append(body.statistics(signals).astype(np.float16))
        tell(copy + (first + size) / len(segments), config.copies + 1)
    return np.concatenate(parts)


def example(
    segments: list[Segment], index: int, distorted: bool, rng: np.random.Generator, silence_dur: float
) -> np.ndarray:
    """A segment trimmed and surrounded by near silence of random length, as it is or distorted."""
    signal = trim(segment_signal(segments[index]))
    if distorted:
        signal = random_speed(signal, rng)
        signal = distort(signal, rng, lambda: segment_signal(segments[rng.integers(len(segments))]))
    before, after = (rng.uniform(0, silence_dur, 2) * SAMPLING_RATE).astype(int)
    return surround(signal, before, after, rng)


def _agreement(segment: Segment) -> float:
    """Share of listeners who recognised the emotion; 1 where it is not known."""
    found = re.search(r"(?:^|;)recognised_pct=([^;]*)", segment.fields.get("extra", ""))
    if not found:
        return 1.0
    if not re.fullmatch(r"\d+(\.\d*)?", found[1]) or not 0 <= float(found[1]) <= 100:
        raise ManifestError(f"{segment.file}: extra says recognised_pct={found[1]}. Needed: a number from 0 to 100.")
    return float(found[1]) / 100


def _folds(segments: list[Segment], folds: int) -> np.ndarray:
    """The manifest's own fold, else speakers dealt out in order; a speaker is never in two folds."""
    if all(segment.fields.get("fold") for segment in segments):
        return np.array(_own_folds(segments)) % folds
    fold = deal((s.speaker or s.file for s in segments), folds)
    return np.array([fold[s.speaker or s.file] for s in segments])


def _own_folds(segments: list[Segment]) -> list[int]:
    seen: dict[str, str] = {}
    for segment in segments:
        fold = segment.fields["fold"]
        if not fold.isdecimal():
            raise ManifestError(f"{segment.file}: fold is {fold!r}. Needed: a number from 0, or no column fold.")
        if segment.speaker and seen.setdefault(segment.speaker, fold) != fold:
            raise ManifestError(
                f"speaker {segment.speaker} is in fold {seen[segment.speaker]} and in fold {fold}. "
                "Give each speaker one, or leave the column fold empty."
            )
    return [int(segment.fields["fold"]) for segment in segments]


def fit(corpora: Sequence[Corpus], config: FitConfig, tell: Tell) -> tuple[Heads, dict[str, dict[str, float]]]:
    """Fit the heads of every fold on the speakers of the others.

    Returns:
        the heads, and per corpus the CCC of each dimension of the answers for speakers a head has not heard

    Raises:
        ManifestError: if all speakers are in one fold, or two corpora have one name
    """
    _check(corpora)
    layers = list(config.layers)
    clean = np.concatenate(
        [corpus.statistics[:, :, layers].reshape(-1, len(layers), corpus.statistics.shape[3]) for corpus in corpora]
    )
    mean, spread = clean.mean(0), clean.std(0) + 1e-4
    categories = sorted({label for corpus in corpora for label in corpus.labels})
    answers = [np.zeros((config.heads_a_fold, len(corpus.truth), 3), np.float32) for corpus in corpora]
    heads = []
    for fold in range(config.folds):
        for number in range(config.heads_a_fold):
            tell(len(heads), config.folds * config.heads_a_fold)
            batches = Batches(corpora, fold, categories, mean, spread, config, number)
            head = _fit_head(batches, len(layers), mean.shape[1], len(categories), config)
            heads.append(head)
            for corpus, answer in zip(corpora, answers, strict=True):
                held_out = corpus.folds == fold
                one = Heads(layers, mean, spread, [head])
                answer[number, held_out] = one(corpus.statistics[0, held_out])
    scores = {
        corpus.name: {name: concordance_cc(corpus.truth[:, d], answer.mean(0)[:, d]) for d, name in enumerate(OUTPUTS)}
        for corpus, answer in zip(corpora, answers, strict=True)
    }
    return Heads(layers, mean, spread, heads), scores


def _check(corpora: Sequence[Corpus]) -> None:
    if len({fold for corpus in corpora for fold in corpus.folds}) < 2:
        raise ManifestError("all clips are of one speaker, or in one fold. Needed: two, to fit on one and score one.")
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):
        raise ManifestError(f"two of the manifests have one name: {', '.join(names)}. Rename a folder or a file.")


class Batches:
    """Random batches of the clips outside a fold; each corpus drawn by the square root of its size."""

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
        self.labels = np.concatenate([[categories.index(c.labels[k]) for k in i] for c, i in pairs])
        chance = np.concatenate([c.weights[i] / c.weights[i].sum() * np.sqrt(len(i)) for c, i in pairs])
        self.chance = chance / chance.sum()

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Statistics (batch, layers, width), truth (batch, 3), category (batch,)."""
        clip = self.rng.choice(self.clips, self.config.batch_size, p=self.chance)
        copy = self.rng.integers(len(self.statistics), size=self.config.batch_size)
        return tuple(torch.from_numpy(a) for a in (self.statistics[copy, clip], self.truth[clip], self.labels[clip]))


def _fit_head(batches: Batches, layers: int, width: int, categories: int, config: FitConfig) -> Head:
    torch.manual_seed(int(batches.rng.integers(2**31)))
    head = Head(layers, width, config.hidden, config.dropout, categories)
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = max(20, int(config.epochs * batches.clips / config.batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps)
    for _ in range(steps):
        statistics, truth, category = batches.draw()
        emotion, logits = head(statistics)
        loss = ccc_loss(truth, emotion).mean()
        loss = loss + config.category_weight * functional.cross_entropy(logits, category, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def ccc_loss(truth: Tensor, prediction: Tensor) -> Tensor:
    """1 - CCC over a batch, a dimension a column: (batch, 3), (batch, 3) -> (3)."""
    difference = truth.mean(0) - prediction.mean(0)
    covariance = ((truth - truth.mean(0)) * (prediction - prediction.mean(0))).mean(0)
    variance = truth.var(0, unbiased=False) + prediction.var(0, unbiased=False)
    return 1 - 2 * covariance / (variance + difference.square() + 1e-8)


def describe(config: FitConfig, sources: Sequence[str], scores: dict[str, dict[str, float]]) -> dict[str, str]:
    """Metadata of the heads: how, on what, and how well on speakers that a head has not heard."""
    return {
        "recipe": json.dumps(asdict(config)),
        "training_data": ", ".join(sources),
        "teacher": "people's annotations where there are any, else category norms",
        "ccc": json.dumps({"unheard speakers": scores}),
    }
