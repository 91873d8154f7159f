"""What a predictor says about segments, against the truth: its answers, its scores, and a plot of both."""

from __future__ import annotations

import os.path
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2small.audio.read import read_with_duration
from wav2small.audio.vad import FILE_DUR, detector, is_enough, sound
from wav2small.errors import AudioError, ManifestError, Wav2SmallError, missing_packages
from wav2small.evaluation.confusion import Confusion, confusion_of
from wav2small.evaluation.statistics import (
    Difference,
    Figures,
    Sample,
    Score,
    differences,
    figures,
    mean_over,
    sample_of,
    scores,
)
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.options import Options
from wav2small.runtime.windows import check_length, counted, mean, parts
from wav2small.tables.manifest import Norm, Segment
from wav2small.tables.table import check_writable, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Signal = NDArray[np.float32]
Clip = Sequence[Signal]
"""The parts of a clip that its answer is the mean of; none if it has too little speech."""
Predict = Callable[[Sequence[Signal]], Sequence[Emotion]]
"""The seam: mono float32 signals at 16 kHz in, one emotion each out. A test double is a lambda."""
Change = Callable[[Signal, Segment], Signal]
"""What a clip is replaced by before it is answered."""

BATCH = 16
DEFAULTS = Options()
MEAN, POOLED = "mean over corpora", "pooled"
"""What stands in the place of a corpus's name."""
TIME_TOLERANCE = 1e-3
"""Seconds: tables print times with four decimals or fewer."""


class Answer(NamedTuple):
    """An emotion, or the reason why there is none: a row is scored if and only if the reason is empty.

    ``category`` is the predicted category, if the predictor has categories.
    """

    emotion: Emotion | None
    reason: str = ""
    detail: str = ""
    category: str = ""


@dataclass(frozen=True)
class EvaluationSet:
    """Segments, their truth, and the corpus of each; the classes of the AUCs come from the norms of their labels.

    ``draws`` and ``seed`` are of the bootstrap, which resamples speakers; a clip without one counts as one of its own.
    """

    segments: Sequence[Segment]
    truth: Sequence[Answer]
    corpora: Sequence[str]
    norms: Mapping[str, Norm]
    draws: int = 1000
    seed: int = 0

    @property
    def is_of_several(self) -> bool:
        """Whether there are two corpora or more."""
        return len(set(self.corpora)) > 1

    def __getitem__(self, rows: Sequence[int]) -> EvaluationSet:
        """The set with these rows only."""
        return replace(
            self,
            segments=[self.segments[row] for row in rows],
            truth=[self.truth[row] for row in rows],
            corpora=[self.corpora[row] for row in rows],
        )


@dataclass(frozen=True)
class Evaluation:
    """Figures, how many rows were left out and why, and the pairs they were computed from, shape=(rows, 3) each.

    ``confusion`` is the confusion matrix of the categories, if the predictor has categories.
    """

    figures: Figures
    left_out: dict[str, int]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]
    confusion: Confusion | None = None

    @cached_property
    def scores(self) -> list[Score]:
        """Each statistic with its interval."""
        return scores(self.figures)

    def score(self, dimension: str, statistic: str) -> Score:
        """The score with this dimension (arousal, dominance, valence) and statistic (ccc, r, auc)."""
        return next(s for s in self.scores if (s.dimension, s.statistic) == (dimension, statistic))


def answer_segments(
    segments: Iterable[Segment],
    predict: Predict,
    speech_only: bool = False,
    options: Options = DEFAULTS,
) -> Iterator[Answer]:
    """Answers of a predictor, one a segment, in order: to the bit those of ``runtime.predict``.

    Every clip that can be read is answered, also one for which ``runtime.predict`` withholds the answer because it has
    too little speech: so a figure is about all clips.

    Args:
        segments: of a manifest
        predict: signals -> emotions
        speech_only: leave those clips out, with the reason ``no speech``
        options: the channel, the speech detector and the seconds of speech that count as enough

    Yields:
        an emotion, or the reason ``error`` (with the message as detail) or ``no speech``
    """
    return answer_clips(clips_of(segments, speech_only, options), predict)


