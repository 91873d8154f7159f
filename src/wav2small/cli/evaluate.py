"""wav2small evaluate: models, teachers and tables of predictions against a manifest."""

from __future__ import annotations

import json
import os.path
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import (
    REPORT_FORMATS,
    norms_option,
    report_format_option,
    reports_option,
    truth_option,
    where_option,
)
from wav2small.cli.progress import progress_bar, report_written, say
from wav2small.network.config import OUTPUTS

if TYPE_CHECKING:
    from wav2small.evaluation.confusion import Confusion
    from wav2small.evaluation.predictors import Predictor
    from wav2small.evaluation.score import Answer, Evaluation, EvaluationSet
    from wav2small.tables.manifest import Segment

LEVEL = 0.95
SHOWN_ERRORS = 3
"""The rest is in the file of ``--predictions``."""
Rows = list[dict[str, Any]]


@click.command()
@click.argument("predictors", metavar="PREDICTOR...", nargs=-1, required=True)
@click.option(
    "--on",
    "manifests",
    metavar="MANIFEST",
    multiple=True,
    required=True,
    help="Labelled clips to score on: CSV, JSON, Parquet, or a folder with manifest.csv; each is a corpus; repeatable.",
)
@click.option("--corpus", metavar="COLUMN", help="Column with the corpus of each row, if a manifest holds several.")
@click.option(
    "--root",
    metavar="FOLDER",
    help="Folder that the files are relative to; with one --on only.  [default: the folder of the manifest]",
)
@where_option
@truth_option
@norms_option
@click.option(
    "--against",
    metavar="PREDICTOR",
    help="Also show differences to this PREDICTOR, by a paired bootstrap; not together with --by.",
)
@click.option(
    "--by",
    metavar="COLUMN",
    multiple=True,
    help="Also score each value of this column alone, such as gender; repeatable.",
)
@click.option(
    "--speech-only", is_flag=True, help="Leave out clips with too little speech, for which predict has no answer."
)
@click.option("--draws", default=1000, show_default=True, type=click.IntRange(1), help="Draws of the bootstrap.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Random seed of the bootstrap.")
@reports_option(
    "Table of one row per score and per difference; .json also has what they were computed from; repeatable."
)
@report_format_option
@click.option("--plot", "plot_file", metavar="FILE", help="Scatter plots to write, one per corpus and dimension, PNG.")
@click.option(
    "--predictions",
    "predictions_file",
    metavar="FILE",
    help="Table of the outputs for each clip to write; with one PREDICTOR.",
)
def command(
    predictors: tuple[str, ...],
    manifests: tuple[str, ...],
    corpus: str | None,
    root: str | None,
    where: list[tuple[str, str]],
    truth: str | None,
    norms: str | None,
    against: str | None,
    by: tuple[str, ...],
    speech_only: bool,
    draws: int,
    seed: int,
    outputs: tuple[str, ...],
    format: str | None,
    plot_file: str | None,
    predictions_file: str | None,
) -> None:
    """Score PREDICTORs on labelled audio: CCC, Pearson's r and AUC, with 95 % intervals over speakers.

    A PREDICTOR is a model as NAME[:PRECISION] (micro, micro:int8), a file of weights (ONNX or safetensors), a teacher
    (teacher:open), a table of predictions (file[,start,end],arousal,dominance,valence[,category]), or a folder of
    labels.

    Every clip that can be read is scored. Where predict has no answer because of too little speech, the clip is scored
    all the same, unless --speech-only is given. A clip that fails is left out; what is left out is reported, and if
    anything failed the exit code is 1. A CCC needs 2 clips, and an interval 5 speakers: without them the cell is empty.

    With several corpora each figure is computed within each corpus; the mean over corpora and the figure of all clips
    pooled are shown too, and need one --truth. A corpus whose name is among the training data that weights name is
    reported as not held-out.

    \b
    Example:
      wav2small evaluate micro wav2small --on ravdess --by gender --by speaker -o scores.csv
      wav2small evaluate wav2small --against micro --on emodb --on ravdess
    """
    from wav2small.evaluation import score
    from wav2small.evaluation.labelled import check_column, read_manifests, read_set
    from wav2small.evaluation.predictors import file_sha256, open_predictor
    from wav2small.evaluation.report import difference_table, score_table
    from wav2small.tables.manifest import NORMS
    from wav2small.tables.table import check_parquet, check_writable, format_of, render, whole_file, write_table

    _check_options(predictors, manifests, root, against, by, predictions_file)
    written = {output: format or format_of(output) for output in outputs}
    for output, form in written.items():
        if form not in REPORT_FORMATS:
            raise click.UsageError(f"-o {output}: scores are written as {', '.join(REPORT_FORMATS)}.")
    for file in filter(None, (*outputs, predictions_file)):
        check_writable(file)
    if plot_file:
        score.check_plot(plot_file)
    if "parquet" in (format, *written.values(), predictions_file and format_of(predictions_file)):
        check_parquet()
    printed = format if format and not outputs else "table"
    if printed == "parquet":
        raise click.UsageError("--format parquet needs -o FILE.")
    sources = read_manifests(manifests, root, where)
    truth_name, data = read_set(sources, corpus, truth, norms, draws, seed)
    for column in by:
        check_column(column, data.segments, sources, f"scores by it cannot be computed; leave --by {column} out")
    specs = list(dict.fromkeys((*predictors, against) if against else predictors))
    opened = {spec: open_predictor(spec, specs) for spec in specs}
    answers = _answer_all(opened, data, speech_only)
    if predictions_file:
        folder = os.path.dirname(predictions_file) if len(sources) > 1 else None
        write_table(_prediction_rows(data.segments, answers[predictors[0]], folder), predictions_file)
    results = [(opened[spec], score.evaluate_within(data, answers[spec])) for spec in predictors]
    rows = [
        row
        for predictor, found in results
        for row in _score_rows(found, predictor.name, truth_name, data.is_of_several)
    ]
    for spec in predictors:
        rows += _rows_by(by, opened[spec].name, truth_name, data, answers[spec])
    differences: Rows = []
    for spec in predictors:
        if against and spec != against:
            names = opened[spec].name, opened[against].name
            differences += _difference_rows(names, truth_name, data, answers[spec], answers[against])
    report = {
        "package": {"name": "wav2small", "version": version("wav2small")},
        **_about_manifests(manifests, sources),
        **({"corpus": corpus} if corpus else {}),
        "where": [f"{column}={value}" for column, value in where],
        "truth": {"name": truth_name, "sha256": file_sha256(truth)},
        "norms": {"name": Path(norms or NORMS).name, "sha256": file_sha256(norms or NORMS)},
        "interval": {"over": "speakers", "level": LEVEL, "draws": draws, "seed": seed},
        "speech_only": speech_only,
        "predictors": [
            {**predictor.about, **_left_out(found), **_confusion_rows(found)} for predictor, found in results
        ],
        "scores": rows,
        **({"against": opened[against].about, "differences": differences} if against else {}),
    }
    for output, form in written.items():
        if form == "json":
            with whole_file(output) as temporary:
                Path(temporary).write_text(_json(report), encoding="utf-8")
        else:
            write_table([*rows, *differences], output, form)
    if plot_file:
        evaluations = {(one.name, name): found[name] for one, found in results for name in dict.fromkeys(data.corpora)}
        score.scatter(evaluations, truth_name, plot_file)
    if printed != "table":
        click.echo(_json(report) if printed == "json" else render([*rows, *differences], printed), nl=False)
    else:
        click.echo(_title(data, truth_name))
        click.echo(score_table(rows), nl=False)
        for predictor, found in results:
            for title, confusion in _confusions(found):
                click.echo(f"\n{predictor.name}, {title}: {confusion}; true categories in rows")
                click.echo(render(confusion.rows(), "table"), nl=False)
    if differences and printed == "table":
        click.echo(f"\n{_difference_title(opened[str(against)].name)}")
        click.echo(difference_table(differences), nl=False)
    for note in _notes(results):
        say(note)
    for file in outputs:
        report_written(file, f"{len(rows) + len(differences)} rows")
    if predictions_file:
        report_written(predictions_file, f"{len(data.segments)} rows")
    if plot_file:
        report_written(plot_file)
    if any(answer.reason == "error" for some in answers.values() for answer in some):
        sys.exit(1)


