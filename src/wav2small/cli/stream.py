"""wav2small stream: a microphone, a pipe or a file to events as they come, on meters or as lines."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
    from wav2small.runtime.event import Event
    from wav2small.runtime.stream import Stream

Row = Mapping[str, Any]
"""An event's fields, those that were asked for."""

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
@click.option("--device", metavar="NAME|NUMBER", help="Which microphone; else the system's default.")
@click.option("--pcm", type=click.FloatRange(1000), metavar="HZ", help="- is 16-bit mono samples without a header.")
@channel_option
@click.option("--fast", is_flag=True, help="A file as fast as it goes, not in real time.")
@click.option(
    "--format",
    type=click.Choice(LINE_FORMATS),
    help="Of the events; by the suffix of -o, else meters on a terminal and text in a pipe.",
)
@click.option("-o", "--output", metavar="FILE", help="Write the events to FILE, each as soon as it is there.")
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
    pcm: float | None,
    channel: int | None,
    fast: bool,
    format: str | None,
    output: str | None,
    model: str,
    backend: str,
    answer: AnswerOptions,
    vad: str,
    min_speech: float,
) -> None:
    """Arousal, dominance and valence while somebody speaks.

    Without a FILE the microphone is used (pip install 'wav2small[live]'); - is a WAV, AU, FLAC or Ogg file or, with
    --pcm, samples on standard input. A terminal gets meters, a pipe a line an event. Ctrl-C ends it, with an event for
    what is left. Causal models (micro) run frame by frame, in NumPy, or in C with --backend c.

    \b
    Examples:
      wav2small stream
      wav2small stream talk.flac --fast --format jsonl
      wav2small stream -o meeting.csv
      wav2small stream --calibrated
      arecord -t raw -f S16_LE -r 16000 | wav2small stream - --pcm 16000
    """
    from wav2small.audio.sources import in_real_time
    from wav2small.runtime.event import COLUMNS
    from wav2small.runtime.stream import Stream

    if pcm is not None and source != "-":
        raise click.UsageError("--pcm is for samples on standard input: give - as the FILE.")
    options = Options(hop_dur, win_dur, channel, min_speech, vad, answer.min_confidence)
    stream = Stream(answer.load(model, backend), **vars(options))
    columns = (*COLUMNS, *answer.columns)
    form = format or (line_format(output) if output else None)
    with ExitStack() as stack:
        audio = stack.enter_context(opened(source, device, pcm))
        shows = []
        if output:
            file = stack.enter_context(open_output(output))
            shows.append(line_writer(file, form or "text", columns))
        if sys.stdout.isatty() and (output or not format):
            shows.append(stack.enter_context(meters()))
        elif not output:
            shows.append(line_writer(sys.stdout, form or "text", columns))

        def show(row: Row) -> None:
            for one in shows:
                one(row)

        chunks = audio.chunks if fast or source in (None, "-") else in_real_time(audio)
        sys.exit(show_events(stream, chunks, audio.sampling_rate, columns, show))


def show_events(
    stream: Stream,
    chunks: Iterable[np.ndarray],
    sampling_rate: float,
    columns: Sequence[str],
    show: Callable[[Row], None],
) -> int:
    """Push chunks and show these fields of the events, until the chunks end, fail, or Ctrl-C; returns the exit code.

    Raises:
        AudioError: if the chunks ended before there was enough for any answer
    """
    from wav2small.runtime.windows import check_length

    code, is_stopped = 0, False

    def show_all(events: Iterable[Event]) -> None:
        for event in events:
            show({column: getattr(event, column) for column in columns})

    try:
        for chunk in chunks:
            show_all(stream.push(chunk, sampling_rate))
    except KeyboardInterrupt:
        is_stopped = True
    except AudioError as error:
        click.echo(f"wav2small: {error}", err=True)
        code = 1
    show_all(stream.finish())
    if code == 0 and not is_stopped:
        check_length(stream.position)
    return code


def opened(source: str | None, device: str | None, pcm: float | None) -> AbstractContextManager[Audio]:
    """The microphone, standard input or a file."""
    from wav2small.audio import sources

    if source is None:
        return sources.microphone_audio(device)
    if source == "-":
        return sources.pipe_audio(sys.stdin.buffer) if pcm is None else sources.raw_audio(sys.stdin.buffer, pcm)
    return sources.file_audio(source)


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
    """The word and the category, where there are any."""
    word, category = row.get("word"), row.get("category")
    return ([word] if word else []) + ([f"{category} {row['probability']:.2f}"] if category else [])


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
