"""A ring buffer of labelled clips on disk, filled by worker processes, so that the teacher does not limit training.

A shard is a batch of composed clips with their labels. The shards that a step uses depend only on the step, so the
weights do not depend on the speed of the workers, and a resumed run uses the same shards.
"""

from __future__ import annotations

import multiprocessing
import os
import signal as signals
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.files import whole_file
from wav2small.train import make_folder
from wav2small.train.config import DistilConfig
from wav2small.train.online.compose import compose, durations
from wav2small.train.online.draw import Draw
from wav2small.train.online.labels import Labeller
from wav2small.train.online.pool import Pool

SHARD_GROUPS = 4
"""Number of groups in a shard, each of one corpus."""
FIRST_SHARDS = 32
"""Number of shards that the first step needs."""
AHEAD = 64
"""Number of shards that are computed in advance."""
POLL_DUR = 0.05


class Labelled(NamedTuple):
    """Composed clips with labels; groups of one corpus are contiguous.

    Args:
        signal: audio at 16 kHz, shape=(batch, samples)
        label: the teacher's A/D/V, shape=(batch, 3)
        embedding: the teacher's embeddings, shape=(batch, size)
        corpus: number of the corpus of each clip, shape=(batch,)
    """

    signal: Tensor
    label: Tensor
    embedding: Tensor
    corpus: Tensor


def labelled(pool: Pool, labeller: Labeller, samples: int, groups: int, draw: Draw, config: DistilConfig) -> Labelled:
    """Groups of new clips of one length, labelled by the teacher without distortion."""
    corpus = pool.corpora(draw, groups).repeat_interleave(config.group_size)
    signal = compose(pool, corpus, samples, draw, config)
    return Labelled(signal, *labeller(signal, draw), corpus)