def _check_options(
    predictors: Sequence[str],
    manifests: Sequence[str],
    root: str | None,
    against: str | None,
    by: Sequence[str],
    predictions_file: str | None,
) -> None:
    """Refuse options that do not combine."""
    if predictions_file and len(predictors) > 1:
        raise click.UsageError(f"--predictions takes one PREDICTOR, not {len(predictors)}.")
    if root and len(manifests) > 1:
        raise click.UsageError("--root takes one --on: it is the folder of one manifest's files.")
    if against and by:
        raise click.UsageError("--against compares all clips: leave --by out, or choose clips by --where COLUMN=VALUE.")
    if set(predictors) == {against}:
        raise click.UsageError(f"--against {against} is the only PREDICTOR. Name another one to compare with it.")


def _answer_all(predictors: Mapping[str, Predictor], data: EvaluationSet, speech_only: bool) -> dict[str, list[Answer]]:
    """The answers of each predictor; tables first, as they are quick to fail."""
    from wav2small.evaluation.score import check_answers

    answers = {}
    for spec, predictor in sorted(predictors.items(), key=lambda item: item[1].about["kind"] != "table"):
        answers[spec] = _collect(predictor, data.segments, speech_only)
        check_answers(data, answers[spec], predictor.name)
    return answers


def _collect(predictor: Predictor, segments: Sequence[Segment], speech_only: bool) -> list[Answer]:
    answers = []
    with progress_bar(predictor.name, unit="clips") as progress:
        for answer in predictor.answer(segments, speech_only):
            answers.append(answer)
            progress(len(answers), len(segments))
    for error in [answer.detail for answer in answers if answer.reason == "error"][:SHOWN_ERRORS]:
        say(f"{predictor.name}: {error}")
    return answers


