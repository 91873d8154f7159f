"""The students in readable NumPy, one utterance at a time: the arbiter that torch and ONNX are compared with.

Here are the paper's network and its 17K variant, arXiv:2408.13920, whose layers are numbered 0 to 13; ``micro`` has
its own file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from wav2small.errors import WeightsError, closest
from wav2small.network import fixed_frontend as integer_frontend
from wav2small.network import fixed_point as integer
from wav2small.network import micro
from wav2small.network.config import OUTPUTS, ROUNDED, STUDENT, STUDENTS, Micro, Student
from wav2small.network.frontend import dft_kernel, log_mel, mel_filterbank, normalise, running_log_mel
from wav2small.network.layers import NORM, batch_norm, conv3x3, max_pool3x3, softmax_mean
from wav2small.network.weights import Arrays, check_arrays, read_safetensors

FRONTEND_ATOL = 1e-6
"""How far the front end stored with the weights may be from frontend.py: float32 rounding."""

FROZEN = ("dft_real", "dft_imag", "mel")
"""Arrays of the front end, which are counted as parameters and never trained."""

Answer = tuple[np.ndarray, np.ndarray]
"""Embedding, shape=(embedding_size,), and arousal, dominance, valence, not clipped, shape=(3,)."""


def shapes(config: Student | Micro = STUDENT) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array in a file of weights; running means and variances are not parameters."""
    if isinstance(config, Micro):
        return micro.shapes(config)
    channels, frontend = config.channels, config.frontend
    pooled = config.channels if config.pooling == "gram" else config.token_size
    found: dict[str, tuple[int, ...]] = {
        "dft_real": (frontend.n_bins, 1, frontend.win_length),
        "dft_imag": (frontend.n_bins, 1, frontend.win_length),
        "mel": (frontend.n_mels, frontend.n_bins),
    }
    for index in range(1, config.early + config.late + 1):
        found[f"conv{index}.weight"] = (channels, 1 if index == 1 else channels, 3, 3)
        found |= {f"norm{index}.{part}": (channels,) for part in NORM}
    for name in ("lin", "sof"):
        found |= {f"{name}.weight": (pooled, pooled), f"{name}.bias": (pooled,)}
    return found | {"out.weight": (len(OUTPUTS), config.embedding_size), "out.bias": (len(OUTPUTS),)}


def num_parameters(config: Student | Micro = STUDENT) -> int:
    """Parameters of the network, frozen ones included, as the paper counts them."""
    return sum(int(np.prod(shape)) for name, shape in shapes(config).items() if ".running_" not in name)


def num_trained(config: Student | Micro = STUDENT) -> int:
    """Parameters that training changes: all but the front end's."""
    return num_parameters(config) - sum(int(np.prod(shapes(config).get(name, 0))) for name in FROZEN)


def load_student(path: str | Path) -> tuple[Arrays, dict[str, str], Student | Micro]:
    """Arrays, metadata and sizes of a student's safetensors file, checked; its metadata say which student it is.

    Raises:
        WeightsError: if the student is unknown here, an array is missing, left over or misshapen, or made for another
            front end
    """
    arrays, metadata = read_safetensors(path)
    name = metadata.get("student", STUDENT.name)
    if name not in STUDENTS | ROUNDED:
        raise WeightsError(
            f"{path}: weights of the student {name!r}, which has no reference.{closest(name, STUDENTS)}."
        )
    config = (STUDENTS | ROUNDED)[name]
    if isinstance(config, Micro) and config.integers and "top_hidden" in arrays:  # as training writes them
        arrays = integer.to_integers(arrays, config)
    check_student(arrays, config, str(path))
    stored = metadata.get("normalisation", config.normalisation)
    if stored != config.normalisation:
        raise WeightsError(f"{path}: trained with normalisation {stored!r}, this network has {config.normalisation!r}.")
    return arrays, metadata, config


