"""Options that several commands share."""

from __future__ import annotations

import click


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r}. Give column=value, for example fold=0.")
    return [(column, text) for column, _, text in (value.partition("=") for value in values)]


where_option = click.option(
    "--where", metavar="COLUMN=VALUE", multiple=True, callback=_pairs, help="Only these rows; repeatable."
)
"""Gives (column, value) pairs for ``manifest.select``."""

vad_option = click.option(
    "--vad",
    type=click.Choice(("auto", "silero", "energy")),
    default="auto",
    show_default=True,
    help="What tells speech: Silero's network (extra vad) or the level; auto is Silero where it is installed.",
)
min_speech_option = click.option(
    "--min-speech",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Of speech that an emotion needs; a window below 3 s, or a file below 10 s, needs less in proportion.",
)