def clips_of(
    segments: Iterable[Segment],
    speech_only: bool = False,
    options: Options = DEFAULTS,
    change: Change | None = None,
) -> Iterator[Clip | Answer]:
    """The clip of each segment, or the answer to one that cannot be read: what ``answer_clips`` answers.

    Args:
        segments: of a manifest
        speech_only: clips with too little speech are empty
        options: as in ``answer_segments``
        change: a distortion of every clip; None leaves them as they are
    """
    detect, always = detector(options.vad), not speech_only

    def has_speech(part: Signal) -> bool:
        return is_enough(sound(part, detect).ratio, len(part), options.min_speech, FILE_DUR)

    for clip in _clips(segments, options, change):
        yield clip if isinstance(clip, Answer) else counted(clip, has_speech, always)


def answer_clips(clips: Iterator[Clip | Answer], predict: Predict) -> Iterator[Answer]:
    """Answers to clips, one each, in order; ``BATCH`` clips are taken at once."""
    while batch := list(islice(clips, BATCH)):
        yield from _answer_batch(batch, predict)


def _clips(segments: Iterable[Segment], options: Options, change: Change | None) -> Iterator[Clip | Answer]:
    path, signal, duration = None, np.zeros(0, np.float32), None
    for segment in segments:
        try:
            if segment.path != path:
                (signal, duration), path = read_with_duration(segment.path, options.channel), segment.path
            yield _clip(segment, signal, duration, change)
        except AudioError as error:
            yield Answer(None, "error", str(error))


def _clip(segment: Segment, signal: Signal, duration: float | None, change: Change | None) -> Clip:
    """The parts of a segment out of the signal of its file, whose header states the duration."""
    clip = segment.cut(signal)
    check_length(len(clip), str(segment.path))
    if change is not None:
        clip = change(clip, segment)
        check_length(len(clip), str(segment.path))
    is_file = segment.start == 0 and segment.end is None and change is None
    return list(parts([clip], duration if is_file else len(clip) / SAMPLING_RATE))


def _answer_batch(batch: Sequence[Clip | Answer], predict: Predict) -> Iterator[Answer]:
    clips = [clip for clip in batch if clip and not isinstance(clip, Answer)]
    answers = iter(_answer_each(clips, predict) if clips else [])
    for clip in batch:
        if isinstance(clip, Answer):
            yield clip
        else:
            yield next(answers) if clip else Answer(None, "no speech")


def _answer_each(clips: Sequence[Clip], predict: Predict) -> list[Answer]:
    try:
        emotions = predict([part for clip in clips for part in clip])
    except AudioError as error:
        if len(clips) == 1:
            return [Answer(None, "error", str(error))]
        return [answer for clip in clips for answer in _answer_each([clip], predict)]
    assert len(emotions) == sum(map(len, clips))
    remaining = iter(emotions)
    return [_mean_answer(list(islice(remaining, len(clip))), clip) for clip in clips]


def _mean_answer(emotions: Sequence[Emotion], clip: Clip) -> Answer:
    values = mean(emotions, [len(part) for part in clip]).tolist()
    if not np.isfinite(values).all():
        return Answer(None, "error", f"the answer {values} is not finite")
    return Answer(Emotion(*values))


