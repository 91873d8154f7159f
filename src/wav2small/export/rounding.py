"""``wav2small`` to integers without training: weights rounded, and the range of each layer taken from real speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wav2small.errors import WeightsError
from wav2small.export.static_int8 import speech
from wav2small.network import fixed_point as integer
from wav2small.network import reference
from wav2small.network.config import ROUNDED, Student
from wav2small.network.weights import Arrays
from wav2small.tables.manifest import Segment

FITTING = 0.9999
"""Share of a channel's values in a clip that must fit into eight bits; what is larger is cut."""


def rounded(weights: str | Path, segments: Sequence[Segment]) -> tuple[Arrays, dict[str, str]]:
    """Integers and metadata of the integer form of a student, which C runs and reference/integer.py defines.

    Args:
        weights: safetensors of a float student that pools tokens: ``wav2small`` or ``wav2small-running``
        segments: of speech

    Raises:
        WeightsError: if there is no such form of the student
        ManifestError: if there is no speech in the segments
        AudioError: if one cannot be read
    """
    arrays, metadata, config = reference.load_student(weights)
    target = ROUNDED.get(f"{config.name}-int8")
    if target is None or not isinstance(config, Student):
        raise WeightsError(
            f"{weights}: {config.name} has no integers by rounding; wav2small and wav2small-running have, "
            "and micro by training: train --student micro-int8 --from"
        )
    found = integer.square_integers(arrays, *tops(arrays, config, speech(segments)), target)
    for name in ("ccc", "dev_ccc"):  # of the floats
        metadata.pop(name, None)
    return found, metadata | {"student": target.name, "precision": "int8"}


def tops(arrays: Arrays, config: Student, signals: Sequence[np.ndarray]) -> tuple[list[float], float]:
    """The largest values of each convolution over all signals, and of what the pooling averages."""
    layers, values = [], []
    for signal in signals:
        hidden = list(reference.convolved(reference.features(signal, config), arrays, config))
        layers.append([np.quantile(one, FITTING, axis=(0, 1)).max() for one in hidden])
        token = hidden[-1].transpose(0, 2, 1).reshape(len(hidden[-1]), -1)
        values.append(np.abs(token @ arrays["lin.weight"].T + arrays["lin.bias"]).max())
    return np.max(layers, axis=0).tolist(), float(max(values))
