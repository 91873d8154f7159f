"""Compare integer C models with NumPy on hours of real and random audio in random chunks; count differences.

    python c/equal.py DATA/open/librispeech DATA/open/emodb --hours 2 --model micro-int8 --state equal.json

Half of the time is real audio, files in random order and at random levels, one after the other; half is noise,
tones, squares, clicks and silence. A stream lasts 10 s to 2 min and is asked after random pushes; embedding and
emotion must be the same numbers. Run again with the same state, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wav2small.audio import read as audio
from wav2small.files import whole_file
from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.config import SAMPLING_RATE, Network
from wav2small.network.weights import DATA, Arrays, sha256
from wav2small.runtime import native

LARGEST_PIECE = 5000
ASKED = 0.1
"""Share of the pushes after which the prediction is compared."""


def real(files: list[str], samples: int, rng: np.random.Generator) -> np.ndarray:
    """Random files at random levels, until there are enough samples."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < samples:
        signal = audio.read(files[rng.integers(len(files))])
        parts.append(fixed_frontend.to_samples(signal * np.float32(10 ** rng.uniform(-2, 0.5))))
    return np.concatenate(parts)[:samples]


def made_up(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Segments of difficult signals: loud, sparse, constant, silent, and with abrupt changes."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < samples:
        size, level = int(rng.integers(1, 40000)), 10 ** rng.uniform(-4.5, 0.3)
        phase = 2 * np.pi * rng.uniform(20, 8000) / SAMPLING_RATE * np.arange(size)
        kinds = (
            rng.standard_normal(size),
            np.sin(phase),
            np.sign(np.sin(phase)),
            rng.standard_normal(size) * (rng.random(size) < 0.01),
            np.ones(size),
            np.zeros(size),
        )
        parts.append(fixed_frontend.to_samples(level * kinds[rng.integers(len(kinds))]))
    return np.concatenate(parts)[:samples]


def expected(
    samples: np.ndarray, ends: list[int], level: fixed_frontend.Level | None, arrays: Arrays, config: Network
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The reference's embedding and emotion after each of these numbers of tokens."""
    tokens = fixed_point.tokens(fixed_frontend.log_mel(samples, config, level), arrays, config)
    state = fixed_point.pool(tokens[:0], arrays)
    for start, end in zip([0, *ends], ends, strict=False):
        for token in tokens[start:end]:
            state = fixed_point.pool_token(state, token, arrays)
        yield fixed_point.to_numbers(fixed_point.read_pool(state, arrays), arrays)


def session(
    samples: np.ndarray, library: native.Library, arrays: Arrays, config: Network, rng: np.random.Generator
) -> tuple[int, int]:
    """One stream: number of compared predictions, and number of differences."""
    stream, level = library.stream(), None
    if config.normalisation == "utterance" and rng.random() < 0.5:
        stream.level(*map(float, fixed_frontend.mean_and_variance(samples)))
    elif config.normalisation == "utterance":
        level = fixed_frontend.level_so_far(samples, config)
    tokens, at, ends, found = 0, 0, [], []
    while at < len(samples):
        piece = samples[at : at + int(rng.integers(0, LARGEST_PIECE))]
        tokens += stream.push(piece if rng.random() < 0.5 else (piece / 2.0**15).astype(np.float32))
        at += len(piece)
        if tokens and rng.random() < ASKED:
            ends.append(tokens)
            found.append(stream.read())
    ends.append(tokens + stream.finish())
    found.append(stream.read())
    pairs = zip(found, expected(samples, ends, level, arrays, config), strict=True)
    differing = sum(not all(map(np.array_equal, one, other)) for one, other in pairs)
    return len(found), differing


def run(folders: list[str], model: str, hours: float, seed: int, state: Path) -> int:
    """Run streams until there are enough hours of audio; return the number of differences."""
    path = DATA / f"{model}.safetensors"
    arrays, _, config = reference.load_student(path)
    library, files = native.library(path), audio.find_files(folders)
    about = {"model": model, "sha256": sha256(path), "seed": seed}
    tally = about | {"sessions": 0, "real_s": 0.0, "random_s": 0.0, "answers": 0, "differing": 0}
    if state.is_file():
        tally = json.loads(state.read_text())
        if any(tally[key] != value for key, value in about.items()):
            raise SystemExit(f"{state}: of other weights or another seed; give another file.")
    while (total_s := tally["real_s"] + tally["random_s"]) < hours * 3600:
        rng = np.random.default_rng([seed, tally["sessions"]])
        size = int(rng.integers(10 * SAMPLING_RATE, 120 * SAMPLING_RATE))
        kind = "real_s" if tally["real_s"] <= tally["random_s"] else "random_s"
        samples = real(files, size, rng) if kind == "real_s" else made_up(size, rng)
        compared, differing = session(samples, library, arrays, config, rng)
        tally["sessions"] += 1
        tally[kind] += size / SAMPLING_RATE
        tally["answers"] += compared
        tally["differing"] += differing
        with whole_file(state) as temporary:
            temporary.write_text(json.dumps(tally) + "\n")
        if tally["sessions"] % 10 == 0 or differing:
            print(f"{time.strftime('%H:%M:%S')} {total_s / 3600:.2f} h, {tally['differing']} differ", flush=True)
    print(
        f"{model}: {tally['real_s'] / 3600:.2f} h of real and {tally['random_s'] / 3600:.2f} h of random audio, "
        f"{tally['sessions']} streams, {tally['answers']} answers compared, {tally['differing']} differ"
    )
    return int(tally["differing"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="audio of any corpus")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--model", default="micro-int8", help="in integers, as it ships")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("equal.json"), metavar="FILE", help="where it goes on")
    given = parser.parse_args()
    sys.exit(run(given.folders, given.model, given.hours, given.seed, given.state) > 0)
