"""A store of many rows: a folder of Parquet parts, each written atomically, and a plan of the rows in each part.

``plan.json`` has the request; ``part-00017.parquet`` has ``part_rows`` rows, from row 17 x ``part_rows``. A part is
done if its file exists and is complete. That is recorded nowhere else, so whenever the writer is killed, each row is
in one part or still missing. Any reader of Parquet data sets reads the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.files import TEMPORARY, check_writable, is_remote, whole_file
from wav2small.tables.table import Row, format_of, pyarrow, write_table

PLAN = "plan.json"
READERS = 16
"""Parts looked at together, since each look may be a request over a network."""


class Store:
    """Rows by number, in the parts of a folder that ``begin`` or ``find`` has looked at.

    Args:
        folder: with the plan
        plan: its content: ``rows``, ``part_rows``, ``columns`` (name -> type of Arrow), and a description of the rows

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.store import Store
        >>> plan = {"rows": 3, "part_rows": 2, "columns": {"file": "string"}}
        >>> store = Store.begin(Path("labels"), plan)
        >>> store.write(0, [{"file": "a.wav"}, {"file": "b.wav"}])
        >>> store.missing()
        [1]
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder, self.plan = folder, plan
        self.schema = pyarrow().schema([(name, pyarrow().type_for_alias(t)) for name, t in plan["columns"].items()])
        self.parts = range(len(range(0, plan["rows"], plan["part_rows"])))

    @classmethod
    def begin(cls, folder: Path, plan: Mapping[str, Any]) -> Store:
        """A new store, or that of a stopped run with the same plan.

        Raises:
            ManifestError: if the folder has another plan, naming what differs
            Wav2SmallError: if it has other content, or cannot be made
            MissingExtraError: if pyarrow is not installed
        """
        store, found = cls(folder, plan), _read_plan(folder)
        if found is None:
            _make(folder, plan)
            return store
        other = [f"{key} {found.get(key)}, asked for {plan[key]}" for key in plan if found.get(key) != plan[key]]
        if other:
            raise ManifestError(f"{folder}: holds {'; '.join(other)}. Finish it as it was begun, or remove the folder.")
        return store

    @classmethod
    def find(cls, folder: Path) -> Store | None:
        """The store that a folder is, or None.

        Raises:
            ManifestError: if it is not finished, or its plan is damaged
        """
        plan = _read_plan(folder)
        if plan is None:
            return None
        store = cls(folder, plan)
        if missing := store.missing():
            lacks = f"{len(missing)} of its {len(store.parts)} parts, such as {store.path(missing[0]).name}"
            raise ManifestError(f"{folder}: lacks {lacks}. Finish it: the command that began it goes on.")
        return store

    def numbers(self, part: int) -> range:
        """The rows of a part."""
        size = self.plan["part_rows"]
        return range(part * size, min(self.plan["rows"], (part + 1) * size))

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part:05d}.parquet"

    def missing(self) -> list[int]:
        """Parts that are missing, or damaged: without the rows that they should have."""
        there = {path.name for path in self.folder.iterdir()}
        with ThreadPoolExecutor(READERS) as readers:
            whole = readers.map(lambda part: self.path(part).name in there and self._is_whole(part), self.parts)
            return [part for part, is_whole in zip(self.parts, whole, strict=True) if not is_whole]

    def write(self, part: int, rows: Sequence[Row]) -> None:
        """Write one part, atomically."""
        assert len(rows) == len(self.numbers(part))
        columns = {name: [row.get(name) for row in rows] for name in self.schema.names}
        with whole_file(self.path(part)) as temporary:
            table = pyarrow().table(columns, schema=self.schema)
            pyarrow().parquet.write_table(table, str(temporary), compression="zstd")

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows in order, one part in memory at a time."""
        for part in self.parts:
            yield from self._read(part).to_pylist()

    def count(self, column: str) -> int:
        """Rows that have a value in a column."""
        return sum(int(table.num_rows - table[column].null_count) for table in map(self._read, self.parts))

    def render(self, output: Path) -> None:
        """Write all rows as one table, atomically, in the format of its suffix."""
        if format_of(output) != "parquet":
            write_table(self.rows(), output, columns=self.schema.names)
            return
        with whole_file(output) as temporary, pyarrow().parquet.ParquetWriter(str(temporary), self.schema) as writer:
            for part in self.parts:
                writer.write_table(self._read(part))

    def remove(self) -> None:
        """Remove the parts, the plan, and the folder."""
        for path in [*map(self.path, self.parts), self.folder / PLAN, *self.folder.glob(f"{TEMPORARY}*")]:
            path.unlink()
        with suppress(OSError):  # an object store has no folders
            self.folder.rmdir()

    def _read(self, part: int) -> Any:
        try:
            return pyarrow().parquet.read_table(pyarrow().BufferReader(self.path(part).read_bytes()))
        except (OSError, pyarrow().ArrowException):
            raise ManifestError(f"{self.path(part)}: is damaged. Remove it; the same command makes it again.") from None

    def _is_whole(self, part: int) -> bool:
        try:
            with self.path(part).open("rb") as file:
                return bool(pyarrow().parquet.read_metadata(file).num_rows == len(self.numbers(part)))
        except (OSError, pyarrow().ArrowException):
            return False


def _read_plan(folder: Path) -> dict[str, Any] | None:
    if not (folder / PLAN).is_file():
        return None
    try:
        plan: dict[str, Any] = json.loads((folder / PLAN).read_text())
        Store(folder, plan)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ManifestError(f"{folder / PLAN}: is damaged. Remove the folder to begin again.") from None
    return plan


def check_folder(folder: Path) -> None:
    """Raise ``Wav2SmallError`` if a folder can be no store, since there is something else, or nothing to put it in."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY)}
        if names and PLAN not in names:
            raise Wav2SmallError(f"{folder}: holds other things. Name a new folder, or that of a stopped run.")
    elif not is_remote(folder):
        check_writable(folder)


def _make(folder: Path, plan: Mapping[str, Any]) -> None:
    check_folder(folder)
    try:
        folder.mkdir(parents=is_remote(folder), exist_ok=True)
    except OSError as error:
        raise Wav2SmallError(f"{folder}: cannot be made a folder: {error.strerror}. Name another.") from None
    with whole_file(folder / PLAN) as temporary:
        temporary.write_text(json.dumps(plan, indent=1) + "\n")
