"""Weights of an untrained student whose batch norms have the statistics of a voice, as trained ones have."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from wav2small.export.rounding import tops
from wav2small.network import fixed_point as integer
from wav2small.network import layers, reference
from wav2small.network.config import MICRO, STUDENT, Micro, Student
from wav2small.network.frontend import dft_kernel, mel_filterbank
from wav2small.network.probes import voice

METADATA = {
    "name": "random",
    "version": "0.0.1",
    "licence": "CC0-1.0",
    "teacher": "nobody",
    "training_data": "none",
    "ccc": '{"emodb": {"arousal": 0.5}}',
}


@lru_cache(maxsize=16)
def random_arrays(seed: int = 0, config: Student | Micro = STUDENT) -> dict[str, np.ndarray]:
    """Read only: every test gets the same arrays."""
    if isinstance(config, Micro) and config.integers:
        return integer.to_integers(random_trained(seed, config), config)
    if config.integers:
        floats = replace(config, name=config.name.removesuffix("-int8"), integers=False)
        arrays = random_arrays(seed, floats)
        return integer.square_integers(arrays, *tops(arrays, floats, [voice(np.random.default_rng(seed))]), config)
    rng = np.random.default_rng(seed)
    gain = 0.5 if isinstance(config, Micro) else 1.4  # its residual blocks add up
    arrays = {}
    for name, shape in reference.shapes(config).items():
        if name.endswith(".running_mean"):
            arrays[name] = np.zeros(shape, np.float32)
        elif name.endswith(".running_var") or (len(shape) == 1 and name.endswith(".weight")):
            arrays[name] = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(".weight"):
            arrays[name] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) * gain
        elif name.endswith(".bias"):
            arrays[name] = rng.uniform(-0.5, 0.5, shape)
    if isinstance(config, Student):
        kernel = dft_kernel(config.frontend)
        arrays |= {"dft_real": kernel[0][:, None], "dft_imag": kernel[1][:, None]}
        arrays["mel"] = mel_filterbank(config.frontend).T
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    set_norms(arrays, reference.features(voice(rng), config), config, rng)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def random_trained(seed: int, config: Micro) -> dict[str, np.ndarray]:
    """What the training of the integer student leaves, which has followed the largest values of a voice."""
    arrays = random_arrays(seed, MICRO)
    tokens = reference.micro.tokens(reference.features(voice(np.random.default_rng(seed)), config), arrays, MICRO)
    values = tokens @ arrays["lin.weight"].T + arrays["lin.bias"]
    tops = {"hidden": tokens.max(), "value": np.abs(values).max()}
    tops |= {f"inner{index}": 8.0 for index in range(1, len(config.dilations) + 1)}
    watched = {f"top_{name}": np.array(top, np.float32) for name, top in tops.items()}
    return integer.folded(arrays, MICRO, "random") | watched


def set_norms(arrays: dict, log_mel: np.ndarray, config: Student | Micro, rng: np.random.Generator) -> None:
    """Run the network once, and give each batch norm the statistics of what reaches it."""
    right = layers.batch_norm

    def watched(hidden: np.ndarray, name: str, arrays: dict, eps: float) -> np.ndarray:
        axes = tuple(range(hidden.ndim - 1))
        arrays[f"{name}.running_mean"] = hidden.mean(axes).astype(np.float32)
        factor = rng.uniform(0.8, 1.2, hidden.shape[-1])
        arrays[f"{name}.running_var"] = (hidden.var(axes) * factor + 1e-3).astype(np.float32)
        return right(hidden, name, arrays, eps)

    modules = (reference, reference.micro)
    for module in modules:
        module.batch_norm = watched
    try:
        reference.features_to_emotion(log_mel, arrays, config)
    finally:
        for module in modules:
            module.batch_norm = right


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
