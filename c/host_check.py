"""Check the command w2s: output equal to Python for every kind of input, error messages, and memory.

Run by `make -C c host`.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from wav2small.network import reference
from wav2small.network.weights import DATA

CLIP = Path(__file__).parents[1] / "examples" / "10b10Wa.flac"
MAX_KILOBYTES = 4096
START_UP = 1
"""Seconds of audio, so short that the start of the command dominates the time."""
RUNS = 5
PYTHON = """
import atexit, sys
from wav2small.evaluation.bench import peak_rss
from wav2small.cli import main
atexit.register(lambda: print(peak_rss(), file=sys.stderr))
main()
"""


def run(program: Path, data: bytes, *options: str, code: int = 0) -> str:
    result = subprocess.run([str(program), *options], input=data, capture_output=True)
    assert result.returncode == code, (options, result.returncode, result.stderr)
    return (result.stderr if code else result.stdout).decode()


def wav(samples: np.ndarray, subtype: str, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format="WAV")
    return file.getvalue()


def answers(text: str) -> np.ndarray:
    """Lines of start, end, arousal, dominance, valence."""
    return np.array([[float(word) for word in line.split("\t")] for line in text.splitlines()[1:]])


def peak_kilobytes(program: Path, data: bytes) -> int:
    """Memory while the command waits for input."""
    process = subprocess.Popen([str(program), "--raw", "--hop", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process.stdin.write(data)
    process.stdin.flush()
    time.sleep(0.3)
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.communicate()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def main(folder: Path) -> None:
    program = folder / "w2s"
    samples, _ = soundfile.read(CLIP, dtype="int16")
    signal = (samples / 32768).astype(np.float32)
    arrays, _, config = reference.load_student(DATA / "micro.safetensors")
    expected = reference.forward(signal, arrays, config)[1]
    stereo = np.stack([signal * 1.5, signal * 0.5], axis=1)
    inputs = {
        "WAV": (wav(samples, "PCM_16"), ()),
        "float WAV": (wav(signal, "FLOAT"), ()),
        "stereo float WAV": (wav(stereo, "FLOAT"), ()),
        "raw": (samples.tobytes(), ("--raw",)),
    }
    for name, (data, options) in inputs.items():
        found = answers(run(program, data, *options))
        np.testing.assert_allclose(found[0, 2:], expected, atol=2e-4, err_msg=name)
        np.testing.assert_allclose(found[0, :2], [0, len(samples) / 16000], atol=1e-3)
    lines = answers(run(program, samples.tobytes(), "--raw", "--hop", "0.5", "--window", "1"))
    np.testing.assert_allclose(lines[:, 1], np.arange(1, len(samples) // 8000 + 1) / 2)
    np.testing.assert_allclose(lines[0, 2:], reference.forward(signal[:8000], arrays, config)[1], atol=2e-4)
    wrong = {
        "not a WAV file": (b"hello", ()),
        "not at 16000 Hz": (wav(samples, "PCM_16", 44100), ()),
        "32-bit": (wav(signal, "PCM_24"), ()),
        "truncated in its header": (wav(samples, "PCM_16")[:20], ()),
        "no audio": (b"", ("--raw",)),
        "number of seconds": (b"", ("--hop", "soon")),
        "--window needs": (b"", ("--window", "3")),
        "the options are --raw": (b"", ("--colour",)),
    }
    for said, (data, options) in wrong.items():
        assert said in run(program, data, *options, code=1), said
    kilobytes = peak_kilobytes(program, np.tile(samples, 40).tobytes())
    assert kilobytes < MAX_KILOBYTES, kilobytes
    print("w2s: lines as Python's, errors are sentences")
    long = wav(np.tile(samples, 20), "PCM_16")
    options = ("predict", "-", "--model", "micro", "--vad", "energy")
    watched = subprocess.run([sys.executable, "-c", PYTHON, *options], input=long, capture_output=True, check=True)
    megabytes, python = int(watched.stderr.split()[-1]) / 2**20, (sys.executable, "-m", "wav2small", *options)
    print(f"| command | ms for {START_UP} s | ms for {len(samples) / 800:.0f} s | peak MB |\n|---|---|---|---|")
    for name, command, peak in (("w2s", (str(program),), kilobytes / 1024), ("wav2small predict", python, megabytes)):
        times = [milliseconds(command, data) for data in (wav(samples[: START_UP * 16000], "PCM_16"), long)]
        print(f"| {name} | {times[0]:.1f} | {times[1]:.1f} | {peak:.1f} |")


def milliseconds(command: tuple[str, ...], data: bytes) -> float:
    """Time from start to exit, minimum over a few runs."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, input=data, capture_output=True, check=True)
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
