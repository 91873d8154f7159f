"""Parts of a manifest -> answers of a teacher, in this process: decoded ahead, batched by length, labelled in threads.

What is batched together follows from the part alone: its clips in order, up to ``POOL_DUR`` of them, sorted by length.
On a CPU one thread computes a batch, and several batches are computed at once: no thread waits for another, and the
answer does not depend on how many there are.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np

from wav2small.audio.read import read
from wav2small.errors import AudioError
from wav2small.network.config import SAMPLING_RATE, Emotion
from wav2small.tables.manifest import Segment
from wav2small.train.config import LabelConfig
from wav2small.train.embedding import to_text
from wav2small.train.teachers.base import Teacher, TeacherId

POOL_DUR = 600.0
"""Seconds of audio that are held to be sorted by length."""
DECODERS = 8
"""Threads that read and decode; more than there are cores, since a file may come over a network."""
KERNELS = "16"
"""oneDNN reads it when it first computes. With its own 1,024 memory rose by 400 MB over 600 clips, with 16 by 40."""
NOTHING = np.zeros(0, np.float32)

Part = tuple[int, Sequence[Segment]]
OnAnswers = Callable[[int, float], None]
"""Called with the number of clips that are labelled, and their seconds."""


class Answer(NamedTuple):
    """What is known of a segment: an emotion, maybe an embedding as text, or why there is none; and its seconds."""

    emotion: Emotion | None = None
    embedding: str | None = None
    error: str | None = None
    dur: float = 0.0


class Engine(Protocol):
    """What labels the parts of a manifest."""

    @property
    def teacher_id(self) -> TeacherId:
        """Of the teacher that answers."""
        ...

    def answers(self, parts: Iterable[Part], on_answers: OnAnswers) -> Iterator[tuple[int, list[Answer]]]:
        """The number of a part and the answer to each of its segments; the parts in any order."""
        ...


class Clip(NamedTuple):
    """A segment with its number among those of its part, decoded or with the reason why not."""

    part: int
    size: int
    number: int
    signal: np.ndarray = NOTHING
    error: str | None = None


@dataclass
class Threads:
    """Labels in this process.

    Args:
        teacher: of the labels
        config: with embeddings or not, and in which batches
        workers: batches computed at once
        decoders: files decoded at once
    """

    teacher: Teacher
    config: LabelConfig
    workers: int = 1
    decoders: int = DECODERS

    @property
    def teacher_id(self) -> TeacherId:
        """Of the teacher."""
        return TeacherId.of(self.teacher)

    def answers(self, parts: Iterable[Part], on_answers: OnAnswers) -> Iterator[tuple[int, list[Answer]]]:
        """The number of a part and the answer to each of its segments, in order."""
        with _threads(self.decoders) as decoding, _threads(self.workers) as labelling, _one_torch_thread():
            clips = (clip for file in ahead(decoding, _decode, _files(parts), 2 * self.decoders) for clip in file)
            batches = (batch for pool in _pools(clips) for batch in by_length(pool, self.config.batch_dur))
            found: dict[int, dict[int, Answer]] = defaultdict(dict)
            for batch, answers in ahead(labelling, self._answer, batches, 2 * self.workers):
                part, size = batch[0].part, batch[0].size
                found[part] |= {clip.number: answer for clip, answer in zip(batch, answers, strict=True)}
                on_answers(len(batch), sum(answer.dur for answer in answers))
                if len(found[part]) == size:
                    yield part, [answer for _, answer in sorted(found.pop(part).items())]

    def _answer(self, batch: list[Clip]) -> tuple[list[Clip], list[Answer]]:
        signals = [clip.signal for clip in batch if clip.error is None]
        labelled = iter(_ask(self.teacher, signals, self.config.embed) if signals else [])
        answers = [next(labelled) if clip.error is None else Answer(error=clip.error) for clip in batch]
        return [clip._replace(signal=NOTHING) for clip in batch], answers


def choose_workers(device: str) -> int:
    """One a core; on a GPU, a few that have the next batches ready for it."""
    cores = os.cpu_count() or 1
    return cores if device == "cpu" else min(4, cores)


def by_length(clips: Sequence[Clip], batch_dur: float) -> Iterator[list[Clip]]:
    """Batches of like length; padded to its longest clip, one has at most ``batch_dur`` seconds, or it is one clip."""
    batch: list[Clip] = []
    for clip in sorted(clips, key=lambda clip: len(clip.signal)):
        if batch and (len(batch) + 1) * len(clip.signal) > batch_dur * SAMPLING_RATE:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def ahead(
    executor: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterable[Any], limit: int
) -> Iterator[Any]:
    """Results in order, while up to ``limit`` items are worked on or wait to be taken."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) >= limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _files(parts: Iterable[Part]) -> Iterator[list[tuple[Clip, Segment]]]:
    """Neighbouring segments of one file, with clips to be filled: it is decoded once for all of them."""
    for part, segments in parts:
        clips = [(Clip(part, len(segments), number), segment) for number, segment in enumerate(segments)]
        yield from (list(group) for _, group in groupby(clips, key=lambda pair: pair[1].path))


def _decode(pairs: list[tuple[Clip, Segment]]) -> list[Clip]:
    try:
        signal = read(pairs[0][1].path)
    except AudioError as error:
        return [clip._replace(error=str(error)) for clip, _ in pairs]
    clips = []
    for clip, segment in pairs:
        try:
            clips.append(clip._replace(signal=segment.cut(signal).copy()))
        except AudioError as error:
            clips.append(clip._replace(error=str(error)))
    return clips


def _pools(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    """Clips of one part, until they are ``POOL_DUR`` long."""
    pool: list[Clip] = []
    held = 0
    for clip in clips:
        if pool and (clip.part != pool[0].part or held >= POOL_DUR * SAMPLING_RATE):
            yield pool
            pool, held = [], 0
        pool.append(clip)
        held += len(clip.signal)
    if pool:
        yield pool


def _ask(teacher: Teacher, signals: list[np.ndarray], embed: bool) -> list[Answer]:
    emotions, embeddings = teacher.label_and_embed(signals) if embed else (teacher.label(signals), None)
    texts = [None] * len(signals) if embeddings is None else [to_text(embedding) for embedding in embeddings]
    return [
        Answer(Emotion(*(round(float(value), 6) for value in emotion)), text, dur=len(signal) / SAMPLING_RATE)
        for emotion, text, signal in zip(emotions, texts, signals, strict=True)
    ]


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that, when something goes wrong, end what they do and begin nothing more."""
    executor = ThreadPoolExecutor(count)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """And few kernels kept by oneDNN: hardly two batches have the same shape."""
    import torch

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
