"""Files: names that may be URLs of an object store, and output that is written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from wav2small.errors import MissingExtraError, Wav2SmallError

LOCAL = "file://"

TEMPORARY = ".wav2small-"
"""What the name of an unfinished file begins with; one stays behind where a program was killed."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Name of a temporary file beside ``path``, which takes its place if all goes well and is removed if not.

    It has the same suffix. A device, such as ``/dev/stdout``, is written to directly. What is remote is written here
    first, and sent when it is whole.

    Raises:
        Wav2SmallError: if it cannot be written, also for want of space
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / str(path).rpartition("/")[2]
            yield temporary
            locate(path).write_bytes(temporary.read_bytes())
        return
    target = _target(path)
    if _is_device(target):
        with _full_disk_said(path):
            yield target
        return
    temporary = _beside(target)
    try:
        temporary.touch()
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with _full_disk_said(path):
            yield temporary
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise ``Wav2SmallError`` if ``whole_file(path)`` could not write; nothing is left behind.

    What is remote is not tried.
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
    """The file itself, behind any link: a link stays one."""
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
        return Wav2SmallError(f"{path}: cannot be written: there is no folder {folder}; make it first")
    return Wav2SmallError(f"{path}: cannot be written: {error.strerror}")


@contextmanager
def _full_disk_said(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise _unwritable(path, error) from None


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
