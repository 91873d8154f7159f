"""The reference implementation in NumPy, one signal at a time. Torch, ONNX and C are compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from wav2small.errors import WeightsError
from wav2small.network import fixed_frontend, fixed_point
from wav2small.network.config import Network
from wav2small.network.frontend import dft_kernel, log_mel, mel_filterbank, normalise, running_log_mel
from wav2small.network.layers import as_columns, as_tokens, batch_norm, convolve, max_pool, softmax_mean
from wav2small.network.weights import Arrays, check_arrays, read_safetensors, stored_network

FRONTEND_ATOL = 1e-6
"""Largest allowed difference of a stored front end from frontend.py: float32 rounding."""

Output = tuple[np.ndarray, np.ndarray]
"""Embedding, shape=(embedding_size,), and arousal, dominance, valence, not clipped, shape=(3,)."""


def load_student(path: str | Path) -> tuple[Arrays, dict[str, str], Network]:
    """Load a student from a safetensors file.

    Returns:
        arrays by name, metadata by key, and the network from the metadata

    Raises:
        WeightsError: if the metadata contain no network, an array is missing, unknown or has the wrong shape, or the
            stored front end differs from frontend.py
        NetworkError: if the description of the network is not valid
    """
    arrays, metadata = read_safetensors(path)
    network = stored_network(metadata, str(path))
    if network.integers and any(name.startswith("top_") for name in arrays):  # the form that training writes
        arrays = fixed_point.to_integers(arrays, network)
    check_student(arrays, network, str(path))
    return arrays, metadata, network


def check_student(arrays: Mapping[str, np.ndarray], network: Network, source: str = "weights") -> None:
    """Reject arrays that are not those of the network, or whose stored front end differs from frontend.py.

    Raises:
        WeightsError: if they are not valid; the message names the array
    """
    if network.integers:
        fixed_point.check_integers(arrays, network, source)
        return
    check_arrays(arrays, network.shapes(), source)
    if not network.stores_frontend:
        return
    for name, expected in stored_frontend(network).items():
        error = float(np.max(np.abs(arrays[name] - expected)))
        if error > FRONTEND_ATOL:
            raise WeightsError(
                f"{source}: {name} differs from this version's front end by {error:.1e}; train again with this version."
            )


def stored_frontend(network: Network) -> Arrays:
    """The front end as float32 arrays with the names of ``config.FROZEN``."""
    real, imag = dft_kernel(network.frontend)
    stored = {"dft_real": real[:, None], "dft_imag": imag[:, None], "mel": mel_filterbank(network.frontend).T}
    return {name: array.astype(np.float32) for name, array in stored.items()}


def forward(signal: np.ndarray, arrays: Mapping[str, np.ndarray], network: Network) -> Output:
    """Embedding and emotion of a signal; integer networks round the samples to 16 bits first.

    Args:
        signal: mono audio at 16 kHz, float32, shape=(samples,)
        arrays: weights, as :func:`load_student` returns them
        network: the network of these weights

    Returns:
        embedding, shape=(embedding_size,), and emotion, shape=(3,), float32

    Raises:
        AudioError: if there is less than one window of samples

    Examples:
        >>> arrays, metadata, network = load_student("micro.safetensors")
        >>> embedding, emotion = forward(signal, arrays, network)
    """
    if network.integers:
        samples = fixed_frontend.to_samples(signal)
        return fixed_point.to_numbers(fixed_frontend.forward(samples, arrays, network), arrays)
    return features_to_emotion(features(signal, network), arrays, network)


def features(signal: np.ndarray, network: Network) -> np.ndarray:
    """Log-mel in dB after the network's normalisation, shape=(frames, n_mels).

    Source: arXiv:2408.13920, layers 0 to 2.
    """
    if network.normalisation == "running":
        return running_log_mel(signal, network.level_frames, network.frontend)
    return log_mel(normalise(signal, network.frontend), network.frontend)


def features_to_emotion(features: np.ndarray, arrays: Mapping[str, np.ndarray], network: Network) -> Output:
    """Embedding and emotion from log-mel in dB, shape=(frames, n_mels).

    Source: arXiv:2408.13920, layers 3 to 13.
    """
    if network.integers:
        return fixed_point.features_to_emotion(features, arrays, network)
    embedding = pool(tokens(features, arrays, network), arrays, network)
    return embedding, arrays["out.weight"] @ embedding + arrays["out.bias"]


def tokens(features: np.ndarray, arrays: Mapping[str, np.ndarray], network: Network) -> np.ndarray:
    """All layers: (frames, n_mels) to (tokens, token_size)."""
    *_, hidden = activations(features, arrays, network)
    return as_tokens(hidden)


def activations(features: np.ndarray, arrays: Mapping[str, np.ndarray], network: Network) -> Iterator[np.ndarray]:
    """The output of each layer in order, (time, mels, channels)."""
    if network.mels_are_channels:
        features = batch_norm(features, "norm0", arrays, network.batch_norm_eps)
    hidden = before = as_columns(features, network)
    for layer in network.layers:
        if layer.pool:
            output = max_pool(hidden, layer)
        else:
            output = convolve(hidden, arrays[f"{layer.name}.weight"], layer)
            output = np.maximum(batch_norm(output, layer.norm, arrays, network.batch_norm_eps), 0)
        before, hidden = hidden, before + output if layer.adds else output
        yield hidden


def pool(tokens: np.ndarray, arrays: Mapping[str, np.ndarray], network: Network) -> np.ndarray:
    """Embedding of tokens (tokens, token_size): mean of ``lin`` over time, weighted by the softmax of ``sof``.

    Source: arXiv:2408.13920, layer 12.
    """
    if network.pooling == "gram":
        return pool_gram(tokens.reshape(len(tokens), network.pooled, -1), arrays)
    score = tokens @ arrays["sof.weight"].T
    if network.score_bias:
        score = score + arrays["sof.bias"]
    return softmax_mean(tokens @ arrays["lin.weight"].T + arrays["lin.bias"], score)


def pool_gram(tokens: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Embedding of tokens (time, channels, mels): pooled 1x1 convolutions, and the Gram matrix of the channels.

    Source: arXiv:2408.13920, 17K variant.
    """
    score = np.einsum("oc,tcm->tom", arrays["sof.weight"], tokens) + arrays.get("sof.bias", np.zeros(1))[:, None]
    value = np.einsum("oc,tcm->tom", arrays["lin.weight"], tokens) + arrays["lin.bias"][:, None]
    pooled = softmax_mean(value, score)
    return np.concatenate([pooled.ravel(), (pooled @ pooled.T).ravel()])
