"""Rows to text and files, and back: table, CSV, TSV, JSON, JSON lines, Parquet and annotation formats.

A file is written whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wav2small.errors import ManifestError, Wav2SmallError, missing_packages
from wav2small.files import check_writable as check_writable
from wav2small.files import locate
from wav2small.files import whole_file as whole_file
from wav2small.tables import formats

TEXT_FORMATS = ("table", "csv", "tsv", "json", "jsonl")
FORMATS = (*TEXT_FORMATS, "parquet", *formats.WRITERS)
SUFFIXES = {".txt": "table", ".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "jsonl", ".parquet": "parquet"}
SUFFIXES |= {f".{name}": name for name in formats.WRITERS if name != "audformat"}  # which is CSV
DELIMITERS = {"csv": ",", "tsv": "\t"}
SPARE = ("error",)
"""Columns that are left out of a table on the screen if they are empty."""

Row = Mapping[str, object]


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV, TSV, JSON, JSON lines or Parquet file; its content determines which, not its name.

    Args:
        path: of the file, or its URL

    Returns:
        one dictionary a row, every value as text: "" for none, "true" and "false" for booleans

    Raises:
        ManifestError: if there is no such file, or it is not a table
        MissingExtraError: if it is Parquet and pyarrow is not installed

    Examples:
        >>> from wav2small.tables.table import read_table, write_table
        >>> write_table([{"file": "a.wav", "arousal": 0.5, "speech": True}], "rows.csv")
        >>> read_table("rows.csv")
        [{'file': 'a.wav', 'arousal': '0.5000', 'speech': 'true'}]
    """
    try:
        content = locate(path).read_bytes()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be opened: {error.strerror or 'there is no such file'}") from None
    if content.startswith(b"PAR1"):
        return [as_text(row) for row in _read_parquet(content, path)]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: is not a table; give CSV, TSV, JSON or JSON lines in UTF-8, or Parquet") from None
    if text.lstrip()[:1] in ("[", "{"):
        return [as_text(row) for row in _parse_json(text, path)]
    return _parse_csv(text, path)


def as_text(row: Row) -> dict[str, str]:
    """A row with every value as text, as ``read_table`` gives it."""
    return {str(key): _plain(value) for key, value in row.items()}


def render(rows: Sequence[Row], format: str) -> str:
    """Rows as text.

    Args:
        rows: each a mapping of column to value; the columns are all that occur, in order of first appearance
        format: one of ``TEXT_FORMATS``, where table, CSV and TSV give floats four decimals and None as an empty cell,
            or an annotation format
    """
    return "".join(lines(rows, format))


def lines(rows: Iterable[Row], format: str, columns: Sequence[str] | None = None) -> Iterator[str]:
    """Rows as pieces of text, each as soon as its row is there when ``columns`` are given (a table needs all rows)."""
    if format in formats.WRITERS:
        rows = list(rows)
        check_columns(format, columns or list(dict.fromkeys(column for row in rows for column in row)))
        return iter([formats.WRITERS[format](rows)])
    if format not in TEXT_FORMATS:
        raise Wav2SmallError(f"{format} is not a text format; there are {', '.join(TEXT_FORMATS)}")
    if columns is None or format == "table":
        rows = list(rows)
        columns = columns or list(dict.fromkeys(column for row in rows for column in row))
    if format in DELIMITERS:
        return _csv_lines(rows, columns, DELIMITERS[format])
    writer = {"table": _table_lines, "json": _json_lines, "jsonl": _jsonl_lines}[format]
    return writer(rows, columns)


def write_table(
    rows: Iterable[Row], path: str | Path, format: str | None = None, columns: Sequence[str] | None = None
) -> None:
    """Write rows to a file, whole or not at all.

    Args:
        rows: as in ``render``; with ``columns`` given they are written as they come, and need not fit into memory
        path: file to write; one that is there is replaced
        format: one of ``FORMATS``; None takes it from the suffix of ``path``
        columns: names of the columns, in order

    Raises:
        Wav2SmallError: if the format is unknown or the file cannot be written
        MissingExtraError: if the format is parquet and pyarrow is not installed

    Examples:
        >>> from wav2small.tables.table import write_table
        >>> rows = [vars(row) for row in wav2small.predict("examples/10b10Wa.flac")]
        >>> write_table(rows, "rows.json")
    """
    format = format_of(path) if format is None else format
    if format == "parquet":
        _write_parquet(list(rows), path, columns)
        return
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines(rows, format, columns))


