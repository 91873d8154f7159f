"""Keep what the documents need of ``wav2small robustness``, in open/robustness.csv beside this recipe.

    python recipes/robustness.py REPORT.json ...

A row holds the figures of a corpus, a model, a condition, a group of speakers and a dimension; of two reports with the
same row the later one counts. Groups are kept if they have an interval. docs/robustness.md has the commands.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "open" / "robustness.csv"
KEYS = ("corpus", "weights", "sha256", "condition", "by", "dimension", "clips", "speakers")
FIGURES = ("shift", "ccc_clean", "ccc_clean_low", "ccc_clean_high", "ccc", "ccc_low", "ccc_high", "auc")


def main() -> None:
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for path in sys.argv[1:]:
        rows |= kept(json.loads(Path(path).read_text(encoding="utf-8")))
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*KEYS, *FIGURES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def kept(report: dict[str, Any]) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of one report, by what they are about."""
    digests = {one["name"]: one["sha256"][:12] for one in report["predictors"]}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for score in report["scores"]:
        if score["by"] and score["low"] is None:
            continue
        weights = score["predictor"].removeprefix("teacher:")
        key = (score["manifest"], weights, score["condition"], score["by"], score["dimension"])
        corpus, _, condition, by, dimension = key
        about = (corpus, weights, digests[score["predictor"]], condition, by, dimension)
        row = rows.setdefault(key, dict(zip(KEYS, map(str, about), strict=False)))
        if score["statistic"] != "auc":
            row |= {"clips": str(score["n"]), "speakers": str(score["speakers"])}
        for name, field in (("value", ""), ("low", "_low"), ("high", "_high")):
            if score["statistic"] + field in FIGURES and score[name] is not None:
                row[score["statistic"] + field] = f"{score[name]:.3f}"
    return rows


def read(file: Path = FILE) -> list[dict[str, str]]:
    """The rows that are kept."""
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


if __name__ == "__main__":
    main()
