"""A card for each set of weights that ships, docs/cards/NAME.md: use, files, training data, accuracy, limits.

    python recipes/cards.py [EVALUATION.json ...]

EVALUATIONs are of ``wav2small evaluate --by gender --by speaker``; what the cards need of them is kept beside this
recipe, in open/cards.csv, so that the cards are made again without them. recipes/students.sh does both.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import robustness
from wav2small.export.card import USE
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA, full_name, read_index, read_safetensors
from wav2small.runtime.calibration import calibration_path, load_calibration
from wav2small.runtime.model import load

HERE = Path(__file__).parent
ROOT = HERE.parent
SCORES = HERE / "open" / "cards.csv"
BENCH = HERE / "open" / "bench.jsonl"
FIELDS = ("truth", "weights", "sha256", "by", "dimension", "value", "low", "high", "clips")
TEACHER = "open"
TRUTHS = {"teacher-ravdess": "teacher", "norms": "norms"}
SEXES = {"gender=m": "12 men", "gender=f": "12 women"}
CONDITIONS = {
    "clean": "as recorded",
    "noise:10": "recorded noise, 10 dB",
    "noise:0": "recorded noise, 0 dB",
    "babble:10": "babble of 5 voices, 10 dB",
    "mulaw:8k": "G.711 mu-law, 8 kHz",
    "opus:12k": "Opus, 12 kbit/s",
    "reverb:0.8": "reverberation, .8 s",
    "speed:1.25": "1.25 times as fast",
    "packets": "a tenth of the packets lost",
    "cut:1": "the middle second only",
}
"""Of ``robustness``, those that a card shows."""

ABOUT = {
    "micro": "A causal network that processes audio frame by frame, for streams, browsers and microcontrollers.",
    "micro-l": "`micro` with twice the channels: more valence on new speech, for 1.7 times the arithmetic.",
    "mobilenetv3-small": "timm's `mobilenetv3_small_100` on log-mel, trained from scratch, for comparison.",
    "mobilenetv4-small": "timm's `mobilenetv4_conv_small` on log-mel, trained from scratch, for comparison.",
    "open": "The teacher: heads on the encoder of Whisper base. It labels the audio that students are trained on.",
    "wav2small": "The network of arXiv:2408.13920, trained on open audio. It processes whole windows.",
    "wav2small-17k": "`wav2small` with a fifth of its parameters and nearly its arithmetic, for comparison.",
    "wav2small-running": "`wav2small` over a running level instead of the level of the window, for comparison.",
}
LIMITS = """\
- The teacher was fitted on acted German of 10 speakers, on the same clips in other voices made by a
  vocoder, and on vocal bursts. Its errors are also those of its students.
- The training speech is mostly by adults, in English, German and Arabic. The main students follow the
  teacher less in children of 6 to 9 years ([age](../related/layers.md)). Not measured: other
  languages, accents, pathological voices. Sex is as annotated in RAVDESS, with two values.
