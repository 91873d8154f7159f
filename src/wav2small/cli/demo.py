"""wav2small demo: a page that runs the network in the browser, served to this machine only."""

from __future__ import annotations

import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import click

from wav2small.serve.page import EXAMPLE, TYPES, clip, folder


class Handler(SimpleHTTPRequestHandler):
    """Serves files with the content types that a browser needs, regardless of the system's table of types."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def translate_path(self, path: str) -> str:
        """The file of a URL; the example clip is beside the page, or in the folder of examples."""
        return str(clip()) if path == f"/{EXAMPLE}" else super().translate_path(path)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: requests are not logged."""


@click.command(epilog="Example: wav2small demo --open")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free port.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
def command(port: int, opens: bool) -> None:
    """Serve a page that runs the network in the browser, for a microphone or a file.

    The page has meters and a timeline, and the audio does not leave it. Ctrl-C ends the server.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder())))
    except OSError as error:
        raise click.ClickException(f"port {port}: {error.strerror}; choose another with --port") from error
    with server:
        address = f"http://localhost:{server.server_port}"
        click.echo(f"{address}  (Ctrl-C ends it)")
        if opens and not webbrowser.open(address):
            click.echo("wav2small: no browser can be started here; open the address yourself", err=True)
        server.serve_forever()
