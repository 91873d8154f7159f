"""What ``evaluate`` shows: scores and differences as tables for people, a row a predictor, corpus and dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from wav2small.evaluation.score import MEAN, POOLED
from wav2small.tables.table import render

Row = Mapping[str, Any]
PLACES = {
    "ccc": ("{dimension}", "CCC"),
    "r": ("{dimension}", "r"),
    "auc": ("{dimension}", "AUC"),
    "auc_happiness_anger": ("happiness/anger", "AUC"),
    "r_own_arousal": ("own V and A", "r"),
    "ua": ("category", "UA"),
    "wa": ("category", "WA"),
    "macro_f1": ("category", "F1"),
    "mean_ccc": ("mean A/D/V", "CCC"),
}
"""Statistic -> the line and the column of the table that it is in."""


def score_table(rows: Sequence[Row]) -> str:
    """Scores with their intervals, as text."""
    return _table(rows, _score_cell)


def difference_table(rows: Sequence[Row]) -> str:
    """Differences with their intervals and the share of draws in which they are 0 or less, as text."""
    return _table(rows, _difference_cell)


def _table(rows: Sequence[Row], cell: Callable[[Row], str]) -> str:
    lines: dict[tuple[object, ...], dict[str, object]] = {}
    corpora = len({row["manifest"] for row in rows} - {MEAN, POOLED})
    keys = {key for row in rows for key in row}
    columns = ("CCC", "r", "AUC", *(("UA", "WA", "F1") if any(row["statistic"] == "ua" for row in rows) else ()))
    for row in rows:
        label, column = PLACES[row["statistic"]]
        heads = _heads(row, keys) | {"dimension": label.format(**row)}
        line = lines.setdefault(
            tuple(heads.values()),
            heads | dict.fromkeys(columns, "") | {"n": row["n"], "speakers": row["speakers"]},
        )
        line[column] = cell(row) + _over(row, corpora)
    return render(list(lines.values()), "table")


def _heads(row: Row, keys: Set[str]) -> dict[str, object]:
    """The first cells: corpus and by only in a table of rows with these keys."""
    heads: dict[str, object] = {"predictor": row["predictor"]}
    if "corpora" in keys:
        heads["corpus"] = row["manifest"]
    if "by" in keys:
        heads["by"] = row.get("by", "")
    return heads


def _over(row: Row, corpora: int) -> str:
    """Of how many corpora a mean is, if not of all."""
    is_short = row["manifest"] == MEAN and row["corpora"] < corpora
    return f" over {row['corpora']} of {corpora}" if is_short else ""


def _score_cell(row: Row) -> str:
    if row["value"] is None:
        return "-"
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}" + (f" of {row['n']}" if row["statistic"] == "auc" else "")


def _difference_cell(row: Row) -> str:
    if row["value"] is None:
        return "-"
    if row["low"] is None:
        return f"{row['value']:+.3f}"
    return f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] {row['share_not_above_0']:.3f}"
