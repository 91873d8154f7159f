"""The same application on Ray Serve: replicas on the machines of a cluster."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

from wav2small.errors import MissingExtraError
from wav2small.serve.settings import Settings, check_bind, read_keys

NAME = "wav2small"
TARGET_SHARE = 0.7
"""Of the sessions that a replica takes: beyond it another replica is started."""
KEEP_DUR = 3600.0
"""Seconds that a replica which is no longer needed waits for its sessions; it gets no new ones."""


class Ending:
    """An actor that replicas wait for, to end their sessions in order."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return when the service ends."""
        await self._event.wait()

    async def end(self) -> None:
        """Let all replicas know."""
        self._event.set()


def deployment(settings: Settings, ending: Any = None) -> Any:
    """An application of Ray Serve with ``settings.workers`` replicas, or up to ``max_workers`` by their sessions.

    A WebSocket is connected to one replica, so a session stays there.

    Args:
        settings: of each replica
        ending: handle of an ``Ending``; None if the replicas are to end with Ray only

    Raises:
        MissingExtraError: if Ray Serve is not installed
    """
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError(f"--ray needs Ray Serve ({error}): pip install 'ray[serve]'") from None

    keys = read_keys(settings)

    def build() -> Any:
        from wav2small.serve.app import create_app

        return create_app(settings, keys)

    @serve.ingress(build)
    class Service:
        """A replica."""

        def __init__(self) -> None:
            self._task = asyncio.create_task(self._drain()) if ending else None

        async def _drain(self) -> None:
            await ending.wait.remote()
            await self.app.state.service.drain()  # type: ignore[attr-defined]

    autoscaling = {
        "min_replicas": settings.workers,
        "max_replicas": settings.max_workers,
        "target_ongoing_requests": TARGET_SHARE * settings.limits.sessions,
    }
    replicas = {"autoscaling_config": autoscaling} if settings.max_workers else {"num_replicas": settings.workers}
    deployed = serve.deployment(
        name=NAME,
        max_ongoing_requests=settings.limits.sessions + settings.limits.requests,
        graceful_shutdown_timeout_s=KEEP_DUR,
        logging_config={"enable_access_log": False},
        **replicas,
    )
    return deployed(Service).bind()


def serve_on_ray(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, on the cluster of the environment or one of this machine.

    Raises:
        MissingExtraError: if Ray Serve is not installed
        Wav2SmallError: if the address is public without a key
    """
    check_bind(settings, read_keys(settings))
    deployment(settings)
    import ray
    from ray import serve

    serve.start(http_options={"host": settings.host, "port": settings.port})
    actor: Any = ray.remote(num_cpus=0)(Ending)
    ending = actor.remote()
    serve.run(deployment(settings, ending), name=NAME, route_prefix="/")
    announce(f"http://{settings.host}:{settings.port}")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: ended.set())
    ended.wait()
    ray.get(ending.end.remote())
    serve.delete(NAME)  # returns when no session is left
    serve.shutdown()  # type: ignore[no-untyped-call]
