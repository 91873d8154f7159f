"""The README's tables: accuracy, from what ``wav2small evaluate --json`` wrote, and costs, from ``wav2small bench``.

    python recipes/table.py [FOLDER]
"""

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


def costs(folder: Path) -> str:
    """Markdown, a row a model, precision and runtime, and on what it was measured."""
    rows = [json.loads(line) for line in (folder / "bench.jsonl").read_text().splitlines()]
    lines = ["| | parameters | MMAC for 5 s | KB | peak MB | load ms | 1 s | 5 s | 60 s | times real time |"]
    lines.append("|---" * 10 + "|")
    for row in rows:
        name = f"{row['name']} {row['precision']}" if row["bytes"] else row["name"]
        cells = [name if row["runtime"] in ("onnxruntime", name) else f"{name}, {row['runtime']}"]
        cells.append(f"{row['parameters']:,}" if row["parameters"] else "")
        scales = (("macs_per_5s", 1e6), ("bytes", 1e3), ("peak_bytes", 1e6))
        cells += [f"{row[key] / unit:,.1f}" if row[key] else "" for key, unit in scales]
        cells += [f"{row[key]:,.1f}" for key in ("load_ms", "p50_ms_1s", "p50_ms_5s", "p50_ms_60s")]
        cells.append(f"{1 / row['rtf']:,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    first = rows[0]
    lines += ["", f"Milliseconds an answer, median of {first['runs']}, on one thread of {first['cpu']}."]
    return "\n".join(lines)


def short(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1)


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "open"
    print(table(where), costs(where), sep="\n\n")
