"""``wav2small robustness``: how models answer clips with noise, codecs, rooms and other distortions."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
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
from wav2small.errors import Wav2SmallError

if TYPE_CHECKING:
    from wav2small.evaluation.conditions import Condition, Sounds
    from wav2small.evaluation.predictors import Predictor
    from wav2small.evaluation.score import Answer, EvaluationSet
    from wav2small.tables.journal import Journal

SEX = "gender"
PRESETS = ("dawn",)
LEVEL = 0.95
SHOWN_ERRORS = 3
Answers = dict[tuple[str, str], list["Answer"]]
"""By predictor and condition."""


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--on",
    "manifests",
    metavar="MANIFEST",
    multiple=True,
    required=True,
    help="Labelled clips to distort: CSV, JSON, Parquet, or a folder with manifest.csv; each is a corpus; repeatable.",
)
@where_option
@click.option(
    "--conditions",
    metavar="NAME,...",
    multiple=True,
    help="Only these: a condition (white:20) or a kind (white); repeatable.  [default: all that can be made]",
)
@click.option("--preset", type=click.Choice(PRESETS), help="Only the five perturbations of Wagner et al. 2022.")
@click.option("--noise", metavar="MANIFEST", help="Recorded noise; its rows with the label music are music.")
@click.option("--rooms", metavar="MANIFEST", help="Impulse responses of rooms, for the condition room.")
@truth_option
@norms_option
@click.option(
    "--by",
    metavar="COLUMN",
    multiple=True,
    help=f"Also score each value of this column alone; repeatable.  [default: {SEX}, if the manifest has it]",
)
@click.option("--draws", default=200, show_default=True, type=click.IntRange(1), help="Draws of the bootstrap.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Random seed of the distortions.")
@reports_option("Table of one row per score; .json also has what they were computed from; repeatable.")
@report_format_option
@click.option("--plot", "plot_file", metavar="FILE", help="Heat map of the CCCs to write: PNG, SVG or PDF.")
@click.option("--resume", is_flag=True, help="With -o: continue an interrupted run with what it has not computed yet.")
def command(
    models: tuple[str, ...],
    manifests: tuple[str, ...],
    where: list[tuple[str, str]],
    conditions: tuple[str, ...],
    preset: str | None,
    noise: str | None,
    rooms: str | None,
    truth: str | None,
    norms: str | None,
    by: tuple[str, ...],
    draws: int,
    seed: int,
    outputs: tuple[str, ...],
    format: str | None,
    plot_file: str | None,
    resume: bool,
) -> None:
    """Score MODELs on distorted clips, against their answers to the clean clips and against the truth.

    A MODEL is a model as NAME[:PRECISION] (micro, micro:int8), a file of weights (ONNX or safetensors), or a teacher
    (teacher:open). Conditions are noise, codecs, bands, level, rooms, speed, gaps, silence and cut clips. Noise and
    music need --noise, recorded rooms need --rooms. What is drawn depends only on --seed and on the file.

    After an interruption, finished conditions are kept beside the first -o, in FILE.partial, and the same command with
    --resume continues.

    \b
    Example:
      wav2small robustness micro micro:int8 --on ravdess --noise open/noise -o robustness.json --plot robustness.png
      wav2small robustness teacher:open --on emodb --where fold=0 --conditions white,opus,cut:1
      wav2small robustness wav2small --on emodb --preset dawn --noise open/noise
    """
    from wav2small.evaluation.heat_map import heat_map
    from wav2small.evaluation.labelled import check_column, read_manifests, read_set
    from wav2small.evaluation.plots import check_drawable
    from wav2small.evaluation.predictors import file_sha256
    from wav2small.evaluation.robustness import condition_table, panels
    from wav2small.tables.journal import journal
    from wav2small.tables.manifest import NORMS
    from wav2small.tables.table import check_parquet, check_writable, format_of, render, whole_file, write_table

    if resume and not outputs:
        raise click.UsageError("--resume needs -o FILE, the output of the run to continue.")
    if preset and conditions:
        raise click.UsageError("--preset and --conditions both choose the conditions: give one of them.")
    written = {output: format or format_of(output) for output in outputs}
    for output, form in written.items():
        if form not in REPORT_FORMATS:
            raise click.UsageError(f"-o {output}: scores are written as {', '.join(REPORT_FORMATS)}.")
        check_writable(output)
    if plot_file:
        check_drawable(plot_file)
        check_writable(plot_file)
    printed = format if format and not outputs else "table"
    if printed == "parquet":
        raise click.UsageError("--format parquet needs -o FILE.")
    if "parquet" in written.values():
        check_parquet()
    sources = read_manifests(manifests, None, where)
    truth_name, data = read_set(sources, None, truth, norms, draws, seed)
    for column in by:
        check_column(column, data.segments, sources, f"scores by it cannot be computed; leave --by {column} out")
    chosen, sounds = _conditions(conditions, preset, noise, rooms, data, seed)
    opened = _open(models)
    about = {
        "manifests": [
            {"name": name, "sha256": file_sha256(manifest), "rows": len(sources[name])}
            for manifest, name in zip(manifests, sources, strict=True)
        ],
        "where": [f"{column}={value}" for column, value in where],
        "seed": seed,
        "noise": file_sha256(noise),
        "rooms": file_sha256(rooms),
    }
    columns = by or ((SEX,) if any(segment.column(SEX) for segment in data.segments) else ())
    with journal((*outputs, os.devnull)[0], about, resume) as book:
        answers = _answer_all(opened, chosen, data, sounds, book)
        rows = _score_all(answers, data, truth_name, columns)
        report = {
            "package": {"name": "wav2small", "version": version("wav2small")},
            **about,
            "truth": {"name": truth_name, "sha256": file_sha256(truth)},
            "norms": {"name": Path(norms or NORMS).name, "sha256": file_sha256(norms or NORMS)},
            "interval": {"over": "speakers", "level": LEVEL, "draws": draws, "seed": seed},
            "predictors": [predictor.about for predictor in opened],
            "left_out": _left_out(answers),
            "scores": rows,
        }
        for output, form in written.items():
            if form == "json":
                with whole_file(output) as temporary:
                    Path(temporary).write_text(_json(report), encoding="utf-8")
            else:
                write_table(rows, output, form)
        if plot_file:
            heat_map(panels(rows), plot_file)
    if printed == "table":
        click.echo(_title(data, truth_name))
        click.echo(condition_table(rows), nl=False)
    else:
        click.echo(_json(report) if printed == "json" else render(rows, printed), nl=False)
    for line in _notes(opened, answers, data):
        say(line)
    for file in outputs:
        report_written(file, f"{len(rows)} rows")
    if plot_file:
        report_written(plot_file)
    if any(answer.reason == "error" for some in answers.values() for answer in some):
        sys.exit(1)


def _conditions(
    names: Sequence[str],
    preset: str | None,
    noise: str | None,
    rooms: str | None,
    data: EvaluationSet,
    seed: int,
) -> tuple[list[Condition], Sounds]:
    """The conditions asked for, or all that there are sounds for; and the sounds."""
    from wav2small.evaluation.conditions import CONDITIONS, DAWN, NEEDS, check_available, choose, sounds_of
    from wav2small.tables.manifest import read_manifest

    wanted = DAWN if preset else [name.strip() for text in names for name in text.split(",")]
    chosen = choose(wanted)
    recordings, responses = (read_manifest(source) if source else [] for source in (noise, rooms))
    sounds = sounds_of(data.segments, recordings, responses, seed)
    if wanted:
        check_available(chosen, sounds)
        return chosen, sounds
    for kind in dict.fromkeys(one.kind for one in CONDITIONS if not sounds.available(one.kind)):
        say(f"without {kind}, which needs {NEEDS[kind]}")
    return [one for one in CONDITIONS if sounds.available(one.kind)], sounds


def _open(models: Sequence[str]) -> list[Predictor]:
    from wav2small.evaluation.predictors import open_predictor

    specs = list(dict.fromkeys(models))
    opened = [open_predictor(spec, specs) for spec in specs]
    for predictor in opened:
        if predictor.predict is None:
            raise Wav2SmallError(
                f"{predictor.name}: is a table, which has no answers to distorted clips. Give a model or a teacher."
            )
    return opened


def _answer_all(
    opened: Sequence[Predictor], conditions: Sequence[Condition], data: EvaluationSet, sounds: Sounds, book: Journal
) -> Answers:
    """The answers of each predictor in each condition; those of an earlier run come from its journal."""
    from wav2small.evaluation.conditions import CLEAN
    from wav2small.evaluation.robustness import answers_in, from_rows, pair_key, to_rows

    names = {CLEAN: None, **{one.name: one for one in conditions}}
    clips = len(data.segments)
    with progress_bar("robustness", unit="clips") as progress:
        for number, (name, condition) in enumerate(names.items()):
            missing = [one for one in opened if pair_key(one, name) not in book.done]
            found = []
            predicts = [one.predict for one in missing if one.predict]
            for row in answers_in(condition, predicts, data.segments, sounds, data.seed):
                found.append(row)
                progress(number * clips + len(found), len(names) * clips, name)
            for predictor, answers in zip(missing, zip(*found, strict=True), strict=True):
                book.add(pair_key(predictor, name), to_rows(answers))
    return {(one.name, name): from_rows(book.rows([pair_key(one, name)])) for one in opened for name in names}


def _score_all(answers: Answers, data: EvaluationSet, truth: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    from wav2small.evaluation.conditions import CLEAN
    from wav2small.evaluation.robustness import scores_in

    rows: list[dict[str, Any]] = []
    with progress_bar("scores", unit="conditions") as progress:
        for done, ((predictor, condition), own) in enumerate(answers.items(), 1):
            clean = answers[predictor, CLEAN] if condition != CLEAN else None
            found = scores_in(data, truth, own, clean, columns)
            rows += ({"predictor": predictor, "condition": condition, **row} for row in found)
            progress(done, len(answers))
    return rows


def _left_out(answers: Answers) -> list[dict[str, Any]]:
    """How many clips have no answer, by predictor and condition."""
    return [
        {"predictor": predictor, "condition": condition, "reason": reason, "clips": count}
        for (predictor, condition), some in answers.items()
        for reason, count in Counter(answer.reason for answer in some if answer.reason).items()
    ]


def _json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def _title(data: EvaluationSet, truth: str) -> str:
    from wav2small.evaluation.score import rows_of

    corpora = "; ".join(f"{name}, {len(rows)} rows" for name, rows in rows_of(data.corpora).items())
    return (
        f"{corpora}; truth: {truth}\nshift: mean difference to the clean answer; clean: CCC with the clean answer; "
        "CCC and AUC: with the truth"
    )


def _notes(opened: Sequence[Predictor], answers: Answers, data: EvaluationSet) -> Iterator[str]:
    """Sentences about what was left out, and what is not held-out or has no interval."""
    from wav2small.evaluation.predictors import training_notes
    from wav2small.evaluation.score import rows_of
    from wav2small.evaluation.statistics import MIN_SPEAKERS

    for row in _left_out(answers):
        yield "{predictor}: {clips} clips left out of {condition}: {reason}".format(**row)
    details = dict.fromkeys(answer.detail for some in answers.values() for answer in some if answer.reason == "error")
    yield from list(details)[:SHOWN_ERRORS]
    for predictor in opened:
        yield from training_notes(predictor.name, predictor.training_data, dict.fromkeys(data.corpora))
    for corpus, rows in rows_of(data.corpora).items():
        if len({data.segments[row].speaker or row for row in rows}) < MIN_SPEAKERS:
            yield f"no interval of {corpus}: it needs at least {MIN_SPEAKERS} speakers"
