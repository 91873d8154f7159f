"""Speaker-independent folds and splits.

Speakers are sorted by name and assigned to folds in turn. If a corpus has sessions, in which speakers talk to each
other, sessions are assigned instead. Fold 0 is dev, fold 1 is test, the other folds are train; with two folds, the
first is dev and the second train. A clip of an unknown speaker has no fold and is used for training. The owner's splits
and existing folds of a table are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

FOLDS = 5
SPLITS = {"0": "dev", "1": "test"}


def deal(groups: Iterable[str], folds: int) -> dict[str, int]:
    """Group -> fold: groups are sorted by name and assigned to folds in turn; "" is not a group."""
    return {name: index % folds for index, name in enumerate(sorted({*groups} - {""}))}


def with_splits(segments: Sequence[Segment]) -> list[Segment]:
    """The segments with a split: their own if any segment has one, otherwise derived from the fold."""
    if any(segment.split for segment in segments):
        return list(segments)
    folds = [segment.column("fold") for segment in with_folds(segments, None)]
    count = len({*folds} - {""})
    names = SPLITS if count > 2 else {"0": SPLITS["0"]} if count == 2 else {}
    return [replace(segment, split=names.get(fold, "train")) for segment, fold in zip(segments, folds, strict=True)]


def with_folds(segments: Sequence[Segment], fold: str | None) -> list[Segment]:
    """The segments with a column fold: a number from 0, or "" if the speaker is unknown.

    Args:
        segments: segments of a corpus
        fold: ``speaker`` (leave one speaker out), ``session`` (leave one session out), or the number of folds; None
            keeps an existing column fold, and otherwise assigns five

    Raises:
        ManifestError: if there is only one speaker or session, or ``fold`` is not a number of at least 2
    """
    if fold is None:
        if any(segment.fields.get("fold") for segment in segments):
            return list(segments)
        fold = str(FOLDS)
    if fold not in ("speaker", "session") and not (fold.isdecimal() and int(fold) > 1):
        raise ManifestError(f"fold {fold!r}: give speaker, session, or a number of folds, at least 2.")
    groups = [segment.column(fold) if not fold.isdecimal() else _group(segment) for segment in segments]
    names = {*groups} - {""}
    if not fold.isdecimal() and len(names) < 2:
        present = f"one {fold}, {min(names)}" if names else f"no {fold}s"
        raise ManifestError(f"this corpus has {present}. Leave-one-{fold}-out needs at least two.")
    number = deal(names, int(fold) if fold.isdecimal() else len(names))
    return [
        replace(segment, fields={**segment.fields, "fold": str(number.get(group, ""))})
        for segment, group in zip(segments, groups, strict=True)
    ]


def _group(segment: Segment) -> str:
    return segment.column("session") or segment.speaker
