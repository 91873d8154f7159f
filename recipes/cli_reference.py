"""The page of every command and option, as Markdown, from the commands themselves.

python recipes/cli_reference.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from wav2small.cli import COMMANDS, main


def page() -> str:
    """A list of the commands, and a section for each."""
    top = click.Context(main, info_name="wav2small")
    names = main.list_commands(top)
    lines = ["| command | |", "|---|---|", *(f"| [`{name}`](#{name}) | {COMMANDS[name][1]} |" for name in names)]
    sections = [section(top, name) for name in names]
    return "\n\n".join(["\n".join(lines), *sections]) + "\n"


def section(top: click.Context, name: str) -> str:
    """The description, usage, examples and options of one command."""
    command = main.get_command(top, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=top)
    usage = f"```text\nwav2small {name} {' '.join(command.collect_usage_pieces(context))}\n```"
    parts = [f"## {name}", *paragraphs(command.help or ""), usage]
    rows = [option(parameter, context) for parameter in command.params if isinstance(parameter, click.Option)]
    return "\n\n".join([*parts, "\n".join(["| option | |", "|---|---|", *rows])])


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a help text; those that click leaves unwrapped, which begin with a backspace, are examples."""
    for paragraph in text.replace("\f", "").split("\n\n"):
        head, *rest = paragraph.strip().splitlines() or [""]
        if head.strip() != "\b":
            yield escaped(" ".join(paragraph.split()))
            continue
        title, *lines = (line.strip() for line in rest)
        yield title
        yield "```sh\n" + "\n".join(lines) + "\n```"


def option(parameter: click.Option, context: click.Context) -> str:
    """A row of the table of options."""
    names, text = (" ".join(part.split()) for part in parameter.get_help_record(context) or ("", ""))
    return f"| `{names}` | {escaped(text)} |"


def escaped(text: str) -> str:
    """Text in which Markdown sees no markup: names of placeholders, options and patterns stay as they are."""
    return re.sub(r"[\\`*_{}\[\]<>#|]", lambda match: f"&#{ord(match[0])};", text)


if __name__ == "__main__":
    print(page(), end="")
