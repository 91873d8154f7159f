"""wav2small mcp: tools for language models, over standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wav2small.cli.options import model_option

if TYPE_CHECKING:
    from wav2small.agents.mcp import LastMinute


@click.command()
@click.option("--microphone", is_flag=True, help="Follow the microphone, and add the tool tone_of_last_minute.")
@click.option("--device", metavar="NAME|NUMBER", help="Which microphone; else the system's default.")
@model_option
def command(microphone: bool, device: str | None, model: str) -> None:
    """Serve tools of the Model Context Protocol: tone_of_file, models, and with --microphone tone_of_last_minute.

    A program such as an editor or a desktop assistant starts this command and talks to it over standard input and
    output. It needs the extra mcp, and the extra live for the microphone. Of the microphone, answers for windows of 3 s
    of the last minute are kept, and no audio.

    \b
    Example of a configuration:
      {"mcpServers": {"wav2small": {"command": "wav2small", "args": ["mcp"]}}}
    """
    import threading

    from wav2small.agents.mcp import LastMinute, server
    from wav2small.runtime.model import load

    last_minute = LastMinute(load(model, calibration=True)) if microphone else None
    made = server(model, last_minute)
    if last_minute:
        threading.Thread(target=follow, args=(last_minute, device), daemon=True).start()
    made.run("stdio")


def follow(last_minute: LastMinute, device: str | None) -> None:
    """Follow the microphone until it is gone, and print why; the other tools go on."""
    last_minute.follow(device)
    click.echo(f"wav2small: {last_minute.error}", err=True)
