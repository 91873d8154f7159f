"""The same application on Ray Serve: replicas on the machines of a cluster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

from wav2small.errors import MissingExtraError
from wav2small.serve.settings import Settings, check_bind, read_keys

NAME = "wav2small"


def deployment(settings: Settings) -> Any:
    """An application of Ray Serve with ``settings.workers`` replicas.

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

    return serve.deployment(name=NAME, num_replicas=settings.workers)(Service).bind()


def serve_on_ray(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, on the cluster of the environment or one of this machine.

    Raises:
        MissingExtraError: if Ray Serve is not installed
        Wav2SmallError: if the address is public without a key
    """
    check_bind(settings, read_keys(settings))
    application = deployment(settings)
    from ray import serve

    serve.start(http_options={"host": settings.host, "port": settings.port})
    serve.run(application, name=NAME, route_prefix="/")
    announce(f"http://{settings.host}:{settings.port}")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: ended.set())
    ended.wait()
    serve.shutdown()  # type: ignore[no-untyped-call]