- Values differ between speakers and microphones: compare values of the same speaker only.
"""
FOLDERS = {
    "EmoDB": "emodb",
    "EmoGator": "emogator",
    "SDAP": "sdap",
    "LibriSpeech": "librispeech",
    "Picovoice speech-to-intent": "picovoice",
    "speechocean762": "speechocean",
    "Mycroft Precise": "mycroft",
    "Arabic speech commands": "arabic_commands",
    "Kathleen": "kathleen",
    "Kerstin": "kerstin",
    "Tohoku HTS voices": "tohoku",
}
"""A corpus as the weights name it -> its row in docs/data.md."""


MADE = {"emodb-voices": ["emodb four times in other voices, by the vocoder WORLD; 2,140 clips", "10", "CC0-1.0"]}
"""Corpora that recipes/open.sh makes: what, speakers and licence."""


def main() -> None:
    if sys.argv[1:]:
        keep([json.loads(Path(path).read_text()) for path in sys.argv[1:]])
    for name, text in cards().items():
        (ROOT / "docs" / "cards" / f"{name}.md").write_text(text, encoding="utf-8")


def keep(evaluations: list[dict[str, Any]]) -> None:
    """Write the CCC of every group, and of which weights they are."""
    with open(SCORES, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for evaluation in evaluations:
            digests = {one["name"]: (one["sha256"] or "")[:12] for one in evaluation["predictors"]}
            for score in evaluation["scores"]:
                if score["statistic"] == "ccc":
                    weights = TEACHER if score["predictor"] not in named() else score["predictor"]
                    values = ("" if score[key] is None else f"{score[key]:.3f}" for key in ("value", "low", "high"))
                    cells = (digests[score["predictor"]], score.get("by", ""), score["dimension"], *values, score["n"])
                    writer.writerow((TRUTHS[score["truth"].removesuffix(".csv")], weights, *cells))


def named() -> dict[str, dict[str, Any]]:
    """The ONNX files that ship, as ``evaluate`` names them."""
    rows = [row for row in by_precision() if row["file"].endswith(".onnx")]
    return {full_name(row): row for row in rows}


def by_precision() -> list[dict[str, Any]]:
    """What ships, float32 before int8."""
    return sorted(read_index(), key=lambda row: (row["name"], row["precision"], row["file"]))


def cards() -> dict[str, str]:
    """The text of each card, by the name of the weights."""
    with open(SCORES, encoding="utf-8") as file:
        scores = list(csv.DictReader(file))
    names = dict.fromkeys(row["name"] for row in read_index())
    return {name: "\n".join(lines(name, scores)).rstrip() + "\n" for name in names}


def lines(name: str, scores: list[dict[str, str]]) -> Iterator[str]:
    rows = [row for row in by_precision() if row["name"] == name]
    forms = [key for key, row in named().items() if row["name"] == name] or [TEACHER]
    own = [score for score in scores if score["weights"] in forms]
    yield f"# `{name}` {rows[0]['version']}\n"
    yield "<!-- Written by recipes/cards.py, from the weights and the files of wav2small evaluate: do not edit. -->\n"
    yield f"{ABOUT[name]}\n"
    yield from intended_use(name)
    yield from files(name, rows)
    yield from training_data(name, rows[0])
    yield from accuracy(name, own, forms)
    yield from robust(forms[0])
    yield from limits(name, own, forms[0])


def files(name: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Files and costs."""
    measured = [row for row in map(json.loads, BENCH.read_text().splitlines()) if row["runtime"] == "onnxruntime"]
    costs = {(row["name"], row["precision"]): row for row in measured}
    yield "## Files\n"
    yield "| file | parameters | MMAC for 5 s | bytes | sha256 |\n|---|---|---|---|---|"
    for row in rows:
        macs = costs.get((name, row["precision"]), {}).get("macs_per_5s")
        shown = f"{macs / 1e6:,.1f}" if macs else ""
        yield f"| `{row['file']}` | {row['parameters']:,} | {shown} | {row['bytes']:,} | `{row['sha256'][:12]}` |"
    yield ""
    if name == TEACHER:
        yield "- Parameters: five heads. The encoder (20.6 million parameters) comes from the hub, under MIT."
    else:
        metadata = load(full_name(rows[0])).metadata
        level = {"running": "a running level", "utterance": "the level of the window"}[metadata["normalisation"]]
        yield f"- Input: mono at 16 kHz, {int(metadata['min_length']) / 16:g} ms or more, normalised by {level}."
        yield "- Output: arousal, dominance and valence, nominally 0 to 1."
    yield f"- Licence: {rows[0]['licence']}.\n"


