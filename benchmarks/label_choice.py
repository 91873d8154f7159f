"""Does the teacher label the audio as it was, or as it was distorted? Two short runs on the same distorted audio.

    WAV2SMALL_MODELS=models python benchmarks/label_choice.py DATA RUN --clips 6000 --steps 1500

RUN is a folder that recipes/open.sh filled, DATA its argument. The twin of each clip is the same clip without its
distortion; one student learns the teacher's label of the clip it hears, one that of the twin. Scored on dev speakers.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from wav2small.manifest import Segment, read_manifest
from wav2small.train.compose import Compose, compose
from wav2small.train.teachers import load_teacher
from wav2small.train.train import LOG, TrainConfig, train

DRAWN = ["emodb"] * 3 + ["emogator"] + ["sdap"] * 2
DRAWN += ["librispeech", "picovoice", "speechocean", "mycroft", "arabic_commands"]
"""As in recipes/open.sh."""


def labels_of_twins(corpora: list[list[Segment]], segments: list[Segment], head: Path) -> list[Segment]:
    """The same segments with the teacher's label of the clip before its distortion."""
    teacher, out = load_teacher(str(head), bf16=True), []
    for first in range(0, len(segments), 16):
        part = segments[first : first + 16]
        twins = [compose(corpora, first + i, 1, Compose(plain=1.0)) for i in range(len(part))]
        out += [replace(s, emotion=e) for s, e in zip(part, teacher.label(twins), strict=True)]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--student", default="micro")
    arguments = parser.parse_args()
    corpora = [[s for s in read_manifest(arguments.data / "open" / name) if s.column("fold") != "0"] for name in DRAWN]
    heard = read_manifest(arguments.run / "clips.csv")[: arguments.clips]
    dev = [s for path in sorted(arguments.run.glob("dev-*.csv")) for s in read_manifest(path)]
    steps = arguments.steps
    config = TrainConfig(student=arguments.student, steps=steps, evaluate_every=steps, embedding=0.0)
    forms = {
        "labels of the distorted clip": lambda: heard,
        "labels of the clip before": lambda: labels_of_twins(corpora, heard, arguments.run / "open.safetensors"),
    }
    for name, segments in forms.items():
        folder = arguments.run / "label_choice" / name.replace(" ", "_")
        train(segments(), dev, folder, config, {}, lambda *_: None, lambda _: None)
        print(name, json.dumps(json.loads((folder / LOG).read_text().splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()
