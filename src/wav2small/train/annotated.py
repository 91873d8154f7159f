"""Annotated speech: the annotated rows of a manifest, their folds, and training examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from wav2small.audio.distort import surround, trim
from wav2small.corpora.protocol import deal
from wav2small.errors import ManifestError
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import Segment, load_norms, read_manifest, segment_signal
from wav2small.train.online.compose import resample
from wav2small.train.online.distort import Distortion
from wav2small.train.online.draw import Draw

FASTEST = 1.25
"""Largest factor of speed change of a distorted example."""
DISTORTION = Distortion(None, None, clean=0.0)


@dataclass(frozen=True)
class Annotated:
    """The annotated segments of a manifest, without test splits. Every array has one row per segment.

    Attributes:
        name: name of the corpus
        segments: the segments
        truth: annotated A/D/V, float32, shape=(segments, 3)
        labels: category of each segment
        weights: agreement of the raters, 0 to 1, shape=(segments,)
        folds: fold of each segment, shape=(segments,)
    """

    name: str
    segments: list[Segment]
    truth: np.ndarray
    labels: list[str]
    weights: np.ndarray
    folds: np.ndarray


def read_annotated(source: str, folds: int) -> Annotated:
    """Read the segments that have A/D/V or a category with a norm, and assign their speakers to folds.

    Args:
        source: manifest
        folds: number of folds

    Raises:
        ManifestError: if there are none, or a fold or agreement is not a number
    """
    norms = load_norms()
    known = [s for s in read_manifest(source) if s.emotion is not None or s.label in norms]
    segments = [s for s in known if not s.split.startswith("test")]
    if not segments:
        where = "outside the split test " if known else ""
        raise ManifestError(f"{source}: no row {where}has arousal, dominance and valence, or a category with a norm.")
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


def read_group(source: str, folds: int) -> list[Annotated]:
    """Read one corpus from several manifests: clips, and variants of them. A speaker has the same fold in all.

    Args:
        source: manifests, separated by commas; an existing path is a single manifest
        folds: number of folds

    Raises:
        ManifestError: as :func:`read_annotated`
    """
    sources = [source] if Path(source).exists() else source.split(",")
    parts = [read_annotated(name, folds) for name in sources]
    dealt = _folds([segment for part in parts for segment in part.segments], folds)
    ends = np.cumsum([len(part.segments) for part in parts])[:-1]
    return [replace(part, folds=fold) for part, fold in zip(parts, np.split(dealt, ends), strict=True)]


def _agreement(segment: Segment) -> float:
    """Share of raters who recognised the emotion, 0 to 1; 1 if unknown."""
    found = re.search(r"(?:^|;)recognised_pct=([^;]*)", segment.fields.get("extra", ""))
    if not found:
        return 1.0
    if not re.fullmatch(r"\d+(\.\d*)?", found[1]) or not 0 <= float(found[1]) <= 100:
        raise ManifestError(f"{segment.file}: extra has recognised_pct={found[1]}. Needed: a number from 0 to 100.")
    return float(found[1]) / 100


def _folds(segments: list[Segment], folds: int) -> np.ndarray:
    """Fold of each segment: the manifest's own, else by speaker; a speaker is never in two folds."""
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
                "Give each speaker one fold, or leave the column fold empty."
            )
    return [int(segment.fields["fold"]) for segment in segments]


def is_dev(corpus: Annotated) -> np.ndarray:
    """Mask of the dev segments: the split ``dev`` if there is one, else fold 0; bool, shape=(segments,)."""
    splits = np.array([segment.split for segment in corpus.segments])
    chosen: np.ndarray = splits == "dev" if (splits == "dev").any() else corpus.folds == 0
    return chosen


def part(corpus: Annotated, chosen: np.ndarray) -> Annotated:
    """The segments of a corpus where ``chosen``, shape=(segments,), is true."""
    index = np.flatnonzero(chosen)
    return Annotated(
        corpus.name,
        [corpus.segments[i] for i in index],
        corpus.truth[index],
        [corpus.labels[i] for i in index],
        corpus.weights[index],
        corpus.folds[index],
    )


def divided(corpora: Sequence[Annotated]) -> tuple[list[Annotated], list[Annotated]]:
    """The training part and the dev part of each corpus.

    Raises:
        ManifestError: if all training or all dev parts are empty, or a speaker is in both
    """
    train = [part(corpus, ~is_dev(corpus)) for corpus in corpora]
    dev = [part(corpus, is_dev(corpus)) for corpus in corpora]
    for name, parts in (("train on", train), ("evaluate", dev)):
        if not any(corpus.segments for corpus in parts):
            raise ManifestError(f"there are no clips to {name}: all have one speaker, split or fold. Needed: two.")
    for one, other in zip(train, dev, strict=True):
        shared = {s.speaker for s in one.segments} & {s.speaker for s in other.segments} - {""}
        if shared:
            raise ManifestError(
                f"{one.name}: speaker {min(shared)} is in train and in dev. Give each speaker one split."
            )
    return [corpus for corpus in train if corpus.segments], [corpus for corpus in dev if corpus.segments]


def example(
    segments: list[Segment], index: int, distorted: bool, rng: np.random.Generator, silence_dur: float
) -> np.ndarray:
    """A training example: a segment, trimmed, optionally distorted, with near silence of random length around it.

    Args:
        segments: segments of the corpus; a random one may serve as babble
        index: index of the segment
        distorted: whether to change the speed and distort it
        rng: random generator
        silence_dur: largest silence at each end, in seconds

    Returns:
        mono audio at 16 kHz, float32, shape=(samples,)
    """
    signal = trim(segment_signal(segments[index]))
    if distorted:
        signal = distort(signal, segment_signal(segments[rng.integers(len(segments))]), rng)
    before, after = (rng.uniform(0, silence_dur, 2) * SAMPLING_RATE).astype(int)
    return surround(signal, before, after, rng)


def distort(signal: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A signal with its speed changed by up to ``FASTEST``, distorted; ``other`` may be added as babble."""
    draw = Draw((int(rng.integers(2**31)),))
    samples = max(1, round(len(signal) * FASTEST ** rng.uniform(-1, 1)))
    both = torch.from_numpy(np.stack([signal, np.resize(other, len(signal))]))
    return DISTORTION(resample(both, samples), draw)[0].numpy()
