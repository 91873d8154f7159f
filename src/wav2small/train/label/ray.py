"""Label parts of a manifest on a Ray cluster, with one teacher per worker.

A worker labels one part at a time with ``threads.Threads`` and returns the labels; only the calling program writes. If
a worker dies, Ray assigns its part to another worker, and nothing is written twice.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from wav2small.errors import Wav2SmallError, missing_packages
from wav2small.files import absolute, locate
from wav2small.network.config import Emotion
from wav2small.tables.manifest import Segment
from wav2small.train.config import LabelConfig
from wav2small.train.label.threads import Answer, OnAnswers, Part, Threads, choose_workers
from wav2small.train.teachers.base import Teacher, TeacherId

VISITS = 3
"""Number of attempts to connect to a cluster that aborts the connection."""

Load = Callable[..., Teacher]
"""Function that loads the teacher, with a keyword argument ``device``; Ray sends it to the workers."""


class Workers:
    """Engine that labels on a cluster.

    Args:
        load: loads the teacher
        config: settings of the batches and embeddings
        device: torch device of each worker; ``auto`` is a GPU if the cluster has one
        workers: number of workers; None is one per GPU, or one per core
        address: address of a running cluster; None starts one on this machine, unless the program is already in one

    Raises:
        MissingExtraError: if the extra ``ray`` is not installed
        Wav2SmallError: if there is no cluster at the address, or its machines cannot load the teacher
    """

    def __init__(self, load: Load, config: LabelConfig, device: str, workers: int | None, address: str | None) -> None:
        self.load, self.config = load, config
        self.ray = connected(address)
        there = self.ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        self.device = device if device != "auto" else "cuda" if gpus else "cpu"
        self.needs = {"num_cpus": 1, "num_gpus": 0 if self.device == "cpu" else 1}
        self.workers = workers or (cores if self.device == "cpu" else gpus)
        self.teacher_id = self._ask_teacher()

    def _ask_teacher(self) -> TeacherId:
        ask = self.ray.remote(**self.needs)(lambda load, device: TeacherId.of(load(device=device)))
        try:
            teacher: TeacherId = self.ray.get(ask.remote(self.load, self.device))
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Wav2SmallError) else error) from None
        return teacher

    def answers(self, parts: Iterable[Part], on_answers: OnAnswers) -> Iterator[tuple[int, list[Answer]]]:
        """Number of a part and the labels of its segments, in order of completion."""
        items = [{"part": part, "clips": _pack(segments)} for part, segments in parts]
        if not items:
            return
        for row in self._rows(items):
            if row["failed"]:
                raise Wav2SmallError(row["failed"])
            answers = _unpack(row["answers"])
            on_answers(len(answers), sum(answer.dur for answer in answers))
            yield row["part"], answers

    def _rows(self, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Results of the workers. Ray Data must run inside the cluster; at ``ray://`` an actor runs it."""
        asked = (items, (self.load, self.config, self.device), self.workers, self.needs)
        if not self.ray.util.client.ray.is_connected():
            yield from _worked(*asked)
            return
        driver = self.ray.remote(num_cpus=0)(RemoteDriver).remote(*asked)
        try:
            while row := self.ray.get(driver.next.remote()):
                yield row
        except self.ray.exceptions.RayActorError:
            raise Wav2SmallError("the cluster lost the driver of its workers. Run the same command again.") from None


class RemoteDriver:
    """A process of the cluster that drives the workers for a program outside the cluster."""

    def __init__(self, *asked: Any) -> None:
        _quiet()
        self.rows = _worked(*asked)

    def next(self) -> dict[str, Any] | None:
        """The next row, None after the last."""
        return next(self.rows, None)


def _worked(
    items: list[dict[str, Any]], made: tuple[Load, LabelConfig, str], workers: int, needs: dict[str, int]
) -> Iterator[dict[str, Any]]:
    import ray.data

    data: Any = ray.data.from_items(items, override_num_blocks=len(items))  # the types of map leave out options
    answered = data.map(Worker, fn_constructor_args=made, concurrency=workers, **needs)
    yield from answered.iter_rows()


class Worker:
    """Process of the cluster with a teacher, which labels parts."""

    def __init__(self, load: Load, config: LabelConfig, device: str) -> None:
        self.threads = Threads(load(device=device), config, 1 if device == "cpu" else choose_workers(device))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Labels of a part, or the error that stops the run; an unreadable file does not stop it."""
        segments = [Segment(path, locate(path), start, end) for path, start, end in json.loads(row["clips"])]
        try:
            ((part, answers),) = self.threads.answers([(row["part"], segments)], lambda clips, seconds: None)
        except Wav2SmallError as error:
            return {"part": row["part"], "answers": "", "failed": str(error)}
        return {"part": part, "answers": json.dumps(answers), "failed": ""}


def _pack(segments: Sequence[Segment]) -> str:
    return json.dumps([(absolute(segment.path), segment.start, segment.end) for segment in segments])


def _unpack(text: str) -> list[Answer]:
    return [Answer(emotion and Emotion(*emotion), *rest) for emotion, *rest in json.loads(text)]


def connected(address: str | None) -> Any:
    """The ray module, connected to a cluster, with its log output disabled."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise missing_packages("--engine ray", ["ray"], "wav2small[ray]") from None
    if not ray.is_initialized():
        where: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        where |= {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            _knock(address or "")
            _patiently(lambda: ray.init(**where))
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise Wav2SmallError(f"{address}: there is no Ray cluster to work with ({reason}).") from None
    _quiet()
    return ray


def _patiently(connect: Callable[[], object]) -> None:
    """Connect, with up to ``VISITS`` attempts: a Ray head that has just started may abort the first connection."""
    for _ in range(VISITS - 1):
        try:
            connect()
            return
        except ConnectionAbortedError:
            continue
    connect()


def _quiet() -> None:
    """Disable progress bars and hints of Ray Data in this process."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _knock(address: str) -> None:
    """Raise ``OSError`` at once if no server listens at HOST:PORT; Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
