"""A day of stream --log: memory and time over 24 hours of audio, the rows of each date, and the picture of the day.

    python benchmarks/diary_day.py CLIP... [-o FOLDER] [--hours 24] [--model micro]

Clips of one speaker, with pauses, are spoken in the minutes of a plan of the day, and the rest is the noise of an idle
microphone. The clock is the position of the stream, so the day begins at midnight and passes as fast as possible.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from wav2small import Baseline, Stream, load
from wav2small.audio.read import read
from wav2small.evaluation.day import draw_day
from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.diary import Diary, read_diary

SHARES = (0, 0, 0, 0, 0, 0, 0, 0.2, 0.5, 0.7, 0.1, 0.6, 0.8, 0.3, 0, 0.4, 0.7, 0.5, 0.1, 0.6, 0.7, 0.4, 0.1, 0)
"""Share of the minutes of each hour in which somebody speaks."""
CHUNK_LENGTH = SAMPLING_RATE // 10
MAX_PAUSE_DUR = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("-o", "--output", default=tempfile.gettempdir())
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--model", default="micro")
    arguments = parser.parse_args()
    clips = [read(path) for path in arguments.clips]
    model = load(arguments.model, calibration=True, backend="c")
    stream = Stream(model, 0.5, 3.0, vad="energy", baseline=Baseline())
    midnight = datetime(2026, 11, 28, tzinfo=timezone.utc)
    diary = Diary(
        Path(arguments.output) / "day.csv",
        arguments.model,
        lambda: midnight + timedelta(seconds=stream.position / SAMPLING_RATE),
    )
    begun = time.perf_counter()
    print("| hour | peak MB of the process | s |\n|---|---|---|")
    for number, minute in enumerate(minutes(clips, arguments.hours * 60), 1):
        for start in range(0, len(minute), CHUNK_LENGTH):
            for event in stream.push(minute[start : start + CHUNK_LENGTH]):
                diary.add(event)
        if number % 60 == 0 and number // 60 in (1, 6, 12, 18, 24, 30, 36, 42, 48):
            print(f"| {number // 60} | {peak():.1f} | {time.perf_counter() - begun:.0f} |", flush=True)
    path = diary.close()
    print(f"| file written | {peak():.1f} | {time.perf_counter() - begun:.0f} |")
    rows = read_diary(path)
    print(f"\n{path.name}: {len(rows):,} rows, {path.stat().st_size / 1e6:.1f} MB")
    draw_day(rows, path.with_suffix(".png"))


def minutes(clips: list[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Audio minute by minute."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1e-4, 60 * SAMPLING_RATE).astype(np.float32)
    for number in range(count):
        minute = noise.copy()
        position = 0 if rng.random() < SHARES[number // 60 % 24] else len(minute)
        while position < len(minute):
            clip = clips[rng.integers(len(clips))][: len(minute) - position]
            minute[position : position + len(clip)] += 0.3 * clip
            position += len(clip) + int(rng.uniform(0, MAX_PAUSE_DUR) * SAMPLING_RATE)
        yield minute


def peak() -> float:
    """Largest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