def training_data(name: str, row: dict[str, Any]) -> Iterator[str]:
    """Teacher and data, with licences."""
    yield "## Training data\n"
    if name == TEACHER:
        yield "Targets: [norms](../../src/wav2small/data/norms.csv) of the clips' categories, not people's ratings.\n"
    else:
        licence = next(row["licence"] for row in read_index() if row["name"] == TEACHER)
        yield (
            f"Targets: labels of the teacher [`{TEACHER}`]({TEACHER}.md) ({licence}; its encoder MIT), not people's "
            "ratings.\nThe clips are made from these corpora without their dev speakers.\n"
        )
    yield "| corpus | what | speakers | licence |\n|---|---|---|---|"
    corpora = data_rows() | MADE
    for corpus in row["training_data"].split(", "):
        yield f"| {corpus} | {' | '.join(corpora[FOLDERS.get(corpus, corpus)])} |"
    yield "\nSee [data.md](../data.md) and [training.md](../training.md).\n"


def data_rows() -> dict[str, list[str]]:
    """What, speakers and licence of each folder in the table of docs/data.md."""
    lines = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| open/")]
    return {row[0].removeprefix("open/"): row[1:4] for row in cells}


def intended_use(name: str) -> Iterator[str]:
    """A command, and what the weights are for and not for."""
    teach, ask = f"label recordings --teacher {name} -o labels.csv", f"predict talk.wav --model {name}"
    yield f"```console\n$ wav2small {teach if name == TEACHER else ask}\n```\n"
    yield "## Intended use\n"
    if name == TEACHER:
        yield "- **Intended:** labels for the training of students."
    yield f"{USE}\nRead [use.md](../use.md) before you use it.\n"


def accuracy(name: str, scores: list[dict[str, str]], forms: list[str]) -> Iterator[str]:
    """CCC over all, by sex, by speaker; and what the calibration says."""
    yield "## Accuracy\n"
    yield (
        "CCC on RAVDESS (acted English, 1,440 clips of 24 actors, CC BY-NC-SA 4.0, used for evaluation only).\n"
        "No weights were trained on it. Brackets are 95 % intervals over speakers. Norms are one number for\n"
        "every clip of a category, not people's ratings.\n"
    )
    yield "| truth | weights | of | arousal | dominance | valence |\n|---|---|---|---|---|---|"
    for truth in ("teacher", "norms"):
        for form in forms:
            for by, whom in ({"": "all"} | SEXES).items():
                cells = [cell(scores, truth, form, by, dimension) for dimension in OUTPUTS]
                if any(cells):
                    yield f"| {truth} | {spelt(form)} | {whom} | {' | '.join(cells)} |"
    truth = "norms" if name == TEACHER else "teacher"
    yield f"\nCCC by speaker, against the {truth}, 60 clips each (odd numbers are men):\n"
    yield "| weights | | lowest | median | highest |\n|---|---|---|---|---|"
    for form in forms:
        for dimension in OUTPUTS:
            yield f"| {spelt(form)} | {dimension} | {' | '.join(spread(scores, truth, form, dimension))} |"
    yield ""
    yield from elsewhere(name, forms)


def elsewhere(name: str, forms: list[str]) -> Iterator[str]:
    """Accuracy on held-out speakers as the weights record it, and the calibration."""
    if name == TEACHER:
        found = json.loads(read_safetensors(DATA / f"{name}.safetensors")[1]["ccc"])["unheard speakers"]
        for corpus, ccc in found.items():
            yield f"- On held-out speakers of {corpus}, against its norms: CCC {triple(ccc)}."
        yield ""
        return
    dev = json.loads(load(forms[0]).metadata["dev_ccc"])
    yield (
        "CCC A / D / V against the teacher on the dev speakers of the open corpora, which selected the weights:\n"
        f"{triple(dev)}.\n"
    )
    yield "[Calibration](../calibration.md): half width of the interval with the label of 80 % of held-out clips.\n"
    yield "| weights | | arousal | dominance | valence |\n|---|---|---|---|---|"
    for form in forms:
        calibration = load_calibration(calibration_path(DATA / named()[form]["file"]))
        for title, row, column in (
            ("2.5 s of speech or more, no noise", -1, -1),
            ("1.5 s or less, in loud noise", 0, 0),
        ):
            halves = (calibration.scales[dimension].half_width["0.8"][row][column] for dimension in OUTPUTS)
            yield f"| {spelt(form)} | {title} | {' | '.join(f'±{short(half)}' for half in halves)} |"
    yield ""


