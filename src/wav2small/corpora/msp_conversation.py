"""MSP-Conversation: conversations from podcasts, rated continuously in time by six or more people with a joystick.

Layout: Audio/CONVERSATION.wav; Annotations/{Arousal,Dominance,Valence}/CONVERSATION_PART_RATER.csv, with some header
lines, then seconds from the start of the part and a rating; Time_Labels/conversation_parts.txt and conversations.txt
with ``name;start;end`` in seconds of the podcast (the audio starts with the conversation); and partitions.txt with
``conversation;Train``.
Scale: -100 to 100: (x + 100) / 200. A segment is five seconds of a part. Its A/D/V is the mean over raters of their
mean rating in the segment. The raters' delay of two to six seconds is not corrected. The remainder of a part is
dropped. The speaker is the conversation, because several people speak within five seconds.
Annotation over time (``--series``) is the mean over raters every quarter of a second, interpolated between ratings.
Splits: the owner's.
Source: Martinez-Lucas, Abdelwahab and Busso 2020, The MSP-Conversation corpus, Interspeech.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, find_file, need_file, not_this_corpus, rated, segment
from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Segment
from wav2small.tables.series import Series

WIN_DUR = 5.0
"""Seconds of a segment."""
HOP_DUR = 0.25
"""Seconds from one moment of the annotation over time to the next."""
LOW, HIGH = -100, 100
NOT_RATED = "no part has ratings in all of Annotations/Arousal, Dominance and Valence"
SPLITS = {
    "train": "train",
    "validation": "dev",
    "development": "dev",
    "test": "test",
    "test1": "test1",
    "test2": "test2",
}


class Part(NamedTuple):
    """A rated part of a conversation.

    Attributes:
        name: of the part
        conversation: name of the audio
        file: of the audio, relative to the corpus
        split: "" if unknown
        offset: seconds of the audio at which the part starts
        dur: seconds
        raters: traces of each dimension, as ``_trace`` gives them; a list is empty where nobody rated
    """

    name: str
    conversation: str
    file: str
    split: str
    offset: float
    dur: float
    raters: dict[str, list[np.ndarray]]


def read(root: Path) -> list[Segment]:
    """Segments of five seconds from every part that is rated in all three dimensions.

    Raises:
        ManifestError: if the folder does not contain the corpus, or a file is not valid
    """
    segments = []
    for part in _parts(root):
        columns = {"speaker": part.conversation, "split": part.split}
        for begin, ratings in _windows(part.raters, part.dur):
            first = round(part.offset + begin, 4)
            times: dict[str, object] = {"start": first, "end": round(first + WIN_DUR, 4)}
            emotion = rated(ratings, LOW, HIGH, f"{part.name} at {begin:g} s")
            segments.append(segment(root, part.file, {**columns, **times}, emotion))
    if not segments:
        raise not_this_corpus(root, NOT_RATED)
    return segments


def series(root: Path) -> list[Series]:
    """Mean of the raters over time, of every part that is rated in all three dimensions; one series per conversation.

    Raises:
        ManifestError: if the folder does not contain the corpus, or a file is not valid
    """
    parts: dict[str, list[Part]] = {}
    for part in sorted(_parts(root), key=lambda part: part.offset):
        if all(part.raters.values()):
            parts.setdefault(part.conversation, []).append(part)
    if not parts:
        raise not_this_corpus(root, NOT_RATED)
    return [_joined(found) for found in parts.values()]


def _joined(parts: list[Part]) -> Series:
    grids = [np.arange(int(part.dur / HOP_DUR)) * HOP_DUR for part in parts]
    values = {
        name: np.concatenate([_mean(p, name, grid) for p, grid in zip(parts, grids, strict=True)]) for name in OUTPUTS
    }
    time = np.concatenate([part.offset + grid for part, grid in zip(parts, grids, strict=True)])
    return Series(parts[0].file, time, values, parts[0].split)


def _mean(part: Part, dimension: str, grid: np.ndarray) -> np.ndarray:
    """Over raters, from 0 to 1, shape=(moments,)."""
    mean: np.ndarray = np.mean([np.interp(grid, *trace.T) for trace in part.raters[dimension]], axis=0)
    if len(grid) and not (mean.min() >= LOW and mean.max() <= HIGH):
        raise ManifestError(f"{part.name}: a rating of {dimension} is outside of {LOW:g} to {HIGH:g}.")
    return (mean - LOW) / (HIGH - LOW)


def _parts(root: Path) -> Iterator[Part]:
    parts = _times(need_file(root, "conversation_parts.txt"))
    whole = find_file(root, "conversations.txt")
    starts = {name: start for name, (start, _) in _times(whole).items()} if whole else {}
    for part, (start, _) in parts.items():
        name = part.rpartition("_")[0]
        starts[name] = min(start, starts.get(name, start))
    splits = _splits(find_file(root, "partitions.txt"))
    audio = audio_by_stem(root)
    traces = {dimension: _files(root, dimension) for dimension in OUTPUTS}
    for part, (start, end) in parts.items():
        name = part.rpartition("_")[0]
        raters = {dimension: [_trace(path) for path in traces[dimension].get(part, [])] for dimension in OUTPUTS}
        file, split = audio.get(name, f"Audio/{name}.wav"), splits.get(name, "")
        yield Part(part, name, file, split, start - starts[name], end - start, raters)


def _times(path: Path) -> dict[str, tuple[float, float]]:
    times = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in line.split(";")]
        try:
            if line.strip():
                name, start, end = cells
                times[name] = (float(start), float(end))
        except ValueError:
            raise ManifestError(f"{path}, line {number}: reads {line!r}. Needed: name;start;end.") from None
    return times


def _splits(path: Path | None) -> dict[str, str]:
    splits = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path else []:
        name, _, split = line.partition(";")
        if split.strip():
            key = split.strip().lower()
            if key not in SPLITS:
                raise ManifestError(f"{path}: the split of {name} is {split!r}. Known: Train, Validation, Test.")
            splits[Path(name.strip()).stem] = SPLITS[key]
    return splits


def _files(root: Path, dimension: str) -> dict[str, list[Path]]:
    """Part -> files of its raters."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.glob(f"**/{dimension.capitalize()}/*.csv")):
        files.setdefault(path.stem.rpartition("_")[0], []).append(path)
    return files


def _trace(path: Path) -> np.ndarray:
    """A rater's ratings of a part, shape=(ratings, 2): seconds, rating."""
    trace = np.array(list(_ratings(path)))
    if not len(trace):
        raise ManifestError(f"{path}: has no line of two numbers, seconds and rating. Copy it again.")
    return trace


def _ratings(path: Path) -> Iterator[tuple[float, float]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for cells in csv.reader(file):
            try:
                yield float(cells[0]), float(cells[1])
            except (IndexError, ValueError):
                continue


def _windows(raters: dict[str, list[np.ndarray]], part_dur: float) -> Iterator[tuple[float, dict[str, str]]]:
    """Start of each window within the part, in seconds, and its mean ratings as text ("" without ratings)."""
    if not all(raters.values()):
        return
    for number in range(int(part_dur / WIN_DUR + 1e-6)):
        begin = number * WIN_DUR
        ratings = {}
        for dimension, traces in raters.items():
            inside = [t[(begin <= t[:, 0]) & (t[:, 0] < begin + WIN_DUR), 1] for t in traces]
            means = [values.mean() for values in inside if len(values)]
            ratings[dimension] = str(float(np.mean(means))) if means else ""
        if all(ratings.values()):
            yield begin, ratings


MSP_CONVERSATION = Corpus(
    title="MSP-Conversation, English",
    annotation="A/D/V over time, -100 to 100",
    splits="official",
    licence="UT Dallas, on agreement",
    source="lab-msp.com",
    read=read,
    series=series,
)
