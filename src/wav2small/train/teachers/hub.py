"""Checkpoints in the format of the Hugging Face hub: a folder with a configuration and arrays by name, never code."""

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
"""Environment variable with a folder of checkpoints, each in its ``owner/name``."""
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
TRAINING_ONLY = re.compile(r"(.*\.)?masked_spec_embed")
"""What stands for masked frames in training; some checkpoints have it and some do not, and no answer depends on it."""


def models_folder() -> Path:
    """The folder that ``MODELS`` names, else the current one."""
    return Path(os.environ.get(MODELS) or ".")


def find_folder(name: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint: one given by path, else in the folder of models, else of the hub or its cache.

    Args:
        name: a folder, or ``owner/name`` as on the hub and below WAV2SMALL_MODELS
        revision: the commit of the hub that is meant

    Raises:
        WeightsError: if it is in none of these places
    """
    for folder in (Path(name), models_folder() / name):
        if (folder / CONFIG).is_file():
            return folder
    if Path(name).is_dir() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise WeightsError(f"{name}: is neither a folder with a {CONFIG} nor owner/name of the hub. Give one of them.")
    try:
        return _from_hub(name, revision)
    except Exception as error:  # the classes of what a network does wrong change with the version of the library
        models = os.environ.get(MODELS)
        where = f"is not in {models}" if models else f"{MODELS} names no folder of models"
        reason = next(iter(str(error).splitlines()), type(error).__name__).strip(" .")
        raise WeightsError(
            f"{name}: {where}, and it cannot be fetched ({reason}). "
            f"Put its files into the folder {name} of a folder, and set {MODELS} to that."
        ) from None


def _from_hub(name: str, revision: str | None) -> Path:
    """From the hub's cache or the hub, which is asked once: a download tries again for minutes."""
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
    """A configuration.

    Raises:
        WeightsError: if it is missing, or not a JSON object
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}). Copy it from the hub again.") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: does not hold a JSON object. Copy it from the hub again.")
    return found


def check_config(config: Mapping[str, Any], needed: Mapping[str, object], folder: Path) -> None:
    """Refuse a configuration of something else.

    Raises:
        WeightsError: naming the first key that is not as needed
    """
    for key, value in needed.items():
        if config.get(key) != value:
            raise WeightsError(f"{folder / CONFIG}: {key} is {config.get(key)!r}, needed: {value!r}: another network.")


def output_order(config: Mapping[str, Any], folder: Path) -> list[int]:
    """Which outputs are arousal, dominance and valence, by the names that the configuration has for them.

    Raises:
        WeightsError: if it names others
    """
    names = [str(name).lower() for _, name in sorted(dict(config.get("id2label") or {}).items())]
    if sorted(names) != sorted(OUTPUTS):
        raise WeightsError(
            f"{folder / CONFIG}: id2label names {', '.join(names) or 'nothing'}, needed: {', '.join(OUTPUTS)}, "
            "in any order: another network."
        )
    return [names.index(name) for name in OUTPUTS]


def read_arrays(folder: Path) -> Arrays:
    """Every array of a checkpoint, under the names that torch has today.

    Raises:
        WeightsError: if there are none, or the file is damaged or holds anything but arrays
    """
    if (folder / WEIGHTS).is_file():
        arrays, _ = read_safetensors(folder / WEIGHTS)
    elif (folder / PICKLED).is_file():
        arrays = _read_pickled(folder / PICKLED)
    else:
        raise WeightsError(f"{folder}: has neither {WEIGHTS} nor {PICKLED}. Copy one from the hub.")
    return {_today(name): array for name, array in arrays.items()}


def _read_pickled(path: Path) -> Arrays:
    """``weights_only`` lets arrays through and runs nothing."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): tensor.float().numpy() for name, tensor in state.items()}
    except (AttributeError, EOFError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).strip(" .")
        raise WeightsError(f"{path}: is not a file of arrays alone ({reason}). Copy it from the hub again.") from None


def _today(name: str) -> str:
    """The two halves of a weight norm have other names since torch 2.1."""
    for half, number in (("g", 0), ("v", 1)):
        if name.endswith(f".conv.weight_{half}"):
            return f"{name.removesuffix(f'weight_{half}')}parametrizations.weight.original{number}"
    return name


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """sha256 over names and float16 values in alphabetical order: the same for a float16 and a float32 copy."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_strictly(module: nn.Module, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Give a module its weights, in float32; what is ``TRAINING_ONLY`` may be missing or left over.

    Raises:
        WeightsError: naming every array that is missing, left over, misshapen or not finite
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