class Shards:
    """The files of a run's shards, and the shards of each step.

    Args:
        folder: folder of the files
        config: batch size, groups, reuse and size of the ring
        key: identifies audio, composition and teacher

    Raises:
        ManifestError: if the folder contains shards with another key
    """

    def __init__(self, folder: Path, config: DistilConfig, key: str) -> None:
        make_folder(folder)
        self.folder, self.config = folder, config
        self.size = SHARD_GROUPS * config.group_size
        self.held = max(1, config.ring // self.size)
        marker = folder / "ring.txt"
        if marker.is_file() and marker.read_text().strip() != key:
            raise ManifestError(
                f"{folder}: contains shards of other audio, another teacher or another composition. "
                "Give another folder."
            )
        marker.write_text(key + "\n")

    def path(self, number: int) -> Path:
        """Audio file of a shard; its labels are in a file next to it, which is written last."""
        return self.folder / f"{number // 1000:03d}" / f"{number:06d}.npy"

    def is_ready(self, number: int) -> bool:
        """Whether a shard is complete."""
        return self.path(number).with_suffix(".npz").is_file()

    def window(self, step: int) -> tuple[int, int]:
        """Range of the shards that a step may use: first, and last + 1."""
        made = FIRST_SHARDS + int(step * self.config.batch_size / (self.config.reuse * self.size))
        return max(0, made - self.held), made

    def write(self, number: int, clips: Labelled) -> None:
        """Write a shard atomically."""
        path = self.path(number)
        path.parent.mkdir(exist_ok=True)
        scale = 0.95 / clips.signal.abs().amax(1, keepdim=True)
        with whole_file(path) as temporary:
            np.save(temporary, torch.round(clips.signal * scale * 32767).to(torch.int16).numpy())
        arrays = {name: getattr(clips, name).numpy() for name in ("label", "embedding", "corpus")}
        with whole_file(path.with_suffix(".npz")) as temporary:
            np.savez(temporary, **arrays)

    def remove(self, number: int) -> None:
        """Remove a shard that no later step needs."""
        self.path(number).with_suffix(".npz").unlink(missing_ok=True)
        self.path(number).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Work:
    pool: Pool
    labeller: Labeller
    shards: Shards
    config: DistilConfig


_work: _Work


class Recipe(NamedTuple):
    """What a worker needs to compute shards; the pool and the labeller are created in the worker's process."""

    open_pool: object
    open_labeller: object
    shards: Shards
    config: DistilConfig


def _begin(recipe: Recipe, parent: Connection) -> None:
    signals.signal(signals.SIGINT, signals.SIG_IGN)  # the parent handles Ctrl-C and stops the workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    global _work
    _work = _Work(recipe.open_pool(), recipe.open_labeller(), recipe.shards, recipe.config)  # type: ignore[operator]


def _end_with(parent: Connection) -> None:
    """Exit when the parent was killed, which closes its end of the connection."""
    parent.poll(None)
    os._exit(0)


def _make(number: int) -> None:
    work = _work
    if work.shards.is_ready(number):
        return
    draw = Draw((work.config.seed, 1, number))
    samples = durations(work.config)[int(draw.rng.integers(len(work.config.durations)))]
    with torch.inference_mode():
        clips = labelled(work.pool, work.labeller, samples, SHARD_GROUPS, draw, work.config)
    work.shards.write(number, clips)


class Ring:
    """Batches of labelled clips from the shards of a step's window, while workers compute the next shards.

    Args:
        recipe: input of the workers
        executor: pool of the workers
        keep: do not remove shards that no later step needs
    """

    def __init__(self, recipe: Recipe, executor: ProcessPoolExecutor, keep: bool = False) -> None:
        self.shards, self.config, self.executor, self.keep = recipe.shards, recipe.config, executor, keep
        self.asked: dict[int, Future[None]] = {}
        self.known = lru_cache(self.shards.held)(self._read)
        self.last = self.shards.window(self.config.steps - 1)[1]

    def draw(self, step: int) -> Labelled:
        """The batch of a step; waits for shards that are not complete.

        Raises:
            Wav2SmallError: if a worker was killed, or cannot write
        """
        first, end = self.shards.window(step)
        try:
            self._ask(first, min(self.last, end + AHEAD))
            for number in range(first, end):
                self._wait(number)
        except BrokenProcessPool:
            raise Wav2SmallError(
                "a worker was killed, possibly because memory was exhausted. Run the command with fewer --workers."
            ) from None
        rng = np.random.default_rng([self.config.seed, 2, step])
        samples = self.known(int(rng.integers(first, end)))[0]
        blocks = [
            (number, block, corpus)
            for number in range(first, end)
            if self.known(number)[0] == samples
            for block, corpus in enumerate(self.known(number)[2])
        ]
        chosen = [blocks[i] for i in rng.integers(len(blocks), size=self.config.batch_size // self.config.group_size)]
        rows = [row for _, _, corpus in chosen for row in self._rows(blocks, corpus, rng)]
        signal = np.stack([self._audio(number)[row] for number, row in rows])
        label, embedding = (np.stack([self.known(n)[1][key][row] for n, row in rows]) for key in ("label", "embedding"))
        corpora = np.repeat([corpus for _, _, corpus in chosen], self.config.group_size)
        floats = torch.from_numpy(signal).float() / 32768
        return Labelled(floats, torch.from_numpy(label), torch.from_numpy(embedding), torch.from_numpy(corpora))

    def _rows(
        self, blocks: list[tuple[int, int, int]], corpus: int, rng: np.random.Generator
    ) -> Iterator[tuple[int, int]]:
        """Shard and row of each clip of a group."""
        own, size = [block for block in blocks if block[2] == corpus], self.config.group_size
        for index in rng.integers(len(own), size=size):
            number, block, _ = own[index]
            yield number, block * size + int(rng.integers(size))

    def _ask(self, first: int, end: int) -> None:
        with _without_interrupts():
            for number in range(first, end):
                if number not in self.asked:
                    self.asked[number] = self.executor.submit(_make, number)
        self._forget(first)

    def _forget(self, end: int) -> None:
        for number in [number for number in self.asked if number < end]:
            del self.asked[number]
            if not self.keep:
                self.shards.remove(number)

    def end(self) -> None:
        """Remove the last shards at the end of the run."""
        self._forget(self.last)

    def _wait(self, number: int) -> None:
        while not self.asked[number].done():
            time.sleep(POLL_DUR)
        self.asked[number].result()

    def _read(self, number: int) -> tuple[int, dict[str, np.ndarray], list[int]]:
        """Length of a shard's clips in samples, its labels, and the corpus of each group."""
        with np.load(self.shards.path(number).with_suffix(".npz")) as arrays:
            labels = dict(arrays)
        return self._audio(number).shape[1], labels, labels["corpus"][:: self.config.group_size].tolist()

    def _audio(self, number: int) -> np.ndarray:
        audio: np.ndarray = np.load(self.shards.path(number), mmap_mode="r")
        return audio


@contextmanager
def ring(recipe: Recipe, workers: int, keep: bool = False) -> Iterator[Ring]:
    """Context manager of a ring with its workers, which stop with it or with this process."""
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    theirs, ours = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(workers, context, _begin, (recipe, theirs))
    try:
        yield Ring(recipe, executor, keep)
    finally:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()  # a shard takes seconds, and loading torch too
        executor.shutdown(wait=True, cancel_futures=True)
        ours.close()
        theirs.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside the block do not receive Ctrl-C, not even before they ignore it themselves."""
    if not hasattr(signals, "pthread_sigmask"):
        yield
        return
    before = signals.pthread_sigmask(signals.SIG_BLOCK, {signals.SIGINT})
    try:
        yield
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, before)
