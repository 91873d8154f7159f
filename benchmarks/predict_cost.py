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

import numpy as np
import soundfile

from wav2small import audio
from wav2small.config import SAMPLING_RATE

CLIP = Path(__file__).parents[1] / "examples" / "10b10Wa.flac"
PREDICT = [sys.executable, "-c", "from wav2small.cli import main; main()", "predict"]
RUNS = 5


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
        for name, samples in (("5 s", 5 * SAMPLING_RATE), ("10 min", 600 * SAMPLING_RATE)):
            path = Path(folder) / f"{name.replace(' ', '')}.wav"
            soundfile.write(path, np.resize(audio.read(CLIP), samples), SAMPLING_RATE)
            commands[f"predict {name}"] = [*PREDICT, str(path)]
            commands[f"predict {name}, int8"] = [*PREDICT, "--precision", "int8", str(path)]
        print("| command | s | peak MB |\n|---|---|---|")
        for name, command in commands.items():
            seconds, peak = measure(command)
            print(f"| {name} | {seconds:.3f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
