"""Audio to rows: one answer a file, a window or a segment; a failure is a row of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from wav2small.audio import read
from wav2small.audio.decode import Source
from wav2small.audio.vad import FILE_DUR, Sound, detector, is_enough, sound
from wav2small.errors import AudioError
from wav2small.network.config import SAMPLING_RATE, Emotion
from wav2small.options import DEFAULT_MODEL, Options, default_window
from wav2small.runtime.engines import Output, Predictor, output_of
from wav2small.runtime.event import COLUMNS as EVENT_COLUMNS
from wav2small.runtime.event import Event, EventBuilder
from wav2small.runtime.model import load
from wav2small.runtime.stream import Stream
from wav2small.runtime.windows import Blocks, check_length, counted, mean, parts
from wav2small.tables.spans import Span, spans_of

Progress = Callable[[float, int], None]
"""Called with the number of files done, including the fraction of the current one, and the number of all."""

STDIN = "-"
WHOLE = Options(hop_dur=None)
"""One answer for a whole file or segment."""
TOLERATED_DUR = 0.5
"""Seconds that a segment may end after its file."""


@dataclass(frozen=True, kw_only=True)
class Prediction(Event):
    """One row: an event of a file, or the ``error`` why there is none; then all but ``file`` may be None."""

    file: str
    error: str | None = None


COLUMNS = ("file", *EVENT_COLUMNS, "error")
"""Columns of a row unless more are asked for."""


def predict(
    source: Source | np.ndarray,
    sampling_rate: float | None = None,
    *,
    model: str | Path | Predictor = DEFAULT_MODEL,
    channel: int | None = Options.channel,
    hop_dur: float | None = None,
    win_dur: float | None = None,
    min_speech: float = Options.min_speech,
    vad: str = Options.vad,
    min_confidence: float = Options.min_confidence,
) -> list[Prediction]:
    """Arousal, dominance and valence of one file or one signal.

    A file longer than 30 s without ``hop_dur`` is answered from equal parts of at most 15 s: the mean of those with
    speech, weighted by their duration.

    Args:
        source: path, binary file object, or array as in ``audio.read.prepare``
        sampling_rate: of an array, Hz; a file states its own
        model: name or path of weights, or a predictor: ``load(...)``, loaded once for many calls; the calibration and
            the head that a model was loaded with are used
        channel: index of the channel, from 0; None for the mean of all channels
        hop_dur: seconds from the start of a window to the start of the next, each answered as by a ``Stream``; None
            for one answer
        win_dur: seconds of a window; None is 3, or ``hop_dur`` if that is more
        min_speech: seconds of speech that an answer needs; a window below 3 s, or a file below 10 s, needs less in
            proportion
        vad: speech detector, as in ``Stream``
        min_confidence: a dimension with less confidence is None

    Returns:
        one row, or one a window with ``hop_dur``

    Raises:
        AudioError: if the audio cannot be read or is too short
        WeightsError: if there are no such weights, or there is a ``min_confidence`` and no calibration
    """
    win_dur = default_window(hop_dur) if win_dur is None else win_dur
    rows = _FilePredictor(model, Options(hop_dur, win_dur, channel, min_speech, vad, min_confidence)).rows
    if not isinstance(source, np.ndarray):
        file = str(source) if isinstance(source, (str, Path)) else STDIN
        return list(rows(file, read.duration(source), read.blocks(source, channel)))
    if sampling_rate is None:
        raise AudioError("an array needs its sampling_rate in Hz: predict(signal, 16000)")
    signal = read.prepare(source, sampling_rate, channel)
    return list(rows("", len(signal) / SAMPLING_RATE, [signal]))


def predict_files(
    paths: Iterable[str | Path],
    *,
    model: str | Path | Predictor = DEFAULT_MODEL,
    options: Options = WHOLE,
    progress: Progress = lambda done, total: None,
) -> Iterator[Prediction]:
    """Rows of many files as they are done; one that fails is a row with its error, and the rest go on.

    Args:
        paths: files, folders, patterns, or ``-`` for standard input
        model: as in ``predict``
        options: with a ``hop_dur`` each window is a row; else each file is
        progress: called after every piece of a file

    Yields:
        rows in the order of the files; a file that turns out to be damaged half-way has its row of error after those
        before it
    """
    predictor = _FilePredictor(model, options)
    files = _listed(paths)
    for done, (file, error) in enumerate(files.items()):
        progress(done, len(files))
        try:
            if error is not None:
                raise error
            with _opened(file) as source:
                duration = read.duration(source)
                blocks = _reporting(read.blocks(source, options.channel), duration, progress, done, len(files))
                yield from predictor.rows(file, duration, blocks)
        except AudioError as failure:
            yield _failed(file, failure)
    progress(len(files), len(files))


def predict_segments(
    source: Source,
    spans: Sequence[Span],
    *,
    model: str | Path | Predictor = DEFAULT_MODEL,
    options: Options = WHOLE,
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[Span, Prediction]]:
    """A row for each segment of one file, as soon as the file is read that far.

    A segment is answered as a file of its own would be. Memory grows with the longest segment, not with the file.

    Args:
        source: path, ``-`` for standard input, or binary file object
        spans: by their start, as ``read_spans`` gives them; they may overlap
        model: as in ``predict``
        options: as in ``predict_files``; windows do not apply
        progress: called with the number of segments done, and of all

    Yields:
        each segment with its row; one that ends more than half a second after the file has an error
    """
    predictor = _FilePredictor(model, replace(options, hop_dur=None))
    file = str(source) if isinstance(source, (str, Path)) else STDIN
    with _opened(file) if isinstance(source, (str, Path)) else nullcontext(source) as opened:
        reader = _ForwardReader(read.blocks(opened, options.channel))
        for done, span in enumerate(spans, 1):
            signal = reader.cut(round(span.start * SAMPLING_RATE), round(span.end * SAMPLING_RATE))
            yield span, predictor.segment(file, span, signal)
            progress(done, len(spans))


def predict_segments_of_files(
    paths: Iterable[str | Path],
    spans: list[Span],
    *,
    model: str | Path | Predictor = DEFAULT_MODEL,
    options: Options = WHOLE,
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[Span | None, Prediction]]:
    """``predict_segments`` of each file with its own segments; a file that fails is a row without a segment."""
    for file in read.find_files(paths):
        own = spans_of(spans, file)
        try:
            yield from predict_segments(file, own, model=model, options=options, progress=progress)
        except AudioError as error:
            yield None, _failed(file, error)


class _ForwardReader:
    """A signal that is read forward only: what is before the last start is forgotten."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = iter(blocks)
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
    """Files to read, in order, each with the error of its name if it has one."""
    files: dict[str, AudioError | None] = {}
    for path in map(str, paths):
        try:
            files.update(dict.fromkeys(read.find_files([path])))
        except AudioError as error:
            files[path] = error
    return files


