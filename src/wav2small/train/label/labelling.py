"""Label a manifest with a teacher: one row per segment, errors included, in a store that survives interruption.

An engine labels the missing parts of the store: ``threads.Threads`` in this process, ``ray.Workers`` on a cluster. The
table is written from the store when it is complete.
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
"""Columns that labelling adds; the other columns are the manifest's."""

Row = dict[str, Any]


class Labelled(NamedTuple):
    """Summary of a run.

    Attributes:
        rows: rows of the manifest
        errors: rows with an error
        dur: seconds of audio that this run labelled
    """

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
    """Label all segments, resuming an interrupted run.

    Args:
        segments: segments of a manifest
        engine: the engine
        output: table, with a store next to it until it is complete; without suffix, the store itself
        config: settings of the engine, and rows that are written together
        progress: called with (segments done, segments, seconds of audio labelled)

    Raises:
        ManifestError: if the interrupted run had other segments, another teacher or other settings
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
    """The folder of the store of a table; the output itself if it has no suffix.

    Raises:
        Wav2SmallError: if the suffix is not that of a supported format
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
    """Columns of the manifest, without labels of an earlier teacher."""
    return {name: value for name, value in to_row(segment, base).items() if name not in LABEL}


def _anywhere(segment: Segment) -> Segment:
    """The segment with an absolute path, so that workers can open it and report the same errors."""
    return replace(segment, path=locate(absolute(segment.path)))


def _row(segment: Segment, base: Path, teacher: TeacherId, answer: Answer) -> Row:
    emotion = answer.emotion._asdict() if answer.emotion else {}
    result = {"embedding": answer.embedding, "error": answer.error}
    return {**_about(segment, base), **emotion, **teacher._asdict(), **result}
