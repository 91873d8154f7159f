"""Standard error without the warnings that C libraries print there, such as libmpg123 about the tags of an MP3."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
"""File descriptor of standard error."""

_lock = threading.Lock()
_depth = 0
_saved: int | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what any thread writes to the descriptor of standard error; may be nested and used by many threads.

    It is for calls of some milliseconds, as nothing that is written meanwhile is kept.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth, _saved
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        try:
            _saved = os.dup(STDERR)
        except OSError:  # it is closed: nothing is printed anyway
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, STDERR)
        os.close(sink)


def _leave() -> None:
    global _depth, _saved
    with _lock:
        _depth -= 1
        if _depth == 0 and _saved is not None:
            os.dup2(_saved, STDERR)
            os.close(_saved)
            _saved = None
