"""Effect of the loss on valence in a held-out corpus, one factor at a time.

    WAV2SMALL_MODELS=models python benchmarks/distil_factors.py open/emogator open/sdap open/librispeech ... \
        --left-out open/emodb --teacher FILE --run RUN --steps 300 [--student micro] [--only NAME ...]

Every form is trained on the same ring of labelled clips, without the held-out corpora, and is scored on these against
the teacher. The output has one line per form. Results are kept in RUN, so an interrupted run can be resumed.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from wav2small.network.config import OUTPUTS
from wav2small.train.config import DistilConfig
from wav2small.train.corpus import Corpus
from wav2small.train.online.distil import Pupil
from wav2small.train.online.run import Run

FORMS: dict[str, dict[str, float]] = {
    "as it ships": {},
    "loss over the batch alone": {"within": 0.0},
    "loss within corpora alone": {"within": 1.0},
    "penalty on borrowed valence": {"decorrelation": 0.5},
    "no embedding": {"embedding": 0.0},
    "embedding 3": {"embedding": 3.0},
    "no equaliser": {"tilt": 0.0},
    "no dropout": {"dropout": 0.0},
}


@contextmanager
def quiet(title: str):
    yield lambda done, total: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+")
    parser.add_argument("--left-out", nargs="+", required=True)
    parser.add_argument("--teacher", default="open")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--student", default="micro")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=FORMS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = arguments.steps
    base = DistilConfig(steps=steps, batch_size=128, warm_up=min(100, steps // 4), evaluate_every=steps, reuse=4.0)
    print("| form | left out: r A / D / V | CCC A / D / V | dev: mean CCC |\n|---|---|---|---|", flush=True)
    for name in arguments.only or FORMS:
        run = Run(
            corpora=[Corpus.of(text) for text in arguments.corpora],
            pupils=[Pupil(arguments.student, None, arguments.start)],
            folder=arguments.run / name.replace(" ", "_"),
            teacher=arguments.teacher,
            left_out=[Corpus.of(text) for text in arguments.left_out],
            ring=arguments.run / "ring",
            workers=arguments.workers,
            config=replace(base, **FORMS[name]),
        )
        task = run.start(quiet, lambda sentence: None)
        scores = task.evaluate()
        r, ccc = (task.within(scores, arguments.student, statistic, True) for statistic in ("r", "ccc"))
        dev = np.mean(list(task.within(scores, arguments.student).values()))
        cells = [" / ".join(f"{found[d]:.3f}" for d in OUTPUTS) for found in (r, ccc)]
        print(f"| {name} | {' | '.join(cells)} | {dev:.3f} |", flush=True)


if __name__ == "__main__":
    main()
