"""Cost of a clip in online distillation, by part, compared with the teacher's own rate, on one device.

    WAV2SMALL_MODELS=models python benchmarks/distil_cost.py open/emodb open/librispeech --noise open/noise \
        --student micro --student wav2small [--teacher FILE] [--device cuda] [--batch-size 256]

The teacher's own rate is that of its encoder and heads on ready batches of white noise of the same length. A worker of
the ring composes and labels, so its rate relative to the teacher's own is the efficiency of the ring; training uses a
clip REUSE times, with one distortion and one step each time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wav2small.tables.manifest import read_manifest
from wav2small.train.config import DistilConfig
from wav2small.train.learner import Learner
from wav2small.train.loss import grouped_ccc_loss
from wav2small.train.online.compose import compose
from wav2small.train.online.distort import Distortion
from wav2small.train.online.draw import Draw
from wav2small.train.online.labels import Labeller
from wav2small.train.online.pool import Source, load_pool
from wav2small.train.students import build
from wav2small.train.teachers import load_teacher

DUR = 3.0
OWN = "teacher, ready batches"


def timed(part: Callable[[int], object], device: torch.device, rounds: int) -> float:
    """Median seconds of a call, after one to warm up."""
    part(0)
    seconds = []
    for number in range(1, rounds + 1):
        wait(device)
        start = time.perf_counter()
        part(number)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[rounds // 2]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--noise")
    parser.add_argument("--teacher", default="open")
    parser.add_argument("--student", action="append", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device, size = torch.device(arguments.device), arguments.batch_size
    config, samples = DistilConfig(), round(DUR * 16000)
    with tempfile.TemporaryDirectory() as folder:
        sources = [Source(manifest, read_manifest(manifest)) for manifest in arguments.manifests]
        pool = load_pool(sources, Path(folder), device, lambda *_: None)
        given = [Source("noise", read_manifest(arguments.noise))] if arguments.noise else []
        noise = load_pool(given, Path(folder), device, lambda *_: None) if given else None
    labeller, distortion = Labeller(load_teacher(arguments.teacher, False, arguments.device)), Distortion(noise, None)

    def composed(number: int) -> torch.Tensor:
        draw = Draw((1, number), device)
        corpus = pool.corpora(draw, size // config.group_size).repeat_interleave(config.group_size)
        return compose(pool, corpus, samples, draw, config)

    clips = composed(0)
    hiss = 0.1 * torch.randn(size, samples, device=device)
    with torch.inference_mode():
        label, embedding = labeller.of(clips * 0.1)
        costs = {
            "compose": timed(composed, device, arguments.rounds),
            "teacher, composed clips": timed(lambda _: labeller.of(clips * 0.1), device, arguments.rounds),
            OWN: timed(lambda _: labeller.of(hiss), device, arguments.rounds),
            "distort": timed(lambda number: distortion(clips, Draw((2, number), device)), device, arguments.rounds),
        }
    label, embedding = label.clone(), embedding.clone()
    for name in arguments.student:
        learner = Learner(build(name, 0.2), embedding.mean(0), 1.0, config, device)
        optimiser = torch.optim.AdamW(learner.parameters(), 1e-3)

        def step(_: int, learner: Learner = learner, optimiser: torch.optim.Optimizer = optimiser) -> None:
            loss = learner.loss(
                clips, label, embedding, lambda truth, own: grouped_ccc_loss(truth, own, config.group_size, 0.5).mean()
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            learner.move_average(1)

        costs[f"step of {name}"] = timed(step, device, arguments.rounds)
    print(
        f"{size} clips of {DUR:g} s on {arguments.device}, {arguments.threads} thread(s), median of {arguments.rounds}"
    )
    print("| part | ms a batch | ms a clip | s of audio a second |\n|---|---|---|---|")
    for part, seconds in costs.items():
        print(f"| {part} | {1e3 * seconds:.1f} | {1e3 * seconds / size:.2f} | {size * DUR / seconds:.0f} |")
    made = costs["compose"] + costs["teacher, composed clips"]
    print(f"composed and labelled at {costs[OWN] / made:.3f} of the teacher's own rate")


if __name__ == "__main__":
    main()
