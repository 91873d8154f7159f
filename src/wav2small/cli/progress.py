"""A progress bar on standard error, for work that takes long and somebody who looks on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

PATIENCE_DUR = 2.0
"""Seconds of work before there is a bar."""


@contextmanager
def progress_bar(title: str, shown: bool = True) -> Iterator[Callable[[float, float], None]]:
    """Function that is told (done, total), and draws a bar if standard error is a terminal and the work is long."""
    start = time.monotonic()
    with ExitStack() as stack:
        update: Callable[[float, float], None] | None = None

        def tell(done: float, total: float) -> None:
            nonlocal update
            if update is None and shown and sys.stderr.isatty() and time.monotonic() - start > PATIENCE_DUR:
                update = _start(title, stack)
            if update is not None:
                update(done, total)

        yield tell


def _start(title: str, stack: ExitStack) -> Callable[[float, float], None]:
    from rich.console import Console
    from rich.progress import Progress

    progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = progress.add_task(title, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)
