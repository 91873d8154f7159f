"""Audio to rows: one answer a file or one a window, silence told apart, failures as rows of their own."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from wav2small import audio
from wav2small.config import FRONTEND, OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.decoder import Source
from wav2small.errors import AudioError
from wav2small.model import load

Predictor = Callable[[np.ndarray], Emotion]
"""What answers: a ``Model``, or any function from a signal at 16 kHz to its emotion."""
Cut = Callable[[float, float], Iterator[tuple[float, np.ndarray]]]
Progress = Callable[[float, int], None]
"""Told how many files are done, the part of the current one included, and how many there are."""

STDIN = "-"
WHOLE_DUR = 30.0
"""Seconds; a longer file is answered from parts, for memory, and because a voice does not keep one emotion."""
PART_DUR = 15.0
MIN_WIN_DUR = 0.1


@dataclass(frozen=True)
class Prediction:
    """One row: what was heard from ``start`` to ``end`` in seconds, or why there is no answer.

    Arousal, dominance and valence go from 0 to 1; they are None where there is no speech, and all is None but
    ``file`` and ``error`` where the file failed.
    """

    file: str
    start: float | None = None
    end: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    valence: float | None = None
    speech: bool | None = None
    error: str | None = None


FIELDS = tuple(field.name for field in fields(Prediction))


def predict(
    source: Source | np.ndarray,
    sampling_rate: float | None = None,
    *,
    model: str | Path | Predictor = "wav2small",
    channel: int | None = None,
    every: float | None = None,
    window: float = 3.0,
) -> list[Prediction]:
    """Arousal, dominance and valence of one file or one signal.

    A file longer than 30 s without ``every`` is answered from equal parts of at most 15 s: the mean of those with
    speech, weighted by their duration.

    Args:
        source: path, binary file object, or array as in ``audio.prepare``
        sampling_rate: of an array, Hz; a file says its own
        model: name or path of weights, or what answers: ``load(...)`` of your own, loaded once for many calls
        channel: which channel to hear, from 0; all are mixed down if None
        every: seconds between the starts of two windows; None for one answer for all
        window: seconds of a window

    Returns:
        one row, or one a window with ``every``

    Raises:
        AudioError: if the audio cannot be read or is too short
        WeightsError: if there are no such weights
    """
    _check_times(every, window)
    predictor = load(model) if isinstance(model, (str, Path)) else model
    if not isinstance(source, np.ndarray):
        file = str(source) if isinstance(source, (str, Path)) else STDIN
        return list(_rows(file, audio.duration(source), _cutter(source, channel), predictor, every, window))
    if sampling_rate is None:
        raise AudioError("an array needs its sampling_rate in Hz: predict(signal, 16000)")
    signal = audio.prepare(source, sampling_rate, channel)
    return list(_rows("", len(signal) / SAMPLING_RATE, partial(audio.cut, [signal]), predictor, every, window))


def predict_files(
    paths: Iterable[str | Path],
    *,
    model: str | Path | Predictor = "wav2small",
    channel: int | None = None,
    every: float | None = None,
    window: float = 3.0,
    progress: Progress = lambda done, total: None,
) -> Iterator[Prediction]:
    """Rows of many files as they are done; one that fails is a row with its error, and the rest go on.

    Args:
        paths: files, folders, patterns, or ``-`` for standard input
        model: as in ``predict``
        channel: as in ``predict``
        every: as in ``predict``
        window: as in ``predict``
        progress: called after every window

    Yields:
        rows in the order of the files; a file found damaged half-way has its row of error after those before it
    """
    _check_times(every, window)
    predictor = load(model) if isinstance(model, (str, Path)) else model
    files = _listed(paths)
    for done, (file, error) in enumerate(files.items()):
        progress(done, len(files))
        try:
            if error is not None:
                raise error
            with _opened(file) as source:
                duration = audio.duration(source)
                cut = _reporting(_cutter(source, channel), duration, progress, done, len(files))
                yield from _rows(file, duration, cut, predictor, every, window)
        except AudioError as failure:
            yield Prediction(_utf8(file), error=_utf8(str(failure).removeprefix(f"{file}: ")))
    progress(len(files), len(files))


def _check_times(every: float | None, window: float) -> None:
    if every is not None and not (every > 0 and window >= MIN_WIN_DUR):
        raise AudioError(f"every {every:g} s a window of {window:g} s; allowed: above 0, and {MIN_WIN_DUR:g} or more")


def _listed(paths: Iterable[str | Path]) -> dict[str, AudioError | None]:
    """Files to read, each with what is wrong with its name, in order."""
    files: dict[str, AudioError | None] = {}
    for path in map(str, paths):
        try:
            files.update(dict.fromkeys(audio.find_files([path])))
        except AudioError as error:
            files[path] = error
    return files


@contextmanager
def _opened(file: str) -> Iterator[Source]:
    """The file, or standard input put aside on disk, as decoders move about in what they read."""
    if file != STDIN:
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield cast(BinaryIO, copy)


def _cutter(source: Source, channel: int | None) -> Cut:
    return partial(audio.windows, source, channel=channel)


def _reporting(cut: Cut, duration: float | None, progress: Progress, done: int, total: int) -> Cut:
    def reporting(win_dur: float, hop_dur: float) -> Iterator[tuple[float, np.ndarray]]:
        for start, signal in cut(win_dur, hop_dur):
            yield start, signal
            progress(done + min(1.0, _end(start, signal) / duration if duration else 0.0), total)

    return reporting


def _rows(
    file: str, duration: float | None, cut: Cut, predictor: Predictor, every: float | None, window: float
) -> Iterator[Prediction]:
    if every is None:
        yield _whole(file, cut(*_part_durs(duration)), predictor)
        return
    for start, signal in cut(window, every):
        yield _row(file, start, _end(start, signal), _emotion(file, signal, predictor))


def _whole(file: str, parts: Iterator[tuple[float, np.ndarray]], predictor: Predictor) -> Prediction:
    total, weight, end = np.zeros(len(OUTPUTS)), 0, 0.0
    for start, signal in parts:
        emotion, end = _emotion(file, signal, predictor), _end(start, signal)
        if emotion is not None:
            total, weight = total + len(signal) * np.array(emotion), weight + len(signal)
    return _row(file, 0.0, end, Emotion(*(total / weight).tolist()) if weight else None)


def _part_durs(duration: float | None) -> tuple[float, float]:
    """Seconds of a part and from one to the next: all in one, or equal parts of whole samples, with one to spare."""
    if duration is None:
        return PART_DUR, PART_DUR
    if duration <= WHOLE_DUR:
        return WHOLE_DUR + 1, WHOLE_DUR + 1
    part_length = math.ceil(duration * SAMPLING_RATE / math.ceil(duration / PART_DUR)) + 1
    return part_length / SAMPLING_RATE, part_length / SAMPLING_RATE


def _emotion(file: str, signal: np.ndarray, predictor: Predictor) -> Emotion | None:
    """None where there is no speech."""
    if len(signal) < FRONTEND.win_length:
        raise AudioError(
            f"{f'{file}: ' if file else ''}too short for an answer: {len(signal)} of at least {FRONTEND.win_length} "
            f"samples at {SAMPLING_RATE} Hz"
        )
    return Emotion(*np.clip(predictor(signal), 0, 1).tolist()) if audio.is_speech(signal) else None


def _row(file: str, start: float, end: float, emotion: Emotion | None) -> Prediction:
    if emotion is None:
        return Prediction(_utf8(file), start, end, speech=False)
    return Prediction(_utf8(file), start, end, *emotion, speech=True)


def _end(start: float, signal: np.ndarray) -> float:
    return start + len(signal) / SAMPLING_RATE


def _utf8(name: str) -> str:
    """A name that any table can hold: what is not UTF-8 on disk becomes a question mark."""
    return os.fsencode(name).decode("utf-8", "replace")
