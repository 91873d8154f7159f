"""Audio to a calibration: what a model answers to whole clips, to parts of them and in noise, against their labels.

Intervals are split conformal: each holds, for the stated share of the clips it was made from, the label that the
teacher gave to the whole clean clip. Source: Vovk, Gammerman and Shafer 2005; bins as in Vovk 2012, arXiv:1209.2673
(Mondrian); a corpus, and in it a speaker, weighs the same however many its clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2small.audio.read import read
from wav2small.audio.vad import Energy, is_enough, sound
from wav2small.errors import ManifestError
from wav2small.evaluation.predictors import manifest_name
from wav2small.evaluation.score import Predict
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.network.weights import weights_name
from wav2small.runtime.calibration import LEVELS, Calibration, Scale, Table
from wav2small.runtime.windows import WHOLE_DUR
from wav2small.tables.manifest import Segment, read_manifest, select

Floats = NDArray[np.float64]

CUT_DURS = (0.0, 1.0, 2.0, 3.0)
"""Seconds of a clip that are processed; 0 is the whole, at most ``WHOLE_DUR``."""
SNRS = (np.inf, 10.0, 0.0, -10.0)
"""dB; of pink noise that is added."""
SPEECH_DURS = (1.5, 2.5)
CONTRASTS = (6.0, 12.0, 20.0)
"""Edges of the bins that intervals are made in: seconds of speech, and dB, between what ``SNRS`` leave of speech."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Where the distributions of output and label are laid upon each other."""
MIDDLE = (0.1, 0.9)
MIN_SPEAKERS = 10
MIN_CLIPS = 30
"""Of a calibration, and in a bin of its intervals; a bin with fewer clips has the intervals of all bins together."""
FOLDS = 5
STEP = 1e-4
"""Least distance of two knots."""
DRAWS = 500


@dataclass(frozen=True)
class Answers:
    """Answers, one row for each clip and condition, and what is known about them; each array has shape=(rows,).

    ``output`` and ``label`` have shape=(rows, 3); labels are not numbers where there are none. ``clip`` counts within
    all, ``corpus`` and ``speaker`` are names; ``cut_dur`` and ``snr`` are the condition, ``speech_dur`` and
    ``contrast`` how far it is above the quiet frames, dB.
    """

    output: Floats
    label: Floats
    clip: NDArray[np.int64]
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]
    cut_dur: Floats
    snr: Floats
    speech_dur: Floats
    contrast: Floats

    @property
    def plain(self) -> NDArray[np.bool_]:
        """Rows of whole clips as they were recorded."""
        return np.asarray((self.cut_dur == 0) & np.isinf(self.snr))

    @property
    def is_labelled(self) -> bool:
        """Whether every row has a label."""
        return bool(np.isfinite(self.label).all())

    def __getitem__(self, rows: NDArray[Any]) -> Answers:
        return Answers(*(values[rows] for values in vars(self).values()))


def answer(
    corpora: Mapping[str, Sequence[Segment]],
    predict: Predict,
    progress: Callable[[int, int], None],
    cut_durs: Sequence[float] = CUT_DURS,
    snrs: Sequence[float] = SNRS,
) -> Answers:
    """A model's answer to every clip under every condition with enough speech.

    A part of a clip is the one about the middle of its energy; a clip no longer than the part is processed whole alone.

    Args:
        corpora: segments by name
        predict: signals -> emotions
        progress: called with the number of clips done, and of all
        cut_durs: as ``CUT_DURS``
        snrs: as ``SNRS``

    Raises:
        ManifestError: if nothing is answered
        AudioError: if a clip cannot be read
    """
    rows: list[tuple[Any, ...]] = []
    clips = [(corpus, segment) for corpus, segments in corpora.items() for segment in segments]
    for clip, (corpus, segment) in enumerate(clips):
        signal = segment.cut(read(segment.path))[: round(WHOLE_DUR * SAMPLING_RATE)]
        parts = list(conditions(signal, clip, cut_durs, snrs))
        speaker = speaker_of(corpus, segment, clip)
        label = segment.emotion or (np.nan,) * len(OUTPUTS)
        outputs = predict([part for part, _ in parts]) if parts else []
        rows += [
            (output, label, clip, corpus, speaker, *condition)
            for output, (_, condition) in zip(outputs, parts, strict=True)
        ]
        progress(clip + 1, len(clips))
    if not rows:
        raise ManifestError(f"no speech is detected in {len(clips)} clips, so there is nothing to calibrate with")
    return Answers(*map(np.array, zip(*rows, strict=True)))


