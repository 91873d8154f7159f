"""wav2small serve: files over HTTP and live streams over WebSockets."""

from __future__ import annotations

from importlib.util import find_spec

import click

from wav2small.cli.options import backend_option, model_option, vad_option
from wav2small.errors import missing_packages
from wav2small.serve.settings import Limits, Settings

NEEDED = ("fastapi", "uvicorn", "websockets", "multipart", "prometheus_client")


@click.command()
@click.option(
    "--host", default=Settings.host, show_default=True, help="Address to bind; others than this machine's need a key."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=Settings.port, show_default=True, help="0: any that is free."
)
@click.option("--keys", metavar="FILE", help="Keys, one a line; those in WAV2SMALL_KEYS are accepted too.")
@click.option(
    "--origin", "origins", multiple=True, metavar="URL", help="Pages of this origin may use the service; repeatable."
)
@model_option
@backend_option
@vad_option
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; one a core.")
@click.option(
    "--max-sessions", type=click.IntRange(1), default=Limits.sessions, show_default=True, help="Live, of a process."
)
@click.option(
    "--max-sessions-per-key",
    type=click.IntRange(1),
    default=Limits.sessions_a_key,
    show_default=True,
    help="Live, of one key and process.",
)
@click.option(
    "--max-duration",
    type=click.FloatRange(1),
    default=Limits.request_dur,
    show_default=True,
    metavar="SECONDS",
    help="Of the audio in a request.",
)
@click.option(
    "--idle",
    type=click.FloatRange(0.1),
    default=Limits.idle_dur,
    show_default=True,
    metavar="SECONDS",
    help="Close a session after so long without a message.",
)
@click.option("--ray", is_flag=True, help="Serve the same application on Ray Serve, with --workers replicas.")
@click.option(
    "--max-workers", type=click.IntRange(1), help="With --ray: add replicas as sessions need them, up to these."
)
def command(
    host: str,
    port: int,
    keys: str | None,
    origins: tuple[str, ...],
    model: str,
    backend: str,
    vad: str,
    workers: int,
    max_sessions: int,
    max_sessions_per_key: int,
    max_duration: float,
    idle: float,
    ray: bool,
    max_workers: int | None,
) -> None:
    """Serve files over HTTP and live streams over WebSockets, until SIGTERM or Ctrl-C.

    Endpoints are listed at /docs, and the page of the demo is at /. Nothing of the audio is written to a disk or log.

    \b
    Examples:
      wav2small serve
      wav2small serve --host 0.0.0.0 --keys keys.txt --workers 4
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise missing_packages("serve", missing, "wav2small[serve]")
    if max_workers is not None and (not ray or max_workers < workers):
        raise click.UsageError(f"--max-workers {max_workers} needs --ray, and not more than that in --workers.")
    limits = Limits(request_dur=max_duration, sessions=max_sessions, sessions_a_key=max_sessions_per_key, idle_dur=idle)
    settings = Settings(host, port, model, backend, vad, keys, origins, workers, max_workers or 0, limits=limits)
    if ray:
        from wav2small.serve.on_ray import serve_on_ray

        serve_on_ray(settings, click.echo)
        return
    from wav2small.serve.server import serve

    serve(settings, lambda address: click.echo(f"{address}  (Ctrl-C ends it)"))
