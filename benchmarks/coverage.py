"""Test the intervals and words of a calibration on held-out corpora.

    python benchmarks/coverage.py teacher-ravdess.csv --model micro --dev dev-*.csv

The manifests contain the teacher's labels of whole clips, as `wav2small label` writes them; those of --dev were used to
fit the calibration. Four tables, A / D / V:

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

from wav2small.evaluation.fit_calibration import FOLDS, Heard, fit_calibration, judged, listen, weigh
from wav2small.evaluation.predictors import manifest_name
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.runtime.calibration import LEVELS, NEUTRAL, PLANE, WORDS, Calibration, Reading
from wav2small.runtime.model import Model, load
from wav2small.tables.manifest import read_manifest

SNRS = (np.inf, 20.0, 10.0, 0.0, -10.0)


def quiet(*_: int) -> None:
    pass


def triple(values: np.ndarray) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def table(head: list[str], lines: Iterator[list[str]]) -> None:
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for cells in lines:
        print(f"| {' | '.join(cells)} |")
    print()


class Told(NamedTuple):
    """Calibrated predictions and the ends of their intervals, each shape=(rows, 3)."""

    mapped: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def holds(self, label: np.ndarray) -> str:
        return triple(np.mean((self.low <= label) & (label <= self.high), axis=0))

    @property
    def width(self) -> str:
        return triple(np.mean(self.high - self.low, axis=0))


def told(heard: Heard, calibration: Calibration, level: float = 0.8) -> Told:
    mapped = [calibration.calibrated(Emotion(*row)) for row in heard.output]
    rows = zip(mapped, heard.speech_dur, heard.contrast, strict=True)
    ends = np.array([calibration.interval(emotion, dur, contrast, level) for emotion, dur, contrast in rows])
    return Told(np.array(mapped), ends[:, 0], ends[:, 1])


def ccc(label: np.ndarray, answer: np.ndarray) -> str:
    return triple(np.array([concordance_cc(label[:, d], answer[:, d]) for d in range(len(OUTPUTS))]))


def by_length(heard: Heard, calibration: Calibration) -> Iterator[list[str]]:
    for cut_dur in sorted(set(heard.cut_dur)):
        some = heard[heard.cut_dur == cut_dur]
        usual, wide = told(some, calibration), told(some, calibration, 0.95)
        yield [f"{cut_dur:g} s" if cut_dur else "whole", f"{len(some.clip):,}", usual.holds(some.label),
               wide.holds(some.label), usual.width, ccc(some.label, some.output),
               ccc(some.label, usual.mapped)]  # fmt: skip


def by_group(known: Heard, fitted: Mapping[str, Calibration], model: Model) -> Iterator[list[str]]:
    """``fitted`` is the calibration of all corpora but the one that it is asked for by."""
    _, speaker = np.unique(known.speaker, return_inverse=True)
    others = [fit_calibration(known[speaker % FOLDS != fold], model.metadata) for fold in range(FOLDS)]
    yield at_home("a fifth of the speakers", known, [others[number % FOLDS] for number in speaker])
    for corpus in sorted(fitted):
        some = known[known.corpus == corpus]
        yield at_home(corpus, some, [fitted[corpus]] * len(some.clip))


def at_home(name: str, heard: Heard, calibrations: Sequence[Calibration]) -> list[str]:
    """A row for clips, each with the calibration that was fitted without its corpus."""
    rows = zip(calibrations, heard.output, heard.speech_dur, heard.contrast, strict=True)
    known = [(own, own.calibrated(Emotion(*output)), dur, contrast) for own, output, dur, contrast in rows]
    cells = []
    for level in LEVELS:
        ends = np.array([own.interval(emotion, dur, contrast, level) for own, emotion, dur, contrast in known])
        holds = (ends[:, 0] <= heard.label) & (heard.label <= ends[:, 1])
        cells.append(triple(np.average(holds, axis=0, weights=weigh(heard))))
    return [name, f"{len(set(heard.clip)):,}", str(len(set(heard.speaker))), *cells]


def by_noise(heard: Heard, calibration: Calibration, known: Heard | None) -> Iterator[list[str]]:
    for snr in sorted(set(heard.snr), reverse=True):
        some = heard[heard.snr == snr]
        usual = told(some, calibration)
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


def off_at_home(known: Heard, snr: float) -> str:
    """How far whole clips with this noise are off, each corpus and in it each speaker weighing the same."""
    chosen = (known.snr == snr) & (known.cut_dur == 0)
    off = np.abs(known.label - judged(known))[chosen]
    return triple(np.average(off, axis=0, weights=weigh(known[chosen]))) if chosen.any() else ""


def by_word(name: str, heard: Heard, calibration: Callable[[str], Calibration]) -> list[str]:
    """A row of the table of words; ``calibration`` is asked for by the name of the clip's corpus."""
    found: dict[str, list[bool]] = {word: [] for word in (*WORDS.values(), "neutral")}
    for row, corpus in enumerate(heard.corpus):
        own = calibration(str(corpus))
        reading = own.read(Emotion(*heard.output[row]), heard.speech_dur[row], heard.contrast[row])
        if reading.word:
            found[reading.word].append(is_right(reading, Emotion(*heard.label[row]), own))
    every = [right for rights in found.values() for right in rights]
    cells = [name, f"{len(heard.clip):,}", share(every, len(heard.clip))]
    return cells + [share(rights, len(heard.clip)) for rights in found.values()]


