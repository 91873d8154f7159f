"""Time and peak memory of whole commands: import, predict on a short clip, on 5 s, on 10 minutes. One thread.

    python benchmarks/predict_cost.py

Each command runs five times in a child of its own; the median is printed. Peak memory is the child's, as the
operating system counts it, so it includes Python, NumPy and ONNX Runtime; the first rows say how much that is.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIP = Path(__file__).parents[1] / "examples" / "10b10Wa.flac"
PREDICT = [sys.executable, "-c", "from wav2small.cli import main; main()", "predict"]
RUNS = 5
WRITE = """
import sys, numpy, soundfile
signal, rate = soundfile.read(sys.argv[1])
soundfile.write(sys.argv[2], numpy.resize(signal, int(sys.argv[3]) * rate), rate)
"""
"""Run as a child: one inherits the peak memory of its parent, so this program imports nothing large."""


def measure(command: list[str]) -> tuple[float, float]:
    """Median seconds, and largest peak memory in MB."""
    seconds, peaks = [], []
    for _ in range(RUNS):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds.append(time.perf_counter() - start)
        peaks.append(usage.ru_maxrss / 1024)
        assert status == 0, command
    return statistics.median(seconds), max(peaks)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import numpy": [sys.executable, "-c", "import numpy"],
            "import wav2small": [sys.executable, "-c", "import wav2small"],
            f"predict {CLIP.name}": [*PREDICT, str(CLIP)],
        }
        for name, seconds in (("5 s", 5), ("10 min", 600)):
            path = Path(folder) / f"{name.replace(' ', '')}.wav"
            subprocess.run([sys.executable, "-c", WRITE, str(CLIP), str(path), str(seconds)], check=True)
            commands[f"predict {name}"] = [*PREDICT, str(path)]
            commands[f"predict {name}, int8"] = [*PREDICT, "--model", "micro:int8", str(path)]
        print("| command | s | peak MB |\n|---|---|---|")
        for name, command in commands.items():
            taken, peak = measure(command)
            print(f"| {name} | {taken:.3f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
