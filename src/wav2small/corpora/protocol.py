"""Who trains and who is held out: folds and splits that never share a speaker, by one rule.

Speakers, sorted by name, are dealt into folds in turn. Where a corpus has sessions, in which speakers talk with each
other, sessions are dealt out instead. Fold 0 is dev, fold 1 is test, the rest train; of two folds the first is dev and
the other train. A clip of an unknown speaker is for training, and in no fold. The splits of a corpus's owner stand, and
so do folds that a table has already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

FOLDS = 5
SPLITS = {"0": "dev", "1": "test"}


def deal(groups: Iterable[str], folds: int) -> dict[str, int]:
    """Group -> fold: sorted by name, dealt out in turn; "" is no group."""
    return {name: index % folds for index, name in enumerate(sorted({*groups} - {""}))}


def with_splits(segments: Sequence[Segment]) -> list[Segment]:
    """The segments with a split: their own if one of them has any, else by their fold."""
    if any(segment.split for segment in segments):
        return list(segments)
    folds = [segment.column("fold") for segment in with_folds(segments, None)]
    count = len({*folds} - {""})
    names = SPLITS if count > 2 else {"0": SPLITS["0"]} if count == 2 else {}
    return [replace(segment, split=names.get(fold, "train")) for segment, fold in zip(segments, folds, strict=True)]


def with_folds(segments: Sequence[Segment], fold: str | None) -> list[Segment]:
    """The segments with a column fold: a number from 0, or nothing where the speaker is unknown.

    Args:
        segments: of a corpus
        fold: ``speaker`` (leave one speaker out), ``session`` (leave one session out), or how many folds to deal;
            None keeps a column fold that is there already, and else deals five

    Raises:
        ManifestError: if there is not more than one speaker or session, or it is no number from 2
    """
    if fold is None:
        if any(segment.fields.get("fold") for segment in segments):
            return list(segments)
        fold = str(FOLDS)
    if fold not in ("speaker", "session") and not (fold.isdecimal() and int(fold) > 1):
        raise ManifestError(f"fold {fold!r}: give speaker, session, or how many folds, at least 2.")
    groups = [segment.column(fold) if not fold.isdecimal() else _group(segment) for segment in segments]
    names = {*groups} - {""}
    if not fold.isdecimal() and len(names) < 2:
        found = f"one {fold}, {min(names)}" if names else f"no {fold}s"
        raise ManifestError(f"this corpus has {found}. Leave one {fold} out only where there are more.")
    number = deal(names, int(fold) if fold.isdecimal() else len(names))
    return [
        replace(segment, fields={**segment.fields, "fold": str(number.get(group, ""))})
        for segment, group in zip(segments, groups, strict=True)
    ]


def _group(segment: Segment) -> str:
    return segment.column("session") or segment.speaker
