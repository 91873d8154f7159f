"""Which clips help a student? One factor of how they are composed at a time, on the dev speakers of the open corpora.

    WAV2SMALL_MODELS=models python benchmarks/clip_factors.py DATA RUN --clips 4000 --steps 700

RUN is a folder that recipes/open.sh filled, DATA as there. Each form composes its own clips twice, without distortion
for the teacher to label and distorted for ``micro`` to hear. Where the teacher would hear the same, it is not asked
again. Every form learns from as many clips in as many steps; a line a form, CCC of each dimension against the teacher.
What is made is kept in RUN/clip_factors, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import Segment, read_manifest
from wav2small.train.compose import compose_all
from wav2small.train.config import ComposeConfig, LabelConfig, TrainConfig
from wav2small.train.label.labelling import label
from wav2small.train.label.threads import Threads
from wav2small.train.loop import LOG
from wav2small.train.student import train
from wav2small.train.teachers import Teacher, load_teacher

DRAWN = ["emodb"] * 3 + ["emogator"] + ["sdap"] * 2
DRAWN += ["librispeech", "picovoice", "speechocean", "mycroft", "arabic_commands"]
"""As recipes/open.sh draws them."""
DEV_FOLD = "0"
BASE = ComposeConfig()
HEARD = {
    "as it ships": {},
    "no distortion": {"plain": 1.0},
    "one level, -25 dB": {"lowest_level": -25.0, "highest_level": -25.0},
}
"""The teacher hears the same clips, the student others."""
COMPOSED = {
    "no mixtures": {"mixture": 0.0},
    "no mixtures, none joined": {"mixture": 0.0, "joined": 0.0},
    "no change of speed": {"fastest": 1.0},
    "clips of 2 s": {"durations": (2.0,)},
    "clips of 4 s": {"durations": (4.0,)},
}
"""Other clips, for both."""


def without_dev(manifest: Path) -> list[Segment]:
    return [segment for segment in read_manifest(manifest) if segment.column("fold") != DEV_FOLD]


def labels(folder: Path, corpora: list[list[Segment]], config: ComposeConfig, teacher: Teacher) -> Path:
    """The table of labels, with embeddings, of clips without distortion."""
    table = folder.with_suffix(".csv")
    if not table.is_file():
        compose_all(corpora, folder, replace(config, plain=1.0), 1, lambda *_: None)
        options = LabelConfig(embed=True)
        label(read_manifest(folder), Threads(teacher, options), table, options, lambda *_: None)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=700)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.run / "clip_factors"
    folder.mkdir(exist_ok=True)
    corpora = [without_dev(arguments.data / "open" / name) for name in DRAWN]
    dev = [segment for path in sorted(arguments.run.glob("dev-*.csv")) for segment in read_manifest(path)]
    teacher = load_teacher(str(arguments.run / "open.safetensors"), bf16=True)
    steps = arguments.steps
    print("| clips | CCC A | CCC D | CCC V | mean |\n|---|---|---|---|---|", flush=True)
    for name, change in (HEARD | COMPOSED).items():
        config = replace(BASE, clips=arguments.clips, **change)
        own = name.replace(" ", "_").replace(",", "")
        plain = folder / ("as_it_ships-plain" if name in HEARD else f"{own}-plain")
        table = labels(plain, corpora, config if name in COMPOSED else replace(BASE, clips=arguments.clips), teacher)
        compose_all(corpora, folder / own, config, 1, lambda *_: None)
        training = TrainConfig(student="micro", steps=steps, evaluate_every=steps)
        run = folder / f"{own}-run"
        train(read_manifest(table, folder / own), dev, run, training, {}, lambda *_: None, lambda _: None)
        line = json.loads((run / LOG).read_text().splitlines()[-1])
        found = [line[dimension] for dimension in OUTPUTS]
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in [*found, np.mean(found)])} |", flush=True)


if __name__ == "__main__":
    main()
