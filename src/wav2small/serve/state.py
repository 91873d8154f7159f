"""What the endpoints of one process share: models, threads, metrics, and the live sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.stream import Stream
from wav2small.serve.errors import ServeError
from wav2small.serve.live import Happening, Push, push_together
from wav2small.serve.metrics import Metrics
from wav2small.serve.models import Models
from wav2small.serve.settings import Settings

TOGETHER = 32
"""Steps of sessions that are computed together, at most: more would save nothing and make the first one wait."""
LOG = logging.getLogger("wav2small.serve")
T = TypeVar("T")


class Stoppable(Protocol):
    """A live session."""

    key: str

    def stop(self, reason: str) -> None:
        """End it, after what it has received."""


class State:
    """The state of a service. Files and live sessions have threads of their own: a long file delays no session.

    Args:
        settings: of the service
        keys: that are accepted; none accepts every client
    """

    def __init__(self, settings: Settings, keys: tuple[str, ...]) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.keys = keys
        self.metrics = Metrics()
        self.models = Models(settings)
        self.requests = 0
        self.is_ready = False
        self.is_draining = False
        self._sessions: set[Stoppable] = set()
        self._of_key: Counter[str] = Counter()
        self._for_files = ThreadPoolExecutor(settings.threads, "file")
        self._for_steps = ThreadPoolExecutor(1, "step")
        self._waiting: list[tuple[Push, asyncio.Future[list[Happening]]]] = []
        self._pusher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Load the default model and compute with it once: in C it is compiled then."""
        model = self.models.get(None)
        Stream(model, vad=self.settings.vad).push(np.zeros(SAMPLING_RATE, np.float32))
        model(np.zeros(SAMPLING_RATE, np.float32))
        self.is_ready = True

    async def compute(self, call: Callable[[], T]) -> T:
        """The result of a call for a file, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._for_files, call)

    async def push(self, pushes: Sequence[Push]) -> list[list[Happening]]:
        """What becomes of the next samples of live signals, in a thread: together with all that wait meanwhile."""
        start = time.perf_counter()
        futures = [asyncio.get_running_loop().create_future() for _ in pushes]
        self._waiting += zip(pushes, futures, strict=True)
        if self._pusher is None:
            self._pusher = asyncio.create_task(self._push_waiting())
        try:
            return list(await asyncio.gather(*futures))
        finally:
            self.metrics.step.observe(time.perf_counter() - start)

    async def _push_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                together, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
                pushes = [push for push, _ in together]
                found: Sequence[list[Happening] | Exception]
                try:
                    found = await loop.run_in_executor(self._for_steps, push_together, pushes)
                except Exception as error:
                    found = [error] * len(pushes)
                for (_, future), outcome in zip(together, found, strict=True):
                    if future.done():
                        continue  # its session was cancelled
                    if isinstance(outcome, Exception):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)
        finally:
            self._pusher = None

    async def step(self, call: Callable[[], T]) -> T:
        """The result of another step of a live session, in a thread."""
        start = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._for_steps, call)
        finally:
            self.metrics.step.observe(time.perf_counter() - start)

    def add(self, session: Stoppable) -> None:
        """Count a session.

        Raises:
            ServeError: if there are too many, in all or of its key, or the service is ending
        """
        if self.is_draining:
            raise ServeError("server_busy", "The service is ending; connect again.")
        if len(self._sessions) >= self.limits.sessions:
            raise ServeError("server_busy", f"There are {self.limits.sessions} live sessions, the limit; try later.")
        if self._of_key[session.key] >= self.limits.sessions_a_key:
            raise ServeError(
                "rate_limited", f"This key has {self.limits.sessions_a_key} live sessions, its limit; close one."
            )
        self._sessions.add(session)
        self._of_key[session.key] += 1

    def remove(self, session: Stoppable) -> None:
        """Forget a session."""
        self._sessions.discard(session)
        self._of_key[session.key] -= 1
        if not self._of_key[session.key]:
            del self._of_key[session.key]

    async def drain(self) -> None:
        """End all sessions, and wait until they have sent what they had to, or ``drain_dur`` is over."""
        self.is_draining = True
        for session in list(self._sessions):
            session.stop("server_shutdown")
        deadline = time.monotonic() + self.limits.drain_dur
        while (self._sessions or self.requests) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """End the threads."""
        self._for_files.shutdown(wait=False, cancel_futures=True)
        self._for_steps.shutdown(wait=False, cancel_futures=True)
