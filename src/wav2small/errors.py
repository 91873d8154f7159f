"""The errors of the package; each message says what is wrong, the value, what is allowed, and what to do."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence


class Wav2SmallError(Exception):
    """Base class of all errors that a user can fix; the command line prints them in one line and exits with 1.

    Examples:
        >>> try:
        ...     wav2small.predict("missing.wav")
        ... except wav2small.errors.Wav2SmallError as error:
        ...     print(error)
        missing.wav: there is no such file; check the name
    """


class AudioError(Wav2SmallError):
    """Audio that is missing, unreadable, too short or not finite.

    Examples:
        >>> model = wav2small.load("micro")
        >>> model(np.zeros(20))
        Traceback (most recent call last):
        wav2small.errors.AudioError: the signal has 20 samples at 16000 Hz, ...
    """


class WeightsError(Wav2SmallError):
    """Weights that are unknown, damaged, or of another network.

    Examples:
        >>> wav2small.load("macro")
        Traceback (most recent call last):
        wav2small.errors.WeightsError: ...
    """


class NetworkError(Wav2SmallError):
    """A description of a network that is inconsistent, or that a target cannot run.

    Examples:
        >>> from wav2small.network.config import Layer
        >>> Layer("conv", outputs=0, norm="norm")
        Traceback (most recent call last):
        wav2small.errors.NetworkError: layer 'conv': outputs, kernel, stride and dilation must be 1 or more; ...
    """


class ManifestError(Wav2SmallError):
    """A table of segments, labels or norms that is missing or invalid.

    Examples:
        >>> from wav2small.tables.manifest import read_manifest
        >>> read_manifest("missing.csv")
        Traceback (most recent call last):
        wav2small.errors.ManifestError: missing.csv: cannot be opened: ...
    """


class PluginError(Wav2SmallError):
    """A student, teacher, corpus or backend that is unknown or cannot be imported.

    Examples:
        >>> wav2small.load("micro", backend="onxx")
        Traceback (most recent call last):
        wav2small.errors.PluginError: ...
    """


class MissingExtraError(Wav2SmallError):
    """A feature whose optional packages are not installed; the message names the extra to install.

    Examples:
        >>> try:
        ...     wav2small.load("wav2small", backend="openvino")
        ... except wav2small.errors.MissingExtraError as error:
        ...     print("pip install openvino" in str(error))
        True
    """


class NativeError(Wav2SmallError):
    """The C runtime cannot be compiled on this machine, or was called in the wrong order.

    Examples:
        >>> raise wav2small.errors.NativeError("no C compiler")
        Traceback (most recent call last):
        wav2small.errors.NativeError: no C compiler
    """


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
