"""Synonyms of column names, and audio extracted from archives."""

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
    """Columns with the names that a manifest uses; if both names exist, the manifest's own name wins."""
    result: dict[str, object] = {}
    for column, value in columns.items():
        name = NAMES.get(column.lower(), column.lower())
        if name == column.lower() or name not in columns:
            result[name] = value
    if str(result.get("split", "")).lower() in SPLITS:
        result["split"] = SPLITS[str(result["split"]).lower()]
    return result


def write_audio(examples: Iterable[tuple[str, bytes, Mapping[str, object]]], folder: Path, source: Path) -> None:
    """Write the audio of each example into a folder, then their columns into manifest.csv.

    Args:
        examples: file name, content and columns of each example
        folder: output folder, created if missing; existing files of the same size are kept
        source: name of the source, for error messages

    Raises:
        ManifestError: if there are no examples, two have the same name, or a name is outside the folder
    """
    rows: dict[str, dict[str, object]] = {}
    for file, content, columns in examples:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise ManifestError(f"{source}: {file!r} is outside the output folder. Rename it.")
        if file in rows:
            raise ManifestError(f"{source}: {file} occurs twice. Give each example its own name.")
        rows[file] = {"file": file} | {n: v for n, v in renamed(columns).items() if n not in ("file", "root")}
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.stat().st_size != len(content):
            with whole_file(path) as temporary:
                temporary.write_bytes(content)
    if not rows:
        raise ManifestError(f"{source}: has no example with audio.")
    write_table(list(rows.values()), folder / "manifest.csv")
