"""Functions that the readers of corpora share: find audio and tables in a folder, build segments, rescale ratings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from wav2small.audio.decode import SUFFIXES
from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import KNOWN, Segment


def audio_files(root: Path) -> list[str]:
    """All audio files under a folder, as sorted POSIX paths relative to it."""
    return sorted(file for file in _files(root) if os.path.splitext(file)[1].lower() in SUFFIXES)


def audio_by_stem(root: Path, under: str = "") -> dict[str, str]:
    """Name of an audio file without suffix -> path relative to ``root``; the first of several.

    Args:
        root: folder of the corpus
        under: text that the path must contain
    """
    stems: dict[str, str] = {}
    for file in audio_files(root):
        if under in file:
            stems.setdefault(Path(file).stem, file)
    return stems


def find_file(root: Path, *names: str) -> Path | None:
    """The file with one of these names (case-insensitive) closest to ``root``; the first name takes precedence."""
    wanted = {name.lower(): rank for rank, name in enumerate(names)}
    matching = [file for file in _files(root) if file.rpartition("/")[2].lower() in wanted]
    ranked = sorted(matching, key=lambda file: (wanted[file.rpartition("/")[2].lower()], file.count("/"), file))
    return root / ranked[0] if ranked else None


def need_file(root: Path, *names: str) -> Path:
    """The file that :func:`find_file` returns.

    Raises:
        ManifestError: if there is none
    """
    path = find_file(root, *names)
    if path is None:
        raise ManifestError(
            f"{root}: there is no {' or '.join(names)}, which contains the annotation. Give the folder of the "
            "unpacked archive."
        )
    return path


def segment(root: Path, file: str, columns: Mapping[str, object], emotion: Emotion | None = None) -> Segment:
    """A segment from columns by name.

    Args:
        root: folder of the corpus
        file: path of the audio, relative to ``root``
        columns: values by name; ``start`` and ``end`` in seconds, the others text
        emotion: A/D/V, if annotated
    """
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
    """Rescale ratings from ``low`` .. ``high`` to 0 .. 1.

    Args:
        ratings: text of each dimension
        low: rating that becomes 0
        high: rating that becomes 1
        where: place in the corpus, for error messages
        slack: a rating outside the scale by at most this much is clipped

    Returns:
        the emotion, or None if a dimension is empty or NaN

    Raises:
        ManifestError: if a rating is not a number, or is outside the scale
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


def not_this_corpus(root: Path, what: str) -> ManifestError:
    """The error for a folder that does not contain the corpus."""
    return ManifestError(f"{root}: {what}. Is it another corpus, or a parent or child of its folder?")


def _files(root: Path) -> Iterator[str]:
    for parent, _, names in os.walk(root, followlinks=True):
        before = "" if Path(parent) == root else f"{Path(parent).relative_to(root).as_posix()}/"
        yield from (before + name for name in names if not name.startswith("."))
