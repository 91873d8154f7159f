"""The recorded clips of composition: in memory, trimmed, as int16, sampled by corpus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wav2small.audio.distort import trim
from wav2small.errors import AudioError, ManifestError
from wav2small.files import whole_file
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train import Progress, make_folder
from wav2small.train.online.draw import Draw

MIN_DUR = 0.1
"""Shortest clip in seconds; shorter clips are skipped."""
PEAK = 29000


@dataclass(frozen=True)
class Source:
    """A corpus of a pool.

    Attributes:
        name: name of the corpus
        segments: the segments
        share: sampling weight relative to other corpora; None is the square root of its number of clips
    """

    name: str
    segments: Sequence[Segment]
    share: float | None = None


class Pool:
    """Clips of several corpora on one device.

    Attributes:
        names: names of the corpora
        skipped: files that could not be read, with the reason
        key: identifies the clips of the pool

    Args:
        audio: concatenated clips at 16 kHz, int16, shape=(samples,)
        start: first sample of each clip, shape=(clips,); clips of a corpus are contiguous
        length: samples of each clip, shape=(clips,)
        corpus: number of the corpus of each clip, shape=(clips,)
        names: names of the corpora
        shares: sampling weight of each corpus, shape=(corpora,)
        device: torch device
    """

    def __init__(
        self,
        audio: np.ndarray,
        start: np.ndarray,
        length: np.ndarray,
        corpus: np.ndarray,
        names: list[str],
        shares: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> None:
        self.names = names
        self.audio = torch.from_numpy(audio).to(device)
        self.start, self.length = (torch.from_numpy(array).to(device) for array in (start, length))
        self.shares = torch.from_numpy(shares).to(device)
        count = np.bincount(corpus, minlength=len(names))
        self.count = torch.from_numpy(count).to(device)
        self.first = torch.from_numpy(np.cumsum(count) - count).to(device)
        self.skipped: list[str] = []
        parts = json.dumps([names, shares.tolist(), start.tolist(), len(audio)]).encode()
        self.key = hashlib.sha256(parts + audio[:: max(1, len(audio) // 4096)].tobytes()).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def duration(self) -> float:
        """Total duration of the clips, in seconds."""
        return len(self.audio) / SAMPLING_RATE

    def corpora(self, draw: Draw, count: int) -> Tensor:
        """Numbers of ``count`` random corpora, by their shares."""
        return draw.choose(self.shares, count)

    def clips(self, draw: Draw, corpus: Tensor) -> Tensor:
        """A random clip of each of these corpora."""
        return self.first[corpus] + draw.below(self.count[corpus])

    def cut(self, clip: Tensor, offset: Tensor, samples: int) -> Tensor:
        """Samples ``offset`` to ``offset + samples`` of each clip, zero outside the clip, float in [-1, 1]."""
        at = offset[:, None] + torch.arange(samples, device=offset.device)
        inside = (at >= 0) & (at < self.length[clip][:, None])
        index = (self.start[clip][:, None] + at).clamp(0, len(self.audio) - 1)
        return torch.take(self.audio, index).float() / 32768 * inside


def load_pool(
    sources: Sequence[Source], folder: Path, device: torch.device | str, progress: Progress, trimmed: bool = True
) -> Pool:
    """Load a pool. Clips are decoded once into ``folder`` and memory-mapped from there.

    Files that cannot be read are skipped and listed in ``Pool.skipped``.

    Args:
        sources: the corpora
        folder: folder of the decoded audio
        device: torch device
        progress: called with (clips decoded, clips)
        trimmed: whether to trim the clips

    Raises:
        ManifestError: if a corpus has no readable clip, or two corpora have the same name
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ManifestError(f"two corpora have one name: {', '.join(names)}. Rename a folder or a file.")
    make_folder(folder)
    index = folder / f"{_digest(sources, trimmed)}.json"
    if not index.is_file():
        _decode(sources, index, progress, trimmed)
    about = json.loads(index.read_text())
    corpus = np.asarray(about["corpus"], np.int64)
    for number, name in enumerate(names):
        if not (corpus == number).any():
            reason = f" ({about['skipped'][0]})" if about["skipped"] else ""
            raise ManifestError(f"{name}: has no clip of {MIN_DUR} s or more that can be read{reason}.")
    shares = np.array(
        [
            source.share if source.share is not None else (corpus == number).sum() ** 0.5
            for number, source in enumerate(sources)
        ],
        np.float64,
    )
    audio = np.memmap(index.with_suffix(".i16"), np.int16, "c")
    length = np.asarray(about["length"], np.int64)
    pool = Pool(audio, np.cumsum(length) - length, length, corpus, names, shares, device)
    pool.skipped = about["skipped"]
    return pool


def _digest(sources: Sequence[Source], trimmed: bool) -> str:
    rows = [[s.name, [[str(g.path), g.start, g.end] for g in s.segments]] for s in sources]
    return hashlib.sha256(json.dumps([rows, trimmed]).encode()).hexdigest()[:12]


def _decode(sources: Sequence[Source], index: Path, progress: Progress, trimmed: bool) -> None:
    total, done = sum(len(source.segments) for source in sources), 0
    length: list[int] = []
    corpus: list[int] = []
    skipped: list[str] = []
    with whole_file(index.with_suffix(".i16")) as temporary, temporary.open("wb") as file:
        for number, source in enumerate(sources):
            for segment in source.segments:
                done += 1
                progress(done, total)
                try:
                    signal = segment_signal(segment)
                except AudioError as error:
                    skipped.append(str(error))
                    continue
                signal = trim(signal) if trimmed else signal
                if len(signal) < MIN_DUR * SAMPLING_RATE or not np.abs(signal).max():
                    skipped.append(f"{segment.path}: is silent, or shorter than {MIN_DUR} s")
                    continue
                file.write(np.round(signal * (PEAK / np.abs(signal).max())).astype(np.int16).tobytes())
                length.append(len(signal))
                corpus.append(number)
    with whole_file(index) as temporary:
        temporary.write_text(json.dumps({"length": length, "corpus": corpus, "skipped": skipped}))
