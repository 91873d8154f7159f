"""Categories of one's own: a linear head on the embedding of a model. ``fit_head`` makes it; it is two arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network.weights import (
    Arrays,
    check_arrays,
    check_made_for,
    read_safetensors,
    weights_name,
    write_safetensors,
)


@dataclass(frozen=True)
class Head:
    """What turns the embedding of one model's weights into the probabilities of categories.

    Args:
        labels: the categories, sorted
        arrays: ``weight``, shape=(labels, embedding), and ``bias``, shape=(labels,)
        metadata: which weights the embedding is of, and what was measured
    """

    labels: tuple[str, ...]
    arrays: Arrays
    metadata: dict[str, str]

    def __call__(self, embedding: np.ndarray) -> dict[str, float]:
        """Probability of each category, most probable first; together 1.

        Args:
            embedding: of ``Model.embed``, shape=(size,)
        """
        score = self.arrays["weight"] @ embedding + self.arrays["bias"]
        weight = np.exp(score - score.max())
        found = dict(zip(self.labels, (weight / weight.sum()).tolist(), strict=True))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def check(self, metadata: Mapping[str, str]) -> None:
        """Raise ``WeightsError`` if the head was fitted on another model than the one with these metadata."""
        fitted = weights_name(self.metadata, "weights_")
        check_made_for("the head", fitted, self.metadata.get("weights_sha256", ""), metadata)

    def save(self, path: str | Path) -> None:
        """Write it as safetensors, whole or not at all."""
        write_safetensors(path, self.arrays, self.metadata)


def load_head(path: str | Path) -> Head:
    """A head that ``Head.save`` wrote.

    Raises:
        WeightsError: if the file is damaged, or holds something else
    """
    arrays, metadata = read_safetensors(path)
    if metadata.get("kind") != "head" or "weight" not in arrays or arrays["weight"].ndim != 2:
        raise WeightsError(f"{path}: is no head of categories; give a file that wav2small head wrote")
    labels = tuple(json.loads(metadata["labels"]))
    check_arrays(arrays, {"weight": (len(labels), arrays["weight"].shape[1]), "bias": (len(labels),)}, str(path))
    return Head(labels, arrays, metadata)
