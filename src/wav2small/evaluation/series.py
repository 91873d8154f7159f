"""Predictions of windows against annotation over time: reaction delay, and CCC over the concatenation of all files.

Every annotated moment is scored. The prediction at a moment is interpolated between the centres of windows, and is that
of the first or last window outside of them. The raters' reaction delay is subtracted from the time of the annotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2small.errors import ManifestError
from wav2small.evaluation.plots import COLOURS, LIMITS, check_drawable
from wav2small.evaluation.statistics import MIN_SPEAKERS
from wav2small.files import whole_file
from wav2small.metrics import Indices, bootstrap_interval, concordance_cc, mean_within, pearson_cc
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Segment
from wav2small.tables.series import Series
from wav2small.tables.spans import names_of

Floats = NDArray[np.float64]

DELAYS = np.arange(61) / 10
"""Seconds that are tried on dev; raters need 2 to 6 s.

Source: Mariooryad and Busso 2015, IEEE Transactions on Affective Computing 6:97
"""
MEAN = "mean A/D/V"


class Track(NamedTuple):
    """Predictions of one file: centres of windows in seconds, shape=(windows,), and A/D/V, shape=(windows, 3)."""

    time: Floats
    emotion: Floats


class SeriesScore(NamedTuple):
    """CCC of one dimension of one split.

    Attributes:
        split: "" where the annotation has no splits
        dimension: of A/D/V, or ``MEAN``
        delay: seconds that were subtracted from the time of the annotation
        ccc: over the concatenation of all files
        low: of the 95 % interval of ``ccc`` over files; None with fewer than five
        high: of the same interval
        ccc_within: mean over files of the CCC within each
        r: over the concatenation; None where it is undefined
        n: moments
        files: of the split
    """

    split: str
    dimension: str
    delay: float
    ccc: float
    low: float | None
    high: float | None
    ccc_within: float
    r: float | None
    n: int
    files: int


def join_tracks(truth: Sequence[Series], rows: Sequence[Segment], source: str) -> list[Track]:
    """The predictions of each annotated file.

    Args:
        truth: annotation
        rows: of ``predict --hop``; those without an answer are left out
        source: name of their table, for error messages

    Returns:
        one track per series

    Raises:
        ManifestError: if a file has no predictions, those of two files, or a row without end
    """
    by_file: dict[str, list[Segment]] = {}
    for row in rows:
        if row.emotion:
            by_file.setdefault(row.file, []).append(row)
    return [_track(by_file[_file_of(one.file, by_file, source)], source) for one in truth]


def _file_of(name: str, files: Mapping[str, object], source: str) -> str:
    if name in files:
        return name
    found = [file for file in files if name in names_of(file) or file in names_of(name)]
    if len(found) != 1:
        those = f"those of {' and '.join(found[:3])}" if found else "none"
        raise ManifestError(
            f"{source}: of the predictions for {name}, which is annotated, there are {those}. Give each annotated file "
            "its rows of predict --hop, and a path that no other has."
        )
    return found[0]


def _track(rows: Sequence[Segment], source: str) -> Track:
    times = [(row.start + row.end) / 2 for row in rows if row.end is not None]
    if len(times) < len(rows):
        raise ManifestError(f"{source}: a row of {rows[0].file} has no end. Give rows of predict --hop.")
    order = np.argsort(times, kind="stable")
    return Track(np.array(times)[order], np.array([row.emotion for row in rows], dtype=np.float64)[order])


def at_moments(truth: Sequence[Series], tracks: Sequence[Track], dimension: str, delay: float) -> tuple[Floats, Floats]:
    """Annotation and predictions at each annotated moment, over the concatenation of all files.

    Args:
        truth: annotation
        tracks: predictions of the same files
        dimension: of A/D/V
        delay: seconds from what is said to its annotation

    Returns:
        truth, prediction, each of shape=(moments,)
    """
    column = OUTPUTS.index(dimension)
    predicted = [
        np.interp(one.time - delay, track.time, track.emotion[:, column])
        for one, track in zip(truth, tracks, strict=True)
    ]
    return np.concatenate([one.values[dimension] for one in truth]), np.concatenate(predicted)


def best_delay(truth: Sequence[Series], tracks: Sequence[Track]) -> float:
    """The one of ``DELAYS`` with the largest mean CCC over the annotated dimensions; of equal ones the shortest."""
    names = truth[0].dimensions
    means = [np.mean([concordance_cc(*at_moments(truth, tracks, n, delay)) for n in names]) for delay in DELAYS]
    return float(DELAYS[np.argmax(means)])


def score_series(
    truth: Sequence[Series], tracks: Sequence[Track], delay: float, draws: int, seed: int
) -> list[SeriesScore]:
    """Scores of each dimension within each split, and their mean if several dimensions are annotated.

    Args:
        truth: annotation
        tracks: predictions of the same files
        delay: seconds from what is said to its annotation
        draws: of the bootstrap, which resamples files
        seed: of the bootstrap
    """
    scores = []
    for split in dict.fromkeys(one.split for one in truth):
        rows = [index for index, one in enumerate(truth) if one.split == split]
        scores += _score_split([truth[row] for row in rows], [tracks[row] for row in rows], delay, draws, seed)
    return scores


def _score_split(
    truth: Sequence[Series], tracks: Sequence[Track], delay: float, draws: int, seed: int
) -> list[SeriesScore]:
    names = truth[0].dimensions
    pairs = [at_moments(truth, tracks, name, delay) for name in names]
    group = np.repeat(np.arange(len(truth)), [len(one.time) for one in truth])

    def interval(own: Sequence[tuple[Floats, Floats]]) -> tuple[float | None, float | None]:
        """Of the mean CCC of some dimensions."""
        if len(truth) < MIN_SPEAKERS:
            return None, None

        def mean_ccc(rows: Indices) -> float:
            return float(np.mean([concordance_cc(t[rows], p[rows]) for t, p in own]))

        return bootstrap_interval(mean_ccc, group, draws, seed=seed)

    scores = []
    for name, (t, p) in zip(names, pairs, strict=True):
        r = pearson_cc(t, p)
        cells = concordance_cc(t, p), *interval([(t, p)]), mean_within(concordance_cc, t, p, group)
        scores.append(SeriesScore(truth[0].split, name, delay, *cells, None if np.isnan(r) else r, len(t), len(truth)))
    if len(names) > 1:
        mean = float(np.mean([one.ccc for one in scores])), *interval(pairs)
        within = float(np.mean([one.ccc_within for one in scores]))
        scores.append(SeriesScore(truth[0].split, MEAN, delay, *mean, within, None, len(group), len(truth)))
    return scores


def draw_series(
    truth: Sequence[Series], predicted: Mapping[str, tuple[Sequence[Track], float]], path: str | Path
) -> None:
    """Draw annotation and predictions over the concatenation of all files, a panel per dimension.

    Args:
        truth: annotation
        predicted: by name: predictions of the same files, and the delay
        path: PNG, SVG or PDF

    Raises:
        Wav2SmallError: if the suffix is not that of a picture
        MissingExtraError: if matplotlib is not installed
    """
    check_drawable(path)
    from matplotlib.figure import Figure

    names = truth[0].dimensions
    figure = Figure(figsize=(12, 2.2 * len(names) + 0.8), layout="constrained")
    panels = figure.subplots(len(names), squeeze=False)[:, 0]
    ends = np.cumsum([one.time[-1] - one.time[0] for one in truth])
    time = np.concatenate([one.time - one.time[-1] + end for one, end in zip(truth, ends, strict=True)])
    for axes, name in zip(panels, names, strict=True):
        axes.plot(time, np.concatenate([one.values[name] for one in truth]), color="#444444", label="truth")
        for number, (label, (tracks, delay)) in enumerate(predicted.items()):
            prediction = at_moments(truth, tracks, name, delay)[1]
            axes.plot(time, prediction, "-" if number == 0 else "--", color=COLOURS[name], label=label)
        axes.vlines(ends[:-1], 0, 1, color="#bbbbbb", linewidth=0.8)
        axes.set(xlim=(time[0], time[-1]), ylim=LIMITS, ylabel=name)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 + len(predicted), frameon=False, fontsize="small")
    panels[-1].set_xlabel("seconds; files one after the other")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
