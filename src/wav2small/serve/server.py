"""Serve on a socket: one process or several, which end in order on SIGTERM."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

import uvicorn

from wav2small.audio.vad import detector
from wav2small.errors import Wav2SmallError
from wav2small.serve.metrics import FOLDER_VARIABLE
from wav2small.serve.models import Models
from wav2small.serve.settings import Settings, check_bind, read_keys

RESTART_DUR = 1.0
"""Seconds between a worker that ends and the next."""
STUCK_DUR = 30
"""Seconds after which a connection is given up whose client does not read."""
PING_DUR = 20.0
"""Seconds between pings of a WebSocket, which keep proxies from closing a quiet one."""
SPARE = 2
"""Messages of up to so many times the limit are read, to say that they are too large."""


class Server(uvicorn.Server):
    """A server whose live sessions end before their connections.

    Args:
        config: of uvicorn
        announce: is called when it serves
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the application, take connections, and announce it."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, drain, and close."""
        for server in self.servers:
            server.close()
        await self.config.loaded_app.state.service.drain()
        await super().shutdown(sockets)


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: of the service
        announce: gets the address

    Raises:
        Wav2SmallError: if the address cannot be bound or is public without a key, or the model cannot be loaded
    """
    check_bind(settings, read_keys(settings))
    Models(settings).get(None)
    detector(settings.vad)
    listener = bind(settings)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    with listener:
        if settings.workers == 1:
            run(new_server(settings, lambda: announce(address)), listener)
        else:
            announce(address)
            with shared_metrics():
                supervise(settings, listener)


def bind(settings: Settings) -> socket.socket:
    """A listening socket.

    Raises:
        Wav2SmallError: if the address cannot be bound
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STUCK_DUR)
        listener.bind(address)
    except OSError as error:
        raise Wav2SmallError(
            f"{settings.host} port {settings.port}: {error.strerror}; choose another with --host or --port"
        ) from None
    listener.listen(1024)
    listener.set_inheritable(True)
    return listener


def run_worker(settings: Settings, listener: socket.socket) -> None:
    """Serve in this process, one of several."""
    run(new_server(settings, lambda: None), listener)


def run(server: Server, listener: socket.socket) -> None:
    """Serve until a signal; after SIGTERM the process ends with exit code 0, which uvicorn alone does not give."""
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    server.run([listener])


def new_server(settings: Settings, announce: Callable[[], None], keys: tuple[str, ...] | None = None) -> Server:
    """A server for this process; ``keys`` are as in ``create_app``."""
    from wav2small.serve.app import create_app

    logging.getLogger("uvicorn.error").addFilter(is_worth_a_line)
    limits = settings.limits
    config = uvicorn.Config(
        create_app(settings, keys),
        ws="websockets-sansio",
        ws_max_size=SPARE * limits.message_bytes,
        ws_ping_interval=PING_DUR,
        ws_ping_timeout=None,  # a pong may wait behind audio where the service is late; idle clients are closed anyway
        ws_per_message_deflate=False,
        limit_concurrency=2 * (limits.sessions + limits.requests) + 100,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
    )
    return Server(config, announce)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether to log a record of uvicorn's: it takes a session that was refused with a response for an error."""
    return "without completing handshake" not in record.getMessage()


def supervise(settings: Settings, listener: socket.socket) -> None:
    """Keep so many workers until SIGTERM or Ctrl-C, and let them drain then."""
    context = multiprocessing.get_context("spawn")
    is_ending = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal is_ending
        is_ending = True

    def started() -> BaseProcess:
        process = context.Process(target=run_worker, args=(settings, listener))
        process.start()
        return process

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    workers = [started() for _ in range(settings.workers)]
    while not is_ending:
        time.sleep(RESTART_DUR / 4)
        alive = [worker for worker in workers if worker.is_alive()]
        if len(alive) < settings.workers and not is_ending:
            time.sleep(RESTART_DUR)
            alive += [started() for _ in range(settings.workers - len(alive))]
        workers = alive
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


@contextmanager
def shared_metrics() -> Iterator[None]:
    """A folder in which workers add up their metrics."""
    with tempfile.TemporaryDirectory(prefix="wav2small-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER_VARIABLE]
