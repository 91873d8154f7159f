"""Label parts of a manifest in this process: decoding in advance, batches of similar length, several threads.

Batches depend only on the part: its clips in order, up to ``POOL_DUR`` seconds at a time, sorted by length. On a CPU
one thread computes a batch and several batches are computed concurrently, so the labels do not depend on the number
of threads.
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
"""Seconds of audio in memory that are sorted by length."""
DECODERS = 8
"""Threads that read and decode files; more than the number of cores, because files may be remote."""
KERNELS = "16"
"""Kernel cache of oneDNN. With its default of 1,024, memory grew by 400 MB over 600 clips; with 16, by 40 MB."""
NOTHING = np.zeros(0, np.float32)

Part = tuple[int, Sequence[Segment]]
OnAnswers = Callable[[int, float], None]
"""Called with (clips labelled, their duration in seconds)."""


class Answer(NamedTuple):
    """Label of a segment.

    Attributes:
        emotion: A/D/V, or None with an error
        embedding: embedding as text, if requested
        error: reason why there is no emotion
        dur: duration in seconds
    """

    emotion: Emotion | None = None
    embedding: str | None = None
    error: str | None = None
    dur: float = 0.0


class Engine(Protocol):
    """Labels the parts of a manifest."""

    @property
    def teacher_id(self) -> TeacherId:
        """Name, version and licence of the teacher."""
        ...

    def answers(self, parts: Iterable[Part], on_answers: OnAnswers) -> Iterator[tuple[int, list[Answer]]]:
        """Number of a part and the labels of its segments; parts may come in any order."""
        ...


class Clip(NamedTuple):
    """A segment, decoded or with an error.

    Attributes:
        part: number of the part
        size: number of segments of the part
        number: number of the segment within the part
        signal: mono audio at 16 kHz, float32, shape=(samples,)
        error: reason why it cannot be decoded
    """

    part: int
    size: int
    number: int
    signal: np.ndarray = NOTHING
    error: str | None = None


@dataclass
class Threads:
    """Engine that labels in this process.

    Args:
        teacher: the teacher
        config: settings of the batches and embeddings
        workers: number of batches computed concurrently
        decoders: number of files decoded concurrently
    """

    teacher: Teacher
    config: LabelConfig
    workers: int = 1
    decoders: int = DECODERS

    @property
    def teacher_id(self) -> TeacherId:
        """Name, version and licence of the teacher."""
        return TeacherId.of(self.teacher)

    def answers(self, parts: Iterable[Part], on_answers: OnAnswers) -> Iterator[tuple[int, list[Answer]]]:
        """Number of a part and the labels of its segments, in order."""
        with _threads(self.decoders) as decoding, _threads(self.workers) as labelling, _one_torch_thread():
            clips = (clip for file in ahead(decoding, _decode, _files(parts), 2 * self.decoders) for clip in file)
            batches = (batch for pool in _pools(clips) for batch in by_length(pool, self.config.batch_dur))
            labelled_parts: dict[int, dict[int, Answer]] = defaultdict(dict)
            for batch, answers in ahead(labelling, self._answer, batches, 2 * self.workers):
                part, size = batch[0].part, batch[0].size
                labelled_parts[part] |= {clip.number: answer for clip, answer in zip(batch, answers, strict=True)}
                on_answers(len(batch), sum(answer.dur for answer in answers))
                if len(labelled_parts[part]) == size:
                    yield part, [answer for _, answer in sorted(labelled_parts.pop(part).items())]

    def _answer(self, batch: list[Clip]) -> tuple[list[Clip], list[Answer]]:
        signals = [clip.signal for clip in batch if clip.error is None]
        labelled = iter(_ask(self.teacher, signals, self.config.embed) if signals else [])
        answers = [next(labelled) if clip.error is None else Answer(error=clip.error) for clip in batch]
        return [clip._replace(signal=NOTHING) for clip in batch], answers


def choose_workers(device: str) -> int:
    """Default number of workers: one per core; on a GPU at most four, which prepare its next batches."""
    cores = os.cpu_count() or 1
    return cores if device == "cpu" else min(4, cores)


def by_length(clips: Sequence[Clip], batch_dur: float) -> Iterator[list[Clip]]:
    """Batches of similar length, with at most ``batch_dur`` seconds including padding, or a single clip."""
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
    """Results in order, with up to ``limit`` items in progress or waiting."""
    waiting: deque[Future[Any]] = deque()
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) >= limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _files(parts: Iterable[Part]) -> Iterator[list[tuple[Clip, Segment]]]:
    """Consecutive segments of the same file, which is decoded once, with empty clips."""
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
    """Groups of clips of one part, up to ``POOL_DUR`` seconds."""
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
    """Thread pool that, after an exception, finishes running tasks and cancels the others."""
    executor = ThreadPoolExecutor(count)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Set one torch thread, and a small kernel cache of oneDNN, because few batches have the same shape."""
    import torch

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
