"""Rows of a long run as they are done, in a file beside the output, so that an interrupted run can be resumed.

The file has lines of JSON: the settings of the run; then for each file its rows, and a line that ends them. Rows after
the last such line are of a file that was not finished, and are computed again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from wav2small.errors import Wav2SmallError
from wav2small.files import is_remote

Row = Mapping[str, Any]


class Journal:
    """The rows of the files that are done.

    ``path`` is the file on disk, None if it is a temporary one. ``done`` has the files that need not be computed
    again: all that were finished without an error.
    """

    def __init__(self, file: BinaryIO, path: Path | None) -> None:
        self._file = file
        self.path = path
        self._places: dict[str, int] = {}
        self.done: set[str] = set()

    def add(self, file: str, rows: Iterable[Row]) -> None:
        """Write the rows of a file as they come, and a line that ends them."""
        place, failed = self._file.seek(0, os.SEEK_END), False
        for row in rows:
            failed = failed or row.get("error") is not None
            self._write({"row": row})
        self._write({"end": file, "failed": failed})
        self._file.flush()
        self._note(file, place, failed)

    def rows(self, files: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of these files, in this order, read one by one; a file that was not added has none."""
        for place in (self._places[file] for file in files if file in self._places):
            self._file.seek(place)
            while "row" in (line := json.loads(self._file.readline())):
                yield line["row"]

    def begin(self, settings: Row) -> None:
        """Start an empty journal."""
        self._file.truncate(0)
        self._write(settings)

    def resume(self, settings: Row) -> None:
        """Read what an earlier run has written, up to the last file that it finished.

        Raises:
            Wav2SmallError: if that run had other settings
        """
        self._file.seek(0)
        earlier = _parsed(self._file.readline()) or {}
        different = [name for name in settings if earlier.get(name) != json.loads(json.dumps(settings[name]))]
        if different:
            raise Wav2SmallError(
                f"{self.path}: is of a run with another {', '.join(different)}; use the same options and model as "
                "then, or delete the file to begin anew"
            )
        place = end = self._file.tell()
        while (line := _parsed(self._file.readline())) is not None:
            if "end" in line:
                self._note(line["end"], place, line["failed"])
                place = end = self._file.tell()
        self._file.truncate(end)

    def close(self, keep: bool) -> None:
        """Close the file, and delete it unless it is to be kept."""
        self._file.close()
        if self.path is not None and not keep:
            self.path.unlink(missing_ok=True)

    def _note(self, file: str, place: int, failed: bool) -> None:
        self._places[file] = place
        if not failed:
            self.done.add(file)

    def _write(self, line: Row) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")


def partial_path(output: str | Path) -> Path | None:
    """The journal of an output file, ``FILE.partial``; None for a device or a URL, which cannot be resumed."""
    if is_remote(output) or (os.path.exists(output) and not os.path.isfile(output)):
        return None
    target = Path(os.path.realpath(output))
    return target.with_name(f"{target.name}.partial")


@contextmanager
def journal(output: str | Path, settings: Row, resumes: bool) -> Iterator[Journal]:
    """The journal of an output file, which is deleted when all is done; if not, it is kept if any file is done.

    Args:
        output: file that is written at the end
        settings: of the run; it is only resumed with the same ones
        resumes: whether to go on with an earlier run, if there is one

    Raises:
        Wav2SmallError: if there is an earlier run that is not resumed, or it had other settings
    """
    path = partial_path(output)
    if path is None:
        with tempfile.TemporaryFile() as temporary:
            yield Journal(cast(BinaryIO, temporary), None)
        return
    exists = path.exists() and path.stat().st_size > 0
    if exists and not resumes:
        raise Wav2SmallError(f"{path}: is of an earlier run; go on with it by --resume, or delete it to begin anew")
    book = Journal(open(path, "r+b" if exists else "w+b"), path)  # noqa: SIM115  closed below
    keep = True
    try:
        if exists:
            book.resume(settings)
        else:
            book.begin(settings)
            keep = False
        yield book
        keep = False
    except BaseException:
        keep = keep or bool(book.done)
        raise
    finally:
        book.close(keep)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A whole line; None at the end, or where writing was cut off."""
    try:
        return dict(json.loads(line)) if line.endswith(b"\n") else None
    except ValueError:
        return None
