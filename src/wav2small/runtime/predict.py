"""Rows of predictions for audio: one for each file, window or segment; a file that fails is a row with its error."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from wav2small.audio import read
from wav2small.audio.decode import Source, is_pipe, spooled
from wav2small.audio.vad import FILE_DUR, Sound, detector, is_enough, sound
from wav2small.errors import AudioError, ManifestError
from wav2small.network.config import SAMPLING_RATE, Emotion
from wav2small.options import DEFAULT_MODEL, Options, default_window
from wav2small.runtime.engines import Output, Predictor, output_of
from wav2small.runtime.event import COLUMNS as EVENT_COLUMNS
from wav2small.runtime.event import Event, EventBuilder, shown
from wav2small.runtime.model import load
from wav2small.runtime.stream import Stream
from wav2small.runtime.windows import Blocks, check_length, counted, mean, parts
from wav2small.tables.manifest import read_manifest
from wav2small.tables.spans import Span, spans_of

Progress = Callable[[float, int], None]
"""Called with the number of files done, including the fraction of the current one, and the number of all."""

Row = tuple[Span | None, "Prediction"]
"""A prediction, and the segment that it is of if there are segments."""

STDIN = "-"
MANIFESTS = (".csv", ".tsv", ".parquet")
"""Suffixes of tables whose column ``file`` names the audio."""
WHOLE = Options(hop_dur=None)
"""One answer for a whole file or segment."""
TOLERATED_DUR = 0.5
"""Seconds that a segment may end after its file."""


@dataclass(frozen=True, kw_only=True)
class Prediction(Event):
    """One row: an event of a file, or the ``error`` of a file that failed, where all but ``file`` may be None.

    Its ``repr`` shows the fields that are not None.

    Examples:
        >>> row = wav2small.predict("examples/10b10Wa.flac")[0]
        >>> row.file, row.start, round(row.end, 1), row.error
        ('examples/10b10Wa.flac', 0.0, 2.6, None)
    """

    file: str
    error: str | None = None

    def __repr__(self) -> str:
        return shown(self, first="file")


COLUMNS = ("file", *EVENT_COLUMNS, "error")
"""Columns of a row unless more are asked for."""


def predict(
    source: Source | np.ndarray | Sequence[str | Path],
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
    """Arousal, dominance and valence of one file or signal, or of many files.

    A file longer than 30 s without ``hop_dur`` is divided into equal parts of at most 15 s; its answer is the mean over
    those with speech, weighted by their duration.

    Args:
        source: path, binary file object, or array as in ``audio.read.prepare``; a list of paths, a folder, a pattern,
            or a table with a column ``file`` (CSV, TSV or Parquet) stands for many files
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
        one row for each file, or for each window with ``hop_dur``

    Raises:
        AudioError: if the audio cannot be read or is too short; of many files, one that fails is a row with its
            ``error``
        WeightsError: if there are no such weights, or there is a ``min_confidence`` and no calibration

    Examples:
        >>> from wav2small import predict
        >>> [row] = predict("examples/10b10Wa.flac")
        >>> print(f"{row.arousal:.1f} {row.speech}")
        0.7 True
        >>> [row.file for row in predict(["examples/10b10Wa.flac", "examples/14a04Tc.flac"])]
        ['examples/10b10Wa.flac', 'examples/14a04Tc.flac']
        >>> len(predict("examples"))
        4
    """
    win_dur = default_window(hop_dur) if win_dur is None else win_dur
    options = Options(hop_dur, win_dur, channel, min_speech, vad, min_confidence)
    if not isinstance(source, np.ndarray) and (files := _many(source)) is not None:
        return list(predict_files(files, model=model, options=options))
    rows = FilePredictor(model, options).rows
    if isinstance(source, (str, Path)):
        with _opened(str(source)) as opened:
            return list(rows(str(source), read.duration(opened), read.blocks(opened, channel)))
    if not isinstance(source, np.ndarray):
        file = cast(BinaryIO, source)
        return list(rows(STDIN, read.duration(file), read.blocks(file, channel)))
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

    Examples:
        >>> from wav2small.runtime.predict import predict_files
        >>> options = wav2small.Options(hop_dur=1.0, win_dur=2.0)
        >>> rows = list(predict_files(["examples", "missing.wav"], options=options))
        >>> rows[0].end, rows[-1].error
        (2.0, 'there is no such file; check the name')
    """
    predictor = FilePredictor(model, options)
    files = list_files(paths)
    for done, (file, error) in enumerate(files.items()):
        progress(done, len(files))
        for _, row in predictor.answer(file, error, report=_part_of(progress, done, len(files))):
            yield row
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

    Examples:
        >>> from wav2small.runtime.predict import predict_segments
        >>> from wav2small.tables.spans import Span
        >>> spans = [Span(0.0, 1.5, speaker="A"), Span(1.5, 2.6, speaker="B")]
        >>> [(span.speaker, row.speech) for span, row in predict_segments("examples/10b10Wa.flac", spans)]
        [('A', True), ('B', True)]
    """
    predictor = FilePredictor(model, replace(options, hop_dur=None))
    file = str(source) if isinstance(source, (str, Path)) else STDIN
    with _opened(file) if isinstance(source, (str, Path)) else nullcontext(source) as opened:
        yield from predictor.segments(file, read.blocks(opened, options.channel), spans, progress)


class _ForwardReader:
    """A signal that is read forward only: samples before the last start are discarded."""

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


def list_files(paths: Iterable[str | Path], segmented: bool = False) -> dict[str, AudioError | None]:
    """Files to read, in order and each once, with the error of its name if it has one.

    Args:
        paths: files, folders, patterns, ``-`` for standard input, and tables with a column ``file``
        segmented: whether segments of the files are given elsewhere, so that tables may have their times

    Raises:
        ManifestError: if a table cannot be read, has no such column, or has times that would be ignored
    """
    files: dict[str, AudioError | None] = {}
    for path in map(str, paths):
        try:
            found = _files_of_table(path, segmented) if path.lower().endswith(MANIFESTS) else read.find_files([path])
            files.update(dict.fromkeys(found))
        except AudioError as error:
            files[path] = error
    return files


def _files_of_table(path: str, segmented: bool) -> list[str]:
    segments = read_manifest(path)
    if not segmented and any(segment.start or segment.end is not None for segment in segments):
        raise ManifestError(
            f"{path}: has start and end, which are segments; give it as the segments too: "
            f"wav2small predict {path} --segments {path}"
        )
    return [str(segment.path) for segment in segments]


def _many(source: object) -> Sequence[str | Path] | None:
    """The paths of a source that stands for many files; None if it is one."""
    if isinstance(source, (list, tuple)):
        if all(isinstance(path, (str, Path)) for path in source):
            return source
        raise AudioError("a list must have paths of files; give a signal as an array: predict(np.array(signal), 16000)")
    if not isinstance(source, (str, Path)):
        return None
    is_pattern = glob.has_magic(str(source)) and not os.path.lexists(source)
    is_table = str(source).lower().endswith(MANIFESTS)
    return [source] if os.path.isdir(source) or is_pattern or is_table else None


@contextmanager
def _opened(file: str) -> Iterator[Source]:
    """The file; or a copy of standard input or of a pipe on disk, because decoders seek."""
    if file == STDIN:
        with spooled(sys.stdin.buffer) as copy:
            yield copy
    elif is_pipe(file):
        with open(file, "rb") as pipe, spooled(pipe) as copy:
            yield copy
    else:
        yield file


def _part_of(progress: Progress, done: int, total: int) -> Callable[[float], None]:
    """Reports the share of a file as progress of all."""
    return lambda share: progress(done + share, total)


def _reporting(blocks: Blocks, duration: float | None, report: Callable[[float], None]) -> Iterator[np.ndarray]:
    position = 0
    for block in blocks:
        yield block
        position += len(block)
        report(min(1.0, position / SAMPLING_RATE / duration if duration else 0.0))


class _AnsweredPart(NamedTuple):
    """A part of a clip; ``output`` is None if it has too little speech."""

    length: int
    sound: Sound
    output: Output | None


class FilePredictor:
    """Answers files and segments: one row for each, or one for every window if there is a ``hop_dur``."""

    def __init__(self, model: str | Path | Predictor, options: Options) -> None:
        self._channel = options.channel
        self._predictor = load(model) if isinstance(model, (str, Path)) else model
        self._min_speech = options.min_speech
        self._detector = detector(options.vad)
        self._builder = EventBuilder(self._predictor, options.min_confidence)
        mono = replace(options, channel=None)
        self._stream = None if options.hop_dur is None else Stream(self._predictor, **vars(mono))

    def answer(
        self,
        file: str,
        error: AudioError | None = None,
        spans: list[Span] | None = None,
        report: Callable[[float], None] = lambda share: None,
    ) -> Iterator[Row]:
        """The rows of a file, or of its ``spans``; an ``AudioError``, or the one that is given, is a row.

        Raises:
            ManifestError: if there are spans, and none of this file
        """
        try:
            if error is not None:
                raise error
            own = None if spans is None else spans_of(spans, file)
            with _opened(file) as source:
                if own is not None:
                    blocks = read.blocks(source, self._channel)
                    yield from self.segments(file, blocks, own, lambda done, total: report(done / total))
                    return
                duration = read.duration(source)
                blocks = _reporting(read.blocks(source, self._channel), duration, report)
                yield from ((None, row) for row in self.rows(file, duration, blocks))
        except AudioError as failure:
            yield None, _failed(file, failure)

    def segments(
        self, file: str, blocks: Blocks, spans: Sequence[Span], progress: Progress
    ) -> Iterator[tuple[Span, Prediction]]:
        """Each segment with its row; ``progress`` is called with the number of segments done, and of all."""
        reader = _ForwardReader(blocks)
        for done, span in enumerate(spans, 1):
            signal = reader.cut(round(span.start * SAMPLING_RATE), round(span.end * SAMPLING_RATE))
            yield span, self.segment(file, span, signal)
            progress(done, len(spans))

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
            return _failed(file, AudioError(f"{missing}; do the segments belong to another file?"), span)
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
    """A name that any table can hold: bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")
