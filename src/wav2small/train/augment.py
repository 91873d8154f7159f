"""Augmented clips as files, composed and distorted as in ``distil``, for labelling on a cluster.

The same seed gives the same clips with and without distortion: the teacher labels the plain clips, and students are
trained on the distorted ones. The column ``corpus`` of the manifest is the corpus of a clip's main piece.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
import shutil
import signal as signals
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import soundfile
import torch

from wav2small.errors import ManifestError
from wav2small.files import whole_file
from wav2small.network.config import SAMPLING_RATE
from wav2small.train import Progress, make_folder
from wav2small.train.config import AugmentConfig
from wav2small.train.online.compose import compose, durations
from wav2small.train.online.distort import Distortion, levelled
from wav2small.train.online.draw import Draw
from wav2small.train.online.labels import LEVELS
from wav2small.train.online.pool import Pool, Source, load_pool

Open = Callable[[], Pool]


class Clips:
    """Groups of composed clips of one length and one corpus. A group depends only on the seed and its number.

    Args:
        pool: clips that are composed
        distortion: the distortion, or None for plain clips
        config: probabilities and seed
    """

    def __init__(self, pool: Pool, distortion: Distortion | None, config: AugmentConfig) -> None:
        self.pool, self.distortion, self.config = pool, distortion, config

    def corpus(self, group: int) -> str:
        """Name of the corpus of a group."""
        return self.pool.names[int(self._begin(group)[1])]

    def make(self, group: int) -> torch.Tensor:
        """The clips of a group at 16 kHz, float32, shape=(group_size, samples)."""
        draw, corpus, samples = self._begin(group)
        signal = compose(self.pool, corpus.repeat(self.config.group_size), samples, draw, self.config)
        if self.distortion is None:
            return levelled(signal, draw, *LEVELS)
        return self.distortion(signal, Draw((self.config.seed, 3, group)))

    def _begin(self, group: int) -> tuple[Draw, torch.Tensor, int]:
        draw = Draw((self.config.seed, 1, group))
        samples = durations(self.config)[int(draw.rng.integers(len(self.config.durations)))]
        return draw, self.pool.corpora(draw, 1), samples


def augment(
    sources: Sequence[Source],
    folder: Path,
    config: AugmentConfig,
    workers: int,
    progress: Progress,
    noise: Sequence[Source] = (),
    rooms: Sequence[Source] = (),
) -> list[str]:
    """Write ``config.clips`` FLAC files and a manifest into ``folder``; existing files are kept.

    Args:
        sources: corpora of the clips
        folder: output folder
        config: number of clips, probabilities and seed
        workers: number of processes
        progress: called with (clips done, clips)
        noise: noise recordings for distortion
        rooms: room impulse responses for distortion

    Returns:
        one sentence for each file that could not be read and was skipped

    Raises:
        ManifestError: if a corpus has no readable clip, or the folder contains clips from other settings or audio
    """
    make_folder(folder)
    cache = folder / "audio"
    opened: list[Open] = []
    for given, trimmed in ((sources, True), (noise, True), (rooms, False)):
        one = partial(load_pool, given, cache, "cpu", _nothing, trimmed)
        opened += [one] if given else []
    pools = [one() for one in opened]
    _check_stamp(folder, config, pools)
    of_noise, of_rooms = bool(noise), bool(rooms)
    groups = -(-config.clips // config.group_size)
    missing = [group for group in range(groups) if not all(map(Path.is_file, paths(folder, group, config)))]
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _begin, (opened, of_noise, of_rooms, folder, config)) as pool:
        for done, _ in enumerate(pool.imap_unordered(_write, missing), groups - len(missing) + 1):
            progress(min(done * config.group_size, config.clips), config.clips)
    _write_manifest(folder, Clips(pools[0], None, config))
    shutil.rmtree(cache)
    return [reason for one in pools for reason in one.skipped]


def _check_stamp(folder: Path, config: AugmentConfig, pools: Sequence[Pool]) -> None:
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "clips"}
    stamp = json.dumps([settings, [pool.key for pool in pools]])
    marker = folder / "composed.txt"
    if marker.is_file() and marker.read_text() != stamp:
        raise ManifestError(f"{folder}: contains clips from other settings or other audio. Give another folder.")
    marker.write_text(stamp)


def _write_manifest(folder: Path, clips: Clips) -> None:
    config = clips.config
    rows: list[tuple[str, str]] = []
    for index in range(config.clips):
        group, row = divmod(index, config.group_size)
        corpus = clips.corpus(group) if row == 0 else rows[-1][1]
        rows.append((file_name(index), corpus))
    with whole_file(folder / "manifest.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "corpus"), *rows])


def file_name(index: int) -> str:
    """Path of clip ``index`` relative to the folder."""
    return f"{index // 1000:03d}/{index:06d}.flac"


def paths(folder: Path, group: int, config: AugmentConfig) -> list[Path]:
    """The files of a group; the last group may have fewer."""
    first = group * config.group_size
    return [folder / file_name(index) for index in range(first, min(first + config.group_size, config.clips))]


_work: tuple[Clips, Path]


def _begin(opened: Sequence[Open], noise: bool, rooms: bool, folder: Path, config: AugmentConfig) -> None:
    signals.signal(signals.SIGINT, signals.SIG_IGN)  # the parent handles Ctrl-C and stops the workers
    torch.set_num_threads(1)
    pools = [one() for one in opened]
    given = iter(pools[1:])
    distortion = Distortion(next(given) if noise else None, next(given) if rooms else None, config.clean)
    global _work
    _work = Clips(pools[0], None if config.plain else distortion, config), folder


def _write(group: int) -> int:
    clips, folder = _work
    with torch.inference_mode():
        made = clips.make(group).numpy()
    for path, signal in zip(paths(folder, group, clips.config), made, strict=False):
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as temporary:
            soundfile.write(temporary, signal, SAMPLING_RATE, subtype="PCM_16")
    return group


def _nothing(done: float, total: float, note: str = "") -> None:
    pass
