"""wav2small predict: rows of arousal, dominance and valence for audio files."""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import (
    AnswerOptions,
    answer_options,
    backend_option,
    channel_option,
    min_speech_option,
    model_option,
    vad_option,
)
from wav2small.cli.progress import progress_bar
from wav2small.errors import Wav2SmallError
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA, INDEX
from wav2small.options import Options, default_window
from wav2small.tables.table import (
    FORMATS,
    check_columns,
    check_parquet,
    check_writable,
    format_of,
    lines,
    write_table,
)

if TYPE_CHECKING:
    from wav2small.runtime.batch import Files, Job
    from wav2small.runtime.predict import Progress, Row

Cells = dict[str, Any]
"""A row of the output, by column."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--hop",
    "hop_dur",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="One row every SECONDS; default: one row per file.",
)
@click.option(
    "--window",
    "win_dur",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="With --hop: length of a window; default: 3, or the hop if it is longer.",
)
@channel_option
@click.option("--format", type=click.Choice(FORMATS), help="Output format; default: by the suffix of -o, or table.")
@click.option("-o", "--output", metavar="FILE", help="Write the rows to FILE when all are done.")
@click.option("--resume", is_flag=True, help="With -o: continue an interrupted run, without computing its files again.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Process N files at once, each in a process of its own.",
)
@model_option
@backend_option
@answer_options
@vad_option
@min_speech_option
@click.option("--segments", metavar="FILE", help="One row per segment of FILE: RTTM, Audacity labels, or a table.")
@click.option("--by-speaker", is_flag=True, help="With --segments: add each speaker's baseline and deviation.")
@click.option(
    "--trends", metavar="FILE", help="With --hop or --segments: write rises and falls of a dimension to FILE."
)
@click.option("--plot", metavar="FILE", help="With --hop or --segments: draw one recording as PNG, SVG or PDF.")
def command(
    paths: tuple[str, ...],
    hop_dur: float | None,
    win_dur: float | None,
    channel: int | None,
    format: str | None,
    output: str | None,
    resume: bool,
    workers: int,
    model: str,
    backend: str,
    answer: AnswerOptions,
    vad: str,
    min_speech: float,
    segments: str | None,
    by_speaker: bool,
    trends: str | None,
    plot: str | None,
) -> None:
    """Predict arousal, dominance and valence of audio files, each from 0 to 1.

    PATH is a file, a folder, a pattern in quotes, a table with a column file (.csv, .tsv or .parquet), or - for
    standard input. What libsndfile cannot read, such as M4A, is decoded by ffmpeg if that is installed. A file with
    too little speech gets a row without values. A file that fails gets a row with its error, which is also printed to
    standard error; the other files are processed, and the exit code is 1.

    After Ctrl-C with -o FILE, the finished files are kept in FILE.partial, and the same command with --resume
    continues. Without -o, rows are printed as soon as they are done.

    Values are the network's own unless --calibrated, --calibration, --intervals or --min-confidence is given.
    Confidence is the share of the usual range that an answer excludes, the mean of the three dimensions. The word is
    tense, elated, calm, low or neutral, relative to the mean of many voices, and empty if it is uncertain.

    \b
    Examples:
      wav2small predict talk.mp3 --hop 1 --format csv -o talk.csv
      wav2small predict talk.mp3 --model micro --intervals
      wav2small predict talks --model micro --head head.safetensors
      wav2small predict talk.mp3 --segments talk.rttm --by-speaker -o talk.TextGrid
      wav2small predict talk.mp3 --hop 1 --plot talk.png --trends trends.csv -o talk.csv
      wav2small predict recordings --workers 4 -o recordings.csv
      wav2small predict recordings --workers 4 -o recordings.csv --resume
    """
    if win_dur is not None and hop_dur is None:
        raise click.UsageError("--window needs --hop.")
    check_together(hop_dur, segments, by_speaker, trends, plot)
    if resume and not output:
        raise click.UsageError("--resume needs -o FILE, the output of the run to continue.")
    format = format or (format_of(output) if output else "table")
    columns = columns_of(answer, bool(segments), by_speaker)
    check_format(format, output, columns)
    check_outputs(output, trends, plot)
    win_dur = default_window(hop_dur) if win_dur is None else win_dur
    options = Options(hop_dur, win_dur, channel, min_speech, vad, answer.min_confidence)
    is_shown = bool(output) or format == "table" or not sys.stdout.isatty()
    with interrupted_by_sigterm(), progress_bar("predict", is_shown) as progress:
        run = Run(
            files_of(paths, workers, bool(segments)),
            job_of(answer, model, backend, segments, options),
            workers,
            progress,
        )
        table = Table(columns, format, by_speaker, keeps_rows=bool(trends or plot))
        if output:
            write_rows(run, table, output, settings_of(model, backend, answer, segments, options, columns), resume)
        else:
            print_rows(run, table)
        is_failed = not write_more(table.kept, trends, plot, channel, list(run.files))
    sys.exit(run.exit_code() or int(is_failed))


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, unless it is handled elsewhere."""

    def interrupt(number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(SIGTERM, signal.SIG_DFL)


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM."""


def check_together(
    hop_dur: float | None, segments: str | None, by_speaker: bool, trends: str | None, plot: str | None
) -> None:
    """Refuse options that need another one, or contradict it."""
    if segments and hop_dur is not None:
        raise click.UsageError("--segments says where rows begin and end, and goes without --hop.")
    if by_speaker and not segments:
        raise click.UsageError("--by-speaker needs --segments, which name the speakers.")
    if (trends or plot) and not segments and hop_dur is None:
        raise click.UsageError("--trends and --plot need rows over time: --hop or --segments.")


def check_format(format: str, output: str | None, columns: Sequence[str]) -> None:
    """Refuse a format that needs packages or a file that are missing, or cannot hold the columns."""
    check_columns(format, columns)
    if format == "parquet":
        check_parquet()
        if not output:
            raise click.UsageError("--format parquet needs -o FILE.")


def check_outputs(output: str | None, trends: str | None, plot: str | None) -> None:
    """Refuse files that cannot be written, before the work and not after it."""
    if trends:
        from wav2small.tables.trends import TREND_FIELDS

        check_columns(format_of(trends), TREND_FIELDS)
    if plot:
        from wav2small.evaluation.plots import check_drawable

        check_drawable(plot)
    for path in filter(None, (output, trends, plot)):
        check_writable(path)


def files_of(paths: Sequence[str], workers: int, segmented: bool) -> Files:
    """The files that paths name; workers cannot read standard input or a pipe."""
    from wav2small.audio.decode import is_pipe
    from wav2small.runtime.predict import STDIN, list_files

    files = list_files(paths, segmented)
    for file in files if workers > 1 else ():
        if file == STDIN or is_pipe(file):
            raise click.UsageError(f"--workers needs files on disk, and {file} is a pipe; leave the option out.")
    return files


def job_of(answer: AnswerOptions, model: str, backend: str, segments: str | None, options: Options) -> Job:
    """What is computed for every file."""
    from wav2small.runtime.batch import Job
    from wav2small.tables.spans import read_spans

    return Job(partial(answer.load, model, backend), options, read_spans(segments) if segments else None)


def settings_of(
    model: str, backend: str, answer: AnswerOptions, segments: str | None, options: Options, columns: Sequence[str]
) -> dict[str, object]:
    """What must be the same when a run is resumed: options, and the content of the files that they name."""
    return {
        "model": [model, backend, fingerprint(model), fingerprint(str(DATA / INDEX))],
        "calibration": [answer.calibration, fingerprint(answer.calibration)],
        "head": fingerprint(answer.head),
        "segments": fingerprint(segments),
        "option": asdict(options),
        "set of columns": list(columns),
    }


def fingerprint(path: str | bool | None) -> str:
    """sha256 of a file; "" if it is not the path of one."""
    if isinstance(path, str) and Path(path).is_file():
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ""


def columns_of(answer: AnswerOptions, has_segments: bool, by_speaker: bool) -> list[str]:
    """The columns of the rows, in order."""
    from wav2small.runtime.predict import COLUMNS

    file, start, end, *others, error = COLUMNS
    deviations = [f"{name}_{what}" for name in OUTPUTS for what in ("baseline", "deviation")] if by_speaker else []
    speaker = ["speaker"] if has_segments else []
    return [file, start, end, *speaker, *others, *answer.columns, *deviations, error]


@dataclass
class Table:
    """How rows are written; ``kept`` are those of all files, if trends or a picture need them."""

    columns: Sequence[str]
    format: str
    by_speaker: bool
    keeps_rows: bool
    kept: list[Cells] = field(default_factory=list)

    def finished(self, rows: Iterable[Cells]) -> Iterator[Cells]:
        """Add the columns that depend on earlier rows, and keep the rows if they are needed later."""
        if self.by_speaker:
            from wav2small.runtime.baseline import add_baselines

            rows = add_baselines(rows)
        for row in rows:
            if self.keeps_rows:
                self.kept.append(row)
            yield row


@dataclass
class Run:
    """Computes rows, prints errors as they come, and counts the files that are done and those that failed."""

    files: Files
    job: Job
    workers: int
    progress: Progress
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    interrupt: KeyboardInterrupt | None = None

    def rows(self, columns: Sequence[str], skipped: Container[str] = ()) -> Iterator[tuple[str, Iterator[Cells]]]:
        """Each file that is not skipped, with its rows, which have to be read before the next file."""
        from wav2small.runtime.batch import answer_files

        files = {file: error for file, error in self.files.items() if file not in skipped}
        for file, rows in answer_files(self.job, files, self.workers, self.progress):
            yield file, self._cells(rows, columns)

    def _cells(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[Cells]:
        """Each prediction as a row of those columns that it has; ``speaker`` comes from the segment."""
        for span, prediction in rows:
            self.done.add(prediction.file)
            if prediction.error is not None:
                self.failed.add(prediction.file)
                click.echo(f"wav2small: {prediction.file}: {prediction.error}", err=True)
            cells = vars(prediction) | ({"speaker": span.speaker} if span else {})
            yield {column: cells[column] for column in columns if column in cells}

    def exit_code(self) -> int:
        """Exit code of the command: 130 or 143 after an interrupt, 1 if any file failed, otherwise 0.

        If there is more than one file, the number of failed files is printed to standard error.
        """
        if self.failed and len(self.files) > 1:
            click.echo(f"wav2small: {len(self.failed)} of {len(self.files)} files failed", err=True)
        return interrupt_code(self.interrupt) if self.interrupt else int(bool(self.failed))


def interrupt_code(interrupt: KeyboardInterrupt) -> int:
    """128 and the number of the signal."""
    return 128 + (SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def print_rows(run: Run, table: Table) -> None:
    """Print rows as they come; an interrupt ends them."""

    def until_interrupted() -> Iterator[Cells]:
        try:
            for _, rows in run.rows(table.columns):
                yield from rows
        except KeyboardInterrupt as interrupt:
            run.interrupt = interrupt

    for piece in lines(table.finished(until_interrupted()), table.format, table.columns):
        if table.format != "table" or run.failed != run.done:
            click.echo(piece, nl=False)


def write_rows(run: Run, table: Table, output: str, settings: dict[str, object], resumes: bool) -> None:
    """Write the rows of all files, which are kept beside the output until all are done."""
    from wav2small.tables.journal import journal

    with journal(output, settings, resumes) as book:
        try:
            for file, rows in run.rows(table.columns, skipped=book.done):
                book.add(file, rows)
            number = count()
            rows = (row for row, _ in zip(table.finished(book.rows(run.files)), number, strict=False))
            write_table(rows, output, table.format, table.columns)
        except BaseException as error:
            if is_kept := bool(book.done and book.path):
                state = f"{len(book.done):,} of {len(run.files):,} files are done and in {book.path}"
                click.echo(f"wav2small: {state}; the same command with --resume continues", err=True)
            if not isinstance(error, KeyboardInterrupt):
                raise
            if not is_kept:
                click.echo(f"wav2small: interrupted before a file was done; {output} is not written", err=True)
            sys.exit(interrupt_code(error))
    say_written(output, next(number))


def say_written(path: str, rows: int) -> None:
    """Print how many rows are in a file that is written."""
    click.echo(f"{path}: {rows:,} row{'s' if rows != 1 else ''}", err=True)


def write_more(
    rows: Sequence[Cells], trends: str | None, plot: str | None, channel: int | None, files: Sequence[str]
) -> bool:
    """Write the trends, then the picture, of all rows; an error is printed. Returns whether there was none."""
    done = [row for row in rows if row["end"] is not None and row["error"] is None]
    is_whole = True
    for path, write in ((trends, partial(write_trends, done)), (plot, partial(draw_plot, done, channel, files))):
        try:
            if path:
                write(path)
        except (Wav2SmallError, OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            what = str(error) if isinstance(error, Wav2SmallError) else f"{path}: cannot be written: {reason}"
            click.echo(f"wav2small: {what}", err=True)
            is_whole = False
    return is_whole


def write_trends(rows: Sequence[Cells], path: str) -> None:
    """Write where a dimension rises or falls."""
    from wav2small.tables.trends import TREND_FIELDS, trends

    found = trends(rows)
    write_table(found, path, columns=TREND_FIELDS)
    say_written(path, len(found))


def draw_plot(rows: Sequence[Cells], channel: int | None, files: Sequence[str], path: str) -> None:
    """Draw the rows of one recording."""
    from wav2small.evaluation.plots import draw

    draw(rows, path, channel, files[0] if len(files) == 1 else None)
    say_written(path, len(rows))
