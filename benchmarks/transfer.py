"""Whether distances in an embedding follow emotion on corpora that it was not fitted on, with and without metric loss.

    python benchmarks/transfer.py TRAIN TEST... [--model micro] [--seeds 3] [--metric 0.3 1.0]

TRAIN and TESTs are annotated manifests. The embeddings are that of the frozen model, standardised by TRAIN, and the
hidden layer of heads on it (``wav2small experiment``) that are fitted on TRAIN, with each weight of the metric loss. No
part of TEST is used to fit; nearest neighbours of a clip are clips of TEST by speakers of the other folds.

Columns: UA of the majority of the 5 nearest; Spearman correlation of the distance of two clips of different speakers
with their distance in A/D/V; Pearson correlation of A, D and V with their mean over the 5 nearest. Printed is the mean
over seeds, with the standard deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from wav2small.evaluation.features import features, open_frozen
from wav2small.metrics import confusion_matrix, pearson_cc, unweighted_accuracy
from wav2small.network.config import OUTPUTS
from wav2small.tables.table import render
from wav2small.train.annotated import Annotated, part, read_annotated
from wav2small.train.config import DenseConfig
from wav2small.train.dense import fit_dense
from wav2small.train.examples import Examples

NEAREST, FOLDS, CLIPS = 5, 5, 1500


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--metric", type=float, nargs="+", default=[0.3, 1.0])
    parser.add_argument("--cache", type=Path, default=Path("build/experiment"))
    options = parser.parse_args()
    frozen = open_frozen(options.model)
    corpora = [drawn(read_annotated(source, FOLDS)) for source in (options.train, *options.tests)]
    made = [features(frozen, corpus.segments, options.cache, lambda *done: None) for corpus in corpora]
    rows = []
    for corpus, own in zip(corpora[1:], made[1:], strict=True):
        for weight in (None, 0.0, *options.metric):
            seeds = range(1 if weight is None else options.seeds)
            found = [scores(corpus, embedding(corpora[0], made[0], own, weight, seed)) for seed in seeds]
            rows.append({"corpus": corpus.name, "embedding": title(options.model, weight), **summary(found)})
    print(render(rows, "table"), end="")


def drawn(corpus: Annotated) -> Annotated:
    """The corpus, or ``CLIPS`` random clips of a larger one."""
    chosen = np.zeros(len(corpus.segments), bool)
    chosen[np.random.default_rng(0).permutation(len(chosen))[:CLIPS]] = True
    return part(corpus, chosen)


def title(model: str, weight: float | None) -> str:
    """Name of an embedding."""
    return model if weight is None else f"head, metric {weight:g}"


def embedding(train: Annotated, fitted: np.ndarray, own: np.ndarray, weight: float | None, seed: int) -> np.ndarray:
    """Embedding of test clips, shape=(clips, size): of the model, or of the hidden layer of a head fitted on TRAIN."""
    if weight is None:
        return (own - fitted.mean(0)) / (fitted.std(0) + 1e-4)
    names, category = np.unique(train.labels, return_inverse=True)
    examples = Examples(fitted, train.truth, category, len(names))
    return fit_dense(examples, replace(DenseConfig(), metric=weight), seed).answers(own).hidden


def scores(corpus: Annotated, embedded: np.ndarray) -> dict[str, float]:
    """All statistics of an embedding of a corpus."""
    apart = distances(embedded)
    nearest = np.argsort(np.where(corpus.folds[:, None] == corpus.folds, np.inf, apart), 1)[:, :NEAREST]
    guesses = [majority([corpus.labels[j] for j in row]) for row in nearest]
    names = tuple(sorted(set(corpus.labels)))
    means = corpus.truth[nearest].mean(1)
    return {
        "UA of 5-NN": unweighted_accuracy(confusion_matrix(corpus.labels, guesses, names)),
        "Spearman": float(rank_correlation(corpus, apart)),
        **{f"r {name}": pearson_cc(corpus.truth[:, d], means[:, d]) for d, name in enumerate(OUTPUTS)},
    }


def distances(points: np.ndarray) -> np.ndarray:
    """Euclidean distances, shape=(points, points)."""
    squares = np.square(points, dtype=np.float64).sum(1)
    product = points.astype(np.float64) @ points.T
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * product, 0))


def rank_correlation(corpus: Annotated, apart: np.ndarray) -> float:
    """Spearman correlation of distances in the embedding and in A/D/V, over pairs of different speakers."""
    speakers = np.array([segment.speaker for segment in corpus.segments])
    pairs = np.triu(speakers[:, None] != speakers, 1)
    return pearson_cc(ranks(distances(corpus.truth).round(6)[pairs]), ranks(apart[pairs]))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[inverse])


def majority(labels: list[str]) -> str:
    """The most frequent label; of several, the one that comes first."""
    return max(labels, key=labels.count)


def summary(found: list[dict[str, float]]) -> dict[str, str]:
    """Mean and standard deviation over seeds of each statistic."""
    return {name: " ±".join(f"{value:.3f}" for value in moments([one[name] for one in found])) for name in found[0]}


def moments(values: list[float]) -> Iterator[float]:
    """The mean, and the standard deviation of several values."""
    yield float(np.mean(values))
    if len(values) > 1:
        yield float(np.std(values, ddof=1))


if __name__ == "__main__":
    main()
