"""Engines: how a stream of blocks becomes the network's output for each window.

A network with the normalisation ``utterance`` needs a whole window at once, and computes each from the start. A causal
network (``micro``) runs frame by frame, in NumPy or in C: every sample is computed once, and the output for a window
is the softmax mean over its tokens, which depend on everything before them. So the first window of a stream gets the
answer that it would get alone, and later ones get it from a level and convolutions that already know the voice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from wav2small.network.config import Emotion
from wav2small.runtime.causal import Causal
from wav2small.runtime.model import Model, clipped
from wav2small.runtime.windows import Windows

if TYPE_CHECKING:
    from wav2small.runtime.native import NativeStream

Predictor = Callable[[np.ndarray], Emotion]
"""A ``Model``, or any function from a signal at 16 kHz to its emotion."""


class Output(NamedTuple):
    """What a network computes: an emotion from 0 to 1, and its embedding, None for a function that is not a Model."""

    emotion: Emotion
    embedding: np.ndarray | None


def output_of(predictor: Predictor, signal: np.ndarray) -> Output:
    """The output for a whole signal at 16 kHz, shape=(samples,)."""
    if isinstance(predictor, Model):
        return Output(*predictor.answer(signal))
    return Output(clipped(predictor(signal)), None)


class Engine(Protocol):
    """Receives a stream in blocks that end wherever a window ends."""

    def push(self, block: np.ndarray) -> None:
        """Process the next samples at 16 kHz, shape=(samples,)."""

    def output(self, start: int, end: int) -> Output:
        """The output for the window that ends with the last block; start and end are in samples."""

    def reset(self) -> None:
        """Begin a new stream."""


def engine_for(predictor: Predictor, windows: Windows) -> Engine:
    """Frame by frame for a causal network, in C if the model was loaded so; else window by window."""
    if isinstance(predictor, Model):
        if predictor.native:
            return NativeFrameEngine(predictor.native(windows.most).stream(), windows)
        if network := predictor.causal():
            return FrameEngine(network, windows)
    return WindowEngine(predictor, windows)


class WindowEngine:
    """Keeps the signal of the window, for a network that needs all of it at once."""

    def __init__(self, predictor: Predictor, windows: Windows) -> None:
        self._predictor = predictor
        self._windows = windows
        self.reset()

    def reset(self) -> None:
        """Discard the signal."""
        self._signal = np.zeros(0, np.float32)

    def push(self, block: np.ndarray) -> None:
        """Append samples at 16 kHz, shape=(samples,), and keep the last ``win_length`` of all."""
        self._signal = np.concatenate([self._signal, block])[-self._windows.win_length :]

    def output(self, start: int, end: int) -> Output:
        """The output for the last ``end - start`` samples, none of it reused from earlier windows."""
        return output_of(self._predictor, self._signal[start - end :])


class FrameEngine:
    """Keeps partial sums of the pooling, for a network that runs frame by frame: one for each start or end of a window.

    A token belongs to a window if the newest of its frames, all 400 samples, is inside.
    """

    def __init__(self, network: Causal, windows: Windows) -> None:
        self._network = network
        self._windows = windows
        self.reset()

    def reset(self) -> None:
        """Begin a new stream: reset the network, and discard partial sums and positions."""
        self._network.reset()
        self._partials: deque[tuple[int, np.ndarray]] = deque()
        self._position, self._tokens, self._started = 0, 0, 0

    def push(self, block: np.ndarray) -> None:
        """Process the next samples at 16 kHz, shape=(samples,), and add the partial sums of their tokens.

        Partial sums from before the window that is answered next are discarded.
        """
        self._position += len(block)
        tokens = self._network.push(block)
        while len(tokens):
            while first_token(self._network, self._windows.start(self._started)) <= self._tokens:
                self._started += 1
            length = min(len(tokens), first_token(self._network, self._windows.start(self._started)) - self._tokens)
            self._partials.append((self._tokens, self._network.partial(tokens[:length])))
            self._tokens, tokens = self._tokens + length, tokens[length:]
        while self._partials and self._partials[0][0] < first_token(self._network, self._windows.next()[0]):
            self._partials.popleft()

    def output(self, start: int, end: int) -> Output:
        """A window too short for a token is padded with zeros."""
        if not self._partials:
            self.push(np.zeros(self._network.token_end(first_token(self._network, start)) - self._position, np.float32))
        embedding, emotion = self._network.answer([partial for _, partial in self._partials])
        return Output(clipped(emotion), embedding)


class NativeFrameEngine:
    """The same in C, where the pooling is kept in parts: a new one begins with the first token of every window."""

    def __init__(self, network: NativeStream, windows: Windows) -> None:
        self._network = network
        self._windows = windows
        self.reset()

    def reset(self) -> None:
        """Begin a new stream: reset the network and all counts."""
        self._network.reset()
        self._position, self._tokens, self._started, self._parts = 0, 0, 0, 0
        self._mark()

    def push(self, block: np.ndarray) -> None:
        """Process the next samples at 16 kHz, shape=(samples,), cut where the first token of a window begins."""
        while len(block):
            first = first_token(self._network, self._windows.start(self._started))
            length = min(len(block), self._token_end(first - 1) - self._position)
            self._tokens += self._network.push(block[:length])
            self._position, block = self._position + length, block[length:]
            self._mark()
        self._parts = self._started - self._windows.count

    def output(self, start: int, end: int) -> Output:
        """A window too short for a token is padded with zeros."""
        if self._tokens <= first_token(self._network, start):
            self.push(np.zeros(self._token_end(first_token(self._network, start)) - self._position, np.float32))
        embedding, emotion = self._network.read(self._parts)
        return Output(clipped(emotion), embedding)

    def _mark(self) -> None:
        """Begin a part for every window whose first token comes next."""
        while first_token(self._network, self._windows.start(self._started)) <= self._tokens:
            self._network.mark()
            self._started += 1

    def _token_end(self, token: int) -> int:
        """Samples that a token needs, counted from 0."""
        return token * self._network.token_length + self._network.win_length


def first_token(network: Causal | NativeStream, start: int) -> int:
    """The first token of a window that starts with this sample, counted from 0."""
    return -(-start // network.token_length)
