"""Post-training quantisation to an integer network: real speech sets the range of each stream."""

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
"""Share of a channel's values in a clip that must fit into eight bits. Larger values saturate."""


def integer_form(weights: str | Path, segments: Sequence[Segment]) -> tuple[Arrays, dict[str, str], Network]:
    """Quantise a student to the integer network that fixed_point.py defines and C runs.

    Args:
        weights: safetensors file of a float network that pools tokens
        segments: segments of speech

    Returns:
        integer weights, metadata and the integer network

    Raises:
        WeightsError: if the network has no integer form
        ManifestError: if the segments contain no speech
        AudioError: if a segment cannot be read
    """
    arrays, metadata, network = reference.load_student(weights)
    if network.integers:
        raise WeightsError(f"{weights}: {network.name} is an integer network already; give the float weights")
    try:
        target = replace(network, name=f"{network.name}-int8", integers=True)
    except NetworkError as error:
        raise WeightsError(f"{weights}: has no integer form: {error}") from None
    integers = fixed_point.quantise(arrays, tops(arrays, network, speech(segments)), target)
    for name in ("ccc", "dev_ccc"):  # those of the float network
        metadata.pop(name, None)
    return integers, metadata | {"student": target.name, "precision": "int8", NETWORK: target.to_json()}, target


def tops(arrays: Arrays, network: Network, signals: Sequence[np.ndarray]) -> dict[str, float]:
    """The largest value of each stream, and of ``value``, over all signals."""
    largest_values = dict.fromkeys(fixed_point.watched(network), 0.0)
    for signal in signals:
        outputs = list(reference.activations(reference.features(signal, network), arrays, network))
        for place, output in zip(network.places(), outputs, strict=True):
            largest = float(np.quantile(output, FITTING, axis=(0, 1)).max())
            largest_values[place.stream] = max(largest_values[place.stream], largest)
        values = as_tokens(outputs[-1]) @ arrays["lin.weight"].T + arrays["lin.bias"]
        largest_values["value"] = max(largest_values["value"], float(np.abs(values).max()))
    return largest_values
