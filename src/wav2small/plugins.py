"""Plug-ins: students, teachers, corpora and backends that packages register as entry points.

A package registers a student in its ``pyproject.toml``::

    [project.entry-points."wav2small.students"]
    mine = "my_package:make_student"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wav2small.errors import PluginError, closest

BACKENDS = "wav2small.backends"
"""Entry point group of backends; each entry is a ``wav2small.runtime.backends.Backend``."""
CORPORA = "wav2small.corpora"
"""Entry point group of corpora; each entry is a ``wav2small.corpora.Corpus``."""
STUDENTS = "wav2small.students"
"""Entry point group of students; each entry is a ``Network`` or ``(dropout: float) -> torch.nn.Module``.

See ``wav2small.train.students``.
"""
TEACHERS = "wav2small.teachers"
"""Entry point group of teachers; each entry is ``(bf16: bool, device: str) -> Teacher``.

See ``wav2small.train.teachers``.
"""


def names(group: str) -> list[str]:
    """All names of a group, sorted, without importing the plug-ins."""
    return sorted(_entries(group))


def load(group: str, name: str) -> Any:
    """Import a plug-in.

    Args:
        group: entry point group, such as ``STUDENTS``
        name: name of the entry point

    Raises:
        PluginError: if no plug-in has that name, or it cannot be imported; the message names the closest name
    """
    entries = _entries(group)
    if name not in entries:
        what = {CORPORA: "corpus"}.get(group, group.rpartition(".")[2].removesuffix("s"))
        raise PluginError(f"unknown {what} {name!r}.{closest(name, entries)}.")
    try:
        return entries[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"{name}: {entries[name].value} cannot be imported ({error}). Install the packages that it needs."
        ) from None


def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
