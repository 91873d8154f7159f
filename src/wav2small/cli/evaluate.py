"""wav2small evaluate: models, teachers and tables of predictions against a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import where_option
from wav2small.cli.progress import progress_bar
from wav2small.config import OUTPUTS
from wav2small.errors import ManifestError, MissingExtraError

if TYPE_CHECKING:
    from wav2small.evaluate import Answer, Evaluation, Predict
    from wav2small.manifest import Norm, Segment

LEVEL = 0.95
SHOWN_ERRORS = 3
"""The rest is in the file of ``--predictions``."""
TABLE_BYTES = 64
"""A file is a table if this many first bytes are text, or say Parquet; what it is called does not matter."""


@dataclass(frozen=True)
class Predictor:
    """Something to score: its name in the tables, what the report says about it, and how it answers segments."""

    name: str
    about: dict[str, str | None]
    answer: Callable[[Sequence[Segment], bool], Iterable[Answer]]


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
@click.option("--speech-only", is_flag=True, help="Leave out clips in which no speech is heard.")
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
    Every clip that can be read is scored, silent ones too, unless --speech-only is given. What is left out is counted.

    \b
    Example:
      wav2small evaluate micro wav2small --on ravdess --by gender --by speaker --csv scores.csv
    """
    from wav2small.evaluate import check_plot, check_truth, evaluate, evaluate_by, scatter, tidy
    from wav2small.manifest import NORMS, load_norms, read_manifest, select
    from wav2small.tables import check_parquet, check_writable, format_of, write_table

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
    for predictor in [_open(spec, predictors) for spec in predictors]:
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


def manifest_name(manifest: str) -> str:
    path = Path(manifest).resolve()
    return path.parent.name if path.name == "manifest.csv" else path.stem if path.is_file() else path.name


def read_truth(truth: str | None, segments: Sequence[Segment], norms: dict[str, Norm]) -> tuple[str, Sequence[Answer]]:
    from wav2small.evaluate import answer_table, category_norms, own_truth
    from wav2small.manifest import read_manifest

    if truth is None:
        truth = "manifest" if any(segment.emotion for segment in segments) else "norms"
    if truth == "manifest":
        return truth, own_truth(segments)
    if truth == "norms":
        return truth, category_norms(segments, norms)
    return Path(truth).stem, answer_table(segments, read_manifest(truth), missing="no truth")


def _open(spec: str, specs: Sequence[str]) -> Predictor:
    """The predictor of a word of the command line."""
    kind, _, teacher = spec.partition(":")
    if kind == "teacher" and teacher:
        return _open_teacher(f"teacher:{_short(teacher, [other.partition(':')[2] for other in specs])}", teacher)
    if Path(spec).is_dir() or (Path(spec).is_file() and _is_table(spec)):
        return _open_table(_short(spec, specs), spec)
    return _open_model(_short(spec, specs), spec)


def _short(spec: str, specs: Sequence[str]) -> str:
    """A file by its name, and by as many folders as tell it from the others: tables name no machine's folders."""
    if not Path(spec).exists():
        return spec
    others = {Path(other).absolute().parts for other in specs} - {Path(spec).absolute().parts}
    parts = Path(spec).absolute().parts
    alike = max((_common_end(parts, other) for other in others), default=0)
    return "/".join(parts[-alike - 1 :])


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)) - 1)


def _is_table(file: str) -> bool:
    with open(file, "rb") as opened:
        head = opened.read(TABLE_BYTES)
    return head.startswith(b"PAR1") or not any(byte < 9 for byte in head)


def _open_table(name: str, file: str) -> Predictor:
    from wav2small.evaluate import answer_table
    from wav2small.manifest import read_manifest

    table = read_manifest(file)
    if not any(row.emotion for row in table):
        raise ManifestError(f"{file}: no row has {', '.join(OUTPUTS)}. A table of predictions needs these columns.")
    about = {"name": name, "kind": "table", "sha256": file_sha256(file)}
    return Predictor(name, about, lambda segments, _: answer_table(segments, table, missing="no prediction"))


def _open_model(name: str, spec: str) -> Predictor:
    """Weights by name, name:precision or path; safetensors are computed by the reference, in NumPy."""
    from wav2small.model import SUFFIXES, is_safetensors, load, locate

    is_file = Path(spec).is_file()
    weights, _, precision = (spec, "", "") if is_file else spec.partition(":")
    backend = "numpy" if is_file and is_safetensors(Path(spec)) else "onnx"
    model = load(weights, precision or "fp32", backend)
    file = locate(weights, precision or "fp32", SUFFIXES[backend])
    about = {"name": name, "kind": "model", "version": model.metadata.get("version"), "sha256": file_sha256(file)}
    return Predictor(name, about, _answers(model.batch))


def _open_teacher(name: str, teacher_name: str) -> Predictor:
    from wav2small.weights import DATA

    try:
        from wav2small.train.teachers import load_teacher

        teacher = load_teacher(teacher_name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{name} needs {error.name}, which is not here: pip install 'wav2small[train]'"
        ) from None
    head = teacher_name if Path(teacher_name).is_file() else DATA / f"{teacher_name}.safetensors"
    about = {"name": name, "kind": "teacher", "version": teacher.version, "sha256": file_sha256(head)}
    return Predictor(name, about, _answers(teacher.label))


def _answers(predict: Predict) -> Callable[[Sequence[Segment], bool], Iterable[Answer]]:
    from wav2small.evaluate import answer_segments

    return lambda segments, speech_only: answer_segments(segments, predict, speech_only)


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
    from wav2small.tables import whole_file

    with whole_file(file) as temporary:
        Path(temporary).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def file_sha256(source: str | Path | None) -> str | None:
    """Of a file, of the manifest in a folder, or of the plan of a label store; None where there is no file."""
    from wav2small.store import PLAN
    from wav2small.weights import sha256

    if source is None:
        return None
    files = (Path(source), Path(source) / "manifest.csv", Path(source) / PLAN)
    return next((sha256(file) for file in files if file.is_file()), None)


def _show(results: Sequence[tuple[Predictor, Evaluation]], rows: Sequence[dict[str, Any]], title: str) -> None:
    """The table for people: a row a predictor and dimension; what was left out goes to stderr."""
    from wav2small.tables import render

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
