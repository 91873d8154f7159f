"""Record the predictions of the shipped weights, and compare two records.

    python recipes/golden.py record FILE.npz --clips FOLDER     every answer of the installed package
    python recipes/golden.py compare FILE.npz FILE.npz          what differs; exit code 1 if anything does

A record holds, for every shipped model and precision, the emotion and the embedding of each clip by every backend that
has it, the events of streams, and the C folders that ``wav2small export --to c`` writes. It uses public names only, so
that the same script runs on two versions of the package: record one in a checkout of each.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
from click.testing import CliRunner

import wav2small
from wav2small.cli import main as command
from wav2small.network.weights import full_name

CLIPS = 20
STREAM_SECONDS = 12
CHUNK = 1600


def clips(folder: Path) -> list[tuple[str, np.ndarray]]:
    """Clips evenly spread over the audio files of a folder, at 16 kHz."""
    files = sorted([*folder.rglob("*.flac"), *folder.rglob("*.wav"), *folder.rglob("*.opus")])
    places = np.linspace(0, len(files) - 1, CLIPS).round().astype(int)
    found = [(files[place].name, *soundfile.read(files[place], dtype="float32")) for place in places]
    assert {rate for _, _, rate in found} == {16000}, "give a folder of audio at 16 kHz"
    return [(name, signal) for name, signal, _ in found]


def backends(row: dict[str, object]) -> list[str]:
    """Backends that can read a shipped file."""
    if str(row["file"]).endswith(".onnx"):
        return ["onnx"]
    if row["name"] == "open":
        return []
    return ["numpy"] if row["name"] == "wav2small-17k" else ["numpy", "c"]


def answers(signals: list[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Emotion, embedding and stream of each shipped file by each backend."""
    long = np.concatenate([signal for _, signal in signals])[: STREAM_SECONDS * 16000]
    for row in wav2small.models():
        for backend in backends(row):
            key = f"{row['name']} {row['precision']} {backend}"
            slow = backend == "numpy"
            model = wav2small.load(full_name(row), backend=backend)
            for name, signal in signals:
                signal = signal[:48000] if slow else signal
                emotion, embedding = model.answer(signal)
                yield f"{key} | {name}", np.concatenate([np.asarray(emotion, np.float64), embedding])
            stream = wav2small.Stream(model, vad="energy")
            events = list(stream.run(long[start : start + CHUNK] for start in range(0, len(long), CHUNK)))
            rows = [[np.nan if v is None else float(v) for v in list(asdict(event).values())[:7]] for event in events]
            yield f"{key} | stream", np.array(rows)


def folders() -> Iterator[tuple[str, np.ndarray]]:
    """sha256 of every file of the exported C folders."""
    for name in ("micro", "micro-int8", "wav2small", "wav2small-int8", "wav2small-running"):
        with tempfile.TemporaryDirectory() as folder:
            result = CliRunner().invoke(
                command,
                ["export", name.replace("-int8", ":int8"), "--to", "c", "-o", f"{folder}/out"],
                catch_exceptions=False,
            )
            assert result.exit_code == 0, result.output
            for path in sorted(Path(folder, "out").rglob("*")):
                if path.is_file():
                    digest = hashlib.sha256(path.read_bytes()).digest()
                    yield f"C {name} | {path.relative_to(Path(folder, 'out'))}", np.frombuffer(digest, np.uint8)


def record(file: Path, folder: Path) -> None:
    """Write all predictions into one file."""
    found = dict(answers(clips(folder))) | dict(folders())
    wasm = next(Path(__file__).parents[1].glob("web/*.wasm"))
    found["wasm"] = np.frombuffer(hashlib.sha256(wasm.read_bytes()).digest(), np.uint8)
    np.savez_compressed(file, **found)
    print(f"{file}: {len(found)} answers")


def compare(one: Path, other: Path) -> int:
    """Number of predictions that differ between two records; each is printed."""
    with np.load(one) as before, np.load(other) as after:
        names = sorted(set(before) | set(after))
        changed = []
        for name in names:
            if name not in before or name not in after:
                changed.append(f"{name}: only in one of them")
            elif not np.array_equal(before[name], after[name], equal_nan=before[name].dtype.kind == "f"):
                apart = (
                    ""
                    if before[name].dtype == np.uint8 or before[name].shape != after[name].shape
                    else (f", by up to {np.nanmax(np.abs(before[name] - after[name])):.2g}")
                )
                changed.append(f"{name}: differs{apart}")
    print("\n".join([*changed, f"{len(names)} answers compared, {len(changed)} differences"]))
    return len(changed)


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument("--clips", type=Path, required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("one", type=Path)
    comparing.add_argument("other", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "record":
        record(arguments.file, arguments.clips)
    else:
        sys.exit(bool(compare(arguments.one, arguments.other)))


if __name__ == "__main__":
    main()
