"""How much better the deviation from a speaker's baseline separates voices than the plain answer, by seconds of it.

    python benchmarks/baseline.py MANIFEST [--model micro] [--where fold=0] [--draws 200]

Each speaker's baseline comes from clips drawn at random, of any category or of the neutral ones, until they last so
long. Those clips of all speakers are then left out, and the rest is separated by the plain answer and by the deviation:
AUC of arousal, anger and happiness against sadness, neutral and calm, and of valence, happiness against anger and
sadness. The difference is the mean over draws; the interval resamples speakers.
"""

from __future__ import annotations

import argparse

import numpy as np

from wav2small import Baseline, Emotion, load
from wav2small.audio.read import read
from wav2small.metrics import auc
from wav2small.tables.manifest import read_manifest, select

DURATIONS = (5, 10, 20, 30, 60)
SEPARATED = {
    "arousal": (0, ("anger", "happiness"), ("sadness", "neutral", "calm")),
    "valence": (2, ("happiness",), ("anger", "sadness")),
}
"""Column, categories above, categories below."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    where = [(column, value) for column, _, value in (text.partition("=") for text in arguments.where)]
    segments = select(read_manifest(arguments.manifest), where)
    model, signals = load(arguments.model), [read(segment.path) for segment in segments]
    answers = np.array([model(signal) for signal in signals])
    seconds = np.array([len(signal) / 16000 for signal in signals])
    labels = np.array([segment.label for segment in segments])
    speakers = np.array([segment.speaker for segment in segments])
    print(f"{arguments.model}, {len(segments)} clips, {len(set(speakers))} speakers; gain of AUC [95 %]\n")
    print("| baseline of | seconds | arousal, plain | gain | valence, plain | gain |\n|---|---|---|---|---|---|")
    for name, categories in (("any speech", None), ("neutral speech", ("neutral", "calm"))):
        for dur in DURATIONS:
            cells = []
            for column, above, below in SEPARATED.values():
                rng, plain, gains = np.random.default_rng(1), [], []
                for _ in range(arguments.draws):
                    chosen = rng.choice(sorted(set(speakers)), len(set(speakers)))
                    pairs = [drawn(rng, answers, seconds, labels, speakers == one, categories, dur) for one in chosen]
                    left = np.concatenate([pair[0] for pair in pairs])
                    moved = np.concatenate([pair[1] for pair in pairs])
                    found = np.concatenate([pair[2] for pair in pairs])
                    masks = np.isin(found, above), np.isin(found, below)
                    used = masks[0] | masks[1]
                    one, other = (auc(masks[0][used], values[used, column]) for values in (left, moved))
                    plain.append(one)
                    gains.append(other - one)
                low, high = np.quantile(gains, (0.025, 0.975))
                cells += [f"{np.mean(plain):.3f}", f"{np.mean(gains):+.3f} [{low:+.3f}, {high:+.3f}]"]
            print(f"| {name} | {dur} | {' | '.join(cells)} |", flush=True)


def drawn(
    rng: np.random.Generator,
    answers: np.ndarray,
    seconds: np.ndarray,
    labels: np.ndarray,
    own: np.ndarray,
    categories: tuple[str, ...] | None,
    dur: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the clips of one speaker that are not in the baseline: answers, deviations, categories."""
    rows = np.flatnonzero(own if categories is None else own & np.isin(labels, categories))
    rng.shuffle(rows)
    baseline = Baseline()
    used = []
    for row in rows:
        if baseline.speech_dur >= dur:
            break
        baseline.add(Emotion(*answers[row]), seconds[row])
        used.append(row)
    rest = np.setdiff1d(np.flatnonzero(own), used)
    deviations = np.array([baseline.deviation(Emotion(*answers[row])) for row in rest])
    return answers[rest], deviations, labels[rest]


if __name__ == "__main__":
    main()
