"""Post-training quantisation to an integer network: real speech sets the scale of each stream."""

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

BITS = range(-4, 12)
"""Numbers of fractional bits that are considered."""
COMPARED = 2
"""Answers are compared for one of so many clips."""


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
    bits = fractional_bits(arrays, network, target, speech(segments))
    integers = fixed_point.quantise(arrays, bits, target)
    for name in ("ccc", "dev_ccc"):  # those of the float network
        metadata.pop(name, None)
    return integers, metadata | {"student": target.name, "precision": "int8", NETWORK: target.to_json()}, target


def fractional_bits(arrays: Arrays, network: Network, target: Network, signals: Sequence[np.ndarray]) -> dict[str, int]:
    """Fractional bits of each stream, and of ``value``, in the integer network ``target``.

    More bits round less and saturate more values. The numbers with the least squared error of the values themselves
    come first; each then rises or falls by one if that brings the answers closer to those in floats.
    """
    features = [reference.features(signal, network) for signal in signals]
    bits = {name: BITS[int(error.argmin())] for name, error in rounding_errors(arrays, network, features).items()}
    compared = features[::COMPARED]
    answers = [reference.features_to_emotion(one, arrays, network)[1] for one in compared]

    def distance(tried: dict[str, int]) -> float:
        integers = fixed_point.quantise(arrays, tried, target)
        pairs = zip(compared, answers, strict=True)
        return sum(
            float(np.square(fixed_point.features_to_emotion(one, integers, target)[1] - answer).sum())
            for one, answer in pairs
        )

    least = distance(bits)
    for name in bits:
        for tried in (bits | {name: bits[name] + 1}, bits | {name: bits[name] - 1}):
            if (found := distance(tried)) < least:
                bits, least = tried, found
    return bits


def rounding_errors(arrays: Arrays, network: Network, features: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Squared error of each stream, and of ``value``, with each of ``BITS`` fractional bits in int8, shape=(BITS,)."""
    errors = {name: np.zeros(len(BITS)) for name in fixed_point.watched(network)}
    steps = 2.0 ** np.array(BITS)
    for one in features:
        outputs = list(reference.activations(one, arrays, network))
        values = as_tokens(outputs[-1]) @ arrays["lin.weight"].T + arrays["lin.bias"]
        streams = [place.stream for place in network.places()]
        for name, output in zip([*streams, "value"], [*outputs, values], strict=True):
            for place, step in enumerate(steps):
                rounded = np.clip(np.floor(output * step + 0.5), -128, 127) / step
                errors[name][place] += np.square(rounded - output).mean()
    return errors
