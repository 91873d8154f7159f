"""Columns that others name otherwise, and the folder that archives of audio are unpacked to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from wav2small.errors import ManifestError
from wav2small.files import whole_file
from wav2small.tables.table import write_table

NAMES = {
    "emotion": "label",
    "class": "label",
    "cls": "label",
    "speaker_id": "speaker",
    "activation": "arousal",
    "sex": "gender",
    "transcription": "text",
    "raw_text": "text",
}
SPLITS = {"validation": "dev", "valid": "dev", "development": "dev", "devel": "dev", "training": "train"}


def renamed(columns: Mapping[str, object]) -> dict[str, object]:
    """Columns by the names that a manifest has; a column that is there by both names keeps its own."""
    found: dict[str, object] = {}
    for column, value in columns.items():
        name = NAMES.get(column.lower(), column.lower())
        if name == column.lower() or name not in columns:
            found[name] = value
    if str(found.get("split", "")).lower() in SPLITS:
        found["split"] = SPLITS[str(found["split"]).lower()]
    return found


def write_audio(examples: Iterable[tuple[str, bytes, Mapping[str, object]]], folder: Path, source: Path) -> None:
    """Write each example's audio into a folder, and their columns into its manifest.csv, last.

    Args:
        examples: file, content of the file, columns
        folder: made if it is not there; a file of the same size that is there is kept
        source: named in errors

    Raises:
        ManifestError: if there are none, two have one name, or a name leads out of the folder
    """
    rows: dict[str, dict[str, object]] = {}
    for file, content, columns in examples:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise ManifestError(f"{source}: {file!r} leads out of the folder that it is unpacked to. Rename it.")
        if file in rows:
            raise ManifestError(f"{source}: {file} is there twice. Give each example a name of its own.")
        rows[file] = {"file": file} | {n: v for n, v in renamed(columns).items() if n not in ("file", "root")}
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.stat().st_size != len(content):
            with whole_file(path) as temporary:
                temporary.write_bytes(content)
    if not rows:
        raise ManifestError(f"{source}: has no example with audio.")
    write_table(list(rows.values()), folder / "manifest.csv")
