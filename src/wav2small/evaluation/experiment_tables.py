"""The tables of ``experiment``, and those of its picture, from the answers of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.evaluation.confusion import Confusion
from wav2small.evaluation.experiment import Cell, Experiment, Group
from wav2small.evaluation.experiment_cells import Numbered
from wav2small.evaluation.score import Answer, Evaluation, EvaluationSet, evaluate_within, rows_of
from wav2small.evaluation.statistics import STATISTICS, Figures, differences, over_seeds, scores
from wav2small.tables.manifest import load_norms
from wav2small.tables.table import render

Row = dict[str, Any]
NOT_TESTED = Answer(None, "not tested")
COLUMNS = {
    ("mean", "mean_ccc"): "mean CCC",
    ("arousal", "ccc"): "A",
    ("dominance", "ccc"): "D",
    ("valence", "ccc"): "V",
    ("category", "ua"): "UA",
    ("category", "wa"): "WA",
    ("category", "macro_f1"): "F1",
}
"""Statistics in the table on the screen; the files have all."""
WITH_INTERVAL = ("mean_ccc", "ua")
MATRICES = {"mean_ccc": "mean CCC", "ua": "UA"}


@dataclass(frozen=True)
class Result:
    """The answers of one group.

    Attributes:
        group: of the cells
        data: of the test corpus
        answers: of each seed, one a segment
        folds: rows of each fold, by seed
    """

    group: Group
    data: EvaluationSet
    answers: dict[int, list[Answer]]
    folds: dict[int, list[list[int]]]

    def rows(self) -> list[int]:
        """The segments with a truth that every seed answered."""
        columns = zip(self.data.truth, *self.answers.values(), strict=True)
        return [row for row, column in enumerate(columns) if all(answer.emotion for answer in column)]

    def evaluations(self, rows: Sequence[int]) -> list[Evaluation]:
        """Of each seed, on these segments; none without segments."""
        if not rows:
            return []
        data = self.data[rows]
        found = [evaluate_within(data, [answers[row] for row in rows]) for answers in self.answers.values()]
        return [one[self.group.test] for one in found]

    def figures(self, rows: Sequence[int]) -> Figures:
        """The mean over seeds, on these segments."""
        return over_seeds([one.figures for one in self.evaluations(rows)])

    def fold_values(self) -> np.ndarray:
        """Every statistic of each seed and fold, shape=(seeds, folds, statistics); not a number where undefined."""
        data = replace(self.data, draws=0)
        return np.array(
            [
                [_values(data[rows], [self.answers[seed][row] for row in rows]) for rows in folds]
                for seed, folds in self.folds.items()
            ]
        )


def _values(data: EvaluationSet, answers: Sequence[Answer]) -> np.ndarray:
    try:
        (found,) = evaluate_within(data, answers).values()
    except ManifestError:  # a fold without truth
        return np.full(len(STATISTICS), np.nan)
    return found.figures.value


def results(
    experiment: Experiment, answered: Iterator[tuple[Cell, Numbered]], draws: int, seed: int
) -> dict[Group, Result]:
    """The answers of all cells, by group.

    Args:
        experiment: what was done
        answered: the answers of its cells
        draws: of the bootstrap, which resamples speakers
        seed: of the bootstrap
    """
    norms, found = load_norms(), {}
    for cell, numbered in answered:
        corpus = experiment.corpora[cell.group.test]
        if cell.group not in found:
            data = EvaluationSet(corpus.segments, corpus.truth, [corpus.name] * len(corpus.truth), norms, draws, seed)
            found[cell.group] = Result(cell.group, data, {}, {})
        result = found[cell.group]
        answers = result.answers.setdefault(cell.seed, [NOT_TESTED] * len(corpus.segments))
        for row, answer in numbered:
            answers[row] = answer
        result.folds.setdefault(cell.seed, []).append([row for row, _ in numbered])
    return found


def score_rows(found: Mapping[Group, Result], experiment: Experiment) -> list[Row]:
    """One row a group and statistic: value (mean over seeds), interval, and deviations over folds and seeds.

    Of a corpus that a model answered no clip of, the values are None.
    """
    rows = []
    for result in found.values():
        tested = result.rows()
        rows += _rows(result, tested, {})
        for column in experiment.by:
            names = [segment.column(column) for segment in result.data.segments]
            for value, own in sorted(rows_of(names).items()):
                if kept := sorted({*own} & {*tested}):
                    rows += _rows(result, kept, {"by": f"{column}={value}"})
    return rows


def _rows(result: Result, tested: Sequence[int], by: Row) -> list[Row]:
    heads, seeds = {**_heads(result.group), **by}, len(result.answers)
    if not tested:
        nothing = {"value": None, "low": None, "high": None, "n": 0, "speakers": 0, "seeds": seeds}
        return [{**heads, "dimension": one.dimension, "statistic": one.name, **nothing} for one in STATISTICS]
    evaluations = result.evaluations(tested)
    spread = {} if by else _spread(result, evaluations)
    found = over_seeds([one.figures for one in evaluations])
    return [
        {
            **heads,
            **{"dimension": one.dimension, "statistic": one.statistic},
            **{"value": _number(one.value), "low": _number(one.low), "high": _number(one.high)},
            **spread.get((one.dimension, one.statistic), {}),
            **{"n": one.n, "speakers": one.speakers, "seeds": seeds},
        }
        for one in scores(found)
    ]


def _heads(group: Group) -> Row:
    return {"model": group.model, "train": "+".join(group.train), "test": group.test, "folds": group.folds}


def _spread(result: Result, evaluations: Sequence[Evaluation]) -> dict[tuple[str, str], Row]:
    """Mean and standard deviation over folds, of the means over seeds; and the deviation over seeds, of all clips."""
    folds = result.fold_values().mean(0) if result.group.folds else None
    seeds = np.array([one.figures.value for one in evaluations])
    return {
        (statistic.dimension, statistic.name): {
            **({} if folds is None else _mean_and_deviation(folds[:, k])),
            **({"seed_sd": _number(seeds[:, k].std(ddof=1))} if len(seeds) > 1 else {}),
        }
        for k, statistic in enumerate(STATISTICS)
    }


def _mean_and_deviation(values: np.ndarray) -> Row:
    known = values[np.isfinite(values)]
    deviation = known.std(ddof=1) if len(known) > 1 else np.nan
    return {"fold_mean": _number(known.mean() if len(known) else np.nan), "fold_sd": _number(deviation)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def difference_rows(found: Mapping[Group, Result], against: str) -> list[Row]:
    """Differences to a model with the same training set, test and folds, or scored as it is; a paired bootstrap.

    Raises:
        Wav2SmallError: if there is no such model
    """
    if against not in {group.model for group in found}:
        names = ", ".join(dict.fromkeys(group.model for group in found))
        raise Wav2SmallError(f"--against {against}: the experiment has no such model. It has {names}.")
    rows = []
    for group, result in found.items():
        other = found.get(group._replace(model=against)) or found.get(Group(against, (), group.test, ""))
        if group.model == against or other is None:
            continue
        common = sorted({*result.rows()} & {*other.rows()})
        if not common:
            continue
        for one in differences(result.figures(common) - other.figures(common)):
            numbers = {"value": one.value, "low": one.low, "high": one.high, "share_not_above_0": one.share_not_above_0}
            rows.append(
                {
                    **_heads(group),
                    "against": against,
                    **{"dimension": one.dimension, "statistic": one.statistic},
                    **{name: _number(value) for name, value in numbers.items()},
                    **{"n": one.n, "speakers": one.speakers, "seeds": len(result.answers)},
                }
            )
    return rows


def confusions(found: Mapping[Group, Result]) -> list[Row]:
    """The confusion matrix of each group with categories, summed over seeds."""
    rows = []
    for group, result in found.items():
        matrices = [one.confusion for one in result.evaluations(result.rows()) if one.confusion]
        if matrices:
            rows.append({**_heads(group), "confusion": _sum(matrices).rows()})
    return rows


def _sum(matrices: Sequence[Confusion]) -> Confusion:
    labels = tuple(sorted({label for one in matrices for label in one.labels}))
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for one in matrices:
        places = [labels.index(label) for label in one.labels]
        counts[np.ix_(places, places)] += one.counts
    return Confusion(labels, counts, matrices[0].speakers)


def table(rows: Sequence[Row]) -> str:
    """Scores or differences as text, a line a group."""
    lines: dict[tuple[str, ...], Row] = {}
    has_by = any("by" in row for row in rows)
    shown = {title for key, title in COLUMNS.items() if any((r["dimension"], r["statistic"]) == key for r in rows)}
    for row in rows:
        title = COLUMNS.get((row["dimension"], row["statistic"]))
        if title is None:
            continue
        heads = {name: row[name] for name in ("model", "train", "test", "folds")}
        heads |= {"by": row.get("by", "")} if has_by else {}
        empty = {name: "" for name in COLUMNS.values() if name in shown}
        line = lines.setdefault(tuple(heads.values()), heads | empty | {"n": row["n"], "speakers": row["speakers"]})
        line[title] = _cell(row)
    return render(list(lines.values()), "table")


def _cell(row: Row) -> str:
    if row["value"] is None:
        return "-"
    sign = "+" if "against" in row else ""
    text = f"{row['value']:{sign}.3f}"
    if row["statistic"] in WITH_INTERVAL and row["low"] is not None:
        text += f" [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"
    if row["statistic"] == "ua" and row.get("fold_sd") is not None:
        text += f" ±{row['fold_sd']:.3f}"
    return text


def matrices(rows: Sequence[Row]) -> dict[str, dict[tuple[str, str], float]]:
    """Panels of a heat map, for mean CCC and UA: a row for each model and training set, a column for each test corpus.

    Of several kinds of folds the first is shown.
    """
    panels: dict[str, dict[tuple[str, str], float]] = {}
    for row in rows:
        if row["statistic"] in MATRICES and "by" not in row and row["value"] is not None:
            name = f"{row['model']}, {row['train']}" if row["train"] else row["model"]
            panels.setdefault(MATRICES[row["statistic"]], {}).setdefault((name, row["test"]), row["value"])
    return dict(sorted(panels.items(), key=lambda item: item[0] != MATRICES["mean_ccc"]))
