"""wav2small experiment: models x corpora x folds x seeds of one file, in one table."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wav2small.cli.options import REPORT_FORMATS, reports_option

if TYPE_CHECKING:
    from wav2small.train import Progress


@click.command()
@click.argument("file", metavar="FILE")
@reports_option(
    "Table of one row per score to write; .json also has the confusion matrices; repeatable.", required=True
)
@click.option(
    "--format", type=click.Choice(REPORT_FORMATS), help="Format of every -o.  [default: by the suffix of each]"
)
@click.option("--plot", "plot_file", metavar="FILE", help="Picture of train x test to write, PNG, SVG or PDF.")
@click.option("--against", metavar="MODEL", help="Also show differences to this model, by a paired bootstrap.")
@click.option("--draws", default=1000, show_default=True, type=click.IntRange(1), help="Draws of the bootstrap.")
@click.option(
    "--cache", default="build/experiment", show_default=True, help="Folder that keeps the features of frozen models."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where models are trained: on this machine, or by a Ray cluster (extra ray).",
)
@click.option(
    "--ray-address", help="Address of a running cluster, such as ray://head:10001.  [default: start one here]"
)
def command(
    file: str,
    outputs: tuple[str, ...],
    format: str | None,
    plot_file: str | None,
    against: str | None,
    draws: int,
    cache: str,
    engine: str,
    ray_address: str | None,
) -> None:
    """Score models x corpora x folds x seeds, as FILE (TOML or JSON) describes them.

    FILE names models (scored as they are, heads on their frozen features, or students trained from random weights in
    each fold), corpora (manifests), the sets of corpora to train on, the folds (a column, such as speaker to leave one
    speaker out, or random:10), and seeds. Printed is the mean over seeds of CCC, UA, WA and macro-F1 on held-out clips,
    with 95 % intervals over speakers and the standard deviation of UA over folds.

    The same command continues a run that was stopped. Training needs the extra train.

    \b
    Example:
      wav2small experiment heads.toml -o heads.csv -o heads.parquet --plot heads.png
      wav2small experiment heads.toml -o heads.json --against micro
    """
    from wav2small.cli.progress import progress_bar, report_written, say
    from wav2small.evaluation.experiment import read_experiment
    from wav2small.evaluation.experiment_cells import here, read_answers, run_cells
    from wav2small.evaluation.experiment_tables import (
        confusions,
        difference_rows,
        matrices,
        results,
        score_rows,
        table,
    )
    from wav2small.evaluation.heat_map import heat_map
    from wav2small.evaluation.plots import check_drawable
    from wav2small.tables.journal import journal
    from wav2small.tables.table import check_parquet, check_writable, format_of, whole_file, write_table

    if ray_address and engine != "ray":
        raise click.UsageError("--ray-address is of --engine ray; give that too.")
    written = {output: format or format_of(output) for output in outputs}
    for output, form in written.items():
        if form not in REPORT_FORMATS:
            raise click.UsageError(f"-o {output}: scores are written as {', '.join(REPORT_FORMATS)}.")
        check_writable(output)
    if "parquet" in written.values():
        check_parquet()
    if plot_file:
        check_drawable(plot_file)
        check_writable(plot_file)
    experiment = read_experiment(file)
    if against and against not in experiment.models:
        raise click.UsageError(f"--against {against}: {file} has no such model, only {', '.join(experiment.models)}.")
    for note in experiment.notes():
        say(note)
    chosen = here
    if engine == "ray":
        from wav2small.evaluation.experiment_on_ray import Cluster

        chosen = Cluster(ray_address)

    def bar(title: str) -> AbstractContextManager[Progress]:
        return progress_bar(title, unit="cells" if title.startswith("cells") else "clips")

    with journal(outputs[0], experiment.settings, resumes=True) as book:
        run_cells(experiment, book, Path(cache), bar, say, chosen)
        found = results(experiment, read_answers(book, experiment.cells()), draws, 0)
        failed = len({cell.key for cell in experiment.cells()} - book.done)
        rows = score_rows(found, experiment)
        compared = difference_rows(found, against) if against else []
        for output, form in written.items():
            if form == "json":
                report = {
                    "package": {"name": "wav2small", "version": version("wav2small")},
                    **experiment.settings,
                    "interval": {"over": "speakers", "level": 0.95, "draws": draws, "seed": 0},
                    "scores": rows,
                    **({"differences": compared} if against else {}),
                    "confusions": confusions(found),
                }
                with whole_file(output) as temporary:
                    Path(temporary).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            else:
                write_table([*rows, *compared], output, form)
    click.echo(f"truth: {experiment.truth}; in brackets the 95 % interval over speakers; ± deviation over folds")
    click.echo(table(rows), nl=False)
    if compared:
        click.echo(f"\nDifference to {against} on the same clips; in brackets the 95 % interval")
        click.echo(table(compared), nl=False)
    for output in outputs:
        report_written(output, f"{len(rows) + len(compared)} rows")
    if plot_file:
        heat_map(matrices(rows), plot_file, "mean CCC, UA")
        report_written(plot_file)
    if failed:
        say(f"cells with clips that failed, which are left out: {failed}; run evaluate on the corpus for their errors")
        sys.exit(1)
