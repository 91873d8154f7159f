"""A Wyoming server in front of a speech-to-text server: transcripts get the reading of their audio as context."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.server import AsyncEventHandler

from wav2small import Baseline
from wav2small.agents import Reading, Turn
from wav2small.errors import Wav2SmallError
from wav2small.runtime.model import Model

CONTEXT = "wav2small"
"""Key of the reading in the ``context`` of a transcript."""
WIDTH = 2
"""Bytes of a sample that is read."""
logger = logging.getLogger(__name__)


class EmotionHandler(AsyncEventHandler):
    """One connection: every event goes to the speech-to-text server and back, and audio is read on its way.

    Args:
        reader: of the connection
        writer: of the connection
        asr_uri: of the speech-to-text server, such as ``tcp://127.0.0.1:10300``
        model: what ``wav2small.load`` returns, shared by all connections
        baseline: of the speaker, shared by all connections; None for a new one, which ends with the connection
        on_reading: called with the reading of each command
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        asr_uri: str,
        model: Model,
        baseline: Baseline | None = None,
        on_reading: Callable[[Reading], None] = lambda reading: None,
    ) -> None:
        super().__init__(reader, writer)
        self._asr_uri = asr_uri
        self._asr: AsyncClient | None = None
        self._answers: asyncio.Task[None] | None = None
        self._turn = Turn(model, baseline)
        self._reading: Reading | None = None
        self._on_reading = on_reading

    async def handle_event(self, event: Event) -> bool:
        """Read what is audio, and pass every event on; False, after an error event, without a server to pass it to."""
        try:
            if self._asr is None:
                await self._connect()
            await self._read(event)
            assert self._asr is not None
            await self._asr.write_event(event)
        except OSError as error:
            await self.write_event(Error(f"{self._asr_uri}: {error}", "asr-unavailable").event())
            return False
        return True

    async def disconnect(self) -> None:
        """Close the connection to the speech-to-text server."""
        if self._answers is not None:
            self._answers.cancel()
        if self._asr is not None:
            with contextlib.suppress(OSError):
                await self._asr.disconnect()

    async def _connect(self) -> None:
        client = AsyncClient.from_uri(self._asr_uri)
        await client.connect()
        self._asr = client
        self._answers = asyncio.create_task(self._answer(client))

    async def _read(self, event: Event) -> None:
        if AudioStart.is_type(event.type):
            self._turn.reset()
        elif AudioChunk.is_type(event.type):
            await self._push(AudioChunk.from_event(event))
        elif AudioStop.is_type(event.type):
            self._reading = self._turn.stop()  # before the server gets the event, so before the transcript
            self._on_reading(self._reading)

    async def _push(self, chunk: AudioChunk) -> None:
        try:
            if chunk.width != WIDTH:
                raise Wav2SmallError(f"samples have {chunk.width} bytes; only samples of {WIDTH} bytes are read")
            await asyncio.to_thread(self._turn.push, chunk.audio, chunk.rate, chunk.channels)
        except Wav2SmallError as error:
            logger.warning("audio is not read: %s", error)

    async def _answer(self, client: AsyncClient) -> None:
        """Pass on what the server answers; a transcript gets the reading."""
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type) and self._reading is not None:
                context = (event.data.get("context") or {}) | {CONTEXT: self._reading.as_dict()}
                event = Event(event.type, event.data | {"context": context}, event.payload)
            await self.write_event(event)
        await self.stop()
