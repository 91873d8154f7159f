"""Effect of training settings on a student, one factor at a time, on the dev speakers of the open corpora.

    python benchmarks/factors.py RUN --student micro --steps 1500

RUN is a folder that recipes/open.sh filled. Every run uses the same batches of clips and differs from the first run in
one setting. The output has one line per run: CCC of each dimension against the teacher.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import read_manifest
from wav2small.train.clips import Clips
from wav2small.train.config import TrainConfig
from wav2small.train.student import BEST, Distillation, make_loop

FACTORS = {
    "as it ships": {},
    "squared error too": {"squared_error": 0.5},
    "squared error alone": {"concordance": 0.0, "squared_error": 1.0},
    "no embedding": {"embedding": 0.0},
    "embedding 3": {"embedding": 3.0},
    "no equaliser": {"tilt": 0.0},
    "equaliser of 10 dB": {"tilt": 10.0},
    "no dropout": {"dropout": 0.0},
    "dropout .5": {"dropout": 0.5},
    "no moving average": {"average": 0.0},
    "crops of 2 s": {"max_dur": 2.0},
    "batches of 64": {"batch_size": 64},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "weight decay .1": {"weight_decay": 0.1},
    "twice the steps": {"steps": 2},
    "another seed": {"seed": 2},
}
"""``steps`` is a factor."""


def score(base: TrainConfig, change: dict[str, float], clips: Clips, dev: Clips) -> list[float]:
    """CCC of each dimension on the dev clips after training."""
    config = replace(base, **(change | {"steps": base.steps * change.get("steps", 1)}))
    clips.arrange(config)
    return trained(config, clips, dev)


def trained(config: TrainConfig, clips: Clips, dev: Clips) -> list[float]:
    """The same of a config, for clips that are arranged for it."""
    with tempfile.TemporaryDirectory() as folder:
        student = Distillation(config, clips, dev, Path(folder) / BEST, {})
        loop = make_loop(Path(folder), student)
        for batch in student.batches(loop.step):
            loop.advance(batch)
        answers = student.predict(dev.signals)
    return [concordance_cc(dev.labels[:, d], answers[:, d]) for d in range(len(OUTPUTS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--student", default="micro")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--clips", type=int, default=None, help="only so many of the clips")
    parser.add_argument("--only", nargs="*", default=list(FACTORS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = TrainConfig(student=arguments.student, steps=arguments.steps)
    clips = Clips(
        read_manifest(arguments.run / "labels.csv", arguments.run / "clips")[: arguments.clips], base, lambda *_: None
    )
    dev_segments = [s for path in sorted(arguments.run.glob("dev-*.csv")) for s in read_manifest(path)]
    dev = Clips(dev_segments, base, lambda *_: None)
    print("| factor | CCC A | CCC D | CCC V | mean |\n|---|---|---|---|---|", flush=True)
    for name in arguments.only:
        found = score(base, FACTORS[name], clips, dev)
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in [*found, np.mean(found)])} |", flush=True)


if __name__ == "__main__":
    main()