def answer_table(segments: Sequence[Segment], table: Sequence[Segment], missing: str) -> list[Answer]:
    """Answers from a table of predictions or labels, joined by file, start and end.

    A file is the same if it is written the same or is the same place on disk; where two manifests have a file of one
    name, only if it is the same place. Where one of the two sides does not say when the segment ends, both must have
    just one row of the file.

    Args:
        segments: of the manifest
        table: of the predictions, as ``read_manifest`` gives them
        missing: the reason to give where the table has no answer, e.g. ``no prediction``

    Returns:
        one answer a segment; without an emotion the reason is ``error``, ``no speech`` or ``missing``
    """
    rows: dict[str, list[Segment]] = defaultdict(list)
    for row in table:
        for key in {row.file, os.path.abspath(row.file), os.path.abspath(row.path)}:
            rows[key].append(row)
    counts = Counter((segment.file, segment.path) for segment in segments)
    places = Counter(file for file, _ in counts)
    answers = []
    for segment in segments:
        named = rows.get(segment.file, []) if places[segment.file] == 1 else []
        candidates = named or rows.get(os.path.abspath(segment.path), [])
        found = _match(segment, candidates, alone=counts[segment.file, segment.path] == 1)
        answers.append(Answer(None, missing) if found is None else _answer_row(found, missing))
    return answers


def _match(segment: Segment, rows: Sequence[Segment], alone: bool) -> Segment | None:
    for row in rows:
        if abs(row.start - segment.start) < TIME_TOLERANCE:
            if row.end is not None and segment.end is not None:
                if abs(row.end - segment.end) < TIME_TOLERANCE:
                    return row
            elif row.end == segment.end or (alone and len(rows) == 1):
                return row
    return None


def _answer_row(row: Segment, missing: str) -> Answer:
    if row.emotion is not None:
        return Answer(row.emotion, category=row.column("category"))
    if row.column("error"):
        return Answer(None, "error", row.column("error"))
    return Answer(None, "no speech" if row.column("speech").lower() in ("false", "0") else missing)


def own_truth(segments: Sequence[Segment]) -> list[Answer]:
    """The truth in the manifest's own columns arousal, dominance and valence."""
    return [_answer_row(segment, missing="no annotation") for segment in segments]


def category_norms(segments: Sequence[Segment], norms: Mapping[str, Norm]) -> list[Answer]:
    """The truth that stands in for annotations: the norm of each segment's category."""
    return [
        Answer(norms[segment.label].emotion) if segment.label in norms else Answer(None, "no norm", segment.label)
        for segment in segments
    ]


def check_truth(truth: Sequence[Answer], corpus: str = "") -> None:
    """Raise ManifestError if there is no truth at all, or it is on another scale than 0 to 1: before long work."""
    where = corpus and f" of {corpus}"
    values = [value for answer in truth if answer.emotion for value in answer.emotion]
    if not values:
        why = _listed(Counter(answer.reason for answer in truth))
        raise ManifestError(
            f"nothing to score: none of {len(truth)} rows{where} has a truth ({why}). "
            "Give a table of labels as the truth, or leave the corpus out."
        )
    if min(values) < -0.5 or max(values) > 1.5:
        raise ManifestError(
            f"the truth{where} goes from {min(values):.4g} to {max(values):.4g}. "
            "Needed: arousal, dominance and valence on 0 to 1; rescale the columns, (x - 1) / 6 for 1 to 7."
        )


