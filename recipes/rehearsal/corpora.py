"""Synthetic corpora for ``recipes/paper.sh --rehearse``: small versions of MSP-Podcast and IEMOCAP, and noise.

    python recipes/rehearsal/corpora.py FOLDER

The layout is that of the owners; the audio is the four clips of examples/ (EmoDB, CC0), each time at another speed and
level, and the ratings are made up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

EXAMPLES = {
    "08a05Fe": (0.8, 0.6, 0.9),
    "10b10Wa": (0.9, 0.9, 0.1),
    "14a04Tc": (0.1, 0.1, 0.2),
    "15b02Nd": (0.4, 0.5, 0.5),
}
"""Clip -> arousal, dominance and valence that are made up for it, from 0 to 1."""
LABELS = {"08a05Fe": "hap", "10b10Wa": "ang", "14a04Tc": "sad", "15b02Nd": "neu"}
"""Clip -> its emotion, as IEMOCAP abbreviates it."""
SAMPLING_RATE = 16000
SPEAKERS = {"Train": 6, "Development": 3, "Test1": 4, "Test2": 3}
TURNS = 4
"""Of each speaker."""


def turn(path: Path, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Write one turn and return its emotion, and its arousal, dominance and valence, each from 0 to 1."""
    name = list(EXAMPLES)[rng.integers(len(EXAMPLES))]
    signal, _ = soundfile.read(Path(__file__).parents[2] / "examples" / f"{name}.flac", dtype="float32")
    places = np.arange(0, len(signal) - 1, rng.uniform(0.8, 1.25))
    signal = np.interp(places, np.arange(len(signal)), signal) * 10 ** (rng.uniform(-10, 0) / 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal[: 2 * SAMPLING_RATE], SAMPLING_RATE)
    return LABELS[name], np.clip(np.array(EXAMPLES[name]) + rng.normal(0, 0.05, 3), 0, 1)


def make_msp_podcast(folder: Path, rng: np.random.Generator) -> None:
    """Audios and labels_consensus.csv."""
    lines = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    number = 0
    for split, speakers in SPEAKERS.items():
        for _ in range(speakers):
            number += 1
            for index in range(TURNS):
                name = f"MSP-PODCAST_{number:04}_{index:04}.wav"
                arousal, dominance, valence = 1 + 6 * turn(folder / "Audios" / name, rng)[1]
                ratings = f"{arousal:.2f},{valence:.2f},{dominance:.2f}"
                lines.append(f"{name},N,{ratings},{number},{'Male' if number % 2 else 'Female'},{split}")
    (folder / "Labels").mkdir(exist_ok=True)
    (folder / "Labels" / "labels_consensus.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_iemocap(folder: Path, rng: np.random.Generator) -> None:
    """Five sessions of one dialogue each."""
    for session in range(1, 6):
        dialogue = f"Ses{session:02}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for number in range(TURNS):
            name = f"{dialogue}_{'FM'[number % 2]}{number:03}"
            path = folder / f"Session{session}" / "sentences" / "wav" / dialogue / f"{name}.wav"
            label, values = turn(path, rng)
            arousal, dominance, valence = 1 + 4 * values
            ratings = f"[{valence:.4f}, {arousal:.4f}, {dominance:.4f}]"
            lines.append(f"[{2 * number:.4f} - {2 * number + 2:.4f}]\t{name}\t{label}\t{ratings}")
        evaluation = folder / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        evaluation.parent.mkdir(parents=True, exist_ok=True)
        evaluation.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_audio(folder: Path, rng: np.random.Generator) -> None:
    """Noise, for the sound without annotation."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        noise = np.cumsum(rng.standard_normal(3 * SAMPLING_RATE))
        soundfile.write(folder / f"{number}.flac", 0.1 * noise / np.abs(noise).max(), SAMPLING_RATE)


if __name__ == "__main__":
    root, rng = Path(sys.argv[1]), np.random.default_rng(1)
    make_msp_podcast(root / "msp-podcast", rng)
    make_iemocap(root / "iemocap", rng)
    make_audio(root / "audio", rng)
