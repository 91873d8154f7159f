"""Predictions of many files, in this process or in several worker processes: the same rows in the same order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace

from wav2small.errors import AudioError, Wav2SmallError
from wav2small.options import Options
from wav2small.runtime.engines import Predictor
from wav2small.runtime.predict import FilePredictor, Progress, Row
from wav2small.tables.spans import Span

Files = Mapping[str, AudioError | None]
"""Files in order, each with the error of its name if it has one."""

QUEUED = 2
"""Files per worker that are queued; more would only hold finished rows in memory."""
THREADS = "OPENBLAS_NUM_THREADS"


@dataclass(frozen=True)
class Job:
    """What is computed for every file; it can be pickled if ``load`` can.

    Args:
        load: returns the model
        options: windows apply only without ``spans``
        spans: segments of all files; None for whole files or windows
    """

    load: Callable[[], Predictor]
    options: Options
    spans: list[Span] | None = None

    def predictor(self) -> FilePredictor:
        """Load the model."""
        options = self.options if self.spans is None else replace(self.options, hop_dur=None)
        return FilePredictor(self.load(), options)


def answer_files(
    job: Job, files: Files, workers: int = 1, progress: Progress = lambda done, total: None
) -> Iterator[tuple[str, Iterable[Row]]]:
    """Each file with its rows, which have to be read before the next file.

    Args:
        job: what is computed
        files: what ``list_files`` returns
        workers: number of processes; with more than one, the rows of a file come when all are there
        progress: called with the number of files done, including the fraction of the current one, and of all

    Raises:
        Wav2SmallError: if a worker process ends unexpectedly
    """
    answered = _here(job, files, progress) if workers == 1 else _in_workers(job, files, workers)
    for done, (file, rows) in enumerate(answered):
        progress(done, len(files))
        yield file, rows
    progress(len(files), len(files))


def _here(job: Job, files: Files, progress: Progress) -> Iterator[tuple[str, Iterable[Row]]]:
    predictor = job.predictor()
    for done, (file, error) in enumerate(files.items()):

        def report(share: float, done: int = done) -> None:
            progress(done + share, len(files))

        yield file, predictor.answer(file, error, job.spans, report)


def _in_workers(job: Job, files: Files, workers: int) -> Iterator[tuple[str, Iterable[Row]]]:
    waiting: deque[tuple[str, Future[list[Row]]]] = deque()
    remaining = iter(files.items())
    with _pool(job, workers) as pool:

        def submit() -> None:
            for file, error in remaining:
                with _shielded():
                    waiting.append((file, pool.submit(_answer, file, error)))
                return

        for _ in range(QUEUED * workers):
            submit()
        while waiting:
            file, future = waiting.popleft()
            try:
                rows = future.result()
            except BrokenProcessPool:
                raise Wav2SmallError(
                    "a worker process ended unexpectedly, perhaps for lack of memory; use fewer --workers"
                ) from None
            yield file, rows
            submit()


@contextmanager
def _pool(job: Job, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, which are ended at once if the work is interrupted."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (job,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown()


@contextmanager
def _shielded() -> Iterator[None]:
    """Processes that are started here never receive Ctrl-C, which their parent handles, and compute on one thread."""
    threads = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if threads is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = threads
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


_worker: tuple[Job, FilePredictor] | None = None
"""Of a worker process."""


def _start(job: Job) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = job, job.predictor()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(file: str, error: AudioError | None) -> list[Row]:
    assert _worker is not None
    job, predictor = _worker
    return list(predictor.answer(file, error, job.spans))
