"""wav2small series: predictions of windows against annotation over time."""

from __future__ import annotations

from pathlib import Path

import click

from wav2small.tables.table import TEXT_FORMATS

FORMATS = (*TEXT_FORMATS, "parquet")
ON_DEV = "dev"


def _delay(context: click.Context, parameter: click.Parameter, text: str) -> float | None:
    """Seconds; None if they are chosen on dev."""
    if text == ON_DEV:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 60:
        raise click.BadParameter(f"{text} is neither seconds from 0 to 60 nor dev.")
    return seconds


@click.command()
@click.argument("predictions", metavar="ROWS...", nargs=-1, required=True)
@click.option(
    "--on", "truth_file", metavar="TRUTH", required=True, help="Table of file, time, A/D/V, and split if there are any."
)
@click.option(
    "--delay",
    metavar="SECONDS|dev",
    default="0",
    show_default=True,
    callback=_delay,
    help="Reaction delay of the raters; dev: the best of 0 to 6 s on the files of the split dev.",
)
@click.option("--draws", default=1000, show_default=True, type=click.IntRange(1), help="Draws of the bootstrap.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Random seed of the bootstrap.")
@click.option("-o", "--output", metavar="FILE", help="Write the scores to FILE, one row per split and dimension.")
@click.option("--format", type=click.Choice(FORMATS), help="Output format; default: by the suffix of -o, or table.")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw truth and predictions over time: PNG, SVG or PDF.")
def command(
    predictions: tuple[str, ...],
    truth_file: str,
    delay: float | None,
    draws: int,
    seed: int,
    output: str | None,
    format: str | None,
    plot_file: str | None,
) -> None:
    """Score predictions of windows against annotation over time: CCC over the concatenation of all files.

    ROWS is a table of predict --hop, or of fuse. Each annotated moment is scored within its split, with the prediction
    between the centres of the two nearest windows. Intervals are over files. Scores on dev are optimistic if the delay
    was chosen there.

    \b
    Examples:
      wav2small corpus msp-conversation FOLDER -o conversation.csv --series truth.csv
      wav2small predict FOLDER/Audio --hop .5 --window 4 -o rows.csv
      wav2small series rows.csv --on truth.csv --delay dev
    """
    from wav2small.cli.progress import report_written
    from wav2small.errors import ManifestError
    from wav2small.evaluation.plots import check_drawable
    from wav2small.evaluation.series import best_delay, draw_series, join_tracks, score_series
    from wav2small.tables.manifest import read_manifest
    from wav2small.tables.series import read_series
    from wav2small.tables.table import check_writable, render, write_table

    if format == "parquet" and not output:
        raise click.UsageError("--format parquet needs -o FILE.")
    if output:
        check_writable(output)
    if plot_file:
        check_drawable(plot_file)
    truth = read_series(truth_file)
    dev = [index for index, one in enumerate(truth) if one.split == ON_DEV]
    if delay is None and not dev:
        raise ManifestError(
            f"{truth_file}: no file has the split dev, on which to choose a delay. Give --delay SECONDS."
        )
    rows: list[dict[str, object]] = []
    drawn = {}
    for file in dict.fromkeys(predictions):
        tracks = join_tracks(truth, read_manifest(file), file)
        own = delay if delay is not None else best_delay([truth[row] for row in dev], [tracks[row] for row in dev])
        name = Path(file).name
        rows += [{"predictions": name, **one._asdict()} for one in score_series(truth, tracks, own, draws, seed)]
        drawn[name] = tracks, own
    if output:
        write_table(rows, output, format)
        report_written(output, f"{len(rows)} rows")
    else:
        click.echo(render(rows, format or "table"), nl=False)
    if plot_file:
        draw_series(truth, drawn, plot_file)
        report_written(plot_file)
