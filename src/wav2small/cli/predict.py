"""wav2small predict: audio files to rows of arousal, dominance and valence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
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
from wav2small.network.config import OUTPUTS
from wav2small.options import Options, default_window
from wav2small.tables.table import FORMATS, check_parquet, check_writable, format_of, lines, write_table

if TYPE_CHECKING:
    from wav2small.runtime.model import Model
    from wav2small.runtime.predict import Prediction, Progress
    from wav2small.tables.spans import Span

    Pair = tuple[Span | None, Prediction]
    """A segment, if there are any, and its row."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--hop",
    "hop_dur",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="One row a window, whose starts are SECONDS apart; else one row a file.",
)
@click.option(
    "--window",
    "win_dur",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="With --hop: length of a window; default: 3, or the hop if it is longer.",
)
@channel_option
@click.option("--format", type=click.Choice(FORMATS), help="Of the rows; by the suffix of -o, else table.")
@click.option("-o", "--output", metavar="FILE", help="Write the rows to FILE, whole or not at all.")
@model_option
@backend_option
@answer_options
@vad_option
@min_speech_option
@click.option("--segments", metavar="FILE", help="A row for each segment of FILE: RTTM, Audacity labels, or a table.")
@click.option("--by-speaker", is_flag=True, help="With --segments: each speaker's baseline, and deviations from it.")
@click.option("--trends", metavar="FILE", help="With --hop or --segments: write where a dimension rises or falls.")
@click.option("--plot", metavar="FILE", help="With --hop or --segments: a picture of one file, PNG, SVG or PDF.")
def command(
    paths: tuple[str, ...],
    hop_dur: float | None,
    win_dur: float | None,
    channel: int | None,
    format: str | None,
    output: str | None,
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
    """Arousal, dominance and valence of audio files, each from 0 to 1.

    PATH is a file, a folder (walked for audio), a pattern in quotes, or - for standard input. Too little speech is a
    row without an emotion. A file that fails is a row with its error, printed to standard error too; the rest are
    done, and the exit code is 1. After Ctrl-C the rows that are done are printed, but a FILE is not written.

    Numbers are the network's own unless --calibrated, --calibration, --intervals or --min-confidence is given.
    Confidence is the part of the usual range that an answer rules out, the mean of the three dimensions; the word is
    tense, elated, calm, low or neutral, by the mean of many voices, and empty where that is open.

    \b
    Examples:
      wav2small predict talk.mp3 --hop 1 --format csv -o talk.csv
      wav2small predict talk.mp3 --model micro --intervals
      wav2small predict talks --model micro --head head.safetensors
      wav2small predict talk.mp3 --segments talk.rttm --by-speaker -o talk.TextGrid
      wav2small predict talk.mp3 --hop 1 --plot talk.png --trends trends.csv -o talk.csv
    """
    if win_dur is not None and hop_dur is None:
        raise click.UsageError("--window needs --hop.")
    check_together(hop_dur, segments, by_speaker, trends, plot)
    format = format or (format_of(output) if output else "table")
    columns = columns_of(answer, bool(segments), by_speaker)
    if format == "parquet":
        check_parquet()
        if not output:
            raise click.UsageError("--format parquet needs -o FILE.")
    check_outputs(output, trends, plot)
    tally, is_shown = Tally(), bool(output) or format == "table" or not sys.stdout.isatty()
    with progress_bar("predict", is_shown) as progress:
        win_dur = default_window(hop_dur) if win_dur is None else win_dur
        options = Options(hop_dur, win_dur, channel, min_speech, vad, answer.min_confidence)
        pairs = predicted(paths, segments, answer.load(model, backend), options, progress)
        rows: Iterator[dict[str, Any]] = as_rows(tally.watch(pairs, stops=output is None), columns)
        if by_speaker:
            from wav2small.tables.trends import add_baselines

            rows = add_baselines(rows)
        if trends or plot:
            kept = list(rows)
            rows = iter(kept)
            write_more(kept, trends, plot, channel)
        if output:
            write_table(rows, output, format, columns)
        else:
            for piece in lines(rows, format, columns):
                if format != "table" or tally.failed != tally.files:
                    click.echo(piece, nl=False)
    sys.exit(tally.exit_code())


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


def check_outputs(output: str | None, trends: str | None, plot: str | None) -> None:
    """Refuse files that cannot be written, before the work and not after it."""
    if trends:
        format_of(trends)
    if plot:
        from wav2small.evaluation.plots import check_drawable

        check_drawable(plot)
    for path in filter(None, (output, trends, plot)):
        check_writable(path)


def columns_of(answer: AnswerOptions, has_segments: bool, by_speaker: bool) -> list[str]:
    """The columns of the rows, in order."""
    from wav2small.runtime.predict import COLUMNS

    file, start, end, *others, error = COLUMNS
    deviations = [f"{name}_{what}" for name in OUTPUTS for what in ("baseline", "deviation")] if by_speaker else []
    speaker = ["speaker"] if has_segments else []
    return [file, start, end, *speaker, *others, *answer.columns, *deviations, error]


def predicted(
    paths: tuple[str, ...], segments: str | None, model: Model, options: Options, progress: Progress
) -> Iterator[Pair]:
    """The rows of files, or of their segments."""
    from wav2small.runtime.predict import predict_files, predict_segments_of_files
    from wav2small.tables.spans import read_spans

    if segments:
        yield from predict_segments_of_files(
            paths, read_spans(segments), model=model, options=options, progress=progress
        )
    else:
        rows = predict_files(paths, model=model, options=options, progress=progress)
        yield from ((None, row) for row in rows)


def as_rows(pairs: Iterator[Pair], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each prediction as a row of those ``columns`` that it has; ``speaker`` comes from the span."""
    for span, prediction in pairs:
        row = asdict(prediction) | ({"speaker": span.speaker} if span else {})
        yield {column: row[column] for column in columns if column in row}


def write_more(rows: list[dict[str, Any]], trends: str | None, plot: str | None, channel: int | None) -> None:
    """Write the trends and the plot of all rows."""
    from wav2small.tables.trends import TREND_FIELDS
    from wav2small.tables.trends import trends as find_trends

    done = [row for row in rows if row["end"] is not None and row["error"] is None]
    found = find_trends(done)
    if trends:
        write_table(found, trends, columns=TREND_FIELDS)
    if plot:
        from wav2small.evaluation.plots import draw

        draw(done, plot, channel)


@dataclass
class Tally:
    """Counts the files that are done and those that failed."""

    files: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    interrupted: bool = False

    def watch(self, pairs: Iterator[Pair], stops: bool) -> Iterator[Pair]:
        """The same pairs, with failures printed to standard error; Ctrl-C ends them early if ``stops``."""
        try:
            for span, prediction in pairs:
                self.files.add(prediction.file)
                if prediction.error is not None:
                    self.failed.add(prediction.file)
                    click.echo(f"wav2small: {prediction.file}: {prediction.error}", err=True)
                yield span, prediction
        except KeyboardInterrupt:
            if not stops:
                raise
            self.interrupted = True

    def exit_code(self) -> int:
        """Exit code of the command: 130 after Ctrl-C, 1 if any file failed, otherwise 0.

        If there is more than one file, the number of failed files is printed to standard error.
        """
        if self.failed and len(self.files) > 1:
            click.echo(f"wav2small: {len(self.failed)} of {len(self.files)} files failed", err=True)
        return 130 if self.interrupted else int(bool(self.failed))
