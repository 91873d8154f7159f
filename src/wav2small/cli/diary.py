"""wav2small diary: a day that stream --log has written, hour by hour, as a table and as a picture."""

from __future__ import annotations

import click

from wav2small.tables.table import FORMATS


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--format", type=click.Choice(FORMATS), help="Output format; default: by the suffix of -o, or table.")
@click.option("-o", "--output", metavar="FILE", help="Write the hours to FILE.")
@click.option("--plot", metavar="FILE", help="Draw the day as PNG, SVG or PDF.")
def command(file: str, format: str | None, output: str | None, plot: str | None) -> None:
    """Show a day of stream --log: minutes recorded, minutes of speech, and mean values, for each hour.

    FILE is the diary of one date, also one that is being written. Means are weighted by speech, and empty for an hour
    without. Deviations are from the speaker's baseline, if the stream had one.

    \b
    Examples:
      wav2small diary day-2026-11-28.parquet
      wav2small diary day-2026-11-28.parquet --plot day.png -o hours.csv
    """
    from wav2small.evaluation.day import draw_day
    from wav2small.evaluation.plots import check_drawable
    from wav2small.runtime.diary import hours, read_diary
    from wav2small.tables.table import render, write_table

    if format == "parquet" and not output:
        raise click.UsageError("--format parquet needs -o FILE.")
    if plot:
        check_drawable(plot)
    rows = read_diary(file)
    if output:
        write_table(hours(rows), output, format)
        click.echo(f"{output}: {len(hours(rows))} rows", err=True)
    else:
        click.echo(render(hours(rows), format or "table"), nl=False)
    if plot:
        draw_day(rows, plot)
        click.echo(f"{plot}: {len(rows):,} rows", err=True)
