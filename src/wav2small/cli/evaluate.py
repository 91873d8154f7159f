"""wav2small evaluate: models, teachers and tables of predictions against a manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import where_option
from wav2small.cli.progress import progress_bar
from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS

if TYPE_CHECKING:
    from wav2small.evaluation.predictors import Predictor
    from wav2small.evaluation.score import Answer, Evaluation
    from wav2small.tables.manifest import Segment

LEVEL = 0.95
SHOWN_ERRORS = 3
"""The rest is in the file of ``--predictions``."""


@click.command()
@click.argument("predictors", metavar="PREDICTOR...", nargs=-1, required=True)
@click.option(
    "--on", "manifest", metavar="MANIFEST", required=True, help="CSV, Parquet, or a folder with manifest.csv."
)
@click.option("--root", metavar="FOLDER", help="Folder that the manifest's files are relative to, if not its own.")
@where_option
@click.option("--truth", metavar="manifest|norms|FILE", help="Columns of the manifest, norms, or a table of labels.")
@click.option("--norms", metavar="FILE", help="Norms of categories, if not the package's own.")
@click.option("--by", metavar="COLUMN", multiple=True, help="Scores for each value of a column, too; repeatable.")
@click.option("--speech-only", is_flag=True, help="Leave out clips that predict withholds the answer for.")
@click.option("--draws", default=1000, show_default=True, type=click.IntRange(1), help="Of the bootstrap.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the bootstrap.")
@click.option("--json", "json_file", metavar="FILE", help="Write the scores, and what they were computed from.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write one row a score.")
@click.option("--plot", "plot_folder", metavar="FOLDER", help="Write a scatter plot per dimension, as PNG.")
@click.option("--predictions", "predictions_file", metavar="FILE", help="Write what the one PREDICTOR said.")
def command(
    predictors: tuple[str, ...],
    manifest: str,
    root: str | None,
    where: list[tuple[str, str]],
    truth: str | None,
    norms: str | None,
    by: tuple[str, ...],
    speech_only: bool,
    draws: int,
    seed: int,
    json_file: str | None,
    csv_file: str | None,
    plot_folder: str | None,
    predictions_file: str | None,
) -> None:
    """Score PREDICTORs against MANIFEST: CCC, Pearson's r and AUCs, with 95 % intervals over speakers.

    A PREDICTOR is the name of shipped weights (wav2small, wav2small:int8), a file of weights (ONNX or safetensors),
    a teacher (teacher:open), or a table of predictions (file[,start,end],arousal,dominance,valence) or a label store.

    The truth is the manifest's own arousal, dominance and valence if it has them, else the norms of its labels.
    Every clip that can be read is scored, with the answer of predict. Where predict withholds it because of too little
    speech, the clip is scored all the same, unless --speech-only is given. What is left out is counted.

    \b
    Example:
      wav2small evaluate micro wav2small --on ravdess --by gender --by speaker --csv scores.csv
    """
    from wav2small.evaluation.predictors import file_sha256, manifest_name, open_predictor, read_truth
    from wav2small.evaluation.score import check_plot, check_truth, evaluate, evaluate_by, scatter, tidy
    from wav2small.tables.manifest import NORMS, load_norms, read_manifest, select
    from wav2small.tables.table import check_parquet, check_writable, format_of, write_table

    if predictions_file and len(predictors) > 1:
        raise click.UsageError(f"--predictions takes one PREDICTOR, not {len(predictors)}.")
    for file in filter(None, (json_file, csv_file, predictions_file)):
        check_writable(file)
    if plot_folder:
        check_plot(plot_folder)
    if predictions_file and format_of(predictions_file) == "parquet":
        check_parquet()
    name = manifest_name(manifest)
    segments = select(read_manifest(manifest, root), where)
    for column in by:
        if not any(segment.column(column) for segment in segments):
            raise ManifestError(f"{name}: no row has a {column}, so there are no scores by it; leave --by {column} out")
    categories = load_norms(norms)
    truth_name, true = read_truth(truth, segments, categories)
    check_truth(true)
    results: list[tuple[Predictor, Evaluation]] = []
    parts: list[tuple[Predictor, dict[str, Evaluation]]] = []
    for predictor in [open_predictor(spec, predictors) for spec in predictors]:
        answers = _collect(predictor, segments, speech_only)
        if predictions_file:
            write_table(_prediction_rows(segments, answers), predictions_file)
        results.append((predictor, evaluate(segments, true, answers, categories, draws, seed)))
        parts += [(predictor, evaluate_by(c, segments, true, answers, categories, draws, seed)) for c in by]
    rows = [row for predictor, result in results for row in tidy(result, predictor.name, truth_name, name)]
    for predictor, found in parts:
        for group, result in found.items():
            rows += [{"by": group, **row} for row in tidy(result, predictor.name, truth_name, name)]
    if csv_file:
        write_table(rows, csv_file, "csv")
    if json_file:
        report: dict[str, Any] = {
            "package": {"name": "wav2small", "version": version("wav2small")},
            "manifest": {"name": name, "sha256": file_sha256(manifest), "rows": len(segments)},
            "where": [f"{column}={value}" for column, value in where],
            "truth": {"name": truth_name, "sha256": file_sha256(truth)},
            "norms": {"name": Path(norms or NORMS).name, "sha256": file_sha256(norms or NORMS)},
            "interval": {"over": "speakers", "level": LEVEL, "draws": draws, "seed": seed},
            "speech_only": speech_only,
            "predictors": [{**predictor.about, "left_out": result.left_out} for predictor, result in results],
            "scores": rows,
        }
        _write_json(report, json_file)
    for predictor, result in results if plot_folder else []:
        scatter(result, predictor.name, truth_name, name, str(plot_folder))
    _show(results, rows, f"{name}, {len(segments)} rows; truth: {truth_name}; in brackets the 95 % interval")


def _collect(predictor: Predictor, segments: Sequence[Segment], speech_only: bool) -> list[Answer]:
    answers = []
    with progress_bar(predictor.name) as progress:
        for answer in predictor.answer(segments, speech_only):
            answers.append(answer)
            progress(len(answers), len(segments))
    for error in [answer.detail for answer in answers if answer.reason == "error"][:SHOWN_ERRORS]:
        click.echo(f"{predictor.name}: {error}", err=True)
    return answers


def _prediction_rows(segments: Sequence[Segment], answers: Sequence[Answer]) -> list[dict[str, object]]:
    """One row a segment, which ``evaluate`` reads as a PREDICTOR."""
    return [
        {
            **{"file": segment.file, "start": segment.start, "end": segment.end},
            **(answer.emotion._asdict() if answer.emotion else dict.fromkeys(OUTPUTS)),
            **{"speech": answer.reason != "no speech", "error": answer.detail or None},
        }
        for segment, answer in zip(segments, answers, strict=True)
    ]


def _write_json(report: dict[str, Any], file: str) -> None:
    from wav2small.tables.table import whole_file

    with whole_file(file) as temporary:
        Path(temporary).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _show(results: Sequence[tuple[Predictor, Evaluation]], rows: Sequence[dict[str, Any]], title: str) -> None:
    """The table for people: a row a predictor and dimension; what was left out goes to stderr."""
    from wav2small.tables.table import render

    wide: dict[tuple[str, str, str], dict[str, object]] = {}
    is_parted = any("by" in row for row in rows)
    for row in rows:
        group = row.get("by", "")
        line = wide.setdefault(
            (row["predictor"], group, row["dimension"]),
            {"predictor": row["predictor"]}
            | ({"by": group} if is_parted else {})
            | {"dimension": row["dimension"], "CCC": "", "r": "", "AUC": ""},
        )
        statistic = {"ccc": "CCC", "r": "r", "auc": "AUC"}[row["statistic"]]
        line[statistic] = _cell(row)
        if statistic == "CCC":
            line |= {"n": row["n"], "speakers": row["speakers"]}
    click.echo(title)
    click.echo(render(list(wide.values()), "table"), nl=False)
    for predictor, result in results:
        for reason, count in result.left_out.items():
            rows_in_all = len(result.truth) + sum(result.left_out.values())
            click.echo(f"{predictor.name}: {count} of {rows_in_all} rows left out: {reason}", err=True)


def _cell(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}" + (f" of {row['n']}" if row["statistic"] == "auc" else "")
