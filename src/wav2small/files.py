"""Files: names that may be URLs of an object store, and atomic output."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from wav2small.errors import Wav2SmallError, missing_packages

LOCAL = "file://"

TEMPORARY = ".wav2small-"
"""Prefix of temporary files. One remains if the program is killed."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Context manager for atomic output: a temporary file, which replaces ``path`` if the block succeeds.

    The temporary file is in the same folder, has the same suffix, and is removed if the block raises. A device, such as
    ``/dev/stdout``, is written directly. A remote file is written to a local temporary file and then uploaded.

    Args:
        path: output file or URL

    Yields:
        path of the file to write

    Raises:
        Wav2SmallError: if the file cannot be written or the disk is full
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / str(path).rpartition("/")[2]
            yield temporary
            locate(path).write_bytes(temporary.read_bytes())
        return
    target = _target(path)
    if _is_device(target):
        with _disk_errors(path):
            yield target
        return
    temporary = _beside(target)
    try:
        temporary.touch()
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with _disk_errors(path):
            yield temporary
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Check that ``whole_file(path)`` can write; leaves no file. Remote paths are not checked.

    Raises:
        Wav2SmallError: if the file cannot be written
    """
    if is_remote(path):
        return
    target = _target(path)
    if _is_device(target):
        return
    probe = _beside(target)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _target(path: str | Path) -> Path:
    """The file to replace; symbolic links are followed, so that a link remains a link."""
    target = Path(path)
    if target.is_dir():
        raise Wav2SmallError(f"{path}: cannot be written: it is a folder; give the name of a file")
    return target if _is_device(target) else Path(os.path.realpath(target))


def _is_device(target: Path) -> bool:
    return target.exists() and not target.is_file()


def _beside(target: Path) -> Path:
    return target.with_name(f"{TEMPORARY}{secrets.token_hex(4)}{target.suffix}")


def _unwritable(path: str | Path, error: OSError) -> Wav2SmallError:
    folder = Path(path).parent
    if error.errno == errno.ENOENT and not folder.exists():
        return Wav2SmallError(f"{path}: cannot be written: there is no folder {folder}; create it first")
    return Wav2SmallError(f"{path}: cannot be written: {error.strerror}")


@contextmanager
def _disk_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise _unwritable(path, error) from None


def locate(name: str | Path) -> Path:
    """Path of a file name or URL; a URL gives an object with the methods of a path.

    Raises:
        MissingExtraError: if it is a URL and the extra ``remote`` is not installed
        Wav2SmallError: if fsspec does not support the URL
    """
    if not isinstance(name, str) or "://" not in name:
        return Path(name) if isinstance(name, str) else name
    if name.startswith(LOCAL):
        return Path(name.removeprefix(LOCAL))
    try:
        from upath import UPath
    except ImportError:
        raise missing_packages(f"{name}: a URL", ["universal-pathlib"], "wav2small[remote]") from None
    try:
        path = UPath(name)
        path.fs  # noqa: B018  raises now if a package is missing
    except (ImportError, ValueError) as error:
        raise Wav2SmallError(f"{name}: cannot be reached: {error}") from None
    return cast(Path, path)


def join(folder: Path, name: str) -> Path:
    """Path of a file in a folder; a URL is independent of the folder."""
    return locate(name) if "://" in name else folder / name


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL, as text or as returned by :func:`locate`."""
    return "://" in str(path)


def absolute(path: Path) -> str:
    """Absolute name of a path; a URL is unchanged."""
    return str(path) if is_remote(path) else os.path.abspath(path)


def relative(folder: Path, base: Path) -> str:
    """Path of a folder relative to ``base``; its absolute name if one of them is remote."""
    if is_remote(folder) or is_remote(base):
        return absolute(folder)
    return os.path.relpath(os.path.realpath(folder), os.path.realpath(base))
