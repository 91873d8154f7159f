"""The picture of the README, for light and for dark pages: docs/picture-light.png and docs/picture-dark.png.

    python recipes/picture.py EMODB

EMODB is the corpus with its manifest. A speaker whom no student was trained on is neutral, sad, happy and angry in
turn; on the left are the answers of ``micro`` over time, on the right where each sentence is in the plane.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import wav2small
from wav2small.audio.read import read
from wav2small.network.config import OUTPUTS, SAMPLING_RATE

SPEAKER = "13"
TURNS = ("neutral", "sadness", "happiness", "anger")
CLIPS, PAUSE_DUR, HOP_DUR, WIN_DUR = 3, 0.4, 0.25, 3.0
"""Clips of each turn; seconds."""
THEMES = {
    "light": {"text": "#24292f", "face": "#ffffff", "grid": "#d0d7de"},
    "dark": {"text": "#e6edf3", "face": "#0d1117", "grid": "#30363d"},
}
COLOURS = {"arousal": "#e5533d", "dominance": "#8a8f98", "valence": "#2f81f7"}
TURN_COLOURS = {"neutral": "#8a8f98", "sadness": "#2f81f7", "happiness": "#d29922", "anger": "#e5533d"}


def main() -> None:
    signal, turns, sentences = dialogue(Path(sys.argv[1]))
    model = wav2small.load("micro")
    rows = wav2small.predict(signal, SAMPLING_RATE, model=model, hop_dur=HOP_DUR, win_dur=WIN_DUR)
    places = [(label, model(clip)) for label, clip in sentences]
    for theme, colours in THEMES.items():
        figure = Figure(figsize=(9, 3.2), layout="constrained", facecolor=colours["face"])
        left, right = figure.subplots(1, 2, width_ratios=(2.1, 1))
        for axes in (left, right):
            plain(axes, colours)
        timeline(left, rows, turns, colours)
        plane(right, places, colours)
        target = Path(__file__).parents[1] / "docs" / f"picture-{theme}.png"
        figure.savefig(target, dpi=160, facecolor=colours["face"])
        print(target)


def dialogue(corpus: Path) -> tuple[np.ndarray, list[tuple[str, float, float]], list[tuple[str, np.ndarray]]]:
    """The signal, the turns in it with start and end in seconds, and each sentence alone."""
    with (corpus / "manifest.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == SPEAKER]
    if {row["fold"] for row in rows} != {"0"}:
        raise SystemExit(f"speaker {SPEAKER} is not a dev speaker, so a student was trained on this voice")
    parts, turns, sentences, position = [], [], [], 0.0
    for label in TURNS:
        start = position
        for row in [row for row in rows if row["label"] == label][:CLIPS]:
            clip = read(corpus / row["file"])
            sentences.append((label, clip))
            parts += [clip, np.zeros(round(PAUSE_DUR * SAMPLING_RATE), np.float32)]
            position += sum(map(len, parts[-2:])) / SAMPLING_RATE
        turns.append((label, start, position - PAUSE_DUR))
    return np.concatenate(parts), turns, sentences


def timeline(
    axes: Axes, rows: list[wav2small.Prediction], turns: list[tuple[str, float, float]], colours: dict
) -> None:
    for label, start, end in turns:
        axes.axvspan(start, end, color=to_rgba(TURN_COLOURS[label], 0.12), linewidth=0)
        axes.text((start + end) / 2, 1.02, label, ha="center", va="bottom", color=colours["text"], fontsize=9)
    times = [(row.start + row.end) / 2 for row in rows]
    for name in OUTPUTS:
        values = [np.nan if getattr(row, name) is None else getattr(row, name) for row in rows]
        axes.plot(times, values, color=COLOURS[name], linewidth=2)
        axes.annotate(name, (turns[-1][2], values[-1]), (4, -3), textcoords="offset points", color=COLOURS[name])
    axes.set(xlim=(0, turns[-1][2]), ylim=(0, 1), xlabel="seconds")


def plane(axes: Axes, places: list[tuple[str, wav2small.Emotion]], colours: dict) -> None:
    for label, emotion in places:
        axes.scatter(emotion.valence, emotion.arousal, s=60, color=TURN_COLOURS[label], alpha=0.85, linewidths=0)
    for line, label in enumerate(TURNS):
        axes.scatter(0.66, 0.28 - 0.075 * line, s=30, color=TURN_COLOURS[label], linewidths=0)
        axes.text(0.70, 0.28 - 0.075 * line, label, va="center", color=colours["text"], fontsize=8)
    axes.axhline(0.5, color=colours["grid"], linewidth=1)
    axes.axvline(0.5, color=colours["grid"], linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="valence", ylabel="arousal", aspect="equal")


def plain(axes: Axes, colours: dict) -> None:
    axes.set_facecolor(colours["face"])
    axes.tick_params(colors=colours["text"], labelsize=8)
    for item in (axes.xaxis.label, axes.yaxis.label):
        item.set_color(colours["text"])
    for side, spine in axes.spines.items():
        spine.set_color(colours["grid"])
        spine.set_visible(side in ("left", "bottom"))


if __name__ == "__main__":
    main()
