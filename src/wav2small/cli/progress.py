"""What a command reports on standard error: a progress bar, lines beside it, and which files were written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wav2small.train import Progress

PATIENCE_DUR = 2.0
"""Seconds of work before there is a bar."""
LINE_DUR = 60.0
"""Seconds between two lines where standard error is not a terminal and a log is kept."""
BAR_WIDTH = 16
"""Characters; the rest of a line of 80 is for the text beside it."""


class Pace:
    """Speed of some work and the time that is left, from the first report on.

    Args:
        unit: what is counted, such as ``clips``; without one the pace has no text
        size: units in one step of ``done``
    """

    def __init__(self, unit: str = "", size: float = 1) -> None:
        self.unit, self.size = unit, size
        self._first: tuple[float, float] | None = None

    def text(self, done: float, total: float, note: str = "") -> str:
        """How much is done, the note, and the speed, for example ``120/1,200, loss 0.41, 64 clips/s``."""
        if not self.unit:
            return note
        steps, dur = self._since_first(done)
        speed = f"{steps * self.size / dur:,.3g} {self.unit}/s" if steps > 0 and dur > 0 else ""
        return ", ".join(filter(None, (f"{done:,.0f}/{total:,.0f}", note, speed)))

    def left(self, done: float, total: float) -> str:
        """Time that is left, for example ``0:12:00 left``; empty where it is not known."""
        steps, dur = self._since_first(done)
        return f"{timedelta(seconds=round((total - done) * dur / steps))} left" if steps > 0 else ""

    def _since_first(self, done: float) -> tuple[float, float]:
        """Steps and seconds since the first report."""
        now = time.monotonic()
        self._first = self._first or (done, now)
        return done - self._first[0], now - self._first[1]


@contextmanager
def progress_bar(title: str, shown: bool = True, unit: str = "", size: float = 1) -> Iterator[Progress]:
    """Function that receives (done, total, note), and draws a bar if standard error is a terminal and the work is long.

    Where standard error is not a terminal, there is a line a minute, if there is a note or a unit.

    Args:
        title: name of the work
        shown: False shows nothing
        unit: what is counted, for the speed, such as ``clips``; without one neither count nor speed is shown
        size: units in one step of ``done``
    """
    start = line = time.monotonic()
    pace = Pace(unit, size)
    with ExitStack() as stack:
        update: Callable[[float, float, str], None] | None = None

        def progress(done: float, total: float, note: str = "") -> None:
            nonlocal update, line
            if not shown:
                return
            now, text = time.monotonic(), pace.text(done, total, note)
            if not sys.stderr.isatty():
                if text and now - line > LINE_DUR:
                    line = now
                    say(f"{title}: " + ", ".join(filter(None, (text, pace.left(done, total)))))
                return
            if update is None and now - start > PATIENCE_DUR:
                update = _start(title, stack)
            if update is not None:
                update(done, total, text)

        yield progress


def training_bar(title: str, batch_size: int, shown: bool = True) -> Callable[[str], AbstractContextManager[Progress]]:
    """What makes the bars of a training run; the one with this ``title`` counts steps of ``batch_size`` clips."""

    def bar(name: str) -> AbstractContextManager[Progress]:
        return progress_bar(name, shown, "clips", batch_size) if name == title else progress_bar(name, shown)

    return bar


def say(line: str) -> None:
    """Print a line to standard error, above the bar if there is one; ``click.echo`` would write across the bar."""
    print(line, file=sys.stderr, flush=True)


def report_written(path: str | Path, content: str = "") -> None:
    """Report a file that was written on standard error: its name, what it holds, and its size."""
    file = Path(path)
    size = size_text(file.stat().st_size) if file.is_file() else ""
    say(f"{path}: {', '.join(filter(None, (content, size)))}")


def size_text(size: int) -> str:
    """Bytes for people: ``812 bytes``, ``3.4 KB``, ``1.2 MB``; 1 KB is 1,000 bytes."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e3:.1f} KB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def _start(title: str, stack: ExitStack) -> Callable[[float, float, str], None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR_WIDTH),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task(title, total=None, note="")
    return lambda done, total, note: progress.update(task, completed=done, total=total, note=note)