def format_of(path: str | Path) -> str:
    """Format that the suffix of an output file stands for."""
    suffix = Path(str(path)).suffix.lower()
    if suffix not in SUFFIXES:
        raise Wav2SmallError(f"{path}: no format has the suffix {suffix!r}; end it with {' '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def check_columns(format: str, columns: Sequence[str]) -> None:
    """Check that a format can hold rows with these columns.

    Raises:
        Wav2SmallError: if it is an annotation format and needs other columns
    """
    missing = [name for name in formats.needs(format) if name not in columns] if columns else []
    if missing:
        raise Wav2SmallError(
            f"the format {format} cannot hold these rows: it needs {', '.join(missing)}, which they lack; "
            "write csv, tsv, json, jsonl or parquet"
        )


def check_parquet() -> None:
    """Raise ``MissingExtraError`` if Parquet cannot be read or written here."""
    pyarrow()


def _plain(value: object, decimals: int | None = None) -> str:
    """One value as a cell of text."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and decimals is not None:
        return f"{value:.{decimals}f}"
    if isinstance(value, (dict, list, tuple)):
        return _json(value)
    return str(value)


def _json(value: object) -> str:
    return json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False)


def _jsonable(value: Any) -> Any:
    """A value without NaN, infinity and NumPy types, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value


def _table_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    rows = list(rows)
    shown = [column for column in columns if column not in SPARE or any(row.get(column) for row in rows)]
    cells = [[_printable(_plain(row.get(column), decimals=4)) for column in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(shown, *cells, strict=True)]
    to_the_right = [any(_is_number(row.get(column)) for row in rows) for column in shown]
    for line in [shown, *cells] if shown else []:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, to_the_right, strict=True)]
        yield "  ".join(padded).rstrip() + "\n"


def _printable(cell: str) -> str:
    return "".join(character if character.isprintable() else " " for character in cell)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _csv_lines(rows: Iterable[Row], columns: Sequence[str], delimiter: str) -> Iterator[str]:
    yield _csv_line(columns, delimiter)
    for row in rows:
        yield _csv_line([_plain(row.get(column), decimals=4) for column in columns], delimiter)


def _csv_line(cells: Sequence[str], delimiter: str) -> str:
    buffer = io.StringIO()
    # lines end with \r\n here so that a carriage return in a cell is quoted
    # and a single cell of TSV is quoted, as a line without a tab could be CSV
    is_single = delimiter == "\t" and len(cells) == 1
    quoting: Literal[0, 1] = csv.QUOTE_ALL if is_single else csv.QUOTE_MINIMAL
    csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n", quoting=quoting).writerow(cells)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _json_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    before = "[\n"
    for row in rows:
        yield before + _json({column: row.get(column) for column in columns})
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _jsonl_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    for row in rows:
        yield _json({column: row.get(column) for column in columns}) + "\n"


def _parse_csv(text: str, path: str | Path) -> list[dict[str, str]]:
    first = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(reader, None)
    if not header:
        what = "its first line is empty" if text.strip() else "is empty"
        raise ManifestError(f"{path}: {what}; give a table whose first line has the names of the columns")
    if len(set(header)) < len(header):
        raise ManifestError(f"{path}: its first line must name the columns, each once; it is {header}")
    rows = []
    for cells in reader:
        if cells and len(cells) != len(header):
            raise ManifestError(
                f"{path}: line {reader.line_num} has {len(cells)} cells, its first line {len(header)}; is it cut off?"
            )
        if cells:
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def _parse_json(text: str, path: str | Path) -> list[dict[str, object]]:
    documents = [text] if text.lstrip().startswith("[") else text.split("\n")
    rows: list[dict[str, object]] = []
    for number, document in enumerate(documents, start=1):
        try:
            parsed = json.loads(document) if document.strip() else []
        except json.JSONDecodeError as error:
            line = number + error.lineno - 1
            raise ManifestError(f"{path}: is neither JSON nor JSON lines: line {line}: {error.msg}") from None
        rows += parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(row, dict) for row in rows):
        raise ManifestError(f"{path}: each row must be an object of column and value")
    return rows


def pyarrow() -> Any:
    """The module, with its Parquet; ``MissingExtraError`` if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise missing_packages("Parquet", ["pyarrow"], "wav2small[parquet]") from None
    return pyarrow


def _read_parquet(content: bytes, path: str | Path) -> list[dict[str, object]]:
    try:
        rows: list[dict[str, object]] = pyarrow().parquet.read_table(pyarrow().BufferReader(content)).to_pylist()
    except pyarrow().ArrowException as error:
        raise ManifestError(f"{path}: is damaged Parquet: {str(error).splitlines()[0]}") from None
    return rows


def _write_parquet(rows: Sequence[Row], path: str | Path, columns: Sequence[str] | None) -> None:
    columns = columns or list(dict.fromkeys(column for row in rows for column in row))
    try:
        table = pyarrow().table({column: [_jsonable(row.get(column)) for row in rows] for column in columns})
    except pyarrow().ArrowException as error:
        raise Wav2SmallError(
            f"{path}: all values of a Parquet column must have one type: {str(error).splitlines()[0]}"
        ) from None
    with whole_file(path) as temporary:
        pyarrow().parquet.write_table(table, str(temporary))
