"""An audio input that passes every frame on, and reads the tone of each turn in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from livekit import rtc
from livekit.agents import AgentSession, CloseEvent, UserStateChangedEvent, llm
from livekit.agents.voice.io import AudioInput
from livekit.plugins.wav2small.log import logger

from wav2small import Baseline
from wav2small.agents import Reading, Turn
from wav2small.errors import Wav2SmallError
from wav2small.runtime.model import Model

METADATA = "wav2small"
"""Key of the reading in ``extra`` of a ``ChatMessage``."""
PATIENCE_DUR = 1.0
"""Seconds that ``reading`` waits, which takes milliseconds unless the thread is late."""
Result = TypeVar("Result")


class EmotionInput(AudioInput):
    """Wraps the audio input of a session; the session's user state marks the turns.

    Audio passes through at once. While the user speaks, a thread runs the network. When the user state leaves
    ``speaking`` the turn is answered, which takes milliseconds; :meth:`reading` returns that answer. Where audio is
    disabled (muted), the session ends the turn, and audio from before belongs to no later one.

    Args:
        source: the input to wrap
        session: whose user state marks the turns
        model: name or path of weights, or what ``wav2small.load`` returns: load it once, in ``prewarm``
        baseline: of this speaker, from earlier sessions; None begins a new one
        calibrated: whether a model given by name is calibrated; without, there are no intervals and no notes
        max_waiting_dur: seconds of audio that may wait for the thread; what comes then is dropped and counted

    Example::

        emotion = EmotionInput(session.input.audio, session)
        session.input.audio = emotion

        class Assistant(Agent):
            async def on_user_turn_completed(self, turn_ctx, new_message):
                await emotion.add_to(turn_ctx, new_message)
    """

    def __init__(
        self,
        source: AudioInput,
        session: AgentSession,
        *,
        model: str | Path | Model = "micro",
        baseline: Baseline | None = None,
        calibrated: bool = True,
        max_waiting_dur: float = 2.0,
    ) -> None:
        super().__init__(label="wav2small", source=source)
        self.turn = Turn(model, baseline, calibrated)
        self.dropped = 0
        """Audio frames that were dropped since the start."""
        self._max_waiting_dur = max_waiting_dur
        self._waiting_dur, self._lock = 0.0, threading.Lock()
        self._thread = ThreadPoolExecutor(1, "wav2small")
        self._is_speaking, self._is_muted = False, False
        self._reading: Future[Reading] | None = None
        self._session = session
        self._is_closed = False
        session.on("user_state_changed", self._on_user_state)
        session.on("close", self._on_close)

    async def __anext__(self) -> rtc.AudioFrame:
        """The next frame of the source, which the thread gets too."""
        frame = await super().__anext__()
        if self._is_closed:
            return frame
        dur = frame.samples_per_channel / frame.sample_rate
        with self._lock:
            is_late = self._waiting_dur + dur > self._max_waiting_dur
            self._waiting_dur += 0.0 if is_late else dur
        if is_late:
            self.dropped += 1
        else:
            self._submit(self._push, bytes(frame.data), frame.sample_rate, frame.num_channels, dur)
        return frame

    async def reading(self) -> Reading | None:
        """The answer for the last turn that ended; None if there is none, or not within a second."""
        if self._reading is None:
            return None
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._reading)), PATIENCE_DUR)
        return None

    async def add_to(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> Reading | None:
        """Put the reading into ``new_message.extra`` and its note, if there is one, before the message.

        Args:
            turn_ctx: of ``on_user_turn_completed``
            new_message: the message of the user

        Returns:
            the reading, as of :meth:`reading`
        """
        reading = await self.reading()
        if reading is not None:
            new_message.extra[METADATA] = reading.as_dict()
            if reading.note:
                turn_ctx.add_message(role="developer", content=reading.note)
        return reading

    def on_attached(self) -> None:
        """Audio flows again."""
        super().on_attached()
        self._is_muted = False

    def on_detached(self) -> None:
        """No audio flows: forget what came before."""
        super().on_detached()
        self._is_muted, self._is_speaking = True, False
        if not self._is_closed:
            self._submit(self.turn.reset)

    def close(self) -> None:
        """Only pass audio on from now, and end the thread when it has done what waits; a closing session calls it."""
        if self._is_closed:
            return
        self._is_closed = True
        self._session.off("user_state_changed", self._on_user_state)
        self._session.off("close", self._on_close)
        self._thread.shutdown(wait=False)

    def _on_close(self, event: CloseEvent) -> None:
        self.close()

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        if event.new_state == "speaking" and not self._is_speaking and not self._is_muted:
            self._is_speaking = True
            self._submit(self.turn.start)
        elif event.new_state != "speaking" and self._is_speaking:
            self._is_speaking = False
            self._reading = self._submit(self.turn.stop)

    def _submit(self, call: Callable[..., Result], *arguments: object) -> Future[Result]:
        return self._thread.submit(call, *arguments)

    def _push(self, pcm: bytes, sampling_rate: int, channels: int, dur: float) -> None:
        with self._lock:
            self._waiting_dur -= dur
        try:
            self.turn.push(pcm, sampling_rate, channels)
        except Wav2SmallError as error:
            logger.warning("audio is not read: %s", error)
