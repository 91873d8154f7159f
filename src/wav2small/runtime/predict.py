"""Audio to rows: one answer a file or one a window, silence told apart, failures as rows of their own."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from wav2small.audio import read as audio
from wav2small.audio.decode import Source
from wav2small.audio.vad import FILE_DUR, MIN_SPEECH_DUR, Sound, detector, is_enough, sound
from wav2small.errors import AudioError
from wav2small.network.config import FRONTEND, SAMPLING_RATE, Emotion
from wav2small.runtime.model import load
from wav2small.runtime.stream import PLAIN, WIN_DUR, Answer, Predictor, Stream, Teller, answered, check_times
from wav2small.tables.spans import Span

Blocks = Iterator[np.ndarray]
"""Consecutive pieces of a signal at 16 kHz, each shape=(samples,)."""
Progress = Callable[[float, int], None]
"""Told how many files are done, the part of the current one included, and how many there are."""

STDIN = "-"
WHOLE_DUR = 30.0
"""Seconds; a longer file is answered from parts, for memory, and because a voice does not keep one emotion."""
PART_DUR = 15.0
TOLERATED_DUR = 0.5
"""Seconds that a segment may end after its file."""


@dataclass(frozen=True)
class Prediction:
    """One row: what was heard from ``start`` to ``end`` in seconds, or why there is no answer.

    All is as in ``Event``, and None but for ``file`` and ``error`` where the file failed.
    """

    file: str
    start: float | None = None
    end: float | None = None
    arousal: float | None = None
    dominance: float | None = None
    valence: float | None = None
    speech: bool | None = None
    speech_ratio: float | None = None
    confidence: float | None = None
    word: str | None = None
    category: str | None = None
    probability: float | None = None
    arousal_low: float | None = None
    arousal_high: float | None = None
    dominance_low: float | None = None
    dominance_high: float | None = None
    valence_low: float | None = None
    valence_high: float | None = None
    error: str | None = None


FIELDS = ("file", *PLAIN, "error")
"""Columns of a row unless more are asked for."""


def predict(
    source: Source | np.ndarray,
    sampling_rate: float | None = None,
    *,
    model: str | Path | Predictor = "wav2small",
    channel: int | None = None,
    every: float | None = None,
    window: float | None = None,
    min_speech: float = MIN_SPEECH_DUR,
    vad: str = "auto",
    min_confidence: float = 0.0,
) -> list[Prediction]:
    """Arousal, dominance and valence of one file or one signal.

    A file longer than 30 s without ``every`` is answered from equal parts of at most 15 s: the mean of those with
    speech, weighted by their duration.

    Args:
        source: path, binary file object, or array as in ``audio.prepare``
        sampling_rate: of an array, Hz; a file says its own
        model: name or path of weights, or what answers: ``load(...)`` of your own, loaded once for many calls; one that
            was loaded with a calibration tells by it
        channel: which channel to hear, from 0; all are mixed down if None
        every: seconds between the starts of two windows, which a ``Stream`` answers; None for one answer for all
        window: seconds of a window; None is 3, or ``every`` if that is more
        min_speech: seconds of speech for an emotion; less in proportion in a window below 3 s, or a file below 10 s
        vad: what tells speech, as in ``Stream``
        min_confidence: below it a dimension is None

    Returns:
        one row, or one a window with ``every``

    Raises:
        AudioError: if the audio cannot be read or is too short
        WeightsError: if there are no such weights, or there is a ``min_confidence``, and no calibration
    """
    listener = _Listener(model, every, window, min_speech, vad, min_confidence)
    if not isinstance(source, np.ndarray):
        file = str(source) if isinstance(source, (str, Path)) else STDIN
        return list(listener.rows(file, audio.duration(source), audio.blocks(source, channel)))
    if sampling_rate is None:
        raise AudioError("an array needs its sampling_rate in Hz: predict(signal, 16000)")
    signal = audio.prepare(source, sampling_rate, channel)
    return list(listener.rows("", len(signal) / SAMPLING_RATE, iter([signal])))


def predict_files(
    paths: Iterable[str | Path],
    *,
    model: str | Path | Predictor = "wav2small",
    channel: int | None = None,
    every: float | None = None,
    window: float | None = None,
    min_speech: float = MIN_SPEECH_DUR,
    vad: str = "auto",
    min_confidence: float = 0.0,
    progress: Progress = lambda done, total: None,
) -> Iterator[Prediction]:
    """Rows of many files as they are done; one that fails is a row with its error, and the rest go on.

    Args:
        paths: files, folders, patterns, or ``-`` for standard input
        model: as in ``predict``
        channel: as in ``predict``
        every: as in ``predict``
        window: as in ``predict``
        min_speech: as in ``predict``
        vad: as in ``predict``
        min_confidence: as in ``predict``
        progress: called after every piece of a file

    Yields:
        rows in the order of the files; a file found damaged half-way has its row of error after those before it
    """
    listener = _Listener(model, every, window, min_speech, vad, min_confidence)
    files = _listed(paths)
    for done, (file, error) in enumerate(files.items()):
        progress(done, len(files))
        try:
            if error is not None:
                raise error
            with _opened(file) as source:
                duration = audio.duration(source)
                blocks = _reporting(audio.blocks(source, channel), duration, progress, done, len(files))
                yield from listener.rows(file, duration, blocks)
        except AudioError as failure:
            yield Prediction(_utf8(file), error=_utf8(str(failure).removeprefix(f"{file}: ")))
    progress(len(files), len(files))


def predict_segments(
    source: Source,
    spans: Sequence[Span],
    *,
    model: str | Path | Predictor = "wav2small",
    channel: int | None = None,
    min_speech: float = MIN_SPEECH_DUR,
    vad: str = "auto",
    min_confidence: float = 0.0,
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[Span, Prediction]]:
    """A row for each segment of one file, as soon as the file is read that far.

    A segment is answered as a file of its own would be. Memory grows with the longest segment, not with the file.

    Args:
        source: path, ``-`` for standard input, or binary file object
        spans: by their start, as ``read_spans`` gives them; they may overlap
        model: as in ``predict``, and so are all that follow
        progress: told how many segments are done

    Yields:
        each segment with its row; one that ends more than half a second after the file has an error
    """
    listener = _Listener(model, None, None, min_speech, vad, min_confidence)
    file = str(source) if isinstance(source, (str, Path)) else STDIN
    with _opened(file) if isinstance(source, (str, Path)) else nullcontext(source) as opened:
        tape = _Tape(audio.blocks(opened, channel))
        for done, span in enumerate(spans, 1):
            signal = tape.cut(round(span.start * SAMPLING_RATE), round(span.end * SAMPLING_RATE))
            yield span, listener.segment(file, span, signal)
            progress(done, len(spans))


class _Tape:
    """A signal that is wound forward only: what is before the last start is forgotten."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._held = np.zeros(0, np.float32)
        self._position = 0

    def cut(self, start: int, end: int) -> np.ndarray:
        """Samples from one place to another, or as many as there are; ``start`` never goes back."""
        self._forget(start)
        while self._position + len(self._held) < end and (block := next(self._blocks, None)) is not None:
            self._held = np.concatenate([self._held, block])
            self._forget(start)
        return self._held[: end - start]

    def _forget(self, start: int) -> None:
        passed = min(start - self._position, len(self._held))
        self._held, self._position = self._held[passed:], self._position + passed


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


