"""Float weights to integers without training: weights rounded, the range of each stream taken from real speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wav2small.errors import NetworkError, WeightsError
from wav2small.export.static_int8 import speech
from wav2small.network import fixed_point, reference
from wav2small.network.config import Network
from wav2small.network.layers import as_tokens
from wav2small.network.weights import NETWORK, Arrays
from wav2small.tables.manifest import Segment

FITTING = 0.9999
"""Share of a channel's values in a clip that must fit into eight bits; what is larger is cut."""


def rounded(weights: str | Path, segments: Sequence[Segment]) -> tuple[Arrays, dict[str, str], Network]:
    """Integers, metadata and network of the integer form of a student, which C runs and fixed_point.py defines.

    Args:
        weights: safetensors of a float network that pools tokens
        segments: of speech

    Raises:
        WeightsError: if there is no such form of the network
        ManifestError: if there is no speech in the segments
        AudioError: if one cannot be read
    """
    arrays, metadata, network = reference.load_student(weights)
    if network.integers:
        raise WeightsError(f"{weights}: {network.name} is in integers already; give the float weights")
    try:
        target = replace(network, name=f"{network.name}-int8", integers=True)
    except NetworkError as error:
        raise WeightsError(f"{weights}: has no form in integers: {error}") from None
    found = fixed_point.quantise(arrays, tops(arrays, network, speech(segments)), target)
    for name in ("ccc", "dev_ccc"):  # of the floats
        metadata.pop(name, None)
    return found, metadata | {"student": target.name, "precision": "int8", NETWORK: target.to_json()}, target


def tops(arrays: Arrays, network: Network, signals: Sequence[np.ndarray]) -> dict[str, float]:
    """The largest value of each stream over all signals, and of what the pooling averages."""
    found = dict.fromkeys(fixed_point.watched(network), 0.0)
    for signal in signals:
        outputs = list(reference.activations(reference.features(signal, network), arrays, network))
        for place, output in zip(network.places(), outputs, strict=True):
            largest = float(np.quantile(output, FITTING, axis=(0, 1)).max())
            found[place.stream] = max(found[place.stream], largest)
        values = as_tokens(outputs[-1]) @ arrays["lin.weight"].T + arrays["lin.bias"]
        found["value"] = max(found["value"], float(np.abs(values).max()))
    return found
