"""Labelled clips to a head on the embedding of a model, and its confusions on held-out speakers.

A head is a logistic regression, or two dense layers. Needs scikit-learn (extra ``head``), and two layers also torch
(extra ``train``).
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wav2small.audio.read import read
from wav2small.errors import ManifestError, missing_packages
from wav2small.evaluation.confusion import Confusion
from wav2small.metrics import confusion_matrix
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import Arrays
from wav2small.runtime.head import Head
from wav2small.tables.manifest import Segment
from wav2small.train.config import DenseConfig

FOLDS = 5
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties that the fit selects from, on held-out speakers."""
SEED = 0


def embeddings(
    segments: Sequence[Segment], embed: Callable[[np.ndarray], np.ndarray], progress: Callable[[int, int], None]
) -> np.ndarray:
    """The embedding of every segment, shape=(segments, size).

    Raises:
        AudioError: if one cannot be read
    """
    found = []
    for segment in segments:
        found.append(embed(segment.cut(read(segment.path))))
        progress(len(found), len(segments))
    return np.stack(found)


def fit_head(
    embedding: np.ndarray, labels: Sequence[str], speakers: Sequence[str], metadata: Mapping[str, str], hidden: int = 0
) -> tuple[Head, Confusion]:
    """Fit a head on all clips, and the confusion matrix of heads that are fitted without a fifth of the speakers each.

    The penalty of a logistic regression is selected inside each of these fits, again on held-out speakers. Categories
    weigh the same, however rare.

    Args:
        embedding: shape=(clips, size)
        labels: category of each clip
        speakers: of each clip; one without a name is a speaker of its own
        metadata: of the model that the embedding comes from
        hidden: units of the hidden layer of two dense layers; 0 is a logistic regression

    Raises:
        ManifestError: if there are fewer than two categories, or one that fewer than two speakers have
        MissingExtraError: if scikit-learn is not installed
    """
    truth, groups = check_head(labels, speakers)
    names = tuple(sorted(set(labels)))
    guesses = np.empty_like(truth)
    folds = _splitter(min(FOLDS, fewest_speakers(truth, groups)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a rare category is missing from an inner fold
        for kept, held_out in folds.split(embedding, truth, groups):
            fitted = _fit(embedding[kept], truth[kept], groups[kept], hidden)
            guesses[held_out] = fitted.predict(embedding[held_out])
        fitted = _fit(embedding, truth, groups, hidden)
    counts = confusion_matrix(truth.tolist(), guesses.tolist(), names)
    confusion = Confusion(names, counts, len(set(groups)))
    about = {
        "kind": "head",
        "labels": json.dumps(names),
        "confusion": json.dumps(counts.tolist()),
        "clips": json.dumps(dict(sorted(Counter(labels).items()))),
        "speakers": str(confusion.speakers),
        "unweighted_average_recall": f"{confusion.recall.mean():.4f}",
        **{f"weights_{key}": metadata[key] for key in ("name", "version", "precision", "sha256") if key in metadata},
    }
    return Head(names, fitted.arrays() if hidden else _folded(fitted, names), about), confusion


def check_head(labels: Sequence[str], speakers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and speakers as ``fit_head`` takes them, after a look at whether it could: before long work.

    Raises:
        ManifestError: as ``fit_head``
        MissingExtraError: as ``fit_head``
    """
    truth = np.array(labels)
    groups = np.array([speaker or f"\n{index}" for index, speaker in enumerate(speakers)])
    names = sorted(set(labels))
    if len(names) < 2:
        raise ManifestError(
            f"{len(names)} category in {len(truth)} clips ({', '.join(names)}); a head needs two or more"
        )
    for name in names:
        if len(set(groups[truth == name])) < 2:
            raise ManifestError(
                f"category {name!r} has clips of one speaker alone; two are needed, so that one can be held out. "
                "Leave it out with --where, or add speakers"
            )
    _splitter(2)
    return truth, groups


def fewest_speakers(truth: np.ndarray, groups: np.ndarray) -> int:
    """Of any category."""
    return min(len(set(groups[truth == name])) for name in set(truth))


def _splitter(folds: int) -> Any:
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise missing_packages("fitting a head", ["scikit-learn"], "wav2small[head]") from None
    return StratifiedGroupKFold(folds, shuffle=True, random_state=SEED)


class TwoLayers:
    """Two dense layers, with the methods of an estimator that ``fit_head`` needs."""

    def __init__(self, embedding: np.ndarray, truth: np.ndarray, hidden: int) -> None:
        from wav2small.train.dense import fit_dense
        from wav2small.train.examples import Examples

        self.names, category = np.unique(truth, return_inverse=True)
        unknown = np.full((len(truth), len(OUTPUTS)), np.nan, np.float32)
        examples = Examples(embedding, unknown, category, len(self.names))
        self.head = fit_dense(examples, DenseConfig(hidden=hidden, ccc=0), SEED)

    def predict(self, embedding: np.ndarray) -> np.ndarray:
        """The most probable category of each clip."""
        return np.asarray(self.names[self.head.answers(embedding).probability.argmax(1)])

    def arrays(self) -> Arrays:
        """Both layers, with the scaling of the embedding in the first."""
        layers = {name: value.detach().numpy() for name, value in self.head.named_parameters()}
        mean, spread = self.head.mean.numpy(), self.head.spread.numpy()
        weight = layers["hidden.0.weight"] / spread
        return {
            "hidden_weight": weight.astype(np.float32),
            "hidden_bias": (layers["hidden.0.bias"] - weight @ mean).astype(np.float32),
            "weight": layers["category.weight"],
            "bias": layers["category.bias"],
        }


def _fit(embedding: np.ndarray, truth: np.ndarray, groups: np.ndarray, hidden: int) -> Any:
    if hidden:
        return TwoLayers(embedding, truth, hidden)
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    search = GridSearchCV(
        pipeline,
        {"logisticregression__C": STRENGTHS},
        scoring="balanced_accuracy",
        cv=_splitter(min(FOLDS, max(2, fewest_speakers(truth, groups)))),
        error_score=0.0,
    )
    return search.fit(embedding, truth, groups=groups).best_estimator_


def _folded(fitted: Any, names: Sequence[str]) -> Arrays:
    """Scaling and regression as one matrix and a bias; where there are two categories, the first has zeros."""
    scaler, regression = fitted[0], fitted[-1]
    assert tuple(regression.classes_) == tuple(names)
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(names) == 2:
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
