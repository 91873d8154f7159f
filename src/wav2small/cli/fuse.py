"""wav2small fuse: the valence of predictions and the valence of words, combined."""

from __future__ import annotations

import click

from wav2small.tables.table import TEXT_FORMATS


@click.command()
@click.argument("rows_file", metavar="ROWS")
@click.argument("words_file", metavar="WORDS")
@click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Of the words, where there are any; 0 is the voice alone.",
)
@click.option("-o", "--output", metavar="FILE", help="Write the rows to FILE.")
@click.option(
    "--format",
    type=click.Choice((*TEXT_FORMATS, "parquet")),
    help="Output format; default: by the suffix of -o, or table.",
)
def command(rows_file: str, words_file: str, weight: float, output: str | None, format: str | None) -> None:
    """Combine the valence of predictions with that of the words spoken: a row per window.

    ROWS is a table of predict --hop. WORDS is a table of start, end (seconds) and valence (0 to 1), and file if ROWS
    has several; it may come from any classifier or lexicon of sentiment. A window counts the words by their time in it;
    the voice keeps the rest. Arousal and dominance stay as they are. Rows of files that failed are left out.

    \b
    Examples:
      wav2small predict talk.wav --hop .5 --window 4 -o rows.csv
      wav2small fuse rows.csv words.csv -o fused.csv
      wav2small fuse rows.csv words.csv --weight .8 -o fused.csv
    """
    from wav2small.cli.progress import report_written
    from wav2small.tables.fuse import fuse, read_valences
    from wav2small.tables.manifest import read_manifest
    from wav2small.tables.table import check_writable, render, write_table

    if format == "parquet" and not output:
        raise click.UsageError("--format parquet needs -o FILE.")
    if output:
        check_writable(output)
    rows = [row for row in read_manifest(rows_file) if not row.column("error")]
    fused = fuse(rows, read_valences(words_file), weight)
    if output:
        write_table(fused, output, format)
        report_written(output, f"{len(fused):,} rows")
    else:
        click.echo(render(fused, format or "table"), nl=False)
