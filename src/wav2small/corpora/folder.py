"""What adapters share: audio by name, a table somewhere in a folder, one segment of columns, a rating on 0 to 1."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from wav2small.audio.decode import SUFFIXES
from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import KNOWN, Segment


def audio_files(root: Path) -> list[str]:
    """Every audio file under a folder, relative to it, with slashes, sorted."""
    return sorted(file for file in _files(root) if os.path.splitext(file)[1].lower() in SUFFIXES)


def audio_by_stem(root: Path, under: str = "") -> dict[str, str]:
    """Name of an audio file without its suffix -> the file, relative to ``root``; of several the first.

    Args:
        root: folder of the corpus
        under: only files with this text in their path
    """
    found: dict[str, str] = {}
    for file in audio_files(root):
        if under in file:
            found.setdefault(Path(file).stem, file)
    return found


def find_file(root: Path, *names: str) -> Path | None:
    """The file of one of these names, in any case, nearest to ``root``; of several names the first that is there."""
    wanted = {name.lower(): rank for rank, name in enumerate(names)}
    found = [file for file in _files(root) if file.rpartition("/")[2].lower() in wanted]
    ranked = sorted(found, key=lambda file: (wanted[file.rpartition("/")[2].lower()], file.count("/"), file))
    return root / ranked[0] if ranked else None


def need_file(root: Path, *names: str) -> Path:
    """As :func:`find_file`.

    Raises:
        ManifestError: if none is there
    """
    path = find_file(root, *names)
    if path is None:
        raise ManifestError(
            f"{root}: there is no {' or '.join(names)}, where its annotation is. Give the folder that its "
            "owner's archive unpacks to."
        )
    return path


def segment(root: Path, file: str, columns: Mapping[str, object], emotion: Emotion | None = None) -> Segment:
    """One segment of columns by name; ``start`` and ``end`` are numbers of seconds, the others text."""
    text = {name: str(value) for name, value in columns.items() if value not in (None, "")}
    return Segment(
        file=file,
        path=root / file,
        start=float(text.get("start", 0)),
        end=float(text["end"]) if "end" in text else None,
        speaker=text.get("speaker", ""),
        split=text.get("split", ""),
        label=text.get("label", ""),
        emotion=emotion,
        fields={name: value for name, value in text.items() if name not in KNOWN},
    )


def rated(ratings: Mapping[str, str], low: float, high: float, where: str, slack: float = 0.0) -> Emotion | None:
    """Ratings of people on ``low`` to ``high`` -> 0 to 1; None if one of them is not given (nothing, or NaN).

    Args:
        ratings: text of each dimension
        low: what becomes 0
        high: what becomes 1
        where: in the corpus, for the error
        slack: a rating that is off the scale by so much is put at its end

    Raises:
        ManifestError: if a rating is no number, or not on the scale
    """
    values, slack = {}, slack / (high - low) + 1e-6
    for dimension in OUTPUTS:
        try:
            values[dimension] = (float(ratings[dimension] or "nan") - low) / (high - low)
        except ValueError:
            raise ManifestError(f"{where}: {dimension} is {ratings[dimension]!r}. Needed: a number.") from None
        if not -slack <= values[dimension] <= 1 + slack and values[dimension] == values[dimension]:
            raise ManifestError(
                f"{where}: {dimension} is {ratings[dimension]}. This corpus is rated from {low:g} to {high:g}."
            )
    if any(value != value for value in values.values()):
        return None
    return Emotion(**{dimension: min(1.0, max(0.0, value)) for dimension, value in values.items()})


def none_found(root: Path, what: str) -> ManifestError:
    """The error for a folder that does not hold the corpus."""
    return ManifestError(f"{root}: {what}. Is it another corpus, or the folder above or below?")


def _files(root: Path) -> Iterator[str]:
    for parent, _, names in os.walk(root, followlinks=True):
        before = "" if Path(parent) == root else f"{Path(parent).relative_to(root).as_posix()}/"
        yield from (before + name for name in names if not name.startswith("."))