def read_corpora(manifests: Sequence[str], where: Sequence[tuple[str, str]] = ()) -> dict[str, list[Segment]]:
    """Segments without an error by corpus: their column ``corpus``, else the name of their manifest.

    Args:
        manifests: files or folders of manifests
        where: conditions of ``select``

    Raises:
        ManifestError: if a manifest cannot be read, or two have one name
    """
    names = [manifest_name(manifest) for manifest in manifests]
    if len(set(names)) < len(names):
        raise ManifestError(f"two of the manifests have one name: {', '.join(names)}. Rename one.")
    corpora: dict[str, list[Segment]] = {}
    for name, manifest in zip(names, manifests, strict=True):
        for segment in select(read_manifest(manifest), where):
            if not segment.column("error"):
                corpora.setdefault(segment.column("corpus") or name, []).append(segment)
    return corpora


def speaker_of(corpus: str, segment: Segment, clip: int) -> str:
    """Name of a speaker among those of all corpora; a clip without one counts as a speaker of its own."""
    return f"{corpus}/{segment.speaker or f'clip {clip}'}"


def conditions(
    signal: np.ndarray, seed: int, cut_durs: Sequence[float], snrs: Sequence[float]
) -> Iterator[tuple[np.ndarray, tuple[float, float, float, float]]]:
    """Each part and noise of a clip in which there is enough speech: its signal, and the last four of ``Answers``."""
    noise = pink(len(signal), seed) * np.sqrt(np.mean(np.square(signal, dtype=np.float64)))
    for cut_dur in cut_durs:
        length = round(cut_dur * SAMPLING_RATE)
        if length < len(signal):
            start = middle(signal, length) if length else 0
            where = slice(start, start + length if length else None)
            for snr in snrs:
                part = (signal[where] + noise[where] * 10 ** (-snr / 20)).astype(np.float32)
                speech = sound(part, Energy())
                if is_enough(speech.ratio, len(part)):
                    yield part, (cut_dur, snr, speech.ratio * len(part) / SAMPLING_RATE, speech.contrast)


