"""How the answers of a predictor change with the condition of a clip, and what its accuracy is then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import tee
from typing import Any

import numpy as np

from wav2small.evaluation.conditions import Condition, Sounds
from wav2small.evaluation.predictors import Predictor
from wav2small.evaluation.score import MEAN, Answer, EvaluationSet, Predict, Signal, answer_clips, clips_of, rows_of
from wav2small.evaluation.statistics import (
    STATISTICS,
    Figures,
    Pairs,
    Score,
    Statistic,
    figures,
    mean_over,
    sample_of,
    scores,
)
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment
from wav2small.tables.table import render

Row = Mapping[str, Any]


def _every(pairs: Pairs) -> np.ndarray:
    return np.ones(len(pairs.truth), dtype=bool)


def _change_of(d: int, name: str) -> Iterator[Statistic]:
    yield Statistic(name, "shift", _every, lambda pairs: float(np.mean((pairs.prediction - pairs.truth)[:, d])))
    yield Statistic(
        name, "distance", _every, lambda pairs: float(np.mean(np.abs(pairs.prediction - pairs.truth)[:, d]))
    )
    yield Statistic(name, "ccc_clean", _every, lambda pairs: concordance_cc(pairs.truth[:, d], pairs.prediction[:, d]))


CHANGE = tuple(statistic for d, name in enumerate(OUTPUTS) for statistic in _change_of(d, name))
"""Of answers in a condition, beside those of the clean clips as ``truth``: mean difference, mean absolute one, CCC."""
ACCURACY = tuple(statistic for statistic in STATISTICS if statistic.name in ("ccc", "auc"))
"""Of answers in a condition, beside the truth."""


def answers_in(
    condition: Condition | None,
    predictors: Sequence[Predict],
    segments: Sequence[Segment],
    sounds: Sounds,
    seed: int,
) -> Iterator[tuple[Answer, ...]]:
    """The answers of several models in a condition, in which each clip is distorted once.

    Args:
        condition: None are the clean clips
        predictors: signals -> emotions
        segments: of a manifest
        sounds: what may be added
        seed: random seed

    Yields:
        one answer of each model, for each segment
    """
    change = None if condition is None else partial(_apply, condition, sounds, seed)
    streams = tee(clips_of(segments, change=change), len(predictors))
    answers = [answer_clips(clips, predict) for clips, predict in zip(streams, predictors, strict=True)]
    return zip(*answers, strict=True)


def _apply(condition: Condition, sounds: Sounds, seed: int, signal: Signal, clip: Segment) -> Signal:
    return condition.apply(signal, clip, sounds, seed)


def pair_key(predictor: Predictor, condition: str) -> str:
    """What the answers of a predictor in a condition are called in a journal."""
    return f"{predictor.name} {predictor.about['sha256']} {condition}"


def to_rows(answers: Iterable[Answer]) -> Iterator[dict[str, Any]]:
    """Answers as lines of a journal; a clip that fails does not make the condition unfinished."""
    for answer in answers:
        yield {"answer": answer.emotion and [*answer.emotion], "reason": answer.reason, "detail": answer.detail}


def from_rows(rows: Iterable[Row]) -> list[Answer]:
    """The answers that ``to_rows`` made lines of."""
    return [Answer(row["answer"] and Emotion(*row["answer"]), row["reason"], row["detail"]) for row in rows]


def scores_in(
    data: EvaluationSet, truth: str, answers: Sequence[Answer], clean: Sequence[Answer] | None, by: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The scores of a predictor in a condition, one row each: of all clips, then of each value of a column.

    Args:
        data: segments, truth and corpora
        truth: name of the truth
        answers: in the condition, one a segment
        clean: to the clean clips, one a segment; None if these are the answers
        by: columns whose values are scored alone, too
    """
    references = [(CHANGE, clean)] if clean else []
    for value, chosen in _groups(data, by):
        for statistics, reference in (*references, (ACCURACY, data.truth)):
            for corpus, found in _within(data, chosen, reference, answers, statistics).items():
                for score in scores(found, statistics):
                    yield {"by": value, **_row(score, truth, corpus)}


def _row(score: Score, truth: str, corpus: str) -> dict[str, Any]:
    cells = {key: None if value != value else value for key, value in asdict(score).items()}
    return {"truth": truth, "manifest": corpus, **cells}


def _groups(data: EvaluationSet, by: Sequence[str]) -> Iterator[tuple[str, Sequence[int]]]:
    """All rows, and those of each value of a column."""
    yield "", range(len(data.segments))
    for column in by:
        named = rows_of([segment.column(column) for segment in data.segments])
        yield from ((f"{column}={value}", rows) for value, rows in sorted(named.items()))


def _within(
    data: EvaluationSet,
    chosen: Sequence[int],
    reference: Sequence[Answer],
    answers: Sequence[Answer],
    statistics: Sequence[Statistic],
) -> dict[str, Figures]:
    """Figures within each corpus, of the chosen rows that have both answers, and their mean if there are several."""
    kept = [row for row in chosen if reference[row].emotion and answers[row].emotion]
    if not kept:
        return {}
    part = data[kept]
    t, p = (np.array([column[row].emotion for row in kept], np.float64) for column in (reference, answers))
    sample = sample_of(part.segments, t, p, part.norms, part.corpora)
    found = {name: figures(own, data.draws, data.seed, statistics) for name, own in sample.within().items()}
    if data.is_of_several:
        found[MEAN] = mean_over(found, data.seed)
    return found


def overall(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows about all clips: of the one corpus, or of the mean over corpora."""
    rows = list(rows)
    corpora = {row["manifest"] for row in rows}
    for row in rows:
        if not row["by"] and (row["manifest"] == MEAN or len(corpora) == 1):
            yield row


COLUMNS = {"shift": "shift", "ccc_clean": "clean", "ccc": "CCC", "auc": "AUC"}
"""Statistic -> its name in the columns of the table."""


def condition_table(rows: Iterable[Row]) -> str:
    """A line for each predictor and condition, as text."""
    names = {(s.name, s.dimension): f"{COLUMNS[s.name]} {s.dimension[0].upper()}" for s in _shown()}
    lines: dict[tuple[str, str], dict[str, object]] = {}
    for row in overall(rows):
        heads = {"predictor": row["predictor"], "condition": row["condition"]}
        line = lines.setdefault((row["predictor"], row["condition"]), heads | dict.fromkeys(names.values(), ""))
        if (row["statistic"], row["dimension"]) in names:
            line[names[row["statistic"], row["dimension"]]] = _cell(row)
    return render(list(lines.values()), "table")


def _shown() -> list[Statistic]:
    """In the order of the columns."""
    have_auc = ("arousal", "valence")
    return [
        one
        for name in COLUMNS
        for one in (*CHANGE, *ACCURACY)
        if one.name == name and (name != "auc" or one.dimension in have_auc)
    ]


def _cell(row: Row) -> str:
    if row["value"] is None:
        return "-"
    return f"{row['value']:+.3f}" if row["statistic"] == "shift" else f"{row['value']:.3f}"


def panels(rows: Iterable[Row]) -> dict[str, dict[tuple[str, str], float]]:
    """What the heat map shows: CCC with the truth and with the clean answer, by condition and by what is scored."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in overall(rows):
        title = {"ccc": f"CCC with the truth\n({row['truth']})", "ccc_clean": "CCC with the answer\nto the clean clip"}
        if row["statistic"] in title and row["value"] is not None:
            column = f"{row['predictor']}, {row['dimension'][0].upper()}"
            found.setdefault(title[row["statistic"]], {})[row["condition"], column] = row["value"]
    return found
