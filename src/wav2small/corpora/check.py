"""What a corpus has and lacks: annotation or audio alone, the same audio twice, speakers in two splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from wav2small.corpora.folder import audio_files
from wav2small.manifest import Segment
from wav2small.weights import sha256

Tell = Callable[[float, float], None]
KINDS = ("no audio", "no annotation", "duplicate audio", "speaker in two splits")


class Finding(NamedTuple):
    """Something that is missing or doubtful: one of ``KINDS``, the file or speaker, and what else there is to say."""

    kind: str
    name: str
    detail: str = ""


def check(segments: Sequence[Segment], root: Path, audio: str, tell: Tell) -> list[Finding]:
    """What is wrong with the segments of a corpus.

    Args:
        segments: all that are annotated
        root: the folder that their files are relative to; a file stands for a corpus without further audio
        audio: regular expression, found in the path of every file that should be annotated
        tell: called with (done, total) bytes of files that are compared
    """
    files = {segment.path for segment in segments}
    there = {path for path in files if path.is_file()}
    known = {path.relative_to(root).as_posix() for path in files if path.is_relative_to(root)}
    others = [file for file in audio_files(root) if re.search(audio, file) and file not in known]
    findings = [Finding("no audio", segment.file) for segment in segments if segment.path not in there]
    findings += [Finding("no annotation", file) for file in others]
    findings += _duplicates([s for s in segments if s.path in there], tell)
    return [*findings, *_shared_speakers(segments)]


def _duplicates(segments: Iterable[Segment], tell: Tell) -> list[Finding]:
    """Files with the same bytes; only those of one size are read."""
    by_size: dict[int, dict[Path, Segment]] = defaultdict(dict)
    for segment in segments:
        by_size[segment.path.stat().st_size].setdefault(segment.path, segment)
    alike = {size: same for size, same in by_size.items() if len(same) > 1}
    done, total = 0, sum(size * len(same) for size, same in alike.items())
    first: dict[str, Segment] = {}
    findings = []
    for size, same in sorted(alike.items()):
        for path, segment in same.items():
            other = first.setdefault(sha256(path), segment)
            if other is not segment:
                where = f", of another split: {other.split}, {segment.split}" if other.split != segment.split else ""
                findings.append(Finding("duplicate audio", segment.file, f"of {other.file}{where}"))
            done += size
            tell(done, total)
    return findings


def _shared_speakers(segments: Iterable[Segment]) -> list[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for segment in segments:
        splits[segment.speaker].add(segment.split)
    return [
        Finding("speaker in two splits", speaker, ", ".join(sorted(names)))
        for speaker, names in sorted(splits.items())
        if speaker and len(names) > 1
    ]