def _reporting(blocks: Blocks, duration: float | None, progress: Progress, done: int, total: int) -> Blocks:
    heard = 0
    for block in blocks:
        yield block
        heard += len(block)
        progress(done + min(1.0, heard / SAMPLING_RATE / duration if duration else 0.0), total)


class _Listener:
    """What answers, and for which stretches: one answer for a file, or one for every window of it."""

    def __init__(
        self,
        model: str | Path | Predictor,
        every: float | None,
        window: float | None,
        min_speech: float,
        vad: str,
        min_confidence: float,
    ) -> None:
        window = max(WIN_DUR, every or 0.0) if window is None else window
        if every is not None:
            check_times(every, window)
        self._predictor = load(model) if isinstance(model, (str, Path)) else model
        self._min_speech = min_speech
        self._detector = detector(vad)
        self._teller = Teller(self._predictor, min_confidence)
        self._stream = None
        if every is not None:
            self._stream = Stream(
                self._predictor,
                every,
                window,
                min_speech=min_speech,
                vad=vad,
                min_confidence=min_confidence,
            )

    def rows(self, file: str, duration: float | None, blocks: Blocks) -> Iterator[Prediction]:
        if self._stream is None:
            yield self._whole(file, audio.cut(blocks, *_part_durs(duration)))
            return
        self._stream.reset()
        for event in self._stream.run(blocks):
            yield Prediction(_utf8(file), **vars(event))
        if not self._stream.position >= FRONTEND.win_length:
            raise too_short(file, self._stream.position)

    def segment(self, file: str, span: Span, signal: np.ndarray) -> Prediction:
        """One row for a segment; ``signal`` is what the file has of it."""
        missing = span.end - span.start - len(signal) / SAMPLING_RATE
        if missing > TOLERATED_DUR:
            error = f"from {span.start:g} to {span.end:g} s the file has {len(signal) / SAMPLING_RATE:.2f} s only"
            return Prediction(_utf8(file), span.start, span.end, error=f"{error}; are the segments of another file?")
        if len(signal) < FRONTEND.win_length:
            error = str(too_short("", len(signal)))
            return Prediction(_utf8(file), span.start, span.end, error=error)
        row = self._whole(file, audio.cut([signal], *_part_durs(len(signal) / SAMPLING_RATE)))
        return replace(row, start=span.start, end=span.end)

    def _whole(self, file: str, parts: Iterator[tuple[float, np.ndarray]]) -> Prediction:
        answers, heard, sounds, lengths = [], [], [], []
        for _, signal in parts:
            if len(signal) < FRONTEND.win_length:
                raise too_short(file, len(signal))
            sounds.append(sound(signal, self._detector))
            lengths.append(len(signal))
            if is_enough(sounds[-1].ratio, len(signal), self._min_speech, FILE_DUR):
                answers.append(answered(self._predictor, signal))
                heard.append(len(signal))
        whole = Sound(*np.average(sounds, axis=0, weights=lengths).tolist())
        answer = _mean(answers, heard) if answers else None
        event = self._teller.event(0.0, sum(lengths) / SAMPLING_RATE, answer, whole)
        return Prediction(_utf8(file), **vars(event))


