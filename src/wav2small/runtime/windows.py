"""Where windows lie: those of a stream, and the parts of a clip that is too long for one answer at once.

This is the only place of these rules: ``predict``, ``evaluate``, the teachers and streams all take them from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wav2small.audio.read import MIN_LENGTH
from wav2small.errors import AudioError
from wav2small.network.config import SAMPLING_RATE

Blocks = Iterable[np.ndarray]
"""Consecutive pieces of a signal at 16 kHz, each shape=(samples,)."""
Part = TypeVar("Part")

WHOLE_DUR = 30.0
"""Seconds; a longer clip is answered from parts, for memory, and because a voice does not keep one emotion."""
PART_DUR = 15.0
"""Seconds of a part, at most."""
LAST_SHARE = 10
"""A last window shorter than this fraction of a whole one, 1/10, is left out, unless it is the only one."""


class Windows:
    """Start and end of the windows of a stream, in samples at 16 kHz; ``count`` is the number of those answered."""

    def __init__(self, hop_dur: float, win_dur: float) -> None:
        self._hop_length, self.win_length = hop_dur * SAMPLING_RATE, round(win_dur * SAMPLING_RATE)
        self.reset()

    def reset(self) -> None:
        """Begin with the first window."""
        self.count = 0

    @property
    def most(self) -> int:
        """The largest number of windows that start before the end of one, that one included."""
        return int(self.win_length / self._hop_length) + 2

    def start(self, number: int) -> int:
        """First sample of a window, counted from 0."""
        return round(number * self._hop_length)

    def next(self) -> tuple[int, int]:
        """Start and end of the window that is answered next."""
        start = self.start(self.count)
        return start, start + self.win_length

    def last(self, total: int) -> tuple[int, int]:
        """The window at the end of a signal of ``total`` samples; start and end are the same if there is none."""
        start = self.start(self.count)
        is_done = self.count > 0 and self.start(self.count - 1) + self.win_length >= total
        is_long = is_kept(total - start, self.win_length) if self.count else total >= MIN_LENGTH
        return (start, total) if is_long and not is_done else (total, total)


def parts(blocks: Blocks, duration: float | None) -> Iterator[np.ndarray]:
    """Cut a clip into the parts that a network processes at once.

    A clip of at most 30 s is one part. A longer one has equal parts of at most 15 s; where its duration is not known
    in advance, all have 15 s and the last one is what is left.

    Args:
        blocks: the clip, piece by piece
        duration: of the clip, seconds; None if it is not known

    Yields:
        consecutive parts, each shape=(samples,); the first one even if the clip has no samples
    """
    if duration is None:
        blocks, duration = _read_ahead(blocks)
    length, is_first, rest = part_length(duration), True, np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= length:
            yield rest[:length]
            rest, is_first = rest[length:], False
    if is_first or is_kept(len(rest), length):
        yield rest


def part_length(duration: float | None) -> int:
    """Samples of a part, with one to spare: a header and a resampler may round differently."""
    if duration is None:
        return round(PART_DUR * SAMPLING_RATE)
    if duration <= WHOLE_DUR:
        return round((WHOLE_DUR + 1) * SAMPLING_RATE)
    return math.ceil(duration * SAMPLING_RATE / math.ceil(duration / PART_DUR)) + 1


def is_kept(length: int, win_length: int) -> bool:
    """Whether the last window, with ``length`` samples, is long enough to be answered."""
    return length * LAST_SHARE >= win_length


def counted(parts: Sequence[Part], has_speech: Callable[[Part], bool], always: bool = False) -> Sequence[Part]:
    """The parts of a clip that its answer is the mean of: those with enough speech.

    Args:
        parts: of one clip
        has_speech: whether a part has enough speech
        always: take all parts where none has enough speech, so that every clip is answered (``evaluate``); else none
            is taken and the answer is withheld (``predict``)
    """
    if always and len(parts) == 1:
        return parts
    return [part for part in parts if has_speech(part)] or (parts if always else [])


def mean(values: ArrayLike, lengths: Sequence[int]) -> NDArray[np.float64]:
    """Mean over the parts of a clip, each weighted by its length.

    Args:
        values: of each part, shape=(parts, size)
        lengths: samples of each part

    Returns:
        shape=(size,)
    """
    weights = np.maximum(lengths, 1)  # a clip without samples has one part, and is its mean
    return np.asarray(np.average(np.asarray(values, np.float64), axis=0, weights=weights))


def check_length(length: int, file: str = "") -> None:
    """Check that there are enough samples for an answer.

    Raises:
        AudioError: if there are not, naming the file if it has a name
    """
    if length < MIN_LENGTH:
        raise AudioError(
            f"{f'{file}: ' if file else ''}too short for an answer: {length} of at least {MIN_LENGTH} "
            f"samples at {SAMPLING_RATE} Hz"
        )


def _read_ahead(blocks: Blocks) -> tuple[Blocks, float | None]:
    """The same blocks, and their duration if the clip ends within ``WHOLE_DUR``."""
    remaining, held, length = iter(blocks), [], 0
    for block in remaining:
        held.append(block)
        length += len(block)
        if length > WHOLE_DUR * SAMPLING_RATE:
            return chain(held, remaining), None
    return held, length / SAMPLING_RATE