def robust(form: str) -> Iterator[str]:
    """How answers change with the condition of the clip."""
    own = [r for r in robustness.read() if (r["corpus"], r["weights"], r["by"]) == ("ravdess", form, "")]
    rows = {(r["condition"], r["dimension"]): r for r in own}
    yield "## Robustness\n"
    clips = rows["clean", "arousal"]["clips"]
    yield (
        f"`{form}` on {clips} clips of RAVDESS, distorted: CCC with its own answer to the clean clip, and CCC of\n"
        "arousal with the norms. Brackets are 95 % intervals over speakers. All conditions:\n"
        "[robustness.md](../robustness.md).\n"
    )
    yield "| | arousal | dominance | valence | arousal, norms |\n|---|---|---|---|---|"
    for condition, title in CONDITIONS.items():
        cells = ["" if condition == "clean" else spanned(rows[condition, d], "ccc_clean") for d in OUTPUTS]
        yield f"| {title} | {' | '.join(cells)} | {spanned(rows[condition, 'arousal'], 'ccc')} |"
    yield ""


def spanned(row: dict[str, str], figure: str) -> str:
    return f"{short(row[figure])} [{short(row[f'{figure}_low'])}, {short(row[f'{figure}_high'])}]"


def limits(name: str, scores: list[dict[str, str]], form: str) -> Iterator[str]:
    yield "## Limits\n"
    truth = "norms" if name == TEACHER else "teacher"
    for dimension in OUTPUTS:
        men, women = (one(scores, truth, form, by, dimension) for by in SEXES)
        if float(men["low"]) > float(women["high"]) or float(women["low"]) > float(men["high"]):
            yield (
                f"- {dimension.capitalize()} follows the {truth} differently in men ({short(men['value'])}) and "
                f"women ({short(women['value'])}): the intervals do not overlap."
            )
    if name != TEACHER:
        ccc = short(one(scores, "norms", form, "", "valence")["value"])
        yield f"- Valence is weak: CCC {ccc} against the norms. Use valence and dominance for experiments only."
        steps = json.loads(load(form).metadata["recipe"])["steps"]
        if steps < 1000:
            yield f"- Trained for {steps} steps, for a comparison of students; `micro` was trained longer."
    yield LIMITS


def one(scores: list[dict[str, str]], truth: str, form: str, by: str, dimension: str) -> dict[str, str]:
    key = (truth, form, by, dimension)
    return next(s for s in scores if (s["truth"], s["weights"], s["by"], s["dimension"]) == key)


def cell(scores: list[dict[str, str]], truth: str, form: str, by: str, dimension: str) -> str:
    try:
        score = one(scores, truth, form, by, dimension)
    except StopIteration:
        return ""
    return f"{short(score['value'])} [{short(score['low'])}, {short(score['high'])}]"


def spread(scores: list[dict[str, str]], truth: str, form: str, dimension: str) -> tuple[str, str, str]:
    own = [s for s in scores if (s["truth"], s["weights"], s["dimension"]) == (truth, form, dimension)]
    speakers = {s["by"].removeprefix("speaker="): float(s["value"]) for s in own if s["by"].startswith("speaker=")}
    low, high = (pick(speakers, key=speakers.__getitem__) for pick in (min, max))
    middle = statistics.median(speakers.values())
    return f"{short(speakers[low])}, actor {low}", short(middle), f"{short(speakers[high])}, actor {high}"


def spelt(form: str) -> str:
    return form.replace(":", " ")


def triple(ccc: dict[str, float]) -> str:
    return " / ".join(short(ccc[dimension]) for dimension in OUTPUTS)


def short(value: float | str) -> str:
    """Two decimals without a leading zero, as papers write CCC."""
    return f"{float(value):.2f}".replace("0.", ".", 1).replace("-.00", ".00")


if __name__ == "__main__":
    main()
