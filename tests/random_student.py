"""Weights of an untrained student whose batch norms have the statistics of a voice, as trained ones have."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from wav2small import reference
from wav2small.config import STUDENT
from wav2small.frontend import dft_kernel, log_mel, mel_filterbank, normalise
from wav2small.parity import voice

METADATA = {
    "name": "random",
    "version": "0.0.1",
    "licence": "CC0-1.0",
    "teacher": "nobody",
    "training_data": "none",
    "ccc": '{"emodb": {"arousal": 0.5}}',
}


@lru_cache(maxsize=8)
def random_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Read only: every test gets the same arrays."""
    rng = np.random.default_rng(seed)
    kernel = dft_kernel()
    arrays = {"dft_real": kernel[0][:, None], "dft_imag": kernel[1][:, None], "mel": mel_filterbank().T}
    for name, shape in reference.shapes().items():
        if name.endswith(".weight"):
            arrays[name] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) * 1.4
        elif name.endswith(".bias"):
            arrays[name] = rng.uniform(-0.5, 0.5, shape)
    for index in range(1, STUDENT.early + STUDENT.late + 1):
        arrays[f"norm{index}.weight"] = rng.uniform(0.5, 1.5, STUDENT.channels)
    hidden = log_mel(normalise(voice(rng)))[:, :, None]
    for index in range(1, STUDENT.early + STUDENT.late + 1):
        hidden = reference.conv3x3(hidden, arrays[f"conv{index}.weight"])
        arrays[f"norm{index}.running_mean"] = hidden.mean((0, 1))
        arrays[f"norm{index}.running_var"] = hidden.var((0, 1)) * rng.uniform(0.8, 1.2, STUDENT.channels)
        hidden = np.maximum(reference.batch_norm(hidden, f"norm{index}", arrays, STUDENT.batch_norm_eps), 0)
        if index == STUDENT.early:
            hidden = reference.max_pool3x3(hidden)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
