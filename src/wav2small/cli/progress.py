"""A progress bar on standard error, for work that takes long and somebody who looks on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

PATIENCE_DUR = 2.0
"""Seconds of work before there is a bar."""
LINE_DUR = 60.0
"""Seconds between two lines where nobody looks on and a log is kept."""


class Tell(Protocol):
    """Is told how far the work is, and maybe more in words."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Report that ``done`` of ``total`` units of work are complete; ``note`` is text to show with it."""


@contextmanager
def progress_bar(title: str, shown: bool = True) -> Iterator[Tell]:
    """Function that is told (done, total), and draws a bar if standard error is a terminal and the work is long.

    Where it is none, what is told in words becomes a line a minute.
    """
    start = line = time.monotonic()
    with ExitStack() as stack:
        update: Callable[[float, float, str], None] | None = None

        def tell(done: float, total: float, note: str = "") -> None:
            nonlocal update, line
            now = time.monotonic()
            if update is None and shown and sys.stderr.isatty() and now - start > PATIENCE_DUR:
                update = _start(title, stack)
            if update is not None:
                update(done, total, note)
            elif note and shown and not sys.stderr.isatty() and now - line > LINE_DUR:
                line = now
                print(f"{title}: {note}", file=sys.stderr, flush=True)

        yield tell


def _start(title: str, stack: ExitStack) -> Callable[[float, float, str], None]:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[note]}"))
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task(title, total=None, note="")
    return lambda done, total, note: progress.update(task, completed=done, total=total, note=note)