def check_student(arrays: Mapping[str, np.ndarray], config: Student | Micro = STUDENT, source: str = "weights") -> None:
    """Refuse arrays that are not a student's, or whose frozen front end is not that of frontend.py."""
    if config.integers:
        integer.check_integers(arrays, config, source)
        return
    check_arrays(arrays, shapes(config), source)
    if isinstance(config, Micro):
        return
    kernel = dft_kernel(config.frontend)
    frozen = {"dft_real": kernel[0][:, None], "dft_imag": kernel[1][:, None], "mel": mel_filterbank(config.frontend).T}
    for name, expected in frozen.items():
        error = float(np.max(np.abs(arrays[name] - expected)))
        if error > FRONTEND_ATOL:
            raise WeightsError(f"{source}: {name} is off by {error:.1e} from this front end; train again with this.")


def forward(signal: np.ndarray, arrays: Mapping[str, np.ndarray], config: Student | Micro = STUDENT) -> Answer:
    """The whole student; one in integers begins with the samples rounded to 16 bits.

    Args:
        signal: mono audio at 16 kHz, float32, shape=(samples,)
        arrays: as :func:`load_student` returns them
        config: sizes and front end

    Returns:
        embedding and emotion

    Raises:
        AudioError: if there is not one whole window of samples
    """
    if config.integers:
        return integer.to_numbers(integer_frontend.forward(integer_frontend.to_samples(signal), arrays, config), arrays)
    return features_to_emotion(features(signal, config), arrays, config)


def features(signal: np.ndarray, config: Student | Micro = STUDENT) -> np.ndarray:
    """Layers 0 to 2: log-mel after the student's normalisation, shape=(frames, n_mels)."""
    if config.normalisation == "running":
        return running_log_mel(signal, config.level_frames, config.frontend)
    return log_mel(normalise(signal, config.frontend), config.frontend)


def features_to_emotion(
    log_mel: np.ndarray, arrays: Mapping[str, np.ndarray], config: Student | Micro = STUDENT
) -> Answer:
    """Layers 3 to 13: from log-mel, shape=(frames, n_mels)."""
    if config.integers:
        return integer.features_to_emotion(log_mel, arrays, config)
    if isinstance(config, Micro):
        embedding = micro.pool(micro.tokens(log_mel, arrays, config), arrays)
    else:
        embedding = pool(tokens(log_mel, arrays, config), arrays, config)
    return embedding, arrays["out.weight"] @ embedding + arrays["out.bias"]


def tokens(log_mel: np.ndarray, arrays: Mapping[str, np.ndarray], config: Student = STUDENT) -> np.ndarray:
    """Layers 3 to 11: (frames, n_mels) to (ceil(frames / 2), channels x mels)."""
    *_, hidden = convolved(log_mel, arrays, config)
    return hidden.transpose(0, 2, 1).reshape(len(hidden), -1)


def convolved(log_mel: np.ndarray, arrays: Mapping[str, np.ndarray], config: Student = STUDENT) -> Iterator[np.ndarray]:
    """What each of the convolutions gives after its ReLU, (time, mels, channels)."""
    hidden = log_mel[:, :, None]
    for index in range(1, config.early + config.late + 1):
        hidden = conv3x3(hidden, arrays[f"conv{index}.weight"])
        hidden = np.maximum(batch_norm(hidden, f"norm{index}", arrays, config.batch_norm_eps), 0)
        yield hidden
        if index == config.early:
            hidden = max_pool3x3(hidden)


def pool(tokens: np.ndarray, arrays: Mapping[str, np.ndarray], config: Student = STUDENT) -> np.ndarray:
    """Layer 12: each value of ``lin`` is averaged over time with the softmax of ``sof`` as its weight."""
    if config.pooling == "gram":
        return pool_gram(tokens.reshape(len(tokens), config.channels, -1), arrays)
    score = tokens @ arrays["sof.weight"].T + arrays["sof.bias"]
    return softmax_mean(tokens @ arrays["lin.weight"].T + arrays["lin.bias"], score)


def pool_gram(tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The same for 1x1 convolutions, tokens (time, channels, mels), and the products of the channels beside it."""
    score = np.einsum("oc,tcm->tom", arrays["sof.weight"], tokens) + arrays["sof.bias"][:, None]
    value = np.einsum("oc,tcm->tom", arrays["lin.weight"], tokens) + arrays["lin.bias"][:, None]
    pooled = softmax_mean(value, score)
    return np.concatenate([pooled.ravel(), (pooled @ pooled.T).ravel()])
