"""wav2small bench: size, MACs, memory, time and CCC of models on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.progress import progress_bar, report_written, say
from wav2small.network.config import OUTPUTS
from wav2small.tables.table import TEXT_FORMATS, check_writable, format_of, render, write_table

if TYPE_CHECKING:
    from wav2small.evaluation.bench import Corpus


def names(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    """Names of other runtimes, split at commas."""
    from wav2small.errors import closest
    from wav2small.evaluation.bench import OTHERS

    found = list(dict.fromkeys(filter(None, value.split(","))))
    for name in found:
        if name not in OTHERS:
            raise click.BadParameter(f"{name!r} is not to be measured.{closest(name, OTHERS)}.")
    return found


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--on",
    "manifests",
    metavar="MANIFEST",
    multiple=True,
    help="Labelled clips to score on: CSV, JSON, Parquet, or a folder with manifest.csv; repeatable.",
)
@click.option(
    "--truth",
    "truths",
    metavar="manifest|norms|FILE",
    multiple=True,
    help="What every --on is scored against, as in evaluate; repeatable.  "
    "[default: manifest if it has A/D/V, else norms]",
)
@click.option(
    "--with",
    "others",
    default="",
    callback=names,
    metavar="NAME,...",
    help="Other runtimes to measure: teacher, opensmile, torch, openvino.",
)
@click.option(
    "--runs",
    default=30,
    show_default=True,
    type=click.IntRange(1),
    help="Times that each model is timed on each signal.",
)
@click.option("-o", "--output", metavar="FILE", help="Table of one row per model with everything that was measured.")
@click.option(
    "--format",
    type=click.Choice(TEXT_FORMATS),
    help="Format of -o, else of what is printed.  [default: by the suffix of -o, else table]",
)
@click.option("--plot", "plot_file", metavar="FILE", help="Plot to write, PNG: CCC of arousal over MACs; needs --on.")
def command(
    models: tuple[str, ...],
    manifests: tuple[str, ...],
    truths: tuple[str, ...],
    others: list[str],
    runs: int,
    output: str | None,
    format: str | None,
    plot_file: str | None,
) -> None:
    """Measure what MODELs cost on this machine, on one thread: size, MACs, memory and time; with --on, CCC too.

    A MODEL is the NAME of weights that ship, measured in every precision, NAME:PRECISION, or an ONNX file. Without one,
    all that ship are measured. MACs, tokens and memory need the package onnx; without it the rest is measured.

    --with measures other runtimes in the same run: the teacher, opensmile (eGeMAPS functionals), torch (the same
    network) and openvino (the same file). Times are milliseconds for one signal of 1, 5, 10 and 60 s. RTF is the time
    over the duration of the audio. Clips that fail are left out and reported, and the exit code then is 1.

    \b
    Example:
      wav2small bench micro
      wav2small bench --on emodb --truth norms -o bench.jsonl --plot bench.png
      wav2small bench wav2small mine.onnx --on ravdess --truth norms --truth labels.csv
    """
    from wav2small.evaluation import bench

    if truths and not manifests:
        raise click.UsageError("--truth needs --on.")
    if plot_file and not manifests:
        raise click.UsageError("--plot needs --on: it shows the CCC, and without a manifest there is none.")
    if plot_file:
        bench.check_packages("--plot", ("matplotlib",), "wav2small[plot]")
    form = format or (format_of(output) if output else "table")
    for file in filter(None, (output, plot_file)):
        check_writable(file)
    corpora = [one for manifest in manifests for one in read_corpora(manifest, truths)]
    if len({one.name for one in corpora}) < len(corpora):
        raise click.UsageError(f"two of the manifests have one name: {', '.join(one.name for one in corpora)}.")
    with progress_bar("bench") as progress:
        rows = bench.rows(models, others, corpora, runs, progress)
    if output:
        write_table(rows, output, form)
    if plot_file:
        bench.plot(rows, plot_file)
    if output or form == "table":
        show(rows)
    else:
        click.echo(render(rows, form), nl=False)
    for note in notes(rows):
        say(note)
    if output:
        report_written(output, f"{len(rows)} rows")
    if plot_file:
        report_written(plot_file)
    if any("error" in about["left_out"] for row in rows for about in row["on"].values()):
        sys.exit(1)


def notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Sentences about what was not measured, which rows were left out, and which scores are not held-out."""
    from wav2small.evaluation.bench import can_count
    from wav2small.evaluation.predictors import training_notes

    if not can_count():
        yield "MACs, tokens/s and peak MB are not measured: they need the package onnx: pip install onnx"
    for row in rows:
        name = f"{row['name']} {row['precision']}, {row['runtime']}"
        for corpus, about in row["on"].items():
            for reason, count in about["left_out"].items():
                yield f"{name}: {count} rows of {corpus} left out: {reason}"
        yield from training_notes(name, row["training_data"], [corpus.partition(",")[0] for corpus in row["on"]])


