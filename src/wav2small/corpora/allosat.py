"""AlloSat: calls to French call centres, rated continuously in time from frustration to satisfaction.

Layout: Wavs/**/CALL.wav; Parts/{train,dev,test}.txt with a call per line; Annots/labels_0.25/CALL.csv with a header,
and in each line the call, seconds and the mean rating of the raters, separated by ; or commas.
Scale: satisfaction is read as valence. The layout does not state its scale: 0 to 1, or 0 to 10 if any rating is over 1.
There is neither arousal nor dominance, so a manifest has no A/D/V, and the ratings are in the table of ``--series``.
The speaker is the call.
Splits: the owner's.
Source: Macary, Tahon, Estève and Rousseau 2020, AlloSat: a new call center French corpus for satisfaction and
frustration analysis, LREC.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, need_file, not_this_corpus, segment
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment
from wav2small.tables.series import Series

LABELS = "Annots/labels_0.25"
MAX_RATING = 10.0


def read(root: Path) -> list[Segment]:
    """A segment per call, without A/D/V.

    Raises:
        ManifestError: if the folder does not contain the corpus
    """
    audio = audio_by_stem(root)
    return [
        segment(root, audio.get(call, f"Wavs/{call}.wav"), {"speaker": call, "split": split})
        for call, split in _calls(root).items()
    ]


def series(root: Path) -> list[Series]:
    """Satisfaction of each call over time, as valence.

    Raises:
        ManifestError: if the folder does not contain the corpus, or a rating is not valid
    """
    audio = audio_by_stem(root)
    calls = _calls(root)
    ratings = {call: _ratings(root / LABELS / f"{call}.csv") for call in calls}
    top = MAX_RATING if max(rating[:, 1].max() for rating in ratings.values()) > 1 else 1.0
    return [
        Series(audio.get(call, f"Wavs/{call}.wav"), ratings[call][:, 0], {"valence": ratings[call][:, 1] / top}, split)
        for call, split in calls.items()
    ]


def _calls(root: Path) -> dict[str, str]:
    """Split of each rated call."""
    rated = {path.stem for path in (root / LABELS).glob("*.csv")}
    calls = {
        call.strip(): split
        for split in ("train", "dev", "test")
        for call in need_file(root, f"{split}.txt").read_text(encoding="utf-8").splitlines()
        if call.strip() in rated
    }
    if not calls:
        raise not_this_corpus(root, f"no call of Parts has ratings in {LABELS}")
    return calls


def _ratings(path: Path) -> np.ndarray:
    """Seconds and rating, shape=(ratings, 2)."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    try:
        ratings = np.array([[float(cell) for cell in re.split("[;,]", line)[-2:]] for line in lines if line.strip()])
    except ValueError:
        ratings = np.empty((0, 0))
    if ratings.ndim != 2 or ratings.shape[1] != 2 or not np.isfinite(ratings).all():
        raise ManifestError(f"{path}: a line is not call, seconds and rating. Copy it again.")
    if not (ratings[:, 1].min() >= 0 and ratings[:, 1].max() <= MAX_RATING):
        raise ManifestError(f"{path}: a rating is not from 0 to {MAX_RATING:g}, the scale of this corpus.")
    return ratings


ALLOSAT = Corpus(
    title="AlloSat, calls to call centres, French",
    annotation="satisfaction over time, as valence",
    splits="official",
    licence="research, on agreement",
    source="Macary et al. 2020, LREC",
    read=read,
    series=series,
)