def evaluate(
    segments: Sequence[Segment],
    truth: Sequence[Answer],
    prediction: Sequence[Answer],
    norms: Mapping[str, Norm],
    draws: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """The scores of one corpus: CCC, r and AUCs of each dimension, and the further statistics of docs/evaluate.md.

    The classes of the AUCs come from the norms of the segments' categories, whatever the truth is.

    Args:
        segments: of the manifest
        truth: one answer a segment
        prediction: one answer a segment
        norms: classes by category
        draws: of the bootstrap, which resamples speakers; a clip without a speaker counts as one of its own
        seed: of the bootstrap

    Raises:
        ManifestError: if nothing is left to score, or the truth is on another scale than 0 to 1
    """
    check_truth(truth)
    return _evaluate(EvaluationSet(segments, truth, [""] * len(segments), norms, draws, seed), prediction)


def rows_of(names: Sequence[str]) -> dict[str, list[int]]:
    """The rows that have each name, in order of appearance; rows without a name are left out."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name:
            found.setdefault(name, []).append(row)
    return found


def evaluate_within(data: EvaluationSet, prediction: Sequence[Answer]) -> dict[str, Evaluation]:
    """The scores within each corpus, by its name; of several corpora also their mean, and those of all rows pooled.

    Args:
        data: segments, truth and corpora
        prediction: one answer a segment

    Returns:
        an evaluation for each corpus, in order of appearance; then ``MEAN`` and ``POOLED``, if there are several

    Raises:
        ManifestError: if nothing is left to score in a corpus
    """
    found = {
        name: _evaluate(data[rows], [prediction[row] for row in rows]) for name, rows in rows_of(data.corpora).items()
    }
    if len(found) > 1:
        pooled = _evaluate(data, prediction)
        mean = mean_over({name: one.figures for name, one in found.items()}, data.seed)
        found |= {MEAN: replace(pooled, figures=mean), POOLED: pooled}
    return found


def check_answers(data: EvaluationSet, prediction: Sequence[Answer], predictor: str) -> None:
    """Raise ManifestError if a predictor answers no row of a corpus that has a truth: before others begin long work."""
    for rows in rows_of(data.corpora).values():
        _left_out(data[rows], [prediction[row] for row in rows], f"{predictor}: ")


def _left_out(data: EvaluationSet, prediction: Sequence[Answer], predictor: str = "") -> list[str]:
    """The reason for each row, empty if it is scored."""
    reasons = [t.reason or p.reason for t, p in zip(data.truth, prediction, strict=True)]
    if all(reasons):
        corpus = " or ".join(dict.fromkeys(filter(None, data.corpora)))
        raise ManifestError(
            f"{predictor}nothing to score{corpus and f' in {corpus}'}: all {len(reasons)} rows are left out "
            f"({_listed(Counter(reasons))})."
        )
    return reasons


def _evaluate(data: EvaluationSet, prediction: Sequence[Answer]) -> Evaluation:
    reasons = _left_out(data, prediction)
    kept = [row for row, reason in enumerate(reasons) if not reason]
    sample = _sample(data[kept], [prediction[row] for row in kept])
    left_out = dict(Counter(filter(None, reasons)))
    pairs = sample.pairs
    return Evaluation(
        figures(sample, data.draws, data.seed), left_out, pairs.truth, pairs.prediction, confusion_of(sample)
    )


def _sample(data: EvaluationSet, prediction: Sequence[Answer]) -> Sample:
    """Of rows that have both a truth and a prediction."""
    t, p = (np.array([answer.emotion for answer in column], dtype=np.float64) for column in (data.truth, prediction))
    return sample_of(data.segments, t, p, data.norms, data.corpora, [answer.category for answer in prediction])


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in reasons.items())


def evaluate_by(column: str, data: EvaluationSet, prediction: Sequence[Answer]) -> dict[str, dict[str, Evaluation]]:
    """``evaluate_within`` of the segments with each value of a column, by ``column=value``.

    A value that is not scored is left out. Speakers of one name in two corpora are two people: by ``speaker``, there is
    neither mean nor pooled.
    """
    pairs = zip(data.segments, data.truth, prediction, strict=True)
    names = [one.column(column) if true.emotion and answer.emotion else "" for one, true, answer in pairs]
    found = {
        f"{column}={value}": evaluate_within(data[rows], [prediction[row] for row in rows])
        for value, rows in sorted(rows_of(names).items())
    }
    if column == "speaker":
        return {value: {name: one[name] for name in one if name not in (MEAN, POOLED)} for value, one in found.items()}
    return found


def compare(data: EvaluationSet, one: Sequence[Answer], other: Sequence[Answer]) -> dict[str, tuple[Difference, ...]]:
    """How much higher one predictor scores than another on the rows that both answered, by a paired bootstrap.

    Both are scored on the same resampled speakers, and the interval is of the difference.

    Returns:
        differences of each statistic within each corpus, by its name; then ``MEAN`` and ``POOLED``, if there are
        several corpora

    Raises:
        ManifestError: if there is a corpus in which they answered no row in common
    """
    answered = [all(answer.emotion for answer in row) for row in zip(data.truth, one, other, strict=True)]
    kept = [row for row, is_answered in enumerate(answered) if is_answered]
    common = data[kept]
    missing = set(data.corpora) - set(common.corpora)
    if missing:
        raise ManifestError(f"nothing to compare in {' or '.join(sorted(missing))}: no row is answered by both.")
    first, second = (_sample(common, [answers[row] for row in kept]) for answers in (one, other))
    seconds = second.within()
    found = {name: _difference(own, seconds[name], data) for name, own in first.within().items()}
    if len(found) > 1:
        found |= {MEAN: mean_over(found, data.seed), POOLED: _difference(first, second, data)}
    return {name: tuple(differences(some)) for name, some in found.items()}


def _difference(one: Sample, other: Sample, data: EvaluationSet) -> Figures:
    return figures(one, data.draws, data.seed) - figures(other, data.draws, data.seed)


def tidy(
    found: Evaluation | Sequence[Score], predictor: str, truth: str, manifest: str, several: bool = False
) -> list[dict[str, object]]:
    """One row a score: predictor, truth, manifest, dimension, statistic, value, low, high, n, speakers.

    What is not a number is None. Of several corpora, ``corpora`` is how many of them a score is the mean over.
    """
    names = {"predictor": predictor, "truth": truth, "manifest": manifest}
    rows = [asdict(score) for score in (found.scores if isinstance(found, Evaluation) else found)]
    hidden = () if several else ("corpora",)
    return [{**names, **{key: _none_if_nan(row[key]) for key in row if key not in hidden}} for row in rows]


def _none_if_nan(value: object) -> object:
    return None if value != value else value


def check_plot(file: str | Path) -> None:
    """Raise Wav2SmallError if a PNG could not be drawn or written: before long work, not after it.

    Raises:
        MissingExtraError: if matplotlib is not installed
    """
    if find_spec("matplotlib") is None:
        raise missing_packages("a plot", ["matplotlib"], "wav2small[plot]")
    if Path(file).suffix.lower() != ".png":
        raise Wav2SmallError(f"{file}: scatter plots are written as PNG; give a name that ends in .png")
    check_writable(file)


def scatter(evaluations: Mapping[tuple[str, str], Evaluation], truth: str, file: str | Path) -> None:
    """One PNG: prediction over truth, a row of panels per predictor and corpus, a column per dimension.

    Args:
        evaluations: by predictor and corpus
        truth: name of the truth
        file: ends in .png

    Raises:
        MissingExtraError: if matplotlib is not installed
    """
    check_plot(file)
    figure = _scatter_figure(evaluations, truth)
    with whole_file(file) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _scatter_figure(evaluations: Mapping[tuple[str, str], Evaluation], truth: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(OUTPUTS), 4.2 * len(evaluations)), layout="constrained")
    panels = figure.subplots(len(evaluations), len(OUTPUTS), squeeze=False)
    for row, ((predictor, corpus), evaluation) in zip(panels, evaluations.items(), strict=True):
        for column, (axes, dimension) in enumerate(zip(row, OUTPUTS, strict=True)):
            t, p = evaluation.truth[:, column], evaluation.prediction[:, column]
            limits = min(0.0, t.min(), p.min()) - 0.02, max(1.0, t.max(), p.max()) + 0.02
            axes.set(aspect="equal", xlim=limits, ylim=limits)
            axes.set(xlabel=f"{dimension}, {truth}", ylabel=f"{dimension}, {predictor}")
            axes.plot(limits, limits, color="0.6", linewidth=1)
            axes.scatter(t, p, s=6, alpha=0.3, linewidths=0)
            score = evaluation.score(dimension, "ccc")
            axes.set_title(f"{corpus}, {dimension}: CCC {score.value:.2f} (n = {score.n})", fontsize="medium")
    return figure
