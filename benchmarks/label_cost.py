"""Cost of `wav2small label` compared with the encoder alone and with Ray and two workers; and its memory over time.

    WAV2SMALL_MODELS=models python benchmarks/label_cost.py open/* --clips 400 --rounds 3
    WAV2SMALL_MODELS=models python benchmarks/label_cost.py open/* --clips 1500 --memory

Clips are drawn from the manifests with seed 1. In each round the same clips are labelled, one way after the other, on
as many threads: by the encoder with its log-mel already there, by the teacher with its signals already there, by the
whole of `label` from files to a table, and by `label --engine ray`. CPU seconds are those of the process, which other
work on the machine disturbs less than the clock; Ray's are in other processes. The start of programs is not counted.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import Segment, read_manifest, segment_signal
from wav2small.train.config import LabelConfig
from wav2small.train.label.labelling import label
from wav2small.train.label.ray import Workers
from wav2small.train.label.threads import Clip, Threads, by_length
from wav2small.train.teachers import load_teacher

PART_ROWS = 16
MEMORY_PARTS = 10


def draw(manifests: list[str], clips: int) -> list[Segment]:
    """As many clips, or all that there are."""
    segments = [segment for manifest in manifests for segment in read_manifest(manifest)]
    order = np.random.default_rng(1).permutation(len(segments))[:clips]
    return [segments[number] for number in order]


class Remembered:
    """A feature extractor that caches the result of each signal."""

    def __init__(self, real: Callable) -> None:
        self.real, self.known = real, {}

    def __call__(self, signal: np.ndarray, **options: object):
        key = (len(signal), signal[len(signal) // 2 :][:50].tobytes())
        if key not in self.known:
            self.known[key] = self.real(signal, **options)
        return self.known[key]


def in_memory(engine: Threads, segments: list[Segment], signals: list[np.ndarray]) -> None:
    """The batches that `label` makes of these parts, from memory."""
    parts = [range(first, min(first + PART_ROWS, len(signals))) for first in range(0, len(signals), PART_ROWS)]
    clips = [[Clip(0, len(part), number, signals[number]) for number in part] for part in parts]
    batches = [batch for part in clips for batch in by_length(part, engine.config.batch_dur)]
    with ThreadPoolExecutor(engine.workers) as threads:
        list(threads.map(engine._answer, batches))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def compare(segments: list[Segment], name: str, workers: int, rounds: int, with_ray: bool) -> None:
    import torch

    torch.set_num_threads(1)
    config, folder = LabelConfig(part_rows=PART_ROWS), Path(tempfile.mkdtemp())
    engine = Threads(load_teacher(name), config, workers)
    signals = [segment_signal(segment) for segment in segments]
    hours = sum(map(len, signals)) / SAMPLING_RATE / 3600
    real = engine.teacher.body.features
    remembered = Remembered(real)
    marks: dict[str, list[float]] = {}

    def encoder() -> None:
        engine.teacher.body.features = remembered
        in_memory(engine, segments, signals)
        engine.teacher.body.features = real

    def steady(key: str, made: object) -> None:
        """Label, and measure the hours of audio per second between the first and the last reported clips."""
        reports: list[tuple[float, float]] = []
        progress = lambda done, total, dur: reports.append((time.perf_counter(), dur))  # noqa: E731
        label(segments, made, folder / f"{key}.csv", config, progress)
        first = next(number for number, (_, dur) in enumerate(reports) if dur)
        marks.setdefault(key, []).append(
            (reports[-1][1] - reports[first][1]) / 3600 / (reports[-1][0] - reports[first][0])
        )

    ways = {
        "encoder, log-mel in memory": encoder,
        "teacher, signals in memory": partial(in_memory, engine, segments, signals),
        "label, files to table": partial(steady, "local", engine),
    }
    if with_ray:
        cluster = Workers(partial(load_teacher, name, False), config, "cpu", workers, None)
        ways["label --engine ray"] = partial(steady, "ray", cluster)
    encoder()
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            found[way].append(timed(work))
    print(f"{len(segments)} clips, {hours:.3f} h, {workers} workers, median of {rounds} rounds\n")
    print("| | h of audio per s | of the encoder's | CPU s per h of audio | of the encoder's |\n|---|---|---|---|---|")
    base = [statistics.median(seconds) for seconds in zip(*found["encoder, log-mel in memory"], strict=True)]
    for way, seconds in found.items():
        clock, cpu = (statistics.median(values) for values in zip(*seconds, strict=True))
        cells = "" if "ray" in way else f"{cpu / hours:.1f} | {base[1] / cpu:.3f}"
        print(f"| {way} | {hours / clock:.5f} | {base[0] / clock:.3f} | {cells or ' | '} |", flush=True)
    for key, rates in marks.items():
        print(f"\n{key}: {statistics.median(rates):.5f} h per s from its first answer to its last", end="")
    if with_ray:
        same = (folder / "local.csv").read_bytes() == (folder / "ray.csv").read_bytes()
        print(f"\n\nThe tables of one process and of Ray are {'the same' if same else 'NOT THE SAME'}, byte by byte.")


def memory(segments: list[Segment], name: str, workers: int) -> None:
    """The resident memory of the command, in MB, the most in each tenth of the time that it labelled."""
    folder = Path(tempfile.mkdtemp())
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file"], *([Path(segment.path).resolve()] for segment in segments)])
    command = [sys.executable, "-c", "from wav2small.cli import main; main()", "label", str(folder)]
    command += ["--teacher", name, "-o", str(folder / "labels"), "--workers", str(workers), "--part", str(PART_ROWS)]
    child = subprocess.Popen(command)
    seen = list(_resident(child, folder / "labels"))
    print(f"{len(segments)} clips; resident MB, the most in each tenth of {len(seen)} looks:")
    print(" ".join(f"{max(part):.0f}" for part in np.array_split(seen, MEMORY_PARTS)))


def _resident(child: subprocess.Popen, labels: Path) -> Iterator[float]:
    while child.poll() is None:
        if any(labels.glob("part-*")):
            pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1] or 0)
            yield pages * 4096 / 2**20
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--teacher", default="open")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    segments = draw(arguments.manifests, arguments.clips)
    if arguments.memory:
        memory(segments, arguments.teacher, arguments.workers)
    else:
        compare(segments, arguments.teacher, arguments.workers, arguments.rounds, arguments.ray)


if __name__ == "__main__":
    main()
