"""Cost of a stream: time of a step, time of an hour of a file, memory over a day, and the state of ``micro``.

    python benchmarks/stream_cost.py [HOURS]

A step is a chunk of 100 ms that gives an event, hop 0.1 s, window 3 s: median and 95th percentile of 2,000. The hour
is the example clips, repeated, as FLAC at 44.1 kHz: the whole command, and its peak memory. The day, 24 hours by
default, is pushed as fast as possible in chunks of 100 ms at 16 kHz, int16: events, seconds, and the memory
of the process after each twelfth of it. One thread throughout. Needs a C compiler.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import soundfile
import soxr

from wav2small import Stream, load
from wav2small.audio.read import read
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.micro import MICRO

EXAMPLES = Path(__file__).parents[1] / "examples"
PREDICT = [sys.executable, "-c", "from wav2small.cli import main; main()", "predict"]
STEPS = 2000


def main() -> None:
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 24.0
    signal = np.concatenate([read(path) for path in sorted(EXAMPLES.glob("*.flac"))])
    state()
    steps(signal)
    files(signal)
    for backend in ("onnx", "c"):
        day(signal, hours, backend)


def state() -> None:
    network = load("micro").causal()
    assert network is not None
    network.push(np.zeros(4 * SAMPLING_RATE, np.float32))
    print("| micro remembers | values |\n|---|---|")
    print(f"| signal | {MICRO.frontend.win_length - MICRO.frontend.hop_length} |")
    for name, values in list(network.state.items())[1:]:
        print(f"| {name} | {values.size} |")
    print(f"| pooling | {network.partial(np.zeros((1, MICRO.token_size), np.float32)).size} |\n")


def steps(signal: np.ndarray) -> None:
    length = SAMPLING_RATE // 10
    long = np.resize(signal, (STEPS + 30) * length)
    print("| a step of 100 ms | median ms | 95th ms |\n|---|---|---|")
    rows = [("micro", "fp32", "onnx", "energy"), ("micro", "int8", "onnx", "energy"), ("micro", "fp32", "c", "energy")]
    rows += [("micro", "int8", "c", "energy"), ("wav2small", "fp32", "onnx", "energy")]
    rows.append(("micro", "fp32", "onnx", "silero"))
    for name, precision, backend, vad in rows:
        stream, taken = Stream(load(f"{name}:{precision}", backend), 0.1, 3.0, vad=vad), []
        for start in range(0, len(long), length):
            begun = time.perf_counter()
            stream.push(long[start : start + length])
            taken.append(1e3 * (time.perf_counter() - begun))
        median, late = np.percentile(taken[30:], [50, 95])
        print(f"| {name} {precision}, {backend}, {vad} | {median:.3f} | {late:.3f} |", flush=True)


def files(signal: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.flac"
        with soundfile.SoundFile(path, "w", 44100, 1) as file:  # in pieces: a child inherits the peak of its parent
            minute = np.resize(soxr.resample(signal, SAMPLING_RATE, 44100), 60 * 44100)
            for _ in range(60):
                file.write(minute)
        print("\n| an hour of FLAC at 44.1 kHz | s | RTF | peak MB |\n|---|---|---|---|")
        for options in (
            ["--model", "micro", "--hop", "0.5"],
            ["--model", "micro", "--hop", "1"],
            ["--model", "micro", "--hop", "0.5", "--backend", "c"],
            ["--model", "wav2small", "--hop", "1"],
            ["--model", "wav2small", "--hop", "1", "--backend", "c"],
            ["--model", "wav2small", "--hop", "0.5"],
            ["--model", "wav2small", "--hop", "3"],
        ):
            begun = time.perf_counter()
            command = [*PREDICT, str(path), *options, "--vad", "energy", "--format", "jsonl"]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, command
            taken = time.perf_counter() - begun
            row = f"| predict {' '.join(options)} | {taken:.1f} | {taken / 3600:.4f} | {usage.ru_maxrss / 1024:.0f} |"
            print(row, flush=True)


def day(signal: np.ndarray, hours: float, backend: str) -> None:
    chunk = SAMPLING_RATE // 10
    minute = (np.resize(signal, 60 * SAMPLING_RATE) * 32767).astype(np.int16)
    stream, events, begun = Stream(load("micro", backend=backend), vad="energy"), 0, time.perf_counter()
    print(f"\n| hours pushed, {backend} | events | s | resident MB |\n|---|---|---|---|")
    minutes = round(hours * 60)
    for number in range(1, minutes + 1):
        for start in range(0, len(minute), chunk):
            events += len(stream.push(minute[start : start + chunk]))
        if number % max(1, minutes // 12) == 0:
            taken = time.perf_counter() - begun
            print(f"| {number / 60:.1f} | {events:,} | {taken:.0f} | {resident_mb():.1f} |", flush=True)


def resident_mb() -> float:
    """Of this process, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
