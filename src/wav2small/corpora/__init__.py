"""Corpora, one module each: a folder as its owner distributes it -> segments with speaker, split, label and emotion.

Each corpus is an entry point. A package registers one in its ``pyproject.toml``::

    [project.entry-points."wav2small.corpora"]
    mine = "my_package:MINE"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from wav2small import plugins
from wav2small.corpora.protocol import with_folds, with_splits
from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Segment
from wav2small.tables.series import Series


@dataclass(frozen=True)
class Corpus:
    """Description of a corpus, and the function that reads its folder.

    Args:
        title: full name and language
        annotation: kind of annotation and its scale
        splits: ``official``, or how splits are assigned if the owner has none: ``by speaker``, ``by session``
        licence: licence of audio and annotation, as the owner states it
        source: download page, or publication
        read: folder -> one segment per annotation, with or without audio; A/D/V from 0 to 1
        unpack: extracts audio from archives and writes a manifest into a folder, which is then read
        audio: regular expression that matches the path of every file that should be annotated
        series: folder -> annotation over time; A/D/V from 0 to 1; None if there is none

    Examples:
        >>> from wav2small.corpora import Corpus
        >>> from wav2small.corpora.folder import audio_files, segment
        >>> def read(root):
        ...     return [segment(root, file, {"label": "neutral"}) for file in audio_files(root)]
        >>> corpus = Corpus("Four clips, German", "none", "by speaker", "CC0-1.0", "examples", read)
        >>> from pathlib import Path
        >>> corpus.read(Path("examples"))[0].file
        '08a05Fe.flac'
    """

    title: str
    annotation: str
    splits: str
    licence: str
    source: str
    read: Callable[[Path], list[Segment]]
    unpack: Callable[[Path, Path], None] | None = None
    audio: str = ""
    series: Callable[[Path], list[Series]] | None = None


def load_corpus(name: str) -> Corpus:
    """Load a corpus by name.

    Args:
        name: of an entry point of the group ``wav2small.corpora``

    Raises:
        PluginError: if no corpus has that name, or it cannot be imported

    Examples:
        >>> from wav2small.corpora import load_corpus
        >>> load_corpus("ravdess").splits
        'by speaker'
    """
    corpus: Corpus = plugins.load(plugins.CORPORA, name)
    return corpus


def read_corpus(name: str, root: Path, fold: str | None, unpacked: Path | None = None) -> list[Segment]:
    """Read all annotated segments of a corpus, with the columns split, fold and corpus.

    Args:
        name: name of the corpus
        root: folder of the corpus
        fold: ``speaker`` or ``session`` (leave one out), or the number of folds; None uses the corpus's own folds, or
            five
        unpacked: folder for audio from archives; created if missing

    Returns:
        one segment per annotation

    Raises:
        ManifestError: if the folder does not contain this corpus, or contains values that are not valid
        PluginError: if no corpus has that name
        MissingExtraError: if a package that the corpus needs is not installed
    """
    corpus = load_corpus(name)
    if not root.exists():
        raise ManifestError(f"{root}: there is no such folder. Give the folder of {name}.")
    if corpus.unpack:
        if unpacked is None:
            raise ManifestError(f"{name}: its audio is in archives. Give -o MANIFEST; the audio is unpacked beside it.")
        corpus.unpack(root, unpacked)
    segments = corpus.read(unpacked if corpus.unpack and unpacked else root)
    _check_scale(segments)
    named = [replace(segment, fields={"corpus": name, **segment.fields}) for segment in segments]
    return with_folds(with_splits(named), fold)


def read_corpus_series(name: str, root: Path) -> list[Series]:
    """Read the annotation of a corpus over time.

    Args:
        name: name of the corpus
        root: folder of the corpus

    Raises:
        ManifestError: if the corpus is not annotated over time, or the folder does not contain it
        PluginError: if no corpus has that name
    """
    read = load_corpus(name).series
    if read is None:
        over_time = [other for other in plugins.names(plugins.CORPORA) if load_corpus(other).series]
        raise ManifestError(f"{name} is not annotated over time. Corpora that are: {', '.join(over_time)}.")
    return read(root)


def _check_scale(segments: list[Segment]) -> None:
    for segment in segments:
        for dimension, value in zip(OUTPUTS, segment.emotion or (), strict=False):
            if not 0 <= value <= 1:
                raise ManifestError(
                    f"{segment.file}: {dimension} is {value:g}. Needed: 0 to 1; rescale the column: "
                    "(x - 1) / 6 for a scale from 1 to 7."
                )
