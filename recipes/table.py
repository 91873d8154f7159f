"""The README's table of accuracy, from what ``wav2small evaluate --json`` wrote: python recipes/table.py [FOLDER]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

COLUMNS = [
    ("ccc", "arousal"),
    ("ccc", "dominance"),
    ("ccc", "valence"),
    ("r", "arousal"),
    ("r", "valence"),
    ("auc", "arousal"),
    ("auc", "valence"),
]
STUDENTS = {
    "wav2small.onnx": "wav2small",
    "wav2small-int8.onnx": "wav2small int8",
    "micro.onnx": "micro",
    "micro-int8.onnx": "micro int8",
}
SCORED = {
    "RAVDESS, norms": (
        "ravdess-norms.json",
        {"opensmile.csv": "openSMILE eGeMAPS + SVR", "teacher-ravdess.csv": "teacher `open`"},
    ),
    "RAVDESS, teacher": ("ravdess-teacher.json", {}),
    "EmoDB, 2 unheard speakers, norms": ("emodb-norms.json", {}),
}
"""What is scored against what -> the file with the scores, and whom it has beside the students."""


def table(folder: Path) -> str:
    """Markdown, a row a predictor, brackets around the 95 % interval."""
    lines = ["| scored on | | CCC A | CCC D | CCC V | r A | r V | AUC A | AUC V |", "|---" * 9 + "|"]
    for title, (file, others) in SCORED.items():
        scores = json.loads((folder / file).read_text())["scores"]
        for predictor, name in (others | STUDENTS).items():
            cells = [cell(scores, predictor, *column) for column in COLUMNS]
            lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
            title = ""
    return "\n".join(lines)


def cell(scores: list[dict], predictor: str, statistic: str, dimension: str) -> str:
    for score in scores:
        if (score["predictor"], score["statistic"], score["dimension"]) == (predictor, statistic, dimension):
            if score["value"] is None:
                return ""
            interval = [short(score[end]) for end in ("low", "high") if score[end] is not None]
            return short(score["value"]) + (f" [{', '.join(interval)}]" if score["speakers"] > 2 else "")
    return ""


def short(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "open"))
