"""wav2small stream: events of a microphone, a pipe or a file in real time, as meters or as lines."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

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
from wav2small.errors import AudioError
from wav2small.network.config import OUTPUTS
from wav2small.options import Options

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from wav2small.audio.sources import Audio
    from wav2small.runtime.baseline import Baseline
    from wav2small.runtime.diary import Diary
    from wav2small.runtime.event import Event
    from wav2small.runtime.stream import Stream

Row = Mapping[str, Any]
"""The requested fields of an event."""

HISTORY = 40
"""Number of events that the meters show."""
BAR_WIDTH = 30
LINE_FORMATS = ("text", "csv", "jsonl")
"""Formats that are written line by line."""
LEVELS = "▁▂▃▄▅▆▇█"


@click.command()
@click.argument("source", required=False, metavar="[FILE|-]")
@click.option(
    "--hop",
    "hop_dur",
    default=Options.hop_dur,
    show_default=True,
    metavar="SECONDS",
    help="Time from one event to the next.",
)
@click.option(
    "--window", "win_dur", default=Options.win_dur, show_default=True, metavar="SECONDS", help="Length of a window."
)
@click.option("--device", metavar="NAME|NUMBER", help="Microphone, by its number or a part of its name.")
@click.option("--list-devices", is_flag=True, help="List the microphones and exit.")
@click.option(
    "--pcm", type=click.FloatRange(1000), metavar="HZ", help="The pipe has 16-bit mono samples without a header."
)
@channel_option
@click.option("--fast", is_flag=True, help="Process a file as fast as possible, not in real time.")
@click.option(
    "--format",
    type=click.Choice(LINE_FORMATS),
    help="Output format; default: by the suffix of -o, else meters on a terminal and text in a pipe.",
)
@click.option("-o", "--output", metavar="FILE", help="Write each event to FILE as soon as it is there.")
@click.option(
    "--baseline",
    "baseline_file",
    metavar="FILE",
    help="Add deviations from the speaker's baseline: one that enroll wrote, or a running one, which is created, "
    "updated and saved at the end.",
)
@click.option(
    "--log",
    "log_file",
    metavar="FILE",
    help="Keep a diary: one row per window with its time of day, in a file per date, such as FILE-2026-11-28.csv.",
)
@click.option("--plot", metavar="FILE", help="With --log: draw the last day as PNG, SVG or PDF at the end.")
@model_option
@backend_option
@answer_options
@vad_option
@min_speech_option
def command(
    source: str | None,
    hop_dur: float,
    win_dur: float,
    device: str | None,
    list_devices: bool,
    pcm: float | None,
    channel: int | None,
    fast: bool,
    format: str | None,
    output: str | None,
    baseline_file: str | None,
    log_file: str | None,
    plot: str | None,
    model: str,
    backend: str,
    answer: AnswerOptions,
    vad: str,
    min_speech: float,
) -> None:
    """Predict arousal, dominance and valence of live audio, each from 0 to 1.

    Without FILE, the microphone is used (pip install 'wav2small[live]'). FILE is an audio file, a pipe, or - for
    standard input; a pipe has a WAV, AU, FLAC or Ogg file or, with --pcm, samples. Events are shown as meters on a
    terminal, otherwise as one line each (with --log, only if -o or --format is given). Ctrl-C ends the stream, with an
    event for the remaining audio. Causal models (micro) run frame by frame, in NumPy, or in C with --backend c.

    \b
    Examples:
      wav2small stream
      wav2small stream talk.flac --fast --format jsonl
      wav2small stream -o meeting.csv
      wav2small stream --calibrated
      wav2small stream --intervals --baseline me.json
      wav2small stream --intervals --baseline me.json --log day.parquet
      wav2small stream --list-devices
      wav2small stream --fast <(ffmpeg -v error -i talk.m4a -f wav -)
      arecord -t raw -f S16_LE -r 16000 | wav2small stream - --pcm 16000
    """
    from wav2small.audio.decode import is_pipe
    from wav2small.audio.sources import in_real_time
    from wav2small.runtime.event import COLUMNS, DEVIATION_COLUMNS
    from wav2small.runtime.stream import Stream

    if list_devices:
        show_devices()
        return
    is_live = source is None or source == "-" or is_pipe(source)
    if pcm is not None and (source is None or not is_live):
        raise click.UsageError("--pcm is for samples from a pipe: give - or the name of a pipe as FILE.")
    if plot:
        check_plot(plot, log_file)
    options = Options(hop_dur, win_dur, channel, min_speech, vad, answer.min_confidence)
    baseline = baseline_of(baseline_file) if baseline_file else None
    stream = Stream(answer.load(model, backend), **vars(options), baseline=baseline)
    columns = (*COLUMNS, *answer.columns, *(DEVIATION_COLUMNS if baseline else ()))
    form = format or (line_format(output) if output else None)
    with ExitStack() as stack:
        audio = stack.enter_context(opened(source, device, pcm))
        diary = stack.enter_context(opened_diary(log_file, plot, model)) if log_file else None
        shows = []
        if output:
            file = stack.enter_context(open_output(output))
            shows.append(line_writer(file, form or "text", columns))
        if sys.stdout.isatty() and (output or not format):
            shows.append(stack.enter_context(meters()))
        elif not output and (format or not log_file):
            shows.append(line_writer(sys.stdout, form or "text", columns))

        def show(event: Event) -> None:
            row = {column: getattr(event, column) for column in columns}
            for one in shows:
                one(row)
            if diary:
                diary.add(event)

        chunks = audio.chunks if fast or is_live else in_real_time(audio)
        code = show_events(stream, chunks, audio.sampling_rate, show, name_of(source))
    if baseline_file and baseline and not baseline.is_enrolled:
        baseline.save(baseline_file)
        click.echo(f"{baseline_file}: {baseline.speech_dur:.1f} s of speech", err=True)
    sys.exit(code)


def baseline_of(file: str) -> Baseline:
    """The baseline of a file, or a new one that can be saved there."""
    from wav2small.files import check_writable
    from wav2small.runtime.baseline import Baseline, load_baseline

    if Path(file).exists():
        return load_baseline(file)
    check_writable(file)
    return Baseline()


def check_plot(plot: str, log_file: str | None) -> None:
    """Refuse a picture that could not be drawn at the end."""
    from wav2small.evaluation.plots import check_drawable
    from wav2small.files import check_writable

    if not log_file:
        raise click.UsageError("--plot needs --log FILE, whose last day it draws.")
    check_drawable(plot)
    check_writable(plot)


@contextmanager
def opened_diary(log_file: str, plot: str | None, model: str) -> Iterator[Diary]:
    """A diary, which is written and drawn at the end."""
    from wav2small.evaluation.day import draw_day
    from wav2small.runtime.diary import Diary, read_diary

    diary = Diary(log_file, model)
    try:
        yield diary
    finally:
        path = diary.close()
    if not path.exists():
        return
    click.echo(f"{path}: written", err=True)
    if plot:
        draw_day(read_diary(path), plot)
        click.echo(f"{plot}: written", err=True)


def show_events(
    stream: Stream,
    chunks: Iterable[np.ndarray],
    sampling_rate: float,
    show: Callable[[Event], None],
    name: str,
) -> int:
    """Push chunks and show the events, until the chunks end, fail, or Ctrl-C; returns the exit code.

    Raises:
        AudioError: naming the source, if the chunks ended before there was enough audio for any event
    """
    from wav2small.runtime.windows import check_length

    code, is_stopped = 0, False

    def show_all(events: Iterable[Event]) -> None:
        for event in events:
            show(event)

    try:
        for chunk in chunks:
            show_all(stream.push(chunk, sampling_rate))
    except KeyboardInterrupt:
        is_stopped = True
    except AudioError as error:
        prefix = f"{name}: " if name else ""
        click.echo(f"wav2small: {prefix}{str(error).removeprefix(prefix)}", err=True)
        code = 1
    show_all(stream.finish())
    if code == 0 and not is_stopped:
        check_length(stream.position, name)
    return code


@contextmanager
def opened(source: str | None, device: str | None, pcm: float | None) -> Iterator[Audio]:
    """The microphone, standard input, a pipe or a file."""
    from wav2small.audio import sources
    from wav2small.audio.decode import is_pipe

    with ExitStack() as stack:
        if source is None:
            yield stack.enter_context(sources.microphone_audio(device))
        elif source == "-" or is_pipe(source):
            pipe = sys.stdin.buffer if source == "-" else stack.enter_context(open(source, "rb"))
            audio = sources.pipe_audio(pipe, name_of(source)) if pcm is None else sources.raw_audio(pipe, pcm)
            yield stack.enter_context(audio)
        else:
            yield stack.enter_context(sources.file_audio(source))


def name_of(source: str | None) -> str:
    """The source in error messages; "" for a microphone, whose errors have its own name."""
    return "standard input" if source == "-" else source or ""


def show_devices() -> None:
    """Print the microphones as a table."""
    from wav2small.audio.sources import microphones
    from wav2small.tables.table import render

    found = microphones()
    if not found:
        raise AudioError("there is no microphone; connect one, or give a file or -")
    click.echo(render(found, "table"), nl=False)


def line_format(output: str) -> str:
    """The format that the suffix of an output file stands for, of those that are written line by line."""
    suffix = Path(output).suffix.lower()
    formats = {".txt": "text", ".csv": "csv", ".jsonl": "jsonl"}
    if suffix not in formats:
        raise click.UsageError(f"-o {output}: the suffix is {suffix!r}; give {', '.join(formats)}, or --format.")
    return formats[suffix]


def open_output(path: str) -> TextIO:
    """A file for lines; one that exists is replaced."""
    from wav2small.tables.table import check_writable

    check_writable(path)
    return open(path, "w", encoding="utf-8", newline="")


def line_writer(file: TextIO, format: str, columns: Sequence[str]) -> Callable[[Row], None]:
    """Writes each event as one line and flushes it; CSV begins with a line that names the columns."""
    from wav2small.tables.table import lines

    is_first = True

    def write(row: Row) -> None:
        nonlocal is_first
        if format == "text":
            file.write(f"{row['start']:8.2f} {row['end']:8.2f}  {spoken(row)}\n")
        else:
            header_and_row = list(lines([row], format, columns))
            file.writelines(header_and_row if is_first else header_and_row[-1:])
        is_first = False
        file.flush()

    return write


def spoken(row: Row) -> str:
    """An event in words."""
    if not row["speech"]:
        return "no speech"
    said = [f"{name} {number(row, name)}" for name in OUTPUTS]
    if "confidence" in row:
        said.append(f"confidence {row['confidence']:.2f}")
    return "  ".join([*said, *named(row)])


def named(row: Row) -> list[str]:
    """The words and the category, where there are any."""
    words = [word for word in (row.get("word"), row.get("change")) if word]
    category = row.get("category")
    return words + ([f"{category} {row['probability']:.2f}"] if category else [])


def number(row: Row, name: str) -> str:
    """A dimension, with its interval if there is one."""
    if row[name] is None:
        return "unsure" if row["speech"] else "no speech"
    if f"{name}_low" not in row:
        return f"{row[name]:.2f}"
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


@contextmanager
def meters() -> Iterator[Callable[[Row], None]]:
    """Meters on the terminal, moved by every event."""
    from rich.live import Live

    history: deque[Row] = deque(maxlen=HISTORY)
    with Live(auto_refresh=False) as live:

        def show(row: Row) -> None:
            history.append(row)
            live.update(drawn(history), refresh=True)

        yield show


def drawn(history: Sequence[Row]) -> Table:
    """A bar and the history of each dimension, of confidence and of speech; the newest event is the last."""
    from rich.markup import escape
    from rich.table import Table

    row = history[-1]
    title = f"{row['start']:.1f} to {row['end']:.1f} s"
    table = Table(title=escape("  ".join([title, *named(row)])), box=None, show_header=False, title_justify="left")
    for name in OUTPUTS:
        table.add_row(name, number(row, name), *meter(history, name))
    if "confidence" in row:
        sure = row["confidence"]
        table.add_row("confidence", "" if sure is None else f"{sure:.0%}", *meter(history, "confidence"))
    table.add_row("speech", f"{row['speech_ratio']:.0%}", *meter(history, "speech_ratio"))
    return table


def meter(history: Sequence[Row], name: str) -> tuple[str, str]:
    """The bar of a field's newest value, and the history of all."""
    values = [row[name] for row in history]
    return bar(values[-1]), history_of(values)


def bar(value: float | None) -> str:
    """A bar of ``BAR_WIDTH`` characters, filled up to a value from 0 to 1; empty for None."""
    full = round((value or 0.0) * BAR_WIDTH)
    return "█" * full + "·" * (BAR_WIDTH - full)


def history_of(values: Sequence[float | None]) -> str:
    """One character a value, a space for none."""
    return "".join(" " if value is None else LEVELS[min(int(value * len(LEVELS)), len(LEVELS) - 1)] for value in values)
