"""A training corpus for composed clips, and its held-out speakers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from wav2small.corpora.protocol import deal
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment, read_manifest

DEALT_FOLDS = 20
"""Number of folds that are assigned if no corpus has a row in the dev fold."""


@dataclass(frozen=True)
class Corpus:
    """A corpus that students are trained on.

    Args:
        name: name of the corpus
        manifests: manifest of its clips, then manifests of variants of these clips
        share: sampling weight relative to other corpora; None is proportional to its size
        is_dealt: whether ``DEALT_FOLDS`` new folds replace its column ``fold``
    """

    name: str
    manifests: tuple[str, ...]
    share: float | None = None
    is_dealt: bool = False

    @classmethod
    def of(cls, manifests: str) -> Corpus:
        """The corpus of comma-separated manifests, named after the first manifest or its folder."""
        names = tuple(manifests.split(","))
        path = Path(names[0])
        name = path.absolute().parent.name if path.name == "manifest.csv" else path.stem or path.absolute().name
        return cls(name, names)

    def segments(self) -> list[Segment]:
        """Rows of all manifests. With ``is_dealt``, each speaker (or file, if unknown) is assigned to a fold."""
        rows = [segment for manifest in self.manifests for segment in read_manifest(manifest)]
        if not self.is_dealt:
            return rows
        fold = deal((row.speaker or row.file for row in rows), DEALT_FOLDS)
        return [replace(row, fields={**row.fields, "fold": str(fold[row.speaker or row.file])}) for row in rows]

    def learnt(self, dev_fold: str) -> list[Segment]:
        """Training rows of all manifests: those outside the dev fold.

        Raises:
            ManifestError: if there are none, or a speaker is both inside and outside the dev fold
        """
        rows = self.segments()
        learnt = [segment for segment in rows if segment.column("fold") != dev_fold]
        if not learnt:
            raise ManifestError(f"{self.name}: has no row to train on: all are in fold {dev_fold}.")
        held_out = {segment.speaker for segment in rows if segment.column("fold") == dev_fold}
        shared = held_out & {segment.speaker for segment in learnt} - {""}
        if shared:
            raise ManifestError(
                f"{self.name}: speaker {min(shared)} is in the fold {dev_fold} and outside it. "
                "Give all rows of a speaker one fold, including variants of the clips."
            )
        return learnt

    def dev(self, dev_fold: str) -> list[Segment]:
        """Dev rows, from the first manifest; variants of dev clips are used neither for training nor for scoring."""
        first = self.segments()[: len(read_manifest(self.manifests[0]))]
        return [segment for segment in first if segment.column("fold") == dev_fold]
