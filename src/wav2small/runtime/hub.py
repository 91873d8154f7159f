"""Model folders that ``wav2small export --to hub`` writes: on disk, or on the Hugging Face hub at a revision.

config.json lists the files with their sha256, which is checked. Files are arrays and graphs; no code is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wav2small.errors import WeightsError, missing_packages
from wav2small.network.weights import PRECISIONS, sha256, split_precision
from wav2small.runtime.calibration import calibration_path

CONFIG = "config.json"
FORMAT = "wav2small 1"
"""Key ``format`` of config.json."""
ARRAYS = {"fp32": "model.safetensors", "int8": "model_int8.safetensors"}
GRAPHS = {"fp32": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}
"""Weights in a folder, by precision. Other names are never read."""
COMMIT = re.compile(r"[0-9a-f]{40}")

Get = Callable[[str], Path]
"""Returns the path of a file of a folder, by its name in it."""


def is_hub_name(name: str) -> bool:
    """Whether a name is ``owner/name[:PRECISION]@revision``."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(:\w+)?@[\w./-]+", name))


def from_hub(name: str, suffix: str) -> Path:
    """The weights of a repository, from the hub's cache or the hub.

    Files of a commit that are in the cache need no network; of a branch or tag, the hub is asked for its commit first,
    and the cache is used if it cannot be reached.

    Args:
        name: ``owner/name[:PRECISION]@revision``; the revision is a commit, a tag or a branch
        suffix: ``.onnx`` or ``.safetensors``

    Raises:
        WeightsError: if a file cannot be fetched, or the repository is not a valid folder
        MissingExtraError: if huggingface_hub is not installed
    """
    named, _, revision = name.rpartition("@")
    repository, precision = split_precision(named)
    config = _fetched(repository, revision, CONFIG)
    commit = config.parent.name  # of the snapshot, so that all files are of the same commit
    return weights_in(partial(_fetched, repository, commit), name, precision, suffix)


def from_folder(folder: Path, suffix: str) -> Path:
    """The weights of a folder; float32, or the only ones.

    Args:
        folder: that ``wav2small export --to hub`` wrote
        suffix: ``.onnx`` or ``.safetensors``

    Raises:
        WeightsError: if it is not a valid folder
    """
    return weights_in(lambda file: folder / file, str(folder), "", suffix)


def weights_in(get: Get, name: str, precision: str, suffix: str) -> Path:
    """The weights of a folder, after a check of their sha256, with the calibration beside them.

    Args:
        get: returns a file
        name: of the folder, for error messages
        precision: ``fp32``, ``int8``, or "" for fp32 or the only one
        suffix: ``.onnx`` or ``.safetensors``

    Raises:
        WeightsError: if config.json is not valid, lists no such weights, or a sha256 differs
    """
    files = listed(get(CONFIG), name)
    places = GRAPHS if suffix == ".onnx" else ARRAYS
    wanted = [places[one] for one in PRECISIONS if precision in ("", one) and places[one] in files]
    if not wanted:
        known = ", ".join(sorted(files))
        raise WeightsError(f"{name}: has no {precision or 'weights'} as {suffix}. It has: {known}.")
    path = checked(get, wanted[0], files[wanted[0]], name)
    calibration = calibration_path(wanted[0]).as_posix()
    if calibration in files:
        checked(get, calibration, files[calibration], name)
    return path


def listed(config: Path, name: str) -> dict[str, str]:
    """sha256 of each file, by its name, from config.json.

    Raises:
        WeightsError: if config.json is missing or not one that export wrote
    """
    try:
        content = json.loads(config.read_text("utf-8"))
        files, form = content["files"], content["format"]
        valid = all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in files.values())
    except OSError as error:
        raise WeightsError(f"{name}: its {CONFIG} cannot be read ({error.strerror}). Give a model folder.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        form, valid, files = "", False, {}
    if form != FORMAT or not valid:
        raise WeightsError(
            f"{name}: its {CONFIG} is not of the format {FORMAT!r}; make the folder with wav2small export --to hub"
        )
    return dict(files)


def checked(get: Get, file: str, digest: str, name: str) -> Path:
    """A file of a folder with this sha256.

    Raises:
        WeightsError: if it is missing or has another sha256
    """
    path = get(file)
    if not path.is_file():
        raise WeightsError(f"{name}: has no file {file}, which its {CONFIG} lists. Fetch the folder again.")
    found = sha256(path)
    if found != digest:
        raise WeightsError(
            f"{name}: sha256 of {file} is {found[:12]}..., its {CONFIG} says {digest[:12]}...: the file is damaged. "
            f"Fetch it again: remove {path.resolve()}"
        )
    return path


def _fetched(repository: str, revision: str, file: str) -> Path:
    """A file of a repository, from the cache or the hub."""
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ModuleNotFoundError as error:
        raise missing_packages(f"{repository}: the hub", [error.name], "huggingface-hub") from None
    cached = try_to_load_from_cache(repository, file, revision=revision) if COMMIT.fullmatch(revision) else None
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # the exception classes of network errors depend on the version of huggingface_hub
        reason = next(iter(str(error).splitlines()), type(error).__name__).strip(" .")
        raise WeightsError(
            f"{repository}@{revision}: {file} is not in the cache and cannot be fetched ({reason}). "
            "Check the name, the revision and the connection."
        ) from None
