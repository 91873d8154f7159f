"""Detect laughter, crying, sighs and shouts with a head on a student's frozen embedding, and estimate speech rate.

    python benchmarks/bursts.py DATA --model micro

DATA is the folder open/ of docs/data.md. Bursts are the clips of EmoGator that stand nearest to a kind: amusement
(laughter), sadness (crying), relief (sigh) and anger (shout). They are labelled by what the speaker meant, not by the
sound, so some recall is lost to labels. Speech is LibriSpeech, Kathleen and Kerstin (read) and Picovoice (spontaneous
orders). Windows of 1 s, every .5 s, are embedded; a logistic regression of the kinds, other bursts and speech is fitted
without a fifth of the speakers, who are then scored, five times.

A window is an alarm if the probability of its kind is above a threshold, and neighbouring alarms are one. The threshold
is the lowest with at most one false alarm an hour of speech, read from these same scores: a little optimistic. Printed
are the recall of clips at that threshold, the share of alarms in bursts that are of the kind (precision), and the
recall that costs ten false alarms an hour; and the correlation of characters a second with a ridge regression on the
embedding of whole clips, whose text is known, within each corpus, on clips that were not fitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wav2small.audio.read import read
from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.model import Model, load
from wav2small.tables.manifest import Segment, read_manifest

KINDS = {"Amusement": "laughter", "Sadness": "crying", "Relief": "sigh", "Anger": "shout"}
SPOKEN = ("librispeech", "kathleen", "kerstin", "picovoice")
WITH_TEXT = ("kathleen", "kerstin")
WINDOW, HOP = 1.0, 0.5
OTHERS = 4
"""Of bursts of other kinds, one clip in so many is used."""


class Windows(NamedTuple):
    """Embeddings of windows, shape=(windows, size), and the kind, clip and speaker of each."""

    embedding: np.ndarray
    kind: np.ndarray
    clip: np.ndarray
    speaker: np.ndarray


def windows(model: Model, clips: Sequence[tuple[str, Segment]]) -> Windows:
    rows = []
    for number, (kind, segment) in enumerate(clips):
        signal = read(segment.path)
        starts = np.arange(0, max(1, len(signal) - int(WINDOW * SAMPLING_RATE) + 1), int(HOP * SAMPLING_RATE))
        for start in starts:
            part = signal[start : start + int(WINDOW * SAMPLING_RATE)]
            rows.append((model.embed(part), kind, number, segment.speaker or f"clip {number}"))
    return Windows(*map(np.array, zip(*rows, strict=True)))


def alarms(scores: np.ndarray, clip: np.ndarray, threshold: float) -> int:
    """Runs of neighbouring windows of a clip above a threshold."""
    above = scores > threshold
    return int(np.count_nonzero(above & ~(np.r_[False, above[:-1]] & (clip == np.r_[-1, clip[:-1]]))))


def threshold_at(scores: np.ndarray, clip: np.ndarray, most: float) -> float:
    """The lowest threshold with at most ``most`` alarms."""
    low, high = 0, len(scores) - 1
    ordered = np.sort(scores)
    while low < high:  # alarms do not increase with the threshold but where runs part; the search is exact enough
        middle = (low + high) // 2
        low, high = (low, middle) if alarms(scores, clip, ordered[middle]) <= most else (middle + 1, high)
    return float(ordered[low])


def best_of_clips(scores: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Highest score of each clip."""
    return np.array([scores[clip == number].max() for number in np.unique(clip)])


def report_bursts(found: Windows) -> None:
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, class_weight="balanced"))
    folds = GroupKFold(5)
    probability = cross_val_predict(
        head, found.embedding, found.kind, groups=found.speaker, cv=folds, method="predict_proba"
    )
    names = sorted(set(found.kind))
    spoken = found.kind == "speech"
    hours = np.count_nonzero(spoken) * HOP / 3600
    print(f"{hours:.1f} h of speech, {len(set(found.speaker))} speakers")
    print("| kind | clips | recall at 1 false alarm an hour | precision among bursts | recall at 10 an hour |")
    print("|---|---|---|---|---|")
    for kind in KINDS.values():
        scores = probability[:, names.index(kind)]
        cells = []
        own = found.kind == kind
        for rate in (1, 10):
            threshold = threshold_at(scores[spoken], found.clip[spoken], rate * hours)
            hits = best_of_clips(scores[own], found.clip[own]) > threshold
            wrong = best_of_clips(scores[~own & ~spoken], found.clip[~own & ~spoken]) > threshold
            precision = hits.sum() / max(1, hits.sum() + wrong.sum())
            cells.append((hits.mean(), precision))
        print(f"| {kind} | {len(hits)} | {cells[0][0]:.2f} | {cells[0][1]:.2f} | {cells[1][0]:.2f} |")


def report_rate(model: Model, data: Path) -> None:
    print("| corpus | clips | r of characters a second with the estimate |\n|---|---|---|")
    for corpus in WITH_TEXT:
        clips = [clip for clip in read_manifest(data / corpus) if clip.column("text")]
        signals = [read(clip.path) for clip in clips]
        rate = np.array(
            [len(clip.column("text")) / len(s) * SAMPLING_RATE for clip, s in zip(clips, signals, strict=True)]
        )
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 9)))
        guess = cross_val_predict(
            ridge, np.stack([model.embed(s) for s in signals]), rate, cv=KFold(5, shuffle=True, random_state=0)
        )
        print(f"| {corpus} | {len(clips)} | {np.corrcoef(rate, guess)[0, 1]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="micro")
    arguments = parser.parse_args()
    model = load(arguments.model)
    bursts = read_manifest(arguments.data / "emogator")
    clips = [(KINDS[clip.column("label")], clip) for clip in bursts if clip.column("label") in KINDS]
    clips += [("other", clip) for clip in bursts if clip.column("label") not in KINDS][::OTHERS]
    clips += [("speech", clip) for corpus in SPOKEN for clip in read_manifest(arguments.data / corpus)]
    report_bursts(windows(model, clips))
    report_rate(model, arguments.data)


if __name__ == "__main__":
    main()
