"""Test the intervals and words of a calibration on held-out corpora.

    python benchmarks/coverage.py teacher-ravdess.csv micro wav2small --dev dev.csv

The manifests contain the teacher's labels of whole clips, as `wav2small label` and `wav2small distil` write them; those
of --dev were used to fit the calibration. Four tables, A / D / V:

- whole clips and their middle 1, 2 and 3 s: the share of labels inside the intervals of 80 and 95 %, the mean width of
  those of 80 %, and the CCC before and after the map;
- those of --dev, under every condition of the fit: the coverage on held-out speakers and on a held-out corpus, with
  equal weights for corpora and for the speakers within a corpus;
- whole clips with pink noise: the measured contrast, the mean error of the calibrated prediction, the coverage and
  width of the 80 % intervals; and the error on those of --dev, with a map fitted on the other corpora;
- whole clips that get a word, and the share of correct words: the label is on the sides of the mean that the word
  denotes, or, for neutral, as close to the mean as defined. Clips of --dev use a calibration of the other corpora.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from wav2small.evaluation.fit_calibration import FOLDS, Answers, answer, fit_calibration, judged, read_corpora, weigh
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.runtime.calibration import LEVELS, NEUTRAL, PLANE, WORDS, Calibration, Reading
from wav2small.runtime.model import Model, load

SNRS = (np.inf, 20.0, 10.0, 0.0, -10.0)


def quiet(*_: int) -> None:
    pass


def triple(values: np.ndarray) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


class Calibrated(NamedTuple):
    """Calibrated predictions and the ends of their intervals, each shape=(rows, 3)."""

    mapped: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def holds(self, label: np.ndarray) -> str:
        return triple(np.mean((self.low <= label) & (label <= self.high), axis=0))

    @property
    def width(self) -> str:
        return triple(np.mean(self.high - self.low, axis=0))


def calibrated(answers: Answers, calibration: Calibration, level: float = 0.8) -> Calibrated:
    mapped = [calibration.calibrated(Emotion(*row)) for row in answers.output]
    rows = zip(mapped, answers.speech_dur, answers.contrast, strict=True)
    ends = np.array([calibration.interval(emotion, dur, contrast, level) for emotion, dur, contrast in rows])
    return Calibrated(np.array(mapped), ends[:, 0], ends[:, 1])


def ccc(label: np.ndarray, answer: np.ndarray) -> str:
    return triple(np.array([concordance_cc(label[:, d], answer[:, d]) for d in range(len(OUTPUTS))]))


def by_length(answers: Answers, calibration: Calibration) -> Iterator[list[str]]:
    for cut_dur in sorted(set(answers.cut_dur)):
        some = answers[answers.cut_dur == cut_dur]
        usual, wide = calibrated(some, calibration), calibrated(some, calibration, 0.95)
        yield [f"{cut_dur:g} s" if cut_dur else "whole", f"{len(some.clip):,}", usual.holds(some.label),
               wide.holds(some.label), usual.width, ccc(some.label, some.output),
               ccc(some.label, usual.mapped)]  # fmt: skip


def by_group(known: Answers, fitted: Mapping[str, Calibration], model: Model) -> Iterator[list[str]]:
    """``fitted`` is the calibration of all corpora but the one that it is asked for by."""
    _, speaker = np.unique(known.speaker, return_inverse=True)
    others = [fit_calibration(known[speaker % FOLDS != fold], model.metadata) for fold in range(FOLDS)]
    yield at_home("a fifth of the speakers", known, [others[number % FOLDS] for number in speaker])
    for corpus in sorted(fitted):
        some = known[known.corpus == corpus]
        yield at_home(corpus, some, [fitted[corpus]] * len(some.clip))


def at_home(name: str, answers: Answers, calibrations: Sequence[Calibration]) -> list[str]:
    """A row for clips, each with the calibration that was fitted without its corpus."""
    rows = zip(calibrations, answers.output, answers.speech_dur, answers.contrast, strict=True)
    known = [(own, own.calibrated(Emotion(*output)), dur, contrast) for own, output, dur, contrast in rows]
    cells = []
    for level in LEVELS:
        ends = np.array([own.interval(emotion, dur, contrast, level) for own, emotion, dur, contrast in known])
        holds = (ends[:, 0] <= answers.label) & (answers.label <= ends[:, 1])
        cells.append(triple(np.average(holds, axis=0, weights=weigh(answers))))
    return [name, f"{len(set(answers.clip)):,}", str(len(set(answers.speaker))), *cells]


def by_noise(answers: Answers, calibration: Calibration, known: Answers | None) -> Iterator[list[str]]:
    for snr in sorted(set(answers.snr), reverse=True):
        some = answers[answers.snr == snr]
        usual = calibrated(some, calibration)
        off = triple(np.mean(np.abs(usual.mapped - some.label), axis=0))
        name = "as recorded" if np.isinf(snr) else f"{snr:g} dB"
        yield [
            name,
            f"{some.contrast.mean():.0f}",
            off,
            usual.holds(some.label),
            usual.width,
            off_at_home(known, snr) if known else "",
        ]


def off_at_home(known: Answers, snr: float) -> str:
    """How far whole clips with this noise are off, each corpus and in it each speaker weighing the same."""
    chosen = (known.snr == snr) & (known.cut_dur == 0)
    off = np.abs(known.label - judged(known))[chosen]
    return triple(np.average(off, axis=0, weights=weigh(known[chosen]))) if chosen.any() else ""


def by_word(name: str, answers: Answers, calibration: Callable[[str], Calibration]) -> list[str]:
    """A row of the table of words; ``calibration`` is asked for by the name of the clip's corpus."""
    found: dict[str, list[bool]] = {word: [] for word in (*WORDS.values(), "neutral")}
    for row, corpus in enumerate(answers.corpus):
        own = calibration(str(corpus))
        reading = own.read(Emotion(*answers.output[row]), answers.speech_dur[row], answers.contrast[row])
        if reading.word:
            found[reading.word].append(is_right(reading, Emotion(*answers.label[row]), own))
    every = [right for rights in found.values() for right in rights]
    cells = [name, f"{len(answers.clip):,}", share(every, len(answers.clip))]
    return cells + [share(rights, len(answers.clip)) for rights in found.values()]