def read_corpora(manifest: str, truths: Sequence[str]) -> Iterator[Corpus]:
    """A manifest with each truth to score against, as evaluate reads them; several truths are told apart by name."""
    from wav2small.evaluation.bench import Corpus
    from wav2small.evaluation.predictors import file_sha256, manifest_name, read_truth
    from wav2small.evaluation.score import check_truth
    from wav2small.tables.manifest import load_norms, read_manifest

    segments = read_manifest(manifest)
    for truth in truths or (None,):
        kind, answers = read_truth(truth, segments, load_norms())
        check_truth(answers)
        about = {"truth": kind, "sha256": file_sha256(manifest), "truth_sha256": file_sha256(truth)}
        name = manifest_name(manifest)
        yield Corpus(f"{name}, {kind}" if len(truths) > 1 else name, segments, answers, about)


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Tables for people: what models cost, then how good they are."""
    first = rows[0]
    click.echo(f"{first['cpu']}, {first['cores']} cores, one thread; {first['runs']} runs: ms p50 (p95)")
    click.echo(render([costs(row) for row in rows], "table"), nl=False)
    scores = [line for row in rows for line in figures(row)]
    if scores:
        click.echo("\nCCC; in brackets the 95 % interval")
        click.echo(render(scores, "table"), nl=False)


def costs(row: Mapping[str, Any]) -> dict[str, object]:
    """One row of the table of costs, as text: sizes, MACs, RTF, and times in ms as p50 (p95)."""
    from wav2small.evaluation.bench import DURATIONS

    times = {f"{dur} s": f"{row[f'p50_ms_{dur}s']:.1f} ({row[f'p95_ms_{dur}s']:.1f})" for dur in DURATIONS}
    return {
        "name": row["name"],
        "precision": row["precision"],
        "runtime": row["runtime"],
        "parameters": row["parameters"],
        "MMAC for 5 s": scaled(row["macs_per_5s"], 1e6),
        "tokens/s": scaled(row["tokens_per_second"], 1),
        "KB": scaled(row["bytes"], 1e3),
        "peak MB": scaled(row["peak_bytes"], 1e6),
        "load ms": f"{row['load_ms']:.1f}",
        **times,
        "RTF": f"{row['rtf']:.5f}",
    }


def scaled(number: float | None, unit: float) -> str:
    """A number in units of ``unit``, with one decimal unless that is 0; empty for None."""
    return "" if number is None else f"{number / unit:.1f}".removesuffix(".0")


def figures(row: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Rows of the table of CCC, one for each corpus that the model is scored on."""
    for name, ccc in row["ccc"].items():
        about = {key: row[key] for key in ("name", "precision", "runtime")}
        cells = {dimension: interval(ccc[dimension]) for dimension in OUTPUTS}
        yield about | {"on": name, "truth": row["on"][name]["truth"]} | cells | {"n": ccc[OUTPUTS[0]]["n"]}


def interval(score: Mapping[str, float | None]) -> str:
    """A score as ``value [low, high]``, without the interval if that is missing; ``-`` if the score is missing."""
    value, low, high = (score[key] for key in ("value", "low", "high"))
    return "-" if value is None else f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")
