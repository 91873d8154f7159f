"""New clips out of old ones: cut, sped up, mixed, joined, distorted, at any level; the teacher labels them afterwards.

A mixture is labelled by the teacher as it stands, which is mixup in the paper's sense: no label is interpolated. With
``plain`` 1 the same seed gives the same clips without distortion: the teacher labels those, and a student learns from
the distorted ones.
"""

from __future__ import annotations

import csv
import multiprocessing
import signal as signals
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from wav2small.errors import ManifestError
from wav2small.files import whole_file
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train import Progress, make_folder
from wav2small.train.config import ComposeConfig
from wav2small.train.distort import add, distort, level, random_speed, surround, trim


def compose(corpora: Sequence[Sequence[Segment]], index: int, config: ComposeConfig) -> np.ndarray:
    """Clip number ``index``: the same for the same corpora and seed, whatever was made before.

    Args:
        corpora: segments, one list a corpus; a corpus is drawn by the square root of its segments
        index: number of the clip
        config: seed of the whole set, and what is drawn

    Returns:
        signal at 16 kHz, float32, shape=(samples,), one of ``config.durations`` long

    Raises:
        AudioError: if a segment that is drawn cannot be read
    """
    rng = np.random.default_rng([config.seed, index])
    chance = np.sqrt([len(corpus) for corpus in corpora])

    def piece(longest: int) -> np.ndarray:
        corpus = corpora[int(rng.choice(len(corpora), p=chance / chance.sum()))]
        signal = random_speed(trim(segment_signal(corpus[int(rng.integers(len(corpus)))])), rng, config.fastest)
        start = rng.integers(max(1, len(signal) - longest + 1))
        return signal[start : start + longest]

    samples = int(rng.choice(config.durations) * SAMPLING_RATE)
    kind = rng.random()
    if kind < config.mixture:
        signal = piece(samples)
        signal = add(signal, np.resize(piece(samples), len(signal)), rng.uniform(0, 12))
    elif kind < config.mixture + config.joined:
        signal = np.concatenate([level(piece(samples // 2), -25 + rng.uniform(-4, 4)) for _ in range(2)])
    else:
        signal = piece(samples)
    before = int(rng.integers(samples - len(signal) + 1))
    signal = surround(signal, before, samples - len(signal) - before, rng)
    if rng.random() >= config.plain:
        signal = distort(signal, rng, lambda: piece(samples))
    return level(signal, rng.uniform(config.lowest_level, config.highest_level))


def compose_all(
    corpora: Sequence[Sequence[Segment]],
    folder: Path,
    config: ComposeConfig,
    workers: int,
    progress: Progress,
) -> None:
    """Write ``config.clips`` FLAC files and a manifest into ``folder``; files that are there already are kept.

    Raises:
        ManifestError: if a corpus has no segments, or the folder was started with another seed, config or corpora
        AudioError: if a segment that is drawn cannot be read
    """
    if not all(corpora):
        number = [len(corpus) for corpus in corpora].index(0) + 1
        raise ManifestError(f"manifest number {number} has no row to draw from. Leave it out.")
    make_folder(folder)
    sizes = ", ".join(str(len(corpus)) for corpus in corpora)
    stamp = f"seed {config.seed}, {config.plain:.0%} plain, corpora of {sizes} segments\n"
    marker = folder / "composed.txt"
    if marker.is_file() and marker.read_text() != stamp:
        raise ManifestError(f"{folder}: was started with {marker.read_text().strip()}. Give another folder.")
    marker.write_text(stamp)
    missing = [index for index in range(config.clips) if not (folder / file_name(index)).is_file()]
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _begin, (corpora, folder, config)) as pool:
        for done, _ in enumerate(pool.imap_unordered(_write, missing, chunksize=16), config.clips - len(missing) + 1):
            progress(done, config.clips)
    with whole_file(folder / "manifest.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([["file"], *([file_name(index)] for index in range(config.clips))])


def file_name(index: int) -> str:
    """Where clip ``index`` is inside the folder."""
    return f"{index // 1000:03d}/{index:06d}.flac"


_work: tuple[Sequence[Sequence[Segment]], Path, ComposeConfig]


def _begin(corpora: Sequence[Sequence[Segment]], folder: Path, config: ComposeConfig) -> None:
    signals.signal(signals.SIGINT, signals.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    global _work
    _work = (corpora, folder, config)


def _write(index: int) -> int:
    corpora, folder, config = _work
    path = folder / file_name(index)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        soundfile.write(temporary, compose(corpora, index, config), SAMPLING_RATE, subtype="PCM_16")
    return index