def share(rights: list[bool], clips: int) -> str:
    return f"{len(rights) / clips:.1%}, {np.mean(rights):.0%} right" if rights else "none"


def is_right(reading: Reading, label: Emotion, calibration: Calibration) -> bool:
    off = [(getattr(label, name) - calibration.scales[name].mean, calibration.scales[name].spread) for name in PLANE]
    if reading.word == "neutral":
        return all(abs(distance) <= NEUTRAL * spread for distance, spread in off)
    return WORDS[tuple(1 if distance > 0 else -1 for distance, _ in off)] == reading.word


def words(
    answers: Answers, calibration: Calibration, known: Answers | None, fitted: Mapping[str, Calibration]
) -> Iterator[list[str]]:
    if known:
        yield by_word("dev speakers, held-out corpus", known[known.plain], fitted.__getitem__)
    yield by_word("the corpus asked", answers, lambda _: calibration)


TABLES = {
    "part": ["clips", "80 % coverage", "95 % coverage", "width of 80 %", "CCC before", "CCC after"],
    "calibrated without, tested on": ["clips", "speakers", "80 % coverage", "95 % coverage"],
    "pink noise": ["contrast, dB", "mean error", "80 % coverage", "width of 80 %", "mean error, dev speakers"],
    "clips of": ["clips", "have a word", *WORDS.values(), "neutral"],
}
"""First column -> the others, of the tables that are printed."""


def measure(name: str, labels: str, dev: str | None) -> Iterator[list[list[str]]]:
    """The lines of each of ``TABLES``, for one model."""
    model = load(name, calibration=True)
    calibration, corpora = model.calibration, read_corpora([labels])
    known = answer(read_corpora([dev]), model.batch, quiet) if dev else None
    clean = answer(corpora, model.batch, quiet, snrs=(np.inf,))
    yield list(by_length(clean, calibration))
    names = sorted(set(known.corpus)) if known else []
    fitted = {corpus: fit_calibration(known[known.corpus != corpus], model.metadata) for corpus in names}
    yield list(by_group(known, fitted, model)) if known else []
    noisy = answer(corpora, model.batch, quiet, cut_durs=(0.0,), snrs=SNRS)
    yield list(by_noise(noisy, calibration, known))
    yield list(words(clean[clean.plain], calibration, known, fitted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels")
    parser.add_argument("models", nargs="*", default=["micro"])
    parser.add_argument("--dev", help="manifest of the dev speakers, with a column corpus")
    arguments = parser.parse_args()
    measured = {name: list(measure(name, arguments.labels, arguments.dev)) for name in arguments.models}
    for number, (first, others) in enumerate(TABLES.items()):
        print(f"| model | {first} | {' | '.join(others)} |\n{'|---' * (len(others) + 2)}|")
        for name, tables in measured.items():
            for cells in tables[number]:
                print(f"| `{name}` | {' | '.join(cells)} |")
        print()


if __name__ == "__main__":
    main()
