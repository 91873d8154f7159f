"""Teacher x manifest -> labels: one row a segment whatever happens to it, in a store that survives its writer.

An engine answers the parts of the store that are missing: ``threads.Threads`` in this process, ``ray.Workers`` on a
cluster. A table is the store read once, when it is full.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from wav2small.files import absolute, locate
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Segment, to_row
from wav2small.tables.store import Store
from wav2small.tables.table import format_of
from wav2small.train.config import LabelConfig
from wav2small.train.label.threads import Answer, Engine
from wav2small.train.teachers.base import TeacherId

LABEL = (*OUTPUTS, *TeacherId._fields, "embedding", "error")
"""Columns that are ours; the others are the manifest's."""

Row = dict[str, Any]


class Labelled(NamedTuple):
    """What a run came to: rows of the manifest, those with an error, and seconds of audio that this run labelled."""

    rows: int
    errors: int
    dur: float


def label(
    segments: Sequence[Segment],
    engine: Engine,
    output: Path,
    config: LabelConfig,
    progress: Callable[[int, int, float], None],
) -> Labelled:
    """Label every segment, from where a stopped run was.

    Args:
        segments: of a manifest
        engine: labels them
        output: a table by its suffix, beside a store until it is whole; or, without suffix, the store itself
        config: what the engine was made with, and how many rows are written together
        progress: called with (segments done, segments, seconds of audio labelled)

    Raises:
        ManifestError: if a stopped run had other segments, another teacher, or was asked for other things
    """
    folder = store_of(output)
    base = output if folder == output else output.parent
    store = Store.begin(folder, _plan(segments, base, engine.teacher_id, config))
    missing = store.missing()
    done, dur = len(segments) - sum(len(store.numbers(part)) for part in missing), 0.0

    def on_answers(clips: int, seconds: float) -> None:
        nonlocal done, dur
        done, dur = done + clips, dur + seconds
        progress(done, len(segments), dur)

    progress(done, len(segments), dur)
    parts = ((part, [_anywhere(segments[number]) for number in store.numbers(part)]) for part in missing)
    for part, answers in engine.answers(parts, on_answers):
        numbered = zip(store.numbers(part), answers, strict=True)
        store.write(part, [_row(segments[number], base, engine.teacher_id, answer) for number, answer in numbered])
    errors = store.count("error")
    if folder != output:
        store.render(output)
        store.remove()
    return Labelled(len(segments), errors, dur)


def store_of(output: Path) -> Path:
    """The folder of the store that a table is made from; the output itself if it has no suffix.

    Raises:
        Wav2SmallError: if the suffix stands for no format
    """
    if output.suffix == "" or output.is_dir():
        return output
    format_of(output)
    return output.with_name(output.name + ".parts")


def _plan(segments: Sequence[Segment], base: Path, teacher: TeacherId, config: LabelConfig) -> dict[str, Any]:
    digest = hashlib.sha256()
    names: dict[str, None] = {}
    for segment in segments:
        about = _about(segment, base)
        names |= dict.fromkeys(about)
        digest.update(json.dumps(about).encode() + b"\n")
    names |= dict.fromkeys(name for name in LABEL if config.embed or name != "embedding")
    numbers = {"start", "end", *OUTPUTS}
    return {
        "rows": len(segments),
        "columns": {name: "double" if name in numbers else "string" for name in names},
        "segments": digest.hexdigest(),
        **teacher._asdict(),
        **asdict(config),
    }


def _about(segment: Segment, base: Path) -> Row:
    """What the manifest says; not the labels of an earlier teacher, if those are there."""
    return {name: value for name, value in to_row(segment, base).items() if name not in LABEL}


def _anywhere(segment: Segment) -> Segment:
    """The same, found from wherever a worker is, so that its errors read the same too."""
    return replace(segment, path=locate(absolute(segment.path)))


def _row(segment: Segment, base: Path, teacher: TeacherId, answer: Answer) -> Row:
    emotion = answer.emotion._asdict() if answer.emotion else {}
    result = {"embedding": answer.embedding, "error": answer.error}
    return {**_about(segment, base), **emotion, **teacher._asdict(), **result}
