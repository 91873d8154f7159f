"""The WebSocket /v1/listen: Deepgram's messages, with an emotion instead of a transcript."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, Field, ValidationError

from wav2small.serve.errors import ServeError
from wav2small.serve.files import of_validation
from wav2small.serve.guard import refuse
from wav2small.serve.live import Boundary, Happening
from wav2small.serve.messages import (
    ListenControl,
    ListenEmotion,
    ListenMetadata,
    ListenUtteranceEnd,
    Results,
    SpeechStarted,
    dimensions_of,
)
from wav2small.serve.session import AudioFormat, Session
from wav2small.serve.state import State

ROUTE = "/v1/listen"
router = APIRouter()


class ListenQuery(BaseModel):
    """Parameters in the URL; others of Deepgram's, such as language, are ignored."""

    encoding: Literal["linear16", "mulaw"] = "linear16"
    sample_rate: int = Field(default=16000, ge=8000, le=48000)
    channels: int = Field(default=1, ge=1, le=2)
    multichannel: bool = False
    model: str | None = Field(default=None, max_length=100)


@router.websocket(ROUTE)
async def listen(socket: WebSocket) -> None:
    """A live session in Deepgram's protocol."""
    state: State = socket.app.state.service
    try:
        try:
            query = ListenQuery.model_validate(dict(socket.query_params))
        except ValidationError as error:
            raise ServeError("config_invalid", f"The parameters are not valid: {of_validation(error)}.") from None
        session = Listen(socket, state, query)
    except ServeError as error:
        state.metrics.rejections.labels(error.code).inc()
        await refuse(error, socket.scope, socket.receive, socket.send)
        return
    await session.run()


class Listen(Session):
    """A session in Deepgram's protocol.

    Args:
        socket: not accepted yet
        state: of the service
        query: parameters
    """

    route = ROUTE

    def __init__(self, socket: WebSocket, state: State, query: ListenQuery) -> None:
        super().__init__(socket, state)
        self.model = state.models.id_of(query.model)
        self.format = AudioFormat(query.sample_rate, query.channels, query.encoding == "mulaw")
        self._signals = query.channels if query.multichannel else 1

    async def begin(self) -> None:
        """Send nothing: the client speaks first."""

    async def open(self) -> None:
        """Make what computes the session: for each channel with multichannel, else for their mean."""
        self.lives = [await self.state.compute(self.new_live) for _ in range(self._signals)]

    async def audio(self, received_at: float, data: bytes) -> None:
        """Take a binary message; an empty one ends the session, as CloseStream does."""
        if data:
            await super().audio(received_at, data)
        else:
            self.stop("client_closed")

    async def text(self, text: str) -> None:
        """Handle KeepAlive, Finalize and CloseStream."""
        try:
            control = ListenControl.model_validate_json(text).type
        except ValidationError as error:
            raise ServeError("message_invalid", f"The message is not valid: {of_validation(error)}.") from None
        if control == "CloseStream":
            self.stop("client_closed")
        elif control == "Finalize":
            await self.cut()

    def messages(self, channel: int, happening: Happening, is_forced: bool) -> Sequence[BaseModel]:
        """SpeechStarted, UtteranceEnd or Results."""
        index = (channel, self._signals)
        if isinstance(happening, Boundary):
            if happening.end is None:
                return [SpeechStarted(channel=index, timestamp=round(happening.start, 3))]
            return [ListenUtteranceEnd(channel=index, last_word_end=round(happening.end, 3))]
        event = happening.event
        start, end, ratio = event.start or 0.0, event.end or 0.0, event.speech_ratio or 0.0
        return [
            Results(
                channel_index=index,
                start=round(start, 3),
                duration=round(end - start, 3),
                speech_final=happening.trigger == "speech_ended",
                from_finalize=is_forced,
                emotion=ListenEmotion(**dimensions_of(event).model_dump(), speech_ratio=round(ratio, 4)),
                metadata={"request_id": self.id, "model": self.model},
            )
        ]

    def close(self, reason: str) -> None:
        """Send Metadata."""
        about = self.state.models.about(self.model)
        self.send(
            ListenMetadata(
                request_id=self.id,
                sha256=str(about["sha256"]),
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                duration=round(self.received_dur, 3),
                channels=self.format.channels,
                models=[self.model],
                model_info={self.model: {"name": about["name"], "version": about["version"]}},
                reason=reason,
            )
        )
