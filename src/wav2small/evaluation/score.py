"""What a predictor says about a manifest, against the truth: CCC, r and AUC per dimension, intervals over speakers."""

from __future__ import annotations

import os.path
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2small.audio.read import read_with_duration
from wav2small.audio.vad import FILE_DUR, detector, is_enough, sound
from wav2small.errors import AudioError, ManifestError, MissingExtraError, Wav2SmallError
from wav2small.metrics import auc, bootstrap_interval, concordance_cc, pearson_cc
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

BATCH = 16
DEFAULTS = Options()
TIME_TOLERANCE = 1e-3
"""Seconds: tables print times with four decimals or fewer."""


class Answer(NamedTuple):
    """An emotion, or the reason why there is none: a row is scored if and only if the reason is empty."""

    emotion: Emotion | None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Score:
    """One statistic of one dimension with its interval over speakers; not a number where it is undefined."""

    dimension: str
    statistic: str
    value: float
    low: float
    high: float
    n: int
    speakers: int


@dataclass(frozen=True)
class Evaluation:
    """Scores, how many rows were left out and why, and the pairs they were computed from, shape=(rows, 3) each."""

    scores: list[Score]
    left_out: dict[str, int]
    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]

    def score(self, dimension: str, statistic: str) -> Score:
        """The score with this dimension (arousal, dominance, valence) and statistic (ccc, r, auc)."""
        return next(s for s in self.scores if (s.dimension, s.statistic) == (dimension, statistic))


