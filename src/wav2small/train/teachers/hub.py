"""Checkpoints in the format of the Hugging Face hub: a folder with configuration and arrays. No code is executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download
from torch import Tensor, nn

from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import Arrays, check_arrays, read_safetensors

MODELS = "WAV2SMALL_MODELS"
"""Environment variable of the folder of checkpoints, each in ``owner/name``."""
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
TRAINING_ONLY = re.compile(r"(.*\.)?masked_spec_embed")
"""Embedding of masked frames, used in training only. Not all checkpoints contain it."""


def models_folder() -> Path:
    """The folder in the environment variable ``MODELS``, else the current folder."""
    return Path(os.environ.get(MODELS) or ".")


def find_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: a given path, else in the folder of models, else from the hub or its cache.

    Args:
        name: folder, or ``owner/name`` on the hub and below WAV2SMALL_MODELS
        revision: commit on the hub

    Raises:
        WeightsError: if the checkpoint is not available
    """
    for folder in (Path(name), models_folder() / name):
        if (folder / CONFIG).is_file():
            return folder
    if Path(name).is_dir() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise WeightsError(f"{name}: is neither a folder with a {CONFIG} nor owner/name of the hub. Give one of them.")
    try:
        return _from_hub(name, revision)
    except Exception as error:  # the exception classes of network errors depend on the version of huggingface_hub
        models = os.environ.get(MODELS)
        where = f"is not in {models}" if models else f"{MODELS} is not set"
        reason = next(iter(str(error).splitlines()), type(error).__name__).strip(" .")
        raise WeightsError(
            f"{name}: {where}, and it cannot be fetched ({reason}). "
            f"Put its files into FOLDER/{name} and set {MODELS} to FOLDER."
        ) from None


def _from_hub(name: str, revision: str | None) -> Path:
    """From the hub's cache or the hub. One request checks the connection, because a download retries for minutes."""
    files = [CONFIG, PREPROCESSOR, WEIGHTS]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
        if (folder / WEIGHTS).is_file() or (folder / PICKLED).is_file():
            return folder
    except OSError:
        pass
    get_hf_file_metadata(hf_hub_url(name, CONFIG, revision=revision), timeout=10)
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=files))
    if not (folder / WEIGHTS).is_file():
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*files[:2], PICKLED]))
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        WeightsError: if it is missing, or not a JSON object
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}). Copy it from the hub again.") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: does not contain a JSON object. Copy it from the hub again.")
    return config


def check_config(config: Mapping[str, Any], needed: Mapping[str, object], folder: Path) -> None:
    """Check that a configuration has the needed values.

    Raises:
        WeightsError: if a value differs; the message names the key
    """
    for key, value in needed.items():
        if config.get(key) != value:
            raise WeightsError(f"{folder / CONFIG}: {key} is {config.get(key)!r}, needed: {value!r}: another network.")


def output_order(config: Mapping[str, Any], folder: Path) -> list[int]:
    """Indices of arousal, dominance and valence in the outputs, from ``id2label`` of the configuration.

    Raises:
        WeightsError: if it has other outputs
    """
    names = [str(name).lower() for _, name in sorted(dict(config.get("id2label") or {}).items())]
    if sorted(names) != sorted(OUTPUTS):
        raise WeightsError(
            f"{folder / CONFIG}: id2label names {', '.join(names) or 'nothing'}, needed: {', '.join(OUTPUTS)}, "
            "in any order: another network."
        )
    return [names.index(name) for name in OUTPUTS]


def read_arrays(folder: Path) -> Arrays:
    """All arrays of a checkpoint, with the names of current torch versions.

    Raises:
        WeightsError: if there are none, or the file is damaged or contains other objects
    """
    if (folder / WEIGHTS).is_file():
        arrays, _ = read_safetensors(folder / WEIGHTS)
    elif (folder / PICKLED).is_file():
        arrays = _read_pickled(folder / PICKLED)
    else:
        raise WeightsError(f"{folder}: has neither {WEIGHTS} nor {PICKLED}. Copy one from the hub.")
    return {_today(name): array for name, array in arrays.items()}


def _read_pickled(path: Path) -> Arrays:
    """Read a pickled checkpoint with ``weights_only``, which executes no code."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): tensor.float().numpy() for name, tensor in state.items()}
    except (AttributeError, EOFError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).strip(" .")
        raise WeightsError(f"{path}: not a file of arrays only ({reason}). Copy it from the hub again.") from None


def _today(name: str) -> str:
    """The current name of an array: torch 2.1 renamed the two parts of a weight norm."""
    for half, number in (("g", 0), ("v", 1)):
        if name.endswith(f".conv.weight_{half}"):
            return f"{name.removesuffix(f'weight_{half}')}parametrizations.weight.original{number}"
    return name


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """sha256 over names and float16 values in alphabetical order, equal for float16 and float32 copies."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_strictly(module: nn.Module, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Load weights into a module, in float32. ``TRAINING_ONLY`` arrays may be missing or superfluous.

    Raises:
        WeightsError: if an array is missing, unknown, has the wrong shape or is not finite; the message names it
    """
    own = module.state_dict()
    floats = {
        name: np.asarray(array, np.float32)
        for name, array in arrays.items()
        if name in own or not TRAINING_ONLY.fullmatch(name)
    }
    floats |= {name: own[name].cpu().numpy() for name in own.keys() - floats.keys() if TRAINING_ONLY.fullmatch(name)}
    check_arrays(floats, {name: tuple(tensor.shape) for name, tensor in own.items()}, source)
    module.load_state_dict({name: torch.tensor(array) for name, array in floats.items()})