@contextmanager
def _opened(file: str) -> Iterator[Source]:
    """The file, or standard input copied to disk, because decoders seek."""
    if file != STDIN:
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield cast(BinaryIO, copy)


def _reporting(
    blocks: Blocks, duration: float | None, progress: Progress, done: int, total: int
) -> Iterator[np.ndarray]:
    position = 0
    for block in blocks:
        yield block
        position += len(block)
        progress(done + min(1.0, position / SAMPLING_RATE / duration if duration else 0.0), total)


class _AnsweredPart(NamedTuple):
    """A part of a clip; ``output`` is None if it has too little speech."""

    length: int
    sound: Sound
    output: Output | None


class _FilePredictor:
    """Answers files and segments: one row for each, or one for every window if there is a ``hop_dur``."""

    def __init__(self, model: str | Path | Predictor, options: Options) -> None:
        self._predictor = load(model) if isinstance(model, (str, Path)) else model
        self._min_speech = options.min_speech
        self._detector = detector(options.vad)
        self._builder = EventBuilder(self._predictor, options.min_confidence)
        mono = replace(options, channel=None)
        self._stream = None if options.hop_dur is None else Stream(self._predictor, **vars(mono))

    def rows(self, file: str, duration: float | None, blocks: Blocks) -> Iterator[Prediction]:
        """The rows of a clip at 16 kHz, mono; ``duration`` is in seconds, None if it is not known."""
        if self._stream is None:
            yield _row(file, self._whole(file, duration, blocks))
            return
        self._stream.reset()
        for event in self._stream.run(blocks):
            yield _row(file, event)
        check_length(self._stream.position, file)

    def segment(self, file: str, span: Span, signal: np.ndarray) -> Prediction:
        """The row of a segment; ``signal`` is the audio that the file has of it."""
        dur = len(signal) / SAMPLING_RATE
        if span.end - span.start - dur > TOLERATED_DUR:
            missing = f"from {span.start:g} to {span.end:g} s the file has {dur:.2f} s only"
            return _failed(file, AudioError(f"{missing}; are the segments of another file?"), span)
        try:
            return _row(file, replace(self._whole("", dur, [signal]), start=span.start, end=span.end))
        except AudioError as error:
            return _failed(file, error, span)

    def _whole(self, file: str, duration: float | None, blocks: Blocks) -> Event:
        """One answer for a clip: the mean over its parts with enough speech; none if there is no such part."""
        answered = [self._part(file, signal) for signal in parts(blocks, duration)]
        lengths = [part.length for part in answered]
        whole = Sound(*mean([part.sound for part in answered], lengths).tolist())
        return self._builder.event(0.0, sum(lengths) / SAMPLING_RATE, _mean_output(answered), whole)

    def _part(self, file: str, signal: np.ndarray) -> _AnsweredPart:
        check_length(len(signal), file)
        found = sound(signal, self._detector)
        has_speech = is_enough(found.ratio, len(signal), self._min_speech, FILE_DUR)
        return _AnsweredPart(len(signal), found, output_of(self._predictor, signal) if has_speech else None)


def _mean_output(answered: Sequence[_AnsweredPart]) -> Output | None:
    """The mean over parts, of embeddings too, as the outputs are linear in them."""
    chosen = counted(answered, lambda part: part.output is not None)
    outputs, lengths = [part.output for part in chosen if part.output is not None], [part.length for part in chosen]
    if not outputs:
        return None
    emotion = Emotion(*mean([output.emotion for output in outputs], lengths).tolist())
    embeddings = [output.embedding for output in outputs if output.embedding is not None]
    return Output(emotion, mean(embeddings, lengths) if embeddings else None)


def _row(file: str, event: Event) -> Prediction:
    return Prediction(file=_utf8(file), **vars(event))


def _failed(file: str, error: AudioError, span: Span | None = None) -> Prediction:
    start, end = (span.start, span.end) if span else (None, None)
    return Prediction(file=_utf8(file), start=start, end=end, error=_utf8(str(error).removeprefix(f"{file}: ")))


def _utf8(name: str) -> str:
    """A name that any table can hold: bytes on disk that are not UTF-8 become a question mark."""
    return os.fsencode(name).decode("utf-8", "replace")