def _prediction_rows(
    segments: Sequence[Segment], answers: Sequence[Answer], folder: str | None
) -> list[dict[str, object]]:
    """One row a segment, which ``evaluate`` reads as a PREDICTOR.

    A file is named as in the manifest, or as seen from a folder, so that files of several manifests are told apart.
    """
    return [
        {
            **{"file": segment.file if folder is None else _seen_from(folder, segment.path)},
            **{"start": segment.start, "end": segment.end},
            **(answer.emotion._asdict() if answer.emotion else dict.fromkeys(OUTPUTS)),
            **({"category": answer.category} if answer.category else {}),
            **{"speech": answer.reason != "no speech", "error": answer.detail or None},
        }
        for segment, answer in zip(segments, answers, strict=True)
    ]


def _seen_from(folder: str, path: Path) -> str:
    """Links are not followed, as a table is joined by the places that are written."""
    from wav2small.files import is_remote

    return str(path) if is_remote(path) or is_remote(folder) else os.path.relpath(path, folder or ".")


def _score_rows(found: Mapping[str, Evaluation], predictor: str, truth: str, several: bool) -> Rows:
    from wav2small.evaluation.score import tidy

    return [row for name, one in found.items() for row in tidy(one.scores, predictor, truth, name, several)]


def _rows_by(
    columns: Sequence[str], predictor: str, truth: str, data: EvaluationSet, answers: Sequence[Answer]
) -> Iterator[dict[str, Any]]:
    from wav2small.evaluation.score import evaluate_by

    for column in columns:
        for value, found in evaluate_by(column, data, answers).items():
            yield from ({"by": value, **row} for row in _score_rows(found, predictor, truth, data.is_of_several))


