"""A folder that is written as a whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wav2small.errors import WeightsError


@contextmanager
def whole_folder(folder: Path, marker: str, text: str = "") -> Iterator[Path]:
    """Context manager for a new folder: a temporary one, which replaces ``folder`` if the block succeeds.

    Args:
        folder: a new or empty folder, or one that an earlier export wrote
        marker: a file of every folder of this form, by which an earlier export is recognised
        text: what that file contains

    Yields:
        the folder to write into

    Raises:
        WeightsError: if the folder has other content or cannot be written
    """
    if folder.exists() and not _is_replaceable(folder, marker, text):
        raise WeightsError(f"{folder}: has other content; give a new folder, or one that export wrote")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made, before = Path(temporary) / "made", Path(temporary) / "before"
            made.mkdir()
            yield made
            if folder.exists():
                folder.rename(before)
            made.rename(folder)
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be written ({error.strerror}); give another folder") from None


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _is_replaceable(folder: Path, marker: str, text: str) -> bool:
    if not folder.is_dir():
        return False
    file = folder / marker
    return not any(folder.iterdir()) or (file.is_file() and text in file.read_text("utf-8"))
