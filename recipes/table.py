"""Write the tables of README.md and docs/, from the files of evaluate, robustness and bench.

    python recipes/table.py [PICTURE.png]

A table ``NAME`` is between the lines ``<!-- table: NAME -->`` and ``<!-- end -->`` of its document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import robustness
from wav2small.evaluation.conditions import CLEAN, CONDITIONS

COLUMNS = [
    ("ccc", "arousal"),
    ("ccc", "dominance"),
    ("ccc", "valence"),
    ("r", "arousal"),
    ("r", "valence"),
    ("auc", "arousal"),
    ("auc", "valence"),
]
DIMENSIONS = ("arousal", "dominance", "valence")
STUDENTS = {
    "wav2small.onnx": "wav2small",
    "wav2small-int8.onnx": "wav2small int8",
    "micro.onnx": "micro",
    "micro-int8.onnx": "micro int8",
    "micro-l.onnx": "micro-l",
    "micro-l-int8.onnx": "micro-l int8",
}
SCORED = {
    "RAVDESS, norms": (
        "ravdess-norms.json",
        {"opensmile.csv": "openSMILE eGeMAPS + SVR", "teacher-ravdess.csv": "teacher `open`"},
    ),
    "RAVDESS, teacher": ("ravdess-teacher.json", {}),
    "EmoDB, 2 held-out speakers, norms": ("emodb-norms.json", {}),
}
"""What is scored against what -> the file with the scores, and whom it has beside the students."""
CHOICE = {
    "micro": ("micro fp32", "micro.onnx"),
    "micro:int8": ("micro int8", "micro-int8.onnx"),
    "micro-l": ("micro-l fp32", "micro-l.onnx"),
    "wav2small": ("wav2small fp32", "wav2small.onnx"),
    "teacher `open`": ("open fp32", "teacher-ravdess.csv"),
    "openSMILE eGeMAPS": ("eGeMAPSv02 ", "opensmile.csv"),
}
"""Row of the README's table -> name and precision in the bench, predictor in the evaluation."""


def readme(folder: Path) -> str:
    """Markdown: which model to take, by size, speed and accuracy."""
    scores = json.loads((folder / "ravdess-norms.json").read_text())["scores"]
    costs = {f"{row['name']} {row['precision']}": row for row in measured(folder) if row["runtime"] != "torch"}
    lines = ["| model | KB | times real time | arousal, AUC | valence, AUC |", "|---|---|---|---|---|"]
    for name, (measure, predictor) in CHOICE.items():
        row = costs[measure]
        size = f"{row['bytes'] / 1000:,.0f}" if row["bytes"] else ""
        auc = [cell(scores, predictor, "auc", dimension) for dimension in ("arousal", "valence")]
        lines.append(f"| {name} | {size} | {1 / row['rtf']:,.0f} | {' | '.join(auc)} |")
    return "\n".join(lines)


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
    """Markdown, a row a model that ships, precision and runtime, and on what it was measured."""
    rows = [row for row in measured(folder) if not row["name"].endswith(".onnx")]
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


