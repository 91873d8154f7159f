"""Checks of a corpus: missing audio or annotation, duplicate audio, speakers in two splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wav2small.corpora.folder import audio_files
from wav2small.network.weights import sha256
from wav2small.tables.manifest import Segment

Progress = Callable[[float, float], None]
"""Called with (done, total)."""
BEGINNING = 4096
"""Bytes of a file that are compared before the whole file."""
KINDS = ("no audio", "no annotation", "duplicate audio", "speaker in two splits")


class Finding(NamedTuple):
    """A problem in a corpus.

    Attributes:
        kind: one of ``KINDS``
        name: file or speaker
        detail: further information
    """

    kind: str
    name: str
    detail: str = ""


def check(segments: Sequence[Segment], root: Path, audio: str, progress: Progress) -> list[Finding]:
    """List the problems of a corpus.

    Args:
        segments: all annotated segments
        root: folder that the files are relative to, or a file if there is no further audio
        audio: regular expression that matches the path of every file that should be annotated
        progress: called with (files compared, files), for each of three passes: size, beginning, whole content
    """
    files = {segment.path for segment in segments}
    there = {path for path in files if path.is_file()}
    known = {path.relative_to(root).as_posix() for path in files if path.is_relative_to(root)}
    others = [file for file in audio_files(root) if re.search(audio, file) and file not in known]
    findings = [Finding("no audio", segment.file) for segment in segments if segment.path not in there]
    findings += [Finding("no annotation", file) for file in others]
    findings += _duplicates([s for s in segments if s.path in there], progress)
    return [*findings, *_shared_speakers(segments)]


def _duplicates(segments: Iterable[Segment], progress: Progress) -> list[Finding]:
    """Files with the same content: same size, then same beginning, then same sha256. Few files are read completely."""
    by_path: dict[Path, Segment] = {}
    for segment in segments:
        by_path.setdefault(segment.path, segment)
    groups = [list(by_path.values())]
    for key in (_size, _beginning, sha256):
        groups = [alike for alike in _parts(groups, key, progress) if len(alike) > 1]
    return [
        Finding("duplicate audio", other.file, f"of {first.file}{_of_another_split(first, other)}")
        for first, *others in groups
        for other in others
    ]


def _parts(
    groups: Sequence[list[Segment]], key: Callable[[Path], object], progress: Progress
) -> Iterator[list[Segment]]:
    """Each group, divided by the ``key`` of its files."""
    done, total = 0, sum(map(len, groups))
    for group in groups:
        parts: dict[object, list[Segment]] = defaultdict(list)
        for segment in group:
            parts[key(segment.path)].append(segment)
            done += 1
            progress(done, total)
        yield from parts.values()


def _size(path: Path) -> int:
    return path.stat().st_size


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BEGINNING)


def _of_another_split(first: Segment, other: Segment) -> str:
    return f", of another split: {first.split}, {other.split}" if first.split != other.split else ""


def _shared_speakers(segments: Iterable[Segment]) -> list[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for segment in segments:
        splits[segment.speaker].add(segment.split)
    return [
        Finding("speaker in two splits", speaker, ", ".join(sorted(names)))
        for speaker, names in sorted(splits.items())
        if speaker and len(names) > 1
    ]
