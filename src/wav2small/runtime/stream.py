"""Arousal, dominance and valence while somebody speaks: chunks of any size in, an answer every hop out.

A network that hears whole windows (normalisation ``utterance``) answers each as if it were all there is. One that
looks back only (``micro``) runs frame by frame, in NumPy or in C: every sample is computed once, and the answer for a
window is the softmax mean over its tokens, which know all that was heard before. So its first window is answered as
that window alone would be, and every later one with a level and convolutions that already know the voice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

from wav2small.audio.read import to_mono
from wav2small.audio.vad import MIN_SPEECH_DUR, Sound, SpeechMeter, detector, is_enough
from wav2small.errors import AudioError, WeightsError
from wav2small.network.config import FRONTEND, OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.runtime.calibration import Reading
from wav2small.runtime.causal import Causal
from wav2small.runtime.model import Model, clipped, load

if TYPE_CHECKING:
    from wav2small.runtime.native import NativeStream

Predictor = Callable[[np.ndarray], Emotion]
"""What answers: a ``Model``, or any function from a signal at 16 kHz to its emotion."""

HOP_DUR = 0.5
WIN_DUR = 3.0
MIN_WIN_DUR = 0.1
MIN_HOP_DUR = 0.01
SHORTEST_LAST = 0.1
"""Parts of a window; a last one that is shorter is left out, unless it is the only one."""


@dataclass(frozen=True)
class Event:
    """What was heard from ``start`` to ``end`` in seconds.

    Arousal, dominance and valence go from 0 to 1, and are None where there is too little speech, or less confidence
    than asked for. ``speech_ratio`` is the share of speech in the window. With a calibration ``confidence`` is the
    mean of the three dimensions' (0 to 1), ``word`` one of tense, elated, calm, low and neutral or None where that is
    open, and from ``_low`` to ``_high`` is where the teacher's label is for 80 % of unheard clips. With a head
    ``category`` is its most probable one, with that ``probability``.
    """

    start: float
    end: float
    arousal: float | None
    dominance: float | None
    valence: float | None
    speech: bool
    speech_ratio: float
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


PLAIN = ("start", "end", *OUTPUTS, "speech", "speech_ratio")
"""Fields of an event that are there without a calibration."""
TOLD = ("confidence", "word")
CATEGORY = ("category", "probability")
INTERVALS = tuple(f"{name}_{end}" for name in OUTPUTS for end in ("low", "high"))


Answer = tuple[Emotion, np.ndarray | None]
"""Of a network, from 0 to 1, and its embedding; that is None for a function that is no ``Model``."""


class Stream:
    """Hears a signal piece by piece, and answers for a window of ``win_dur`` seconds every ``hop_dur`` seconds.

    The answers are the same, bit for bit, however the signal is cut into chunks. Memory does not grow.
    ``position`` is how many samples at 16 kHz it has heard.

    Args:
        model: name or path of weights, what ``load`` returns, or a function from a signal at 16 kHz to an ``Emotion``
        hop_dur: seconds from the start of a window to the start of the next
        win_dur: seconds of a window
        channel: which channel to hear, from 0; all are mixed down if None
        min_speech: seconds of speech in a window for it to get an emotion; in one shorter than 3 s, less in proportion
        vad: what tells speech: ``silero`` (extra ``vad``), ``energy``, or ``auto``, which is Silero if it is installed
        min_confidence: below it a dimension is None

    Raises:
        AudioError: if a hop or a window is too short, or a hop longer than a window
        WeightsError: if there is a ``min_confidence``, and the model was loaded without a calibration

    Example:
        >>> stream = Stream("micro", hop_dur=0.5, win_dur=3.0)
        >>> [event.end for event in stream.push(np.zeros(60000, np.int16), 16000)]
        [3.0, 3.5]
        >>> [(event.end, event.speech) for event in stream.finish()]
        [(3.75, False)]
    """

    def __init__(
        self,
        model: str | Path | Predictor,
        hop_dur: float = HOP_DUR,
        win_dur: float = WIN_DUR,
        *,
        channel: int | None = None,
        min_speech: float = MIN_SPEECH_DUR,
        vad: str = "auto",
        min_confidence: float = 0.0,
    ) -> None:
        check_times(hop_dur, win_dur)
        predictor = load(model) if isinstance(model, (str, Path)) else model
        self._windows = Windows(hop_dur, win_dur)
        self._ear = ear(predictor, self._windows)
        self._intake = Intake(channel)
        self._meter = SpeechMeter(detector(vad))
        self._min_speech = min_speech
        self._teller = Teller(predictor, min_confidence)
        self.reset()

    def reset(self) -> None:
        """Forget everything that was heard, and begin anew, with chunks of any rate."""
        for part in (self._windows, self._ear, self._intake, self._meter):
            part.reset()
        self._pending = np.zeros(0, np.float32)
        self.position = 0
        self._finished = False

    def push(self, chunk: np.ndarray, sampling_rate: float = SAMPLING_RATE) -> list[Event]:
        """Hear what follows, and answer for every window that is complete now.

        Args:
            chunk: float in [-1, 1] or integers, shape=(samples,) or (samples, channels), which are mixed down; of any
                length, none too
            sampling_rate: of ``chunk``, Hz; the same for all chunks of a stream

        Raises:
            AudioError: if it is no signal or not finite, its rate is another, or the stream has finished; nothing of
                it is heard then, and the stream goes on as if it had not been pushed
        """
        return list(self._events(chunk, sampling_rate))

    def finish(self) -> list[Event]:
        """Answer for what is left: a last window, as short as that is.

        It is left out if it is shorter than a tenth of a window, unless it is the only one. After this the stream
        takes no more, until ``reset``.
        """
        self._check_open()
        self._pending = np.concatenate([self._pending, self._intake.finish()])
        events = list(self._advance())
        self._hear(len(self._pending))
        self._meter.finish()
        self._finished = True
        start, end = self._windows.last(self.position)
        return events + ([self._answer(start, end)] if end > start else [])

    def run(self, chunks: Iterable[np.ndarray], sampling_rate: float = SAMPLING_RATE) -> Iterator[Event]:
        """Push every chunk, finish, and give each event as soon as it is there."""
        for chunk in chunks:
            yield from self._events(chunk, sampling_rate)
        yield from self.finish()

    def _events(self, chunk: np.ndarray, sampling_rate: float) -> Iterator[Event]:
        self._check_open()
        heard = self._intake.push(np.asarray(chunk), sampling_rate)
        self._pending = np.concatenate([self._pending, heard])
        yield from self._advance()

    def _check_open(self) -> None:
        if self._finished:
            raise AudioError("the stream has finished and takes no more audio; call reset() to begin another")

    def _advance(self) -> Iterator[Event]:
        """Hear in blocks whose ends do not depend on the chunks: ends of windows, and whole seconds."""
        while True:
            start, end = self._windows.next()
            second = (self.position // SAMPLING_RATE + 1) * SAMPLING_RATE
            length = min(end, second) - self.position
            if length > len(self._pending):
                return
            self._hear(length)
            if self.position == end:
                self._windows.count += 1
                yield self._answer(start, end)

    def _hear(self, length: int) -> None:
        block, self._pending = self._pending[:length], self._pending[length:]
        self.position += length
        self._meter.push(block)
        self._ear.push(block)

    def _answer(self, start: int, end: int) -> Event:
        sound = self._meter.sound(start, end)
        speech = is_enough(sound.ratio, end - start, self._min_speech)
        answer = self._ear.answer(start, end) if speech else None
        return self._teller.event(start / SAMPLING_RATE, end / SAMPLING_RATE, answer, sound)


class Teller:
    """What a network answered, as an event: by its calibration, or as it is, and by its head, if it has one."""

    def __init__(self, predictor: Predictor, min_confidence: float) -> None:
        self._calibration = predictor.calibration if isinstance(predictor, Model) else None
        self._head = predictor.head if isinstance(predictor, Model) else None
        self._min_confidence = min_confidence
        if min_confidence > 0 and self._calibration is None:
            raise WeightsError(
                f"a confidence of {min_confidence:g} is asked for, but the model has no calibration to tell it by; "
                'load it with one: load("micro", calibration=True)'
            )

    def event(self, start: float, end: float, answer: Answer | None, sound: Sound) -> Event:
        """An event; ``answer`` is of the network, None where there is too little speech."""
        if answer is None:
            return Event(start, end, None, None, None, False, sound.ratio)
        output, embedding = answer
        told: dict[str, Any] = output._asdict()
        if self._calibration:
            told = self._told(self._calibration.read(output, (end - start) * sound.loud_ratio, sound.contrast))
        if self._head and embedding is not None:
            told |= dict(zip(CATEGORY, next(iter(self._head(embedding).items())), strict=True))
        return Event(start, end, speech=True, speech_ratio=sound.ratio, **told)

    def _told(self, reading: Reading) -> dict[str, Any]:
        told: dict[str, Any] = {
            name: value if sure >= self._min_confidence else None
            for name, value, sure in zip(OUTPUTS, reading.emotion, reading.confidence, strict=True)
        }
        unsure = told["arousal"] is None or told["valence"] is None
        told |= {"confidence": float(np.mean(reading.confidence)), "word": None if unsure else reading.word}
        ends = (end for pair in zip(reading.low, reading.high, strict=True) for end in pair)
        return told | dict(zip(INTERVALS, ends, strict=True))


def answered(predictor: Predictor, signal: np.ndarray) -> Answer:
    """What the predictor says of a whole signal at 16 kHz."""
    return predictor.answer(signal) if isinstance(predictor, Model) else (clipped(predictor(signal)), None)


def check_times(hop_dur: float, win_dur: float) -> None:
    """Refuse hops and windows that cannot be.

    Raises:
        AudioError: naming both
    """
    if not (hop_dur >= MIN_HOP_DUR and MIN_WIN_DUR <= win_dur < np.inf):
        raise AudioError(
            f"a window of {win_dur:g} s every {hop_dur:g} s; allowed: {MIN_WIN_DUR} s or more, "
            f"every {MIN_HOP_DUR} s or more"
        )
    if hop_dur > win_dur:
        raise AudioError(
            f"a window of {win_dur:g} s every {hop_dur:g} s would leave audio between them unheard; "
            f"give a window of {hop_dur:g} s or more"
        )


class Windows:
    """Where windows start and end, in samples at 16 kHz; ``count`` is the number of those answered."""

    def __init__(self, hop_dur: float, win_dur: float) -> None:
        self._hop_length, self.win_length = hop_dur * SAMPLING_RATE, round(win_dur * SAMPLING_RATE)
        self.reset()

    def reset(self) -> None:
        self.count = 0

    @property
    def most(self) -> int:
        """How many start before the end of one, at most, itself among them."""
        return int(self.win_length / self._hop_length) + 2

    def start(self, number: int) -> int:
        return round(number * self._hop_length)

    def next(self) -> tuple[int, int]:
        start = self.start(self.count)
        return start, start + self.win_length

    def last(self, total: int) -> tuple[int, int]:
        """The window that a signal of so many samples ends in; start and end are the same if there is none."""
        start = self.start(self.count)
        is_done = self.count > 0 and self.start(self.count - 1) + self.win_length >= total
        shortest = self.win_length * SHORTEST_LAST if self.count else FRONTEND.win_length
        return (total, total) if is_done or total - start < shortest else (start, total)


class Intake:
    """Chunks of one rate, any type and channels to mono at 16 kHz."""

    def __init__(self, channel: int | None) -> None:
        self._channel = channel
        self.reset()

    def reset(self) -> None:
        self._resampler: soxr.ResampleStream | None = None
        self._sampling_rate: float | None = None
        self._position = 0

    def push(self, chunk: np.ndarray, sampling_rate: float) -> np.ndarray:
        """float32, shape=(samples,); a resampler keeps back some until the next."""
        if self._sampling_rate not in (None, sampling_rate):
            raise AudioError(
                f"the sampling rate changed from {self._sampling_rate:g} to {sampling_rate:g} Hz within a stream; "
                "call reset() before a signal of another rate"
            )
        mono = to_mono(chunk, sampling_rate, self._channel, self._position)
        if self._sampling_rate is None and sampling_rate != SAMPLING_RATE:
            self._resampler = soxr.ResampleStream(sampling_rate, SAMPLING_RATE, 1, dtype="float32")
        self._sampling_rate = sampling_rate
        self._position += len(mono)
        return mono if self._resampler is None else np.asarray(self._resampler.resample_chunk(mono))

    def finish(self) -> np.ndarray:
        """What the resampler has kept back."""
        rest = np.zeros(0, np.float32)
        return rest if self._resampler is None else np.asarray(self._resampler.resample_chunk(rest, last=True))


def ear(predictor: Predictor, windows: Windows) -> Whole | Frames | NativeFrames:
    """What hears for a network: frame by frame if it looks back only, and in C if it was loaded so."""
    if isinstance(predictor, Model):
        if predictor.native:
            return NativeFrames(predictor.native(windows.most).stream(), windows)
        if network := predictor.causal():
            return Frames(network, windows)
    return Whole(predictor, windows)


class Whole:
    """The signal of the window, for a network that must hear all of it at once."""

    def __init__(self, predictor: Predictor, windows: Windows) -> None:
        self._predictor = predictor
        self._windows = windows
        self.reset()

    def reset(self) -> None:
        self._signal = np.zeros(0, np.float32)

    def push(self, block: np.ndarray) -> None:
        self._signal = np.concatenate([self._signal, block])[-self._windows.win_length :]

    def answer(self, start: int, end: int) -> Answer:
        """Of the window that ends with the last block."""
        return answered(self._predictor, self._signal[start - end :])


class Frames:
    """The partial sums of the pooling, for a network that runs frame by frame: one wherever a window starts or ends.

    A token is of a window if the newest of its frames, all 400 samples, is inside.
    """

    def __init__(self, network: Causal, windows: Windows) -> None:
        self._network = network
        self._windows = windows
        self.reset()

    def reset(self) -> None:
        self._network.reset()
        self._partials: deque[tuple[int, np.ndarray]] = deque()
        self._heard, self._tokens, self._started = 0, 0, 0

    def push(self, block: np.ndarray) -> None:
        self._heard += len(block)
        tokens = self._network.push(block)
        while len(tokens):
            while first_token(self._network, self._windows.start(self._started)) <= self._tokens:
                self._started += 1
            length = min(len(tokens), first_token(self._network, self._windows.start(self._started)) - self._tokens)
            self._partials.append((self._tokens, self._network.partial(tokens[:length])))
            self._tokens, tokens = self._tokens + length, tokens[length:]
        while self._partials and self._partials[0][0] < first_token(self._network, self._windows.next()[0]):
            self._partials.popleft()

    def answer(self, start: int, end: int) -> Answer:
        """Of the window that ends with the last block; one too short for a token is padded with zeros."""
        if not self._partials:
            self.push(np.zeros(self._network.token_end(first_token(self._network, start)) - self._heard, np.float32))
        embedding, emotion = self._network.answer([partial for _, partial in self._partials])
        return clipped(emotion), embedding


class NativeFrames:
    """The same in C, where the pooling is kept in parts: a new one begins with the first token of every window."""

    def __init__(self, network: NativeStream, windows: Windows) -> None:
        self._network = network
        self._windows = windows
        self.reset()

    def reset(self) -> None:
        self._network.reset()
        self._heard, self._tokens, self._started, self._parts = 0, 0, 0, 0
        self._mark()

    def push(self, block: np.ndarray) -> None:
        while len(block):
            first = first_token(self._network, self._windows.start(self._started))
            length = min(len(block), self._end(first - 1) - self._heard)
            self._tokens += self._network.push(block[:length])
            self._heard, block = self._heard + length, block[length:]
            self._mark()
        self._parts = self._started - self._windows.count

    def answer(self, start: int, end: int) -> Answer:
        """Of the window that ends with the last block; one too short for a token is padded with zeros."""
        if self._tokens <= first_token(self._network, start):
            self.push(np.zeros(self._end(first_token(self._network, start)) - self._heard, np.float32))
        embedding, emotion = self._network.read(self._parts)
        return clipped(emotion), embedding

    def _mark(self) -> None:
        """Begin a part for every window whose first token comes next."""
        while first_token(self._network, self._windows.start(self._started)) <= self._tokens:
            self._network.mark()
            self._started += 1

    def _end(self, token: int) -> int:
        """Samples that must have been heard for a token, counted from 0."""
        return token * self._network.token_length + self._network.win_length


def first_token(network: Causal | NativeStream, start: int) -> int:
    """The first token of a window that starts with this sample, counted from 0."""
    return -(-start // network.token_length)
