"""Names of files: a path here, or a URL of an object store that fsspec knows, such as s3://bucket/clips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from wav2small.errors import MissingExtraError, Wav2SmallError

LOCAL = "file://"


def locate(name: str | Path) -> Path:
    """The path that a name stands for; a URL gives an object with the methods of a path.

    Raises:
        MissingExtraError: if it is a URL and the extra ``remote`` is not installed
        Wav2SmallError: if fsspec does not know the kind of URL
    """
    if not isinstance(name, str) or "://" not in name:
        return Path(name) if isinstance(name, str) else name
    if name.startswith(LOCAL):
        return Path(name.removeprefix(LOCAL))
    try:
        from upath import UPath
    except ImportError:
        raise MissingExtraError(f"{name}: is a URL, which needs fsspec: pip install 'wav2small[remote]'") from None
    try:
        path = UPath(name)
        path.fs  # noqa: B018  what is missing is said now
    except (ImportError, ValueError) as error:
        raise Wav2SmallError(f"{name}: cannot be reached: {error}") from None
    return cast(Path, path)


def join(folder: Path, name: str) -> Path:
    """A file in a folder; a name that is a URL stands for itself."""
    return locate(name) if "://" in name else folder / name


def is_remote(path: str | Path) -> bool:
    """Whether it is a URL, or what ``locate`` made of one."""
    return "://" in str(path)


def absolute(path: Path) -> str:
    """Its name wherever the program is started."""
    return str(path) if is_remote(path) else os.path.abspath(path)


def relative(folder: Path, base: Path) -> str:
    """A folder as seen from another, which must be here both; else its absolute name."""
    if is_remote(folder) or is_remote(base):
        return absolute(folder)
    return os.path.relpath(os.path.realpath(folder), os.path.realpath(base))
