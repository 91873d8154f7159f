"""Weights of an untrained student whose batch norms have the statistics of a voice, as trained ones have."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from wav2small.network import fixed_point, layers, reference
from wav2small.network.config import Network
from wav2small.network.micro import MICRO, MICRO_INT8
from wav2small.network.probes import voice
from wav2small.network.wav2small import RUNNING, SMALL, WAV2SMALL
from wav2small.network.weights import NETWORK

NETWORKS = {network.name: network for network in (WAV2SMALL, RUNNING, SMALL, MICRO, MICRO_INT8)}
"""The students that are data, by name."""
ROUNDED = {
    network.name: network
    for network in (replace(one, name=f"{one.name}-int8", integers=True) for one in (WAV2SMALL, RUNNING))
}
"""Integer forms that are rounded and not trained."""
METADATA = {
    "name": "random",
    "version": "0.0.1",
    "licence": "CC0-1.0",
    "teacher": "nobody",
    "training_data": "none",
    "ccc": '{"emodb": {"arousal": 0.5}}',
}


def metadata_of(network: Network = WAV2SMALL) -> dict[str, str]:
    """Metadata of a file of these weights."""
    return METADATA | {"student": network.name, NETWORK: network.to_json()}


@lru_cache(maxsize=16)
def random_arrays(seed: int = 0, network: Network = WAV2SMALL) -> dict[str, np.ndarray]:
    """Read only: every test gets the same arrays."""
    if network.integers:
        floats = replace(network, name=network.name.removesuffix("-int8"), integers=False)
        if network.trained_int8:
            return fixed_point.to_integers(random_trained(seed, network), network)
        arrays = random_arrays(seed, floats)
        return fixed_point.quantise(arrays, fitting_bits(arrays, floats, voice(np.random.default_rng(seed))), network)
    rng = np.random.default_rng(seed)
    gain = 0.5 if any(layer.adds for layer in network.layers) else 1.4  # residual blocks add up
    arrays = {}
    for name, shape in network.shapes().items():
        if name.endswith(".running_mean"):
            arrays[name] = np.zeros(shape, np.float32)
        elif name.endswith(".running_var") or (len(shape) == 1 and name.endswith(".weight")):
            arrays[name] = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(".weight"):
            arrays[name] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) * gain
        elif name.endswith(".bias"):
            arrays[name] = rng.uniform(-0.5, 0.5, shape)
    if network.stores_frontend:
        arrays |= reference.stored_frontend(network)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    set_norms(arrays, reference.features(voice(rng), network), network, rng)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def fitting_bits(arrays: dict, network: Network, signal: np.ndarray) -> dict[str, int]:
    """The most fractional bits with which the values of a signal fit."""
    outputs = list(reference.activations(reference.features(signal, network), arrays, network))
    largest = dict.fromkeys(network.streams(), 0.0)
    for place, output in zip(network.places(), outputs, strict=True):
        largest[place.stream] = max(largest[place.stream], float(output.max()))
    values = layers.as_tokens(outputs[-1]) @ arrays["lin.weight"].T + arrays["lin.bias"]
    return {name: int(fixed_point.power_for(top)) for name, top in (largest | {"value": np.abs(values).max()}).items()}


def random_trained(seed: int, network: Network) -> dict[str, np.ndarray]:
    """What the training of the integer student leaves, which has followed the largest values of a voice."""
    floats = replace(network, name=network.name.removesuffix("-int8"), integers=False)
    arrays = random_arrays(seed, floats)
    tokens = reference.tokens(reference.features(voice(np.random.default_rng(seed)), floats), arrays, floats)
    values = tokens @ arrays["lin.weight"].T + arrays["lin.bias"]
    tops = dict.fromkeys(network.streams(), 8.0) | {"hidden": tokens.max(), "value": np.abs(values).max()}
    watched = {f"top_{name}": np.array(top, np.float32) for name, top in tops.items()}
    return fixed_point.trainable(arrays, floats, "random") | watched


def set_norms(arrays: dict, log_mel: np.ndarray, network: Network, rng: np.random.Generator) -> None:
    """Run the network once, and give each batch norm the statistics of what reaches it."""
    right = layers.batch_norm

    def watched(hidden: np.ndarray, name: str, arrays: dict, eps: float) -> np.ndarray:
        axes = tuple(range(hidden.ndim - 1))
        arrays[f"{name}.running_mean"] = hidden.mean(axes).astype(np.float32)
        factor = rng.uniform(0.8, 1.2, hidden.shape[-1])
        arrays[f"{name}.running_var"] = (hidden.var(axes) * factor + 1e-3).astype(np.float32)
        return right(hidden, name, arrays, eps)

    reference.batch_norm = watched
    try:
        reference.features_to_emotion(log_mel, arrays, network)
    finally:
        reference.batch_norm = right


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
