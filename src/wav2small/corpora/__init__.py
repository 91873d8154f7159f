"""Corpora, one file each: a folder as its owner distributes it -> segments with speaker, split, label and emotion.

A corpus is found by its name, which is an entry point; a package adds one with three lines of its ``pyproject.toml``::

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


@dataclass(frozen=True)
class Corpus:
    """What a corpus is, and how its folder is read.

    Args:
        title: its name in full and its language
        annotation: what people said about it, and on which scale
        splits: ``official``, or what is dealt out where its owner has none: ``by speaker``, ``by session``
        licence: of audio and annotation, as its owner states it
        source: where to get it, or who described it
        read: its folder -> one segment an annotation, whether or not there is audio for it; A/D/V from 0 to 1
        unpack: writes the audio that archives hold, and a manifest, into a folder, which is then read
        audio: regular expression, found in the path of every file that should be annotated
    """

    title: str
    annotation: str
    splits: str
    licence: str
    source: str
    read: Callable[[Path], list[Segment]]
    unpack: Callable[[Path, Path], None] | None = None
    audio: str = ""


def load_corpus(name: str) -> Corpus:
    """The corpus of a name.

    Raises:
        PluginError: if there is none, or it cannot be imported
    """
    corpus: Corpus = plugins.load(plugins.CORPORA, name)
    return corpus


def read_corpus(name: str, root: Path, fold: str | None, unpacked: Path | None = None) -> list[Segment]:
    """Every annotated segment of a corpus, with its columns split, fold and corpus.

    Args:
        name: of the corpus
        root: its folder
        fold: ``speaker`` or ``session`` to leave one out at a time, or how many to deal; None: its own, or five
        unpacked: folder for audio that archives hold; made if it is not there

    Raises:
        ManifestError: if the folder does not hold this corpus, or holds something that cannot be right
        PluginError: if there is no such corpus
        MissingExtraError: if a package is missing that this corpus needs
    """
    corpus = load_corpus(name)
    if not root.exists():
        raise ManifestError(f"{root}: there is no such folder. Give the folder that holds {name}.")
    if corpus.unpack:
        if unpacked is None:
            raise ManifestError(f"{name}: its audio is in archives. Give -o MANIFEST, to unpack it beside.")
        corpus.unpack(root, unpacked)
    segments = corpus.read(unpacked if corpus.unpack and unpacked else root)
    _check_scale(segments)
    named = [replace(segment, fields={"corpus": name, **segment.fields}) for segment in segments]
    return with_folds(with_splits(named), fold)


def _check_scale(segments: list[Segment]) -> None:
    for segment in segments:
        for dimension, value in zip(OUTPUTS, segment.emotion or (), strict=False):
            if not 0 <= value <= 1:
                raise ManifestError(
                    f"{segment.file}: {dimension} is {value:g}. Needed: 0 to 1; rescale the column, "
                    "(x - 1) / 6 for 1 to 7."
                )