def _mean(answers: Sequence[Answer], lengths: Sequence[int]) -> Answer:
    """Of parts, each weighing as much as it is long: of embeddings too, as the outputs are linear in them."""
    emotion = Emotion(*np.average([emotion for emotion, _ in answers], axis=0, weights=lengths).tolist())
    embeddings = [embedding for _, embedding in answers if embedding is not None]
    return emotion, np.average(embeddings, axis=0, weights=lengths) if embeddings else None


def too_short(file: str, length: int) -> AudioError:
    """What is said of so many samples at 16 kHz, of a file if it has a name."""
    return AudioError(
        f"{f'{file}: ' if file else ''}too short for an answer: {length} of at least {FRONTEND.win_length} "
        f"samples at {SAMPLING_RATE} Hz"
    )


def _part_durs(duration: float | None) -> tuple[float, float]:
    """Seconds of a part and from one to the next: all in one, or equal parts of whole samples, with one to spare."""
    if duration is None:
        return PART_DUR, PART_DUR
    if duration <= WHOLE_DUR:
        return WHOLE_DUR + 1, WHOLE_DUR + 1
    part_length = math.ceil(duration * SAMPLING_RATE / math.ceil(duration / PART_DUR)) + 1
    return part_length / SAMPLING_RATE, part_length / SAMPLING_RATE


def _utf8(name: str) -> str:
    """A name that any table can hold: what is not UTF-8 on disk becomes a question mark."""
    return os.fsencode(name).decode("utf-8", "replace")
