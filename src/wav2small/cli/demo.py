"""wav2small demo: the page with the student in the browser, served to this machine alone."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click

PACKAGE = Path(__file__).parents[1]


class Handler(SimpleHTTPRequestHandler):
    """Files with the types that a browser wants, whatever the machine's own table says."""

    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".css": "text/css",
    }

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: requests are not logged."""


def folder() -> Path:
    """Folder of the page: inside the package, or beside it in a checkout."""
    return next(path for path in (PACKAGE / "web", PACKAGE.parents[1] / "web") if (path / "index.html").is_file())


@click.command(epilog="Example: wav2small demo --port 8080, then open http://localhost:8080 in a browser.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
def command(port: int) -> None:
    """A page with microphone or file, meters and timeline; nothing leaves it. Ctrl-C ends it."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder())))
    except OSError as error:
        raise click.ClickException(f"port {port}: {error.strerror}; choose another with --port") from error
    with server:
        click.echo(f"http://localhost:{server.server_port}  (Ctrl-C ends it)")
        server.serve_forever()