def middle(signal: np.ndarray, length: int) -> int:
    """Where so many samples start that the middle of the signal's energy is in their middle, as far as it can be."""
    energy = np.cumsum(np.square(signal, dtype=np.float64))
    centre = int(np.searchsorted(energy, energy[-1] / 2))
    return min(max(0, centre - length // 2), len(signal) - length)


def pink(length: int, seed: int) -> Floats:
    """Noise of power 1 with the same power in each octave, shape=(length,)."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(length))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), length)
    return np.asarray(noise / noise.std())


def fit_calibration(answers: Answers, metadata: Mapping[str, str], base: Calibration | None = None) -> Calibration:
    """A calibration from a model's answers.

    With labels, output is laid upon label quantile by quantile, and intervals are made from the distances left, each
    clip judged by a map fitted without its corpus; of one corpus, its fifth of the speakers. Without labels, the
    output is laid upon what ``base`` was fitted to, and its intervals are kept: whether they hold is not known then.

    Args:
        answers: of ``answer``
        metadata: of the model that answered
        base: the calibration that the weights came with

    Raises:
        ManifestError: if there are too few clips or speakers, there are neither labels nor a base, or the model answers
            nearly all clips alike
    """
    plain = answers[answers.plain]
    check_enough(len(plain.clip), len(set(plain.speaker)))
    made = {"corpora": describe(plain), "labels": answers.is_labelled}
    if answers.is_labelled:
        targets = quantiles(plain.label, weigh(plain))
    elif base is None:
        raise ManifestError("the audio has no labels and the weights no calibration to start from. Give labels")
    else:
        targets = np.array([base.scales[name].label for name in OUTPUTS])
    knots = rising(quantiles(plain.output, weigh(plain)))
    tables = intervals(answers) if answers.is_labelled else [base.scales[name].half_width for name in OUTPUTS]  # type: ignore[union-attr]
    scales = {}
    for column, name in enumerate(OUTPUTS):
        mapped = np.interp(plain.output[:, column], knots[column], targets[column])
        mean, spread, low, high = moments(mapped, weigh(plain))
        if not low < high:
            raise ManifestError(
                f"{name}: the calibrated output for 80 % of {len(plain.clip)} clips is {low:g}, so it has no range. "
                "Give clips that differ more."
            )
        pairs = rounded(knots[column]), rounded(targets[column])
        scales[name] = Scale(*pairs, mean, spread, low, high, tables[column])
    return Calibration(weights_name(metadata), metadata.get("sha256", ""), scales, SPEECH_DURS, CONTRASTS, made)


def check_enough(clips: int, speakers: int) -> None:
    """Raise ``ManifestError`` if there are fewer than ``MIN_CLIPS`` clips, or ``MIN_SPEAKERS`` speakers."""
    if clips < MIN_CLIPS or speakers < MIN_SPEAKERS:
        raise ManifestError(
            f"too little audio for a calibration: clips {clips}, speakers {speakers}. Needed: {MIN_CLIPS} clips with "
            f"speech of {MIN_SPEAKERS} speakers, where a clip without a speaker counts as one. Add recordings."
        )


def describe(plain: Answers) -> dict[str, dict[str, int]]:
    """Clips and speakers of each corpus."""
    return {
        str(name): {
            "clips": int((plain.corpus == name).sum()),
            "speakers": len(set(plain.speaker[plain.corpus == name])),
        }
        for name in sorted(set(plain.corpus))
    }


def weigh(answers: Answers) -> Floats:
    """Weight of each row, together 1: the same for each corpus, in it for each speaker, and of one for each row."""
    weight = np.ones(len(answers.clip))
    _, corpus = np.unique(answers.corpus, return_inverse=True)
    _, first, speaker, rows = np.unique(answers.speaker, return_index=True, return_inverse=True, return_counts=True)
    weight /= rows[speaker] * np.bincount(corpus[first])[corpus]
    return np.asarray(weight / weight.sum())


def weighted_quantile(values: Floats, weight: Floats, quantile: Sequence[float]) -> Floats:
    """Of one column: linear between the middles of the steps of the distribution."""
    order = np.argsort(values, kind="stable")
    rank = np.cumsum(weight[order]) - weight[order] / 2
    return np.asarray(np.interp(quantile, rank / weight.sum(), values[order]))


def quantiles(values: Floats, weight: Floats) -> Floats:
    """A row a dimension, a column for each of ``QUANTILES``."""
    return np.stack([weighted_quantile(column, weight, QUANTILES) for column in values.T])


def rising(knots: Floats) -> Floats:
    """The same knots, moved apart where they fall together."""
    steps = STEP * np.arange(knots.shape[1])
    return np.asarray(np.maximum.accumulate(knots - steps, axis=1) + steps)


def moments(values: Floats, weight: Floats) -> tuple[float, float, float, float]:
    """Mean, standard deviation, and the ends of the middle 80 %."""
    mean = float(np.average(values, weights=weight))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
    low, high = weighted_quantile(values, weight, MIDDLE)
    return rounded([mean, spread, low, high])  # type: ignore[return-value]


def rounded(values: Sequence[float] | Floats) -> tuple[float, ...]:
    """Values rounded to four decimals, as they are stored in the JSON."""
    return tuple(round(float(value), 4) for value in values)


def intervals(answers: Answers) -> list[Mapping[str, Table]]:
    """Half widths by level of each dimension: a row a bin of speech, a column a bin of contrast, hard ones first."""
    distance, weight = np.abs(answers.label - judged(answers)), weigh(answers)
    row, column = np.digitize(answers.speech_dur, SPEECH_DURS), np.digitize(answers.contrast, CONTRASTS)
    shape = len(SPEECH_DURS) + 1, len(CONTRASTS) + 1
    widths = np.empty((len(LEVELS), len(OUTPUTS), *shape))
    for place in np.ndindex(*shape):
        inside = (row == place[0]) & (column == place[1])
        if len(set(answers.clip[inside])) < MIN_CLIPS:
            inside[:] = True
        for level, dimension in np.ndindex(*widths.shape[:2]):
            widths[(level, dimension, *place)] = conformal(distance[inside, dimension], weight[inside], LEVELS[level])
    for axis in (-1, -2):
        widths = np.flip(np.maximum.accumulate(np.flip(widths, axis), axis), axis)
    return [
        {f"{level:g}": tuple(map(rounded, widths[number, dimension])) for number, level in enumerate(LEVELS)}
        for dimension in range(len(OUTPUTS))
    ]


def conformal(distance: Floats, weight: Floats, level: float) -> float:
    """The distance that a share ``level`` keeps, if one more, unseen, is counted as infinitely far; 1 if none does."""
    order = np.argsort(distance, kind="stable")
    share = np.cumsum(weight[order]) / (weight.sum() + weight.max())
    place = int(np.searchsorted(share, level))
    return float(distance[order[place]]) if place < len(order) else 1.0


def judged(answers: Answers) -> Floats:
    """Each output on the scale of the labels, by a map fitted without its corpus or its part of the speakers."""
    group = answers.corpus
    if len(set(group)) == 1:
        _, number = np.unique(answers.speaker, return_inverse=True)
        group = (number % FOLDS).astype(str)
    mapped = np.empty_like(answers.output)
    for name in set(group):
        others = answers[(group != name) & answers.plain]
        knots, targets = rising(quantiles(others.output, weigh(others))), quantiles(others.label, weigh(others))
        for column in range(len(OUTPUTS)):
            mapped[group == name, column] = np.interp(
                answers.output[group == name, column], knots[column], targets[column]
            )
    return mapped
