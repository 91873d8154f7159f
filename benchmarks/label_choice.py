"""Does the teacher label the audio as it was, or as it was distorted? Two short runs on the same distorted audio.

    WAV2SMALL_MODELS=models python benchmarks/label_choice.py RUN --clips 6000 --steps 1500

RUN is a folder that recipes/open.sh filled. One student learns the teacher's label of the clip as it was, as those that
ship do, and one that of the distorted clip which it hears. No embedding. Scored on dev speakers.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from wav2small.tables.manifest import Segment, read_manifest, segment_signal
from wav2small.train.config import TrainConfig
from wav2small.train.loop import LOG
from wav2small.train.student import train
from wav2small.train.teachers import load_teacher


def labels_as_heard(segments: list[Segment], head: Path) -> list[Segment]:
    """The same segments with the teacher's label of what the student hears."""
    teacher, out = load_teacher(str(head), bf16=True), []
    for first in range(0, len(segments), 16):
        part = segments[first : first + 16]
        emotions = teacher.label([segment_signal(segment) for segment in part])
        out += [replace(s, emotion=e) for s, e in zip(part, emotions, strict=True)]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--student", default="micro")
    arguments = parser.parse_args()
    before = read_manifest(arguments.run / "labels.csv", arguments.run / "clips")[: arguments.clips]
    dev = [s for path in sorted(arguments.run.glob("dev-*.csv")) for s in read_manifest(path)]
    steps = arguments.steps
    config = TrainConfig(student=arguments.student, steps=steps, evaluate_every=steps, embedding=0.0)
    forms = {
        "labels of the clip before": lambda: before,
        "labels of the distorted clip": lambda: labels_as_heard(before, arguments.run / "open.safetensors"),
    }
    for name, segments in forms.items():
        folder = arguments.run / "label_choice" / name.replace(" ", "_")
        train(segments(), dev, folder, config, {}, lambda *_: None, lambda _: None)
        print(name, json.dumps(json.loads((folder / LOG).read_text().splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()
