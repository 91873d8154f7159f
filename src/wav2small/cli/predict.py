"""wav2small predict: audio files to rows of arousal, dominance and valence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import Telling, backend_option, min_speech_option, telling_options, vad_option
from wav2small.cli.progress import progress_bar
from wav2small.errors import AudioError
from wav2small.network.config import OUTPUTS
from wav2small.tables import table as tables

if TYPE_CHECKING:
    from wav2small.runtime.predict import Prediction
    from wav2small.tables.spans import Span

    Pair = tuple[Span | None, Prediction]
    """A segment, if there are any, and its row."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--every", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="A row every SECONDS.")
@click.option(
    "--window",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="With --every: seconds a row is heard from; 3, or those of --every if more.",
)
@click.option("--channel", type=click.IntRange(0), metavar="N", help="Hear channel N, from 0; else all, mixed down.")
@click.option("--format", type=click.Choice(tables.FORMATS), help="Of the rows; by the suffix of -o, else table.")
@click.option("-o", "--output", metavar="FILE", help="Write the rows to FILE, whole or not at all.")
@click.option("--model", default="wav2small", show_default=True, metavar="NAME|PATH", help="Weights; see models.")
@click.option("--precision", type=click.Choice(("fp32", "int8")), default="fp32", show_default=True)
@backend_option
@telling_options
@vad_option
@min_speech_option
@click.option("--segments", metavar="FILE", help="A row for each segment of FILE: RTTM, Audacity labels, or a table.")
@click.option("--by-speaker", is_flag=True, help="With --segments: each speaker's baseline, and deviations from it.")
@click.option("--trends", metavar="FILE", help="With --every or --segments: write where a dimension rises or falls.")
@click.option("--plot", metavar="FILE", help="With --every or --segments: a picture of one file, PNG, SVG or PDF.")
def command(
    paths: tuple[str, ...],
    every: float | None,
    window: float | None,
    channel: int | None,
    format: str | None,
    output: str | None,
    model: str,
    precision: str,
    backend: str,
    telling: Telling,
    vad: str,
    min_speech: float,
    segments: str | None,
    by_speaker: bool,
    trends: str | None,
    plot: str | None,
) -> None:
    """Arousal, dominance and valence of audio files, each from 0 to 1.

    PATH is a file, a folder (walked for audio), a pattern in quotes, or - for standard input. Too little speech is a
    row without an emotion. A file that fails is a row with its error, said on standard error too; the rest are done,
    and the exit code is 1. After Ctrl-C the rows that are done are printed, but a FILE is not written.

    Numbers are the network's own unless --calibrated, --calibration, --intervals or --min-confidence is given.
    Confidence is the part of the usual range that an answer rules out, the mean of the three dimensions; the word is
    tense, elated, calm, low or neutral, by the mean of many voices, and empty where that is open.

    \b
    Examples:
      wav2small predict talk.mp3 --every 1 --format csv -o talk.csv
      wav2small predict talk.mp3 --model micro --intervals
      wav2small predict talks --model micro --head head.safetensors
      wav2small predict talk.mp3 --segments talk.rttm --by-speaker -o talk.TextGrid
      wav2small predict talk.mp3 --every 1 --plot talk.png --trends trends.csv -o talk.csv
    """
    from wav2small.runtime.predict import FIELDS, predict_files
    from wav2small.tables.trends import add_baselines

    if window is not None and every is None:
        raise click.UsageError("--window needs --every.")
    check_together(every, segments, by_speaker, trends, plot)
    format = format or (tables.format_of(output) if output else "table")
    columns = [*FIELDS[:-1], *telling.columns, FIELDS[-1]]
    if segments:
        columns[3:3] = ["speaker"]
    if by_speaker:
        columns[-1:-1] = [f"{name}_{what}" for name in OUTPUTS for what in ("baseline", "deviation")]
    if format == "parquet":
        tables.check_parquet()
        if not output:
            raise click.UsageError("--format parquet needs -o FILE.")
    check_outputs(output, trends, plot)
    tally, is_shown = Tally(), bool(output) or format == "table" or not sys.stdout.isatty()
    with progress_bar("predict", is_shown) as progress:
        options: dict[str, Any] = {
            "model": telling.load(model, precision, backend),
            "channel": channel,
            "min_speech": min_speech,
            "vad": vad,
            "min_confidence": telling.min_confidence,
            "progress": progress,
        }
        if segments:
            pairs = segment_rows(paths, segments, options)
        else:
            pairs = ((None, row) for row in predict_files(paths, every=every, window=window, **options))
        rows: Iterator[dict[str, Any]] = as_rows(tally.watch(pairs, stops=output is None), columns)
        if by_speaker:
            rows = add_baselines(rows)
        if trends or plot:
            kept = list(rows)
            rows = iter(kept)
            write_more(kept, trends, plot, channel)
        if output:
            tables.write_table(rows, output, format, columns)
        else:
            for piece in tables.lines(rows, format, columns):
                if format != "table" or tally.failed != tally.files:
                    click.echo(piece, nl=False)
    sys.exit(tally.exit_code())


