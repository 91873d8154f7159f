"""Heads: your own categories, by one or two dense layers on the embedding of a model; ``fit_head`` makes one."""

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
    """One or two dense layers and a softmax: the embedding of one model to the probabilities of categories.

    Args:
        labels: the categories, sorted
        arrays: ``weight``, shape=(labels, size), and ``bias``, shape=(labels,); with two layers also ``hidden_weight``,
            shape=(size, embedding), and ``hidden_bias``, shape=(size,), before a ReLU
        metadata: the weights that the embedding is from, and how well the head classifies

    Examples:
        >>> from wav2small.runtime.head import Head
        >>> arrays = {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
        >>> head = Head(("calm", "tense"), arrays, metadata={})
        >>> list(head(np.array([0.0, 2.0])))
        ['tense', 'calm']
    """

    labels: tuple[str, ...]
    arrays: Arrays
    metadata: dict[str, str]

    def __call__(self, embedding: np.ndarray) -> dict[str, float]:
        """Probability of each category, most probable first; they sum to 1.

        Args:
            embedding: of ``Model.embed``, shape=(size,)
        """
        arrays, inner = self.arrays, embedding
        if "hidden_weight" in arrays:
            inner = np.maximum(arrays["hidden_weight"] @ embedding + arrays["hidden_bias"], 0)
        score = arrays["weight"] @ inner + arrays["bias"]
        weight = np.exp(score - score.max())
        found = dict(zip(self.labels, (weight / weight.sum()).tolist(), strict=True))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def check(self, metadata: Mapping[str, str]) -> None:
        """Raise ``WeightsError`` if the head was fitted on another model than the one with these metadata."""
        fitted = weights_name(self.metadata, "weights_")
        check_made_for("the head", fitted, self.metadata.get("weights_sha256", ""), metadata)

    def save(self, path: str | Path) -> None:
        """Write it as safetensors, atomically."""
        write_safetensors(path, self.arrays, self.metadata)


def load_head(path: str | Path) -> Head:
    """Read a head that ``Head.save`` or ``wav2small head`` wrote.

    Args:
        path: of the file

    Raises:
        WeightsError: if the file is damaged, or is not a head

    Examples:
        >>> from wav2small.runtime.head import load_head
        >>> load_head("missing.safetensors")
        Traceback (most recent call last):
        wav2small.errors.WeightsError: missing.safetensors: ...
    """
    arrays, metadata = read_safetensors(path)
    if metadata.get("kind") != "head" or "weight" not in arrays or arrays["weight"].ndim != 2:
        raise WeightsError(f"{path}: not a head; give a file that wav2small head wrote")
    labels = tuple(json.loads(metadata["labels"]))
    size = arrays["weight"].shape[1]
    shapes: dict[str, tuple[int, ...]] = {"weight": (len(labels), size), "bias": (len(labels),)}
    if "hidden_weight" in arrays:
        shapes |= {"hidden_weight": (size, arrays["hidden_weight"].shape[-1]), "hidden_bias": (size,)}
    check_arrays(arrays, shapes, str(path))
    return Head(labels, arrays, metadata)