def share(rights: list[bool], clips: int) -> str:
    return f"{len(rights) / clips:.1%}, {np.mean(rights):.0%} right" if rights else "none"


def is_right(reading: Reading, label: Emotion, calibration: Calibration) -> bool:
    off = [(getattr(label, name) - calibration.scales[name].mean, calibration.scales[name].spread) for name in PLANE]
    if reading.word == "neutral":
        return all(abs(distance) <= NEUTRAL * spread for distance, spread in off)
    return WORDS[tuple(1 if distance > 0 else -1 for distance, _ in off)] == reading.word


def words(
    heard: Heard, calibration: Calibration, known: Heard | None, fitted: Mapping[str, Calibration]
) -> Iterator[list[str]]:
    if known:
        yield by_word("dev speakers, held-out corpus", known[known.plain], fitted.__getitem__)
    yield by_word("the corpus asked", heard, lambda _: calibration)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--calibration", default=True, help="if not the one beside the weights")
    parser.add_argument("--dev", nargs="*", default=[])
    arguments = parser.parse_args()
    model = load(arguments.model, calibration=arguments.calibration)
    calibration, rows = model.calibration, {"all": read_manifest(arguments.labels)}
    dev = {manifest_name(path): read_manifest(path) for path in arguments.dev}
    known = listen(dev, model.batch, quiet) if dev else None
    clean = listen(rows, model.batch, quiet, snrs=(np.inf,))
    table(
        ["heard", "clips", "80 % hold", "95 % hold", "width of 80 %", "CCC before", "CCC after"],
        by_length(clean, calibration),
    )
    fitted = {}
    if known:
        corpora = sorted(set(known.corpus))
        fitted = {corpus: fit_calibration(known[known.corpus != corpus], model.metadata) for corpus in corpora}
        table(["held out", "clips", "speakers", "80 % hold", "95 % hold"], by_group(known, fitted, model))
    noisy = listen(rows, model.batch, quiet, cut_durs=(0.0,), snrs=SNRS)
    table(
        ["pink noise", "contrast, dB", "off by", "80 % hold", "width of 80 %", "off by, dev speakers"],
        by_noise(noisy, calibration, known),
    )
    table(
        ["clips of", "clips", "have a word", *WORDS.values(), "neutral"],
        words(clean[clean.plain], calibration, known, fitted),
    )


if __name__ == "__main__":
    main()