def check_together(
    every: float | None, segments: str | None, by_speaker: bool, trends: str | None, plot: str | None
) -> None:
    """Refuse options that say nothing without another, or contradict it."""
    if segments and every is not None:
        raise click.UsageError("--segments says where rows begin and end, and goes without --every.")
    if by_speaker and not segments:
        raise click.UsageError("--by-speaker needs --segments, which name the speakers.")
    if (trends or plot) and not segments and every is None:
        raise click.UsageError("--trends and --plot need rows over time: --every or --segments.")


def check_outputs(output: str | None, trends: str | None, plot: str | None) -> None:
    """Refuse, before the work, what could not be written after it."""
    if trends:
        tables.format_of(trends)
    if plot:
        from wav2small.evaluation.plots import check_drawable

        check_drawable(plot)
    for path in filter(None, (output, trends, plot)):
        tables.check_writable(path)


def segment_rows(paths: tuple[str, ...], segments: str, options: dict[str, Any]) -> Iterator[Pair]:
    """A row a segment, of every file."""
    from wav2small.audio.read import find_files
    from wav2small.runtime.predict import Prediction, predict_segments
    from wav2small.tables.spans import read_spans, spans_of

    spans = read_spans(segments)
    for file in find_files(paths):
        own = spans_of(spans, file)
        try:
            yield from predict_segments(file, own, **options)
        except AudioError as error:
            yield None, Prediction(file, error=str(error).removeprefix(f"{file}: "))


def as_rows(pairs: Iterator[Pair], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for span, prediction in pairs:
        row = asdict(prediction) | ({"speaker": span.speaker} if span else {})
        yield {column: row[column] for column in columns if column in row}


def write_more(rows: list[dict[str, Any]], trends: str | None, plot: str | None, channel: int | None) -> None:
    """The trends and the picture of rows that are all there."""
    from wav2small.tables import trends as course

    done = [row for row in rows if row["end"] is not None and row["error"] is None]
    found = course.trends(done)
    if trends:
        tables.write_table(found, trends, columns=course.TREND_FIELDS)
    if plot:
        from wav2small.evaluation.plots import draw

        draw(done, plot, channel)


@dataclass
class Tally:
    """What has become of the files so far."""

    files: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    interrupted: bool = False

    def watch(self, pairs: Iterator[Pair], stops: bool) -> Iterator[Pair]:
        """The same pairs, with failures said on standard error; Ctrl-C ends them early if ``stops``."""
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
        if self.failed and len(self.files) > 1:
            click.echo(f"wav2small: {len(self.failed)} of {len(self.files)} files failed", err=True)
        return 130 if self.interrupted else int(bool(self.failed))
