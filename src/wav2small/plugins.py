"""What this package and others offer under a name, by entry points.

A package adds a student, or a teacher, with three lines of its ``pyproject.toml``::

    [project.entry-points."wav2small.students"]
    mine = "my_package:make_student"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from wav2small.errors import PluginError, closest

BACKENDS = "wav2small.backends"
"""Group of the backends: each entry is a wav2small.runtime.backends.Backend."""
CORPORA = "wav2small.corpora"
"""Group of the corpora: each entry is a wav2small.corpora.Corpus."""
STUDENTS = "wav2small.students"
"""Group of the students: each entry is a Network, or ``(dropout: float) -> torch.nn.Module``; see train.students."""
TEACHERS = "wav2small.teachers"
"""Group of the teachers: each entry is ``(bf16: bool, device: str) -> Teacher``, see wav2small.train.teachers."""


def names(group: str) -> list[str]:
    """Every name in a group, sorted; nothing is imported."""
    return sorted(_found(group))


def load(group: str, name: str) -> Any:
    """Import what has a name in a group.

    Raises:
        PluginError: if nothing has that name, saying which is closest, or it cannot be imported
    """
    found = _found(group)
    if name not in found:
        what = {CORPORA: "corpus"}.get(group, group.rpartition(".")[2].removesuffix("s"))
        raise PluginError(f"there is no {what} {name!r}.{closest(name, found)}.")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{name}: {found[name].value} cannot be imported ({error}). Install what it needs.") from None


def _found(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
