"""wav2small predict: audio files to rows of arousal, dominance and valence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import click

from wav2small import tables
from wav2small.cli.options import min_speech_option, vad_option
from wav2small.cli.progress import progress_bar

if TYPE_CHECKING:
    from wav2small.prediction import Prediction


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
@click.option("--raw", is_flag=True, help="The network's own numbers: no calibration, confidence or word.")
@click.option("--calibration", metavar="FILE", help="One that calibrate wrote, not the one that ships.")
@click.option("--min-confidence", default=0.0, type=click.FloatRange(0, 1), help="Below it a dimension is left empty.")
@click.option("--intervals", is_flag=True, help="Six more columns: where the label is for 80 % of unheard clips.")
@vad_option
@min_speech_option
def command(
    paths: tuple[str, ...],
    every: float | None,
    window: float | None,
    channel: int | None,
    format: str | None,
    output: str | None,
    model: str,
    precision: str,
    raw: bool,
    calibration: str | None,
    min_confidence: float,
    intervals: bool,
    vad: str,
    min_speech: float,
) -> None:
    """Arousal, dominance and valence of audio files, each from 0 to 1.

    PATH is a file, a folder (walked for audio), a pattern in quotes, or - for standard input. Too little speech is a
    row without an emotion. A file that fails is a row with its error, said on standard error too; the rest are done,
    and the exit code is 1. After Ctrl-C the rows that are done are printed, but a FILE is not written.

    Confidence is the part of the usual range that an answer rules out, the mean of the three dimensions; the word is
    tense, elated, calm, low or neutral, by the mean of many voices, and empty where that is open.
    """
    from wav2small.model import load
    from wav2small.prediction import FIELDS, INTERVALS, predict_files

    if window is not None and every is None:
        raise click.UsageError("--window needs --every.")
    if raw and (calibration or min_confidence or intervals):
        raise click.UsageError("--raw goes without --calibration, --min-confidence and --intervals.")
    format = format or (tables.format_of(output) if output else "table")
    columns = (*FIELDS[:-1], *(INTERVALS if intervals else ()), FIELDS[-1])
    if format == "parquet":
        tables.check_parquet()
        if not output:
            raise click.UsageError("--format parquet needs -o FILE.")
    if output:
        tables.check_writable(output)
    tally, is_shown = Tally(), bool(output) or format == "table" or not sys.stdout.isatty()
    with progress_bar("predict", is_shown) as progress:
        predictions = predict_files(
            paths,
            model=load(model, precision, calibration=calibration),
            channel=channel,
            every=every,
            window=window,
            min_speech=min_speech,
            vad=vad,
            calibrated=not raw,
            min_confidence=min_confidence,
            progress=progress,
        )
        rows = map(asdict, tally.watch(predictions, stops=output is None))
        if output:
            tables.write_table(rows, output, format, columns)
        else:
            for piece in tables.lines(rows, format, columns):
                if format != "table" or tally.failed != tally.files:
                    click.echo(piece, nl=False)
    sys.exit(tally.exit_code())


@dataclass
class Tally:
    """What has become of the files so far."""

    files: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    interrupted: bool = False

    def watch(self, predictions: Iterator[Prediction], stops: bool) -> Iterator[Prediction]:
        """The same rows, with failures said on standard error; Ctrl-C ends them early if ``stops``."""
        try:
            for prediction in predictions:
                self.files.add(prediction.file)
                if prediction.error is not None:
                    self.failed.add(prediction.file)
                    click.echo(f"wav2small: {prediction.file}: {prediction.error}", err=True)
                yield prediction
        except KeyboardInterrupt:
            if not stops:
                raise
            self.interrupted = True

    def exit_code(self) -> int:
        if self.failed and len(self.files) > 1:
            click.echo(f"wav2small: {len(self.failed)} of {len(self.files)} files failed", err=True)
        return 130 if self.interrupted else int(bool(self.failed))