def _difference_rows(
    names: tuple[str, str], truth: str, data: EvaluationSet, one: Sequence[Answer], other: Sequence[Answer]
) -> Iterator[dict[str, Any]]:
    from wav2small.evaluation.score import compare, tidy

    for corpus, found in compare(data, one, other).items():
        for row in tidy(found, names[0], truth, corpus, data.is_of_several):
            yield {"predictor": names[0], "against": names[1], **row}


def _about_manifests(manifests: Sequence[str], sources: Mapping[str, Sequence[Segment]]) -> dict[str, Any]:
    from wav2small.evaluation.predictors import file_sha256

    about = [
        {"name": name, "sha256": file_sha256(manifest), "rows": len(sources[name])}
        for manifest, name in zip(manifests, sources, strict=True)
    ]
    return {"manifest": about[0]} if len(about) == 1 else {"manifests": about}


def _left_out(found: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Rows that were left out, of all, and of several corpora within each."""
    from wav2small.evaluation.score import MEAN, POOLED

    within = {name: one.left_out for name, one in found.items() if name not in (MEAN, POOLED)}
    if POOLED not in found:
        return {"left_out": next(iter(within.values()))}
    return {"left_out": found[POOLED].left_out, "left_out_within": within}


def _confusions(found: Mapping[str, Evaluation]) -> Iterator[tuple[str, Confusion]]:
    """The confusion matrix within each corpus in which categories were predicted, by its name."""
    from wav2small.evaluation.score import MEAN, POOLED

    for name, one in found.items():
        if one.confusion and name not in (MEAN, POOLED):
            yield name, one.confusion


def _confusion_rows(found: Mapping[str, Evaluation]) -> dict[str, Any]:
    rows = {name: confusion.rows() for name, confusion in _confusions(found)}
    return {"confusion": rows} if rows else {}


def _json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def _title(data: EvaluationSet, truth: str) -> str:
    from wav2small.evaluation.score import rows_of

    corpora = "; ".join(f"{name}, {len(rows)} rows" for name, rows in rows_of(data.corpora).items())
    return f"{corpora}; truth: {truth}; in brackets the 95 % interval"


def _difference_title(against: str) -> str:
    return (
        f"Difference to {against} on the clips that both answered; in brackets the 95 % interval, "
        "then the share of draws in which the difference is 0 or less"
    )


def _notes(results: Sequence[tuple[Predictor, Mapping[str, Evaluation]]]) -> Iterator[str]:
    """Sentences about what was left out, which figures need more clips or speakers, and which are not held-out."""
    from wav2small.evaluation.predictors import training_notes
    from wav2small.evaluation.score import MEAN, POOLED
    from wav2small.evaluation.statistics import MIN_CLIPS, MIN_SPEAKERS

    for predictor, found in results:
        corpora = [name for name in found if name not in (MEAN, POOLED)]
        for name in corpora:
            of = f" of {name}" if POOLED in found else ""
            for reason, count in found[name].left_out.items():
                whole = len(found[name].truth) + sum(found[name].left_out.values())
                yield f"{predictor.name}: {count} of {whole} rows{of} left out: {reason}"
        yield from training_notes(predictor.name, predictor.training_data, corpora)
    within = {name: one for name, one in results[0][1].items() if name not in (MEAN, POOLED)}
    if few := [name for name, one in within.items() if len(one.truth) < MIN_CLIPS]:
        yield f"no CCC and no r of {', '.join(few)}: each needs at least {MIN_CLIPS} clips"
    if few := [name for name, one in within.items() if not one.figures.varies]:
        also = ", so none of the mean and of pooled" if len(within) > 1 else ""
        yield f"no interval of {', '.join(few)}{also}: it needs at least {MIN_SPEAKERS} speakers"
