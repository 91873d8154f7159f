"""Files to rows: decoded and computed within limits, in a thread."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from wav2small.audio import read
from wav2small.audio.decode import FORMATS
from wav2small.audio.read import frame_power
from wav2small.audio.vad import FrameCutter, detector
from wav2small.errors import AudioError, Wav2SmallError
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.options import Options
from wav2small.runtime.baseline import add_baselines
from wav2small.runtime.event import CALIBRATION_COLUMNS, INTERVAL_COLUMNS
from wav2small.runtime.model import Model
from wav2small.runtime.predict import COLUMNS, FilePredictor
from wav2small.serve.errors import ServeError
from wav2small.serve.settings import Limits
from wav2small.serve.utterances import Utterances
from wav2small.tables.spans import Span, read_spans

Row = dict[str, Any]
MAX_SPANS = 10_000
"""Segments of a request."""


@dataclass
class Job:
    """A file that is computed: its bounds, and a flag by which it ends early.

    Args:
        file: the audio
        limits: of the service
    """

    file: BinaryIO
    limits: Limits

    def __post_init__(self) -> None:
        self.is_cancelled = threading.Event()
        self._deadline = time.monotonic() + self.limits.processing_dur
        self.duration = 0.0

    def stated_duration(self) -> float | None:
        """Seconds by the header of the file.

        Raises:
            ServeError: if it cannot be decoded, or is too long
        """
        self._check_format()
        try:
            duration = read.duration(self.file)
        except AudioError as error:
            raise ServeError("audio_decode_failed", sentence(error)) from None
        self._check(duration or 0.0)
        return duration

    def blocks(self) -> Iterator[np.ndarray]:
        """The file piece by piece at 16 kHz; the limits are checked after each piece.

        Raises:
            ServeError: if it cannot be decoded, is too long or takes too long
        """
        length = 0
        try:
            for block in read.blocks(self.file):
                length += len(block)
                self.duration = length / SAMPLING_RATE
                self._check(self.duration)
                yield block
        except AudioError as error:
            raise ServeError("audio_decode_failed", sentence(error)) from None

    def _check_format(self) -> None:
        """Refuse what libsndfile cannot open: ffmpeg would need the file on a disk, and cannot be bounded."""
        self.file.seek(0)
        try:
            with soundfile.SoundFile(self.file):
                pass
        except (soundfile.LibsndfileError, TypeError):
            raise ServeError(
                "audio_decode_failed", f"The file cannot be decoded; readable here are {', '.join(FORMATS)}."
            ) from None

    def check_time(self) -> None:
        """Raise if the file took too long or its client has gone."""
        if self.is_cancelled.is_set() or time.monotonic() > self._deadline:
            raise ServeError(
                "processing_too_long",
                f"The audio took longer than {self.limits.processing_dur:g} s to process; send a shorter file.",
            )

    def _check(self, duration: float) -> None:
        self.check_time()
        if duration > self.limits.request_dur:
            raise ServeError(
                "audio_too_long",
                f"The audio is longer than {self.limits.request_dur:g} s, the limit of a request; "
                "cut it, or use a live session.",
            )


def sentence(error: Wav2SmallError | str) -> str:
    """The text of an error as a sentence: a capital, and one full stop."""
    text = str(error)
    return text[:1].upper() + text[1:].rstrip(".") + "."


def rows_of_file(job: Job, name: str, model: Model, options: Options) -> list[Row]:
    """A row for the file, or one a window with a hop."""
    duration = job.stated_duration()
    try:
        return [asdict(row) for row in FilePredictor(model, options).rows(name, duration, job.blocks())]
    except AudioError as error:
        raise ServeError("audio_decode_failed", sentence(error)) from None


def rows_of_segments(job: Job, name: str, model: Model, options: Options, spans: list[Span]) -> list[Row]:
    """A row for each segment, with its speaker; memory grows with the longest one."""
    job.stated_duration()
    if len(spans) > MAX_SPANS or spans[-1].end > job.limits.request_dur:
        raise ServeError(
            "config_invalid",
            f"There are {len(spans)} segments, the last until {spans[-1].end:g} s; "
            f"at most {MAX_SPANS} and {job.limits.request_dur:g} s are allowed.",
        )
    rows = []
    predictor = FilePredictor(model, options)
    for span, row in predictor.segments(name, job.blocks(), spans, lambda done, total: job.check_time()):
        rows.append({**asdict(row), "speaker": span.speaker})
    return rows


def spans_of_bytes(content: bytes) -> list[Span]:
    """Segments of a text: RTTM, Audacity's labels, or a table.

    Raises:
        ServeError: if it is none of these
    """
    if content.startswith(b"PAR1"):
        raise ServeError("config_invalid", "Segments in Parquet are not accepted; send CSV, JSON, RTTM or labels.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segments"
        path.write_bytes(content)
        try:
            return read_spans(path)
        except Wav2SmallError as error:
            raise ServeError("config_invalid", sentence(str(error).replace(str(path), "segments"))) from None


def with_baselines(rows: list[Row]) -> list[Row]:
    """The rows with each speaker's baseline and deviations from it."""
    return list(add_baselines(rows))


def columns(calibrated: bool, intervals: bool, segments: bool, by_speaker: bool) -> list[str]:
    """The columns of rows, in order, as ``wav2small predict`` has them."""
    file, start, end, *others, error = COLUMNS
    speaker = ["speaker"] if segments else []
    added = [*(CALIBRATION_COLUMNS if calibrated else ()), *(INTERVAL_COLUMNS if intervals else ())]
    deviations = [f"{name}_{what}" for name in OUTPUTS for what in ("baseline", "deviation")] if by_speaker else []
    return [file, start, end, *speaker, *others, *added, *deviations, *([error] if segments else [])]


def utterances_of_file(job: Job, vad: str) -> list[Span]:
    """The utterances of a file, as a live session would mark them."""
    job.stated_duration()
    detect, cutter, found = detector(vad), FrameCutter(), []
    utterances = Utterances(detect)
    blocks = (cutter.push(block) for block in job.blocks())
    marks = (mark for frames in blocks for mark in utterances.push(detect.score(frames, frame_power(frames))))
    for mark in marks:
        if mark.end is not None:
            found.append(Span(mark.start / SAMPLING_RATE, mark.end / SAMPLING_RATE))
    last = utterances.cut()
    if last and last.end is not None:
        found.append(Span(last.start / SAMPLING_RATE, last.end / SAMPLING_RATE))
    return found
