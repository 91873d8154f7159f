"""A corpus that new clips are composed of, and which of its speakers are held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from wav2small.corpora.protocol import deal
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment, read_manifest

DEALT_FOLDS = 20
"""Where no corpus has a row of the dev fold."""


@dataclass(frozen=True)
class Corpus:
    """A corpus that students learn from.

    Args:
        name: of the corpus
        manifests: of its clips, then of what was made of them
        share: how often it is drawn relative to others; None is by its size
        is_dealt: whether its column ``fold`` is replaced by ``DEALT_FOLDS`` folds
    """

    name: str
    manifests: tuple[str, ...]
    share: float | None = None
    is_dealt: bool = False

    @classmethod
    def of(cls, manifests: str) -> Corpus:
        """The corpus of manifests joined by commas; its name is that of the first one's file, or of its folder."""
        names = tuple(manifests.split(","))
        path = Path(names[0])
        name = path.absolute().parent.name if path.name == "manifest.csv" else path.stem or path.absolute().name
        return cls(name, names)

    def segments(self) -> list[Segment]:
        """The rows of all of its manifests; if it is dealt, each speaker, else each file, gets a fold."""
        rows = [segment for manifest in self.manifests for segment in read_manifest(manifest)]
        if not self.is_dealt:
            return rows
        fold = deal((row.speaker or row.file for row in rows), DEALT_FOLDS)
        return [replace(row, fields={**row.fields, "fold": str(fold[row.speaker or row.file])}) for row in rows]

    def learnt(self, dev_fold: str) -> list[Segment]:
        """The rows that are learnt from: those outside the fold, of all manifests.

        Raises:
            ManifestError: if there are none, or a speaker of the fold is in another one too
        """
        rows = self.segments()
        learnt = [segment for segment in rows if segment.column("fold") != dev_fold]
        if not learnt:
            raise ManifestError(f"{self.name}: has no row to learn from: all are of the fold {dev_fold}.")
        held_out = {segment.speaker for segment in rows if segment.column("fold") == dev_fold}
        shared = held_out & {segment.speaker for segment in learnt} - {""}
        if shared:
            raise ManifestError(
                f"{self.name}: speaker {min(shared)} is in the fold {dev_fold} and outside it. "
                "Give all rows of a speaker one fold, also those of what was made of them."
            )
        return learnt

    def dev(self, dev_fold: str) -> list[Segment]:
        """The rows of the fold, of the first manifest: what was made of them is neither learnt nor scored."""
        first = self.segments()[: len(read_manifest(self.manifests[0]))]
        return [segment for segment in first if segment.column("fold") == dev_fold]
