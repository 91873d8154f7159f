"""A live session: messages in and out of a WebSocket, bounded on both sides."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from wav2small.serve.errors import ServeError
from wav2small.serve.guard import SCHEMES, refuse
from wav2small.serve.live import Happening, LiveOptions, LiveSignal, Measurement, Push
from wav2small.serve.messages import ServiceError
from wav2small.serve.state import LOG, State

STEP_DUR = 0.25
"""Seconds of audio that are computed together, or less where a window ends. Steps of .1 s would take 40 % more time."""
FLUSH_DUR = 5.0
"""Seconds that a closed session has for its last messages."""
GONE = "disconnected"
"""The reason of a session whose client has gone."""


@dataclass(frozen=True)
class AudioFormat:
    """The binary messages of a session.

    Args:
        sampling_rate: Hz
        channels: interleaved
        is_mulaw: 8 bits of mu-law a sample instead of 16 bits, little-endian
    """

    sampling_rate: int = 16000
    channels: int = 1
    is_mulaw: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of a sample of all channels."""
        return self.channels * (1 if self.is_mulaw else 2)

    def duration(self, size: int) -> float:
        """Seconds of so many bytes."""
        return size / self.frame_bytes / self.sampling_rate

    def decode(self, data: bytes | bytearray) -> np.ndarray:
        """int16, shape=(samples, channels)."""
        signal = MULAW[np.frombuffer(data, np.uint8)] if self.is_mulaw else np.frombuffer(data, "<i2")
        return signal.reshape(-1, self.channels)


def mulaw_table() -> np.ndarray:
    """The samples of the 256 bytes of mu-law, int16. Source: ITU-T G.711."""
    byte = ~np.arange(256, dtype=np.uint8)
    sign, exponent, mantissa = byte & 0x80, (byte >> 4) & 7, byte & 15
    size = ((mantissa.astype(np.int32) * 8 + 132) << exponent) - 132
    return np.where(sign, -size, size).astype(np.int16)


MULAW = mulaw_table()