def students(folder: Path) -> str:
    """Markdown, a row a student and precision of those that were trained alike: what it costs, and its CCC."""
    truths = {"ravdess, teacher-ravdess": "teacher", "ravdess, norms": "norms"}
    columns = ["", "parameters", "MMAC for 5 s", "tokens/s", "KB", "peak MB", "5 s", "60 s", "steps", "dev speakers"]
    columns += [f"RAVDESS, {truth}" for truth in truths.values()]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    logs = {path.name.removesuffix("-log.jsonl"): path for path in (folder.parent / "students").glob("*-log.jsonl")}
    better = set(STUDENTS.values())  # of these the weights that ship learnt for longer
    alike = [row for row in measured(folder) if row["runtime"] == "onnxruntime" and row["name"] not in better]
    for row in sorted(alike, key=lambda row: (row["parameters"], row["precision"], row["name"])):
        student = row["name"].removesuffix(".onnx").removesuffix("-int8")
        last = json.loads(logs[student].read_text().splitlines()[-1])
        cells = [f"{student} {row['precision']}", f"{row['parameters']:,}", f"{row['macs_per_5s'] / 1e6:,.1f}"]
        cells += [f"{row['tokens_per_second']:.0f}", f"{row['bytes'] / 1e3:,.1f}", f"{row['peak_bytes'] / 1e6:.1f}"]
        cells += [f"{row['p50_ms_5s']:.1f}", f"{row['p50_ms_60s']:.0f}", str(last["step"])]
        found = [last, *({name: row["ccc"][truth][name]["value"] for name in DIMENSIONS} for truth in truths)]
        cells += [" / ".join(short(values[name]) for name in DIMENSIONS) for values in found]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def robust(folder: Path, corpus: str = "ravdess") -> str:
    """Markdown, a row a condition: the CCC of each model with its own answer to the clean clip."""
    rows = distorted(folder, corpus)
    found = {(name, condition) for name, condition, _, _ in rows}
    names = [name for name in dict.fromkeys(n for n, *_ in rows) if all((name, c.name) in found for c in CONDITIONS)]
    lines = [f"| | {' | '.join(name.replace(':', ' ') for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for one in CONDITIONS:
        cells = [" / ".join(short(float(rows[n, one.name, "", d]["ccc_clean"])) for d in DIMENSIONS) for n in names]
        lines.append(f"| `{one.name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def robust_truth(folder: Path, weights: str = "micro") -> str:
    """Markdown, a row a condition: shift, accuracy, and the CCC with the clean answer by sex, of one model."""
    rows = distorted(folder, "ravdess")
    lines = ["| | shift A / D / V | CCC A | CCC V | AUC A | AUC V | clean A, men | clean A, women |", "|---" * 8 + "|"]
    for name in (CLEAN, *(one.name for one in CONDITIONS)):
        own = {dimension: rows[weights, name, "", dimension] for dimension in DIMENSIONS}
        arousal, valence = own["arousal"], own["valence"]
        cells = ["" if name == CLEAN else " / ".join(signed(own[d]["shift"]) for d in DIMENSIONS)]
        cells += [spanned(arousal, "ccc"), spanned(valence, "ccc")]
        cells += [short(float(row["auc"])) for row in (arousal, valence)]
        sexes = [rows[weights, name, f"gender={sex}", "arousal"] for sex in "mf"]
        cells += ["" if name == CLEAN else spanned(row, "ccc_clean") for row in sexes]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def distorted(folder: Path, corpus: str) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """The rows of recipes/robustness.py about a corpus: by weights, condition, group and dimension."""
    rows = [row for row in robustness.read(folder / robustness.FILE.name) if row["corpus"] == corpus]
    return {(row["weights"], row["condition"], row["by"], row["dimension"]): row for row in rows}


def spanned(row: dict[str, str], figure: str) -> str:
    low, high = (short(float(row[f"{figure}_{end}"])) for end in ("low", "high"))
    return f"{short(float(row[figure]))} [{low}, {high}]"


def signed(number: str) -> str:
    return f"{float(number):+.2f}".replace("0.", ".", 1)


def picture(folder: Path, file: str) -> None:
    """A PNG of the students in float32, those that ship as they ship, against the teacher."""
    from wav2small.evaluation.bench import plot

    chosen: dict[str, dict] = {}
    for row in measured(folder):
        if row["runtime"] == "onnxruntime" and row["precision"] == "fp32":
            name = row["name"].removesuffix(".onnx")
            ccc = {corpus: values for corpus, values in row["ccc"].items() if corpus.endswith("teacher-ravdess")}
            chosen.setdefault(name, row | {"name": name, "ccc": ccc})
    plot(list(chosen.values()), file)


def measured(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "bench.jsonl").read_text().splitlines()]


def short(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1)


def write(document: Path, tables: dict[str, str]) -> None:
    """Put each table between its two comments."""
    text = document.read_text(encoding="utf-8")
    for name, content in tables.items():
        begin, end = f"<!-- table: {name} -->\n\n", "\n\n<!-- end -->"
        start = text.index(begin) + len(begin)
        text = text[:start] + content + text[text.index(end, start) :]
    document.write_text(text, encoding="utf-8")


def main() -> None:
    folder, root = Path(__file__).parent / "open", Path(__file__).parents[1]
    write(root / "README.md", {"readme": readme(folder)})
    write(root / "docs" / "results.md", {"accuracy": table(folder), "costs": costs(folder)})
    tables = {"robustness": robust(folder), "micro": robust_truth(folder), "emodb": robust(folder, "emodb")}
    write(root / "docs" / "robustness.md", tables)
    write(root / "docs" / "students.md", {"students": students(folder)})
    if len(sys.argv) > 1:
        picture(folder, sys.argv[1])


if __name__ == "__main__":
    main()