def answer_segments(
    segments: Iterable[Segment], predict: Predict, speech_only: bool = False, options: Options = DEFAULTS
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
    detect, always = detector(options.vad), not speech_only

    def has_speech(part: Signal) -> bool:
        return is_enough(sound(part, detect).ratio, len(part), options.min_speech, FILE_DUR)

    clips = (
        clip if isinstance(clip, Answer) else counted(clip, has_speech, always) for clip in _clips(segments, options)
    )
    while batch := list(islice(clips, BATCH)):
        yield from _answer_batch(batch, predict)


def _clips(segments: Iterable[Segment], options: Options) -> Iterator[Clip | Answer]:
    path, signal, duration = None, np.zeros(0, np.float32), None
    for segment in segments:
        try:
            if segment.path != path:
                (signal, duration), path = read_with_duration(segment.path, options.channel), segment.path
            yield _clip(segment, signal, duration)
        except AudioError as error:
            yield Answer(None, "error", str(error))


def _clip(segment: Segment, signal: Signal, duration: float | None) -> Clip:
    """The parts of a segment out of the signal of its file, whose header states the duration."""
    clip = segment.cut(signal)
    check_length(len(clip), str(segment.path))
    is_file = segment.start == 0 and segment.end is None
    return list(parts([clip], duration if is_file else len(clip) / SAMPLING_RATE))


def _answer_batch(batch: Sequence[Clip | Answer], predict: Predict) -> Iterator[Answer]:
    clips = [clip for clip in batch if clip and not isinstance(clip, Answer)]
    answers = iter(_answer_clips(clips, predict) if clips else [])
    for clip in batch:
        if isinstance(clip, Answer):
            yield clip
        else:
            yield next(answers) if clip else Answer(None, "no speech")


def _answer_clips(clips: Sequence[Clip], predict: Predict) -> list[Answer]:
    try:
        emotions = predict([part for clip in clips for part in clip])
    except AudioError as error:
        if len(clips) == 1:
            return [Answer(None, "error", str(error))]
        return [answer for clip in clips for answer in _answer_clips([clip], predict)]
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

    A file is the same if it is written the same or is the same place on disk. Where one of the two sides does not say
    when the segment ends, both must have just one row of the file.

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
    counts = Counter(segment.file for segment in segments)
    answers = []
    for segment in segments:
        candidates = rows.get(segment.file) or rows.get(os.path.abspath(segment.path), [])
        found = _match(segment, candidates, alone=counts[segment.file] == 1)
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
        return Answer(row.emotion)
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


def check_truth(truth: Sequence[Answer]) -> None:
    """Raise ManifestError if there is no truth at all, or it is on another scale than 0 to 1: before long work."""
    values = [value for answer in truth if answer.emotion for value in answer.emotion]
    if not values:
        why = ", ".join(f"{reason}: {count}" for reason, count in Counter(t.reason for t in truth).items())
        raise ManifestError(f"nothing to score: none of {len(truth)} rows has a truth ({why}).")
    if min(values) < -0.5 or max(values) > 1.5:
        raise ManifestError(
            f"the truth goes from {min(values):.4g} to {max(values):.4g}. "
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
    """CCC and r of each dimension, and the AUCs of arousal (high against low) and valence (positive against negative).

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
    reasons = [t.reason or p.reason for t, p in zip(truth, prediction, strict=True)]
    left_out = Counter(reason for reason in reasons if reason)
    kept = [i for i, reason in enumerate(reasons) if not reason]
    if not kept:
        why = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise ManifestError(f"nothing to score: all {len(segments)} rows are left out ({why}).")
    rows = [segments[i] for i in kept]
    t, p = (np.array([answers[i].emotion for i in kept], dtype=np.float64) for answers in (truth, prediction))
    bootstrap = partial(bootstrap_interval, draws=draws, seed=seed)
    scores = [score for dimension in OUTPUTS for score in _scores(dimension, rows, t, p, norms, bootstrap)]
    return Evaluation(scores, dict(left_out), t, p)


def evaluate_by(
    column: str,
    segments: Sequence[Segment],
    truth: Sequence[Answer],
    prediction: Sequence[Answer],
    norms: Mapping[str, Norm],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Evaluation]:
    """``evaluate`` of the segments with each value of a column, by ``column=value``; none if nothing is scored."""
    groups: dict[str, list[int]] = {}
    for index, (segment, true, answer) in enumerate(zip(segments, truth, prediction, strict=True)):
        if segment.column(column) and true.emotion and answer.emotion:
            groups.setdefault(f"{column}={segment.column(column)}", []).append(index)
    return {
        name: evaluate(
            [segments[i] for i in group], [truth[i] for i in group], [prediction[i] for i in group], norms, draws, seed
        )
        for name, group in sorted(groups.items())
    }


def _scores(
    dimension: str,
    rows: Sequence[Segment],
    truth: NDArray[np.float64],
    prediction: NDArray[np.float64],
    norms: Mapping[str, Norm],
    interval: Callable[..., tuple[float, float]],
) -> Iterator[Score]:
    column = OUTPUTS.index(dimension)
    t, p = truth[:, column], prediction[:, column]
    classes = [_is_positive(norms.get(row.label), dimension) for row in rows]
    everything = np.arange(len(rows))
    classed = np.array([i for i in everything if classes[i] is not None], dtype=np.intp)
    positive = np.array([bool(value) for value in classes])
    speakers = np.array([row.speaker or f"\n{i}" for i, row in enumerate(rows)])
    for name, statistic, first, chosen in (
        ("ccc", concordance_cc, t, everything),
        ("r", pearson_cc, t, everything),
        ("auc", auc, positive, classed),
    ):
        if len(chosen):
            x, y = first[chosen], p[chosen]
            low, high = interval(lambda i, f=statistic, x=x, y=y: f(x[i], y[i]), speakers[chosen])
            known = {rows[i].speaker for i in chosen} - {""}
            yield Score(dimension, name, statistic(x, y), low, high, len(chosen), len(known))


def _is_positive(norm: Norm | None, dimension: str) -> bool | None:
    """Whether a category is of the upper class of a dimension's AUC; None if it is of neither."""
    value = {"arousal": norm.arousal_class, "valence": norm.valence_class}.get(dimension, "") if norm else ""
    return value in ("high", "positive") if value else None


def tidy(evaluation: Evaluation, predictor: str, truth: str, manifest: str) -> list[dict[str, object]]:
    """One row a score: predictor, truth, manifest, dimension, statistic, value, low, high, n, speakers.

    What is not a number is None.
    """
    names = {"predictor": predictor, "truth": truth, "manifest": manifest}
    return [
        {**names, **{key: _none_if_nan(value) for key, value in asdict(score).items()}} for score in evaluation.scores
    ]


def _none_if_nan(value: object) -> object:
    return None if value != value else value


def check_plot(folder: str | Path) -> None:
    """Make the folder of the plots, and raise Wav2SmallError if they could not be made: before long work, not after it.

    Raises:
        MissingExtraError: if matplotlib is not installed
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("a plot needs matplotlib, which is not here: pip install 'wav2small[plot]'")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Wav2SmallError(f"{folder}: cannot be made a folder ({error.strerror}). Give another one.") from None
    check_writable(Path(folder) / "plot.png")


def scatter(evaluation: Evaluation, predictor: str, truth: str, manifest: str, folder: str | Path) -> list[Path]:
    """One PNG a dimension: prediction over truth, with the line on which both agree and the CCC in the title.

    Raises:
        MissingExtraError: if matplotlib is not installed
    """
    check_plot(folder)
    files = []
    for column, dimension in enumerate(OUTPUTS):
        figure = _scatter_figure(evaluation, column, f"{dimension}, {truth}", f"{dimension}, {predictor}")
        score = evaluation.score(dimension, "ccc")
        figure.axes[0].set_title(f"{manifest}, {dimension}: CCC {score.value:.2f} (n = {score.n})", fontsize="medium")
        name = re.sub(r"[^\w.-]+", "-", f"{manifest}-{predictor}-{truth}-{dimension}.png")
        files.append(Path(folder) / name)
        with whole_file(files[-1]) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
    return files


def _scatter_figure(evaluation: Evaluation, column: int, xlabel: str, ylabel: str) -> Figure:
    from matplotlib.figure import Figure

    t, p = evaluation.truth[:, column], evaluation.prediction[:, column]
    limits = min(0.0, t.min(), p.min()) - 0.02, max(1.0, t.max(), p.max()) + 0.02
    figure = Figure(figsize=(4, 4.2), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlim=limits, ylim=limits, xlabel=xlabel, ylabel=ylabel)
    axes.plot(limits, limits, color="0.6", linewidth=1)
    axes.scatter(t, p, s=6, alpha=0.3, linewidths=0)
    return figure
