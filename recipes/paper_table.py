"""The paper's table, from the output of ``recipes/paper.sh``: CCC of teacher and students, and published results.

python recipes/paper_table.py RUN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from table import cell

SETS = {"test1": "Test-1", "test2": "Test-2", "iemocap": "IEMOCAP"}
"""File of the scores -> what is scored."""
DIMENSIONS = ("arousal", "dominance", "valence")
PUBLISHED = {
    "teacher, published": (".762", ".684", ".676", ".486", ".468", ".423", "", "", ""),
    "wav2vec2 of 12 layers, published": (".744", ".655", ".638", "", "", "", "", "", ""),
    "MobileNetV4, a later release, published": (".720", ".619", ".497", "", "", "", "", "", ""),
    "Wav2Small, reported": (".66", ".56", ".37", "", "", "", ".56", "", ""),
}
"""On MSP-Podcast 1.7. Source: arXiv:2408.13920, arXiv:2203.07378 and the model cards; the last line is second hand."""


def paper_table(run: Path) -> str:
    """Markdown: a row a predictor, brackets around the 95 % interval over speakers."""
    scores = {file: json.loads((run / f"{file}.json").read_text(encoding="utf-8"))["scores"] for file in SETS}
    lines = ["| CCC | " + " | ".join(f"{name} {d[0].upper()}" for name in SETS.values() for d in DIMENSIONS) + " |"]
    lines.append("|---" * (1 + len(SETS) * len(DIMENSIONS)) + "|")
    for name in dict.fromkeys(named(score["predictor"]) for score in scores["test1"]):
        cells = [
            cell([score | {"predictor": named(score["predictor"])} for score in scores[file]], name, "ccc", dimension)
            for file in SETS
            for dimension in DIMENSIONS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in PUBLISHED.items()]
    return "\n".join(lines)


def named(predictor: str) -> str:
    """The name in the table: the teacher's answers are in a file for each corpus."""
    return "teacher `paper`" if predictor.startswith("teacher-") else predictor.removesuffix(".onnx")


if __name__ == "__main__":
    print(paper_table(Path(sys.argv[1])))
