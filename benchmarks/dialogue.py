"""A dialogue of two EmoDB speakers, who are neutral, angry, sad and happy in turn: dialogue.flac and dialogue.rttm.

    python benchmarks/dialogue.py EMODB FOLDER

EMODB is the corpus with its manifest. Clips follow on each other with pauses, and there is one long silence.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import soundfile

from wav2small.audio.read import read
from wav2small.network.config import SAMPLING_RATE

SPEAKERS = ("03", "08")
TURNS = ["neutral"] * 9 + ["anger"] * 5 + ["silence"] + ["sadness"] * 5 + ["happiness"] * 4
SILENCE_DUR = 6.0


def main() -> None:
    corpus, folder = map(Path, sys.argv[1:3])
    with (corpus / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng, parts, lines, position = np.random.default_rng(1), [], [], 0
    for number, label in enumerate(TURNS):
        for speaker in SPEAKERS if label != "silence" else ():
            clips = [row["file"] for row in rows if (row["speaker"], row["label"]) == (speaker, label)]
            signal = read(corpus / clips[number % len(clips)])
            start, dur = position / SAMPLING_RATE, len(signal) / SAMPLING_RATE
            lines.append(f"SPEAKER dialogue 1 {start:.3f} {dur:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
            parts += [signal, np.zeros(round(rng.uniform(0.3, 0.9) * SAMPLING_RATE), np.float32)]
            position += len(parts[-2]) + len(parts[-1])
        if label == "silence":
            parts.append(np.zeros(round(SILENCE_DUR * SAMPLING_RATE), np.float32))
            position += len(parts[-1])
    soundfile.write(folder / "dialogue.flac", np.concatenate(parts), SAMPLING_RATE)
    (folder / "dialogue.rttm").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
