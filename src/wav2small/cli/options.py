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