class Session(ABC):
    """A live session of one protocol.

    Args:
        socket: not accepted yet
        state: of the service
    """

    route = ""

    def __init__(self, socket: WebSocket, state: State) -> None:
        self.id: str = socket.scope["wav2small"]["request_id"]
        self.key: str = socket.scope["wav2small"]["key"]
        self.state = state
        self.format = AudioFormat()
        self.options = LiveOptions(vad=state.settings.vad)
        self.model = state.models.default
        self.calibrated = False
        self.lives: list[LiveSignal] = []
        self.received_bytes, self.frames, self.measurements = 0, 0, 0
        self._socket = socket
        self._reason: str | None = None
        self._buffer = bytearray()
        self._errors = 0
        self._waiting: asyncio.Task[None] | None = None
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue(state.limits.send_queue)
        self._clock = asyncio.get_running_loop().time
        self._began = self._last = self._clock()

    @abstractmethod
    async def begin(self) -> None:
        """Send what comes first."""

    @abstractmethod
    async def text(self, text: str) -> None:
        """Handle a text message."""

    @abstractmethod
    def close(self, reason: str) -> None:
        """Send what comes last."""

    @abstractmethod
    def messages(self, channel: int, happening: Happening, is_forced: bool) -> Sequence[BaseModel]:
        """What is sent for a happening; ``is_forced`` if the client asked to end the utterance."""

    @property
    def received_dur(self) -> float:
        """Seconds of audio received."""
        return self.format.duration(self.received_bytes)

    def send(self, message: BaseModel) -> None:
        """Queue a message.

        Raises:
            ServeError: if too many are waiting
        """
        if self._reason == GONE:
            return
        try:
            self._outbox.put_nowait(message.model_dump_json(exclude_none=isinstance(message, ServiceError)))
        except asyncio.QueueFull:
            raise ServeError(
                "client_too_slow", f"{self._outbox.maxsize} messages wait for the client; read them as they come."
            ) from None

    def stop(self, reason: str) -> None:
        """End the session after what it has received; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            if self._waiting:
                self._waiting.cancel()

    async def run(self) -> None:
        """Serve the session from its handshake to its end."""
        try:
            self.state.add(self)
        except ServeError as error:
            self.state.metrics.rejections.labels(error.code).inc()
            await refuse(error, self._socket.scope, self._socket.receive, self._socket.send)
            return
        self.state.metrics.sessions.labels(self.route).inc()
        try:
            offered = self._socket.scope.get("subprotocols", [])
            chosen = offered[0] if offered and offered[0] in SCHEMES else None  # and never the key beside it
            await self._socket.accept(chosen)
            await self._serve()
        except WebSocketDisconnect:
            pass
        finally:
            self.state.remove(self)
            self.state.metrics.sessions.labels(self.route).dec()
            self.state.metrics.audio.labels(self.model).inc(self.received_dur)

    async def _serve(self) -> None:
        writer, watcher = asyncio.create_task(self._write()), asyncio.create_task(self._watch())
        code = 1000
        try:
            code = await self._talk()
        except Exception:
            LOG.exception("%s failed", self.id)
            code = self._fail(ServeError("internal_error", "The service failed; open a new session."))
        finally:
            watcher.cancel()
            await self._flush(writer, code)

    async def _talk(self) -> int:
        """Handle messages until the last one; the code that the socket is closed with."""
        try:
            await self.begin()
            while self._reason is None and (message := await self._receive()) is not None:
                await self._handle(self._last, message)
            if self._reason != GONE:
                await self._compute(self._last, lambda live: live.finish())
                self.close(self._reason or "client_closed")
        except ServeError as error:
            return self._fail(error)
        return 1001 if self._reason == "server_shutdown" else 1000

    def _fail(self, error: ServeError) -> int:
        self.state.metrics.rejections.labels(error.code).inc()
        try:
            self.send(ServiceError.model_validate(error.content()))
            self.close(error.code)
        except ServeError:
            LOG.info("%s is too slow for its last messages", self.id)
        return error.kind.close or 1008

    async def _handle(self, received_at: float, message: Message) -> None:
        try:
            data, text = message.get("bytes"), message.get("text")
            size = len(data if data is not None else (text or "").encode())
            if size > self.state.limits.message_bytes:
                raise ServeError(
                    "message_too_large",
                    f"The message has {size} bytes, at most {self.state.limits.message_bytes} are allowed.",
                )
            if data is not None:
                await self.audio(received_at, data)
            else:
                await self.text(text or "")
        except ServeError as error:
            if error.kind.close is not None:
                raise
            self._errors += 1
            if self._errors > self.state.limits.errors:
                raise ServeError(
                    "too_many_errors", f"{self._errors} messages were wrong; correct the client."
                ) from None
            self.state.metrics.rejections.labels(error.code).inc()
            self.send(ServiceError.model_validate(error.content()))

    async def audio(self, received_at: float, data: bytes) -> None:
        """Take a binary message, and compute where enough has come together.

        Raises:
            ServeError: if it is not whole samples, too long, or too early
        """
        limits, duration = self.state.limits, self.format.duration(len(data))
        if not data or len(data) % self.format.frame_bytes:
            raise ServeError(
                "invalid_audio_frame",
                f"The frame has {len(data)} bytes, not a multiple of {self.format.frame_bytes}; it is left out.",
            )
        if duration > limits.frame_dur:
            raise ServeError(
                "invalid_audio_frame",
                f"The frame has {duration:.1f} s, at most {limits.frame_dur:g} s are allowed; it is left out.",
            )
        if self.received_dur + duration - (received_at - self._began) > limits.ahead_dur:
            raise ServeError(
                "rate_limited",
                f"The audio is more than {limits.ahead_dur:g} s ahead of real time; send the frame later.",
            )
        before = self._windows_of(self.received_dur)
        self.received_bytes += len(data)
        self.frames += 1
        self._buffer += data
        is_due = self.format.duration(len(self._buffer)) >= STEP_DUR
        if is_due or self._windows_of(self.received_dur) > before:
            await self.step(received_at)

    def _windows_of(self, duration: float) -> int:
        """Windows that end within so many seconds."""
        return int((duration - self.options.win_dur) // self.options.hop_dur)

    async def step(self, received_at: float) -> None:
        """Compute what has come together."""
        if not self._buffer:
            return
        signal = self.format.decode(bytes(self._buffer))
        self._buffer.clear()
        if not self.lives:
            await self.open()
        signals = signal.T if len(self.lives) > 1 else [signal]
        rate = self.format.sampling_rate
        pushes = [Push(live, chunk, rate) for live, chunk in zip(self.lives, signals, strict=True)]
        self._report(received_at, await self.state.push(pushes))

    async def open(self) -> None:
        """Make what computes the session: for one channel, or the mean of all."""
        self.lives = [await self.state.compute(self.new_live)]

    def new_live(self) -> LiveSignal:
        """A live signal with the settings of the session."""
        return LiveSignal(self.state.models.get(self.model, self.calibrated), self.options)

    async def cut(self) -> None:
        """End the utterance that is going on."""
        await self.step(self._clock())
        await self._compute(self._clock(), lambda live: live.cut(), is_forced=True)

    async def _compute(
        self, received_at: float, call: Callable[[LiveSignal], list[Happening]], is_forced: bool = False
    ) -> None:
        if self._buffer:
            await self.step(received_at)
        if not self.lives:
            return
        lives = self.lives
        self._report(received_at, await self.state.step(lambda: [call(live) for live in lives]), is_forced)

    def _report(self, received_at: float, found: list[list[Happening]], is_forced: bool = False) -> None:
        """Send what became of each channel."""
        for channel, happenings in enumerate(found):
            for happening in happenings:
                self.measurements += isinstance(happening, Measurement)
                for message in self.messages(channel, happening, is_forced):
                    self.send(message)
        if any(found):
            self.state.metrics.lateness.observe(max(0.0, self._clock() - received_at))

    async def _receive(self) -> Message | None:
        """The next message, None if there will be none: the client has gone, or ``stop`` was called meanwhile.

        While a message is handled, TCP holds the client back.
        """
        self._waiting = asyncio.current_task()
        try:
            message = await self._socket.receive()
        except asyncio.CancelledError:
            if self._reason is None:
                raise
            return None
        finally:
            self._waiting = None
        self._last = self._clock()
        if message["type"] == "websocket.disconnect":
            self._reason = GONE
            return None
        return message

    async def _write(self) -> None:
        try:
            while (text := await self._outbox.get()) is not None:
                await self._socket.send({"type": "websocket.send", "text": text})
        except WebSocketDisconnect:
            self._reason = GONE

    async def _watch(self) -> None:
        while (rest := self._last + self.state.limits.idle_dur - self._clock()) > 0:
            await asyncio.sleep(rest)
        self.stop("idle_timeout")

    async def _flush(self, writer: asyncio.Task[None], code: int) -> None:
        """Send what is queued and close, if the client reads it in time."""
        try:
            if self._reason != GONE:
                await asyncio.wait_for(self._outbox.put(None), FLUSH_DUR)
                await asyncio.wait_for(writer, FLUSH_DUR)
                await asyncio.wait_for(self._socket.close(code), FLUSH_DUR)
        except (asyncio.TimeoutError, RuntimeError, WebSocketDisconnect):
            LOG.info("%s was closed before its last messages were read", self.id)
        finally:
            writer.cancel()
