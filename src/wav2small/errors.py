"""One tree of errors; each message is a sentence to a person: what, the value seen, what is allowed, what to do."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence


class Wav2SmallError(Exception):
    """Anything a user can mend. A bug is an ``assert`` instead."""


class AudioError(Wav2SmallError):
    """Audio that is missing, unreadable, too short or not finite."""


class WeightsError(Wav2SmallError):
    """Weights that are unknown, damaged, or of another network."""


class NetworkError(Wav2SmallError):
    """A description of a network that does not hold together, or that a target cannot run."""


class ManifestError(Wav2SmallError):
    """A table of segments, labels or norms that cannot be used as it is."""


class PluginError(Wav2SmallError):
    """A student, or another plug-in, that is unknown or cannot be imported."""


class MissingExtraError(Wav2SmallError):
    """A feature whose optional packages are not installed."""


class NativeError(Wav2SmallError):
    """The C runtime cannot be compiled here, or was called in a wrong order."""


def missing_packages(what: str, packages: Sequence[str | None], install: str) -> MissingExtraError:
    """The error of a feature whose optional packages are not installed.

    Args:
        what: the feature, with which the sentence begins
        packages: their names
        install: what pip installs: an extra as ``wav2small[train]``, or a package. An installed package's extra
            brings only what is missing, wherever the package itself came from
    """
    names = " and ".join(filter(None, packages))
    return MissingExtraError(f"{what} needs {names}, not installed: pip install {shlex.quote(install)}")


def closest(name: str, names: Iterable[str]) -> str:
    """The rest of a sentence: the nearest name, and all of them."""
    known = sorted(set(names))
    near = difflib.get_close_matches(name, known, 1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Known: {', '.join(known)}"
