"""The WebSocket /v1/emotion/realtime: Hume's session protocol."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, TypeAdapter, ValidationError

from wav2small.errors import Wav2SmallError
from wav2small.serve.answers import sentence
from wav2small.serve.errors import ServeError
from wav2small.serve.files import of_validation
from wav2small.serve.live import Boundary, Happening, LiveOptions
from wav2small.serve.messages import (
    Audio,
    FromClient,
    MeasurementResult,
    Produced,
    Received,
    SessionClose,
    SessionClosed,
    SessionCreated,
    SessionSettings,
    SessionUpdate,
    SessionUpdated,
    UtteranceEnd,
    UtteranceStart,
    deviation_of,
    dimensions_of,
    intervals_of,
    milliseconds,
)
from wav2small.serve.session import AudioFormat, Session

ROUTE = "/v1/emotion/realtime"
MESSAGE: TypeAdapter[SessionUpdate | SessionClose] = TypeAdapter(FromClient)
router = APIRouter()


@router.websocket(ROUTE)
async def realtime(socket: WebSocket) -> None:
    """A live session in Hume's protocol."""
    await Realtime(socket, socket.app.state.service).run()


class Realtime(Session):
    """A session in Hume's protocol."""

    route = ROUTE
    _settings = SessionSettings()
    _intervals = False

    async def begin(self) -> None:
        """Send session.created."""
        self._settings = SessionSettings(model=self.model)
        self.send(SessionCreated(session_id=self.id, audio=Audio(), session=self._settings))

    async def text(self, text: str) -> None:
        """Handle session.update and session.close."""
        try:
            message = MESSAGE.validate_json(text)
        except ValidationError as error:
            code = "config_invalid" if '"session.update"' in text else "message_invalid"
            raise ServeError(code, f"The message is not valid: {of_validation(error)}.") from None
        if isinstance(message, SessionClose):
            self.stop("client_closed")
        else:
            await self._update(message.session)

    async def _update(self, settings: SessionSettings) -> None:
        if self.received_bytes:
            raise ServeError("message_invalid", "Settings are changed before the first audio only; open a new session.")
        try:
            self.model = self.state.models.id_of(settings.model)
            self.calibrated = settings.calibrated or settings.intervals
            self._intervals = settings.intervals
            self.format = AudioFormat(settings.sample_rate)
            self.options = LiveOptions(
                settings.hop,
                settings.window,
                settings.min_speech,
                self.options.vad,
                settings.silence,
                settings.baseline,
            )
            await self.open()
        except Wav2SmallError as error:
            raise ServeError("config_invalid", sentence(error)) from None
        self._settings = settings.model_copy(update={"model": self.model})
        audio = Audio(sample_rate=settings.sample_rate)
        self.send(SessionUpdated(session_id=self.id, audio=audio, session=self._settings))

    def messages(self, channel: int, happening: Happening, is_forced: bool) -> Sequence[BaseModel]:
        """utterance.start, utterance.end or measurement.result."""
        if isinstance(happening, Boundary):
            name, start = f"u{happening.utterance}", milliseconds(happening.start)
            if happening.end is None:
                return [UtteranceStart(utterance_id=name, audio_start_ms=start)]
            return [UtteranceEnd(utterance_id=name, audio_start_ms=start, audio_end_ms=milliseconds(happening.end))]
        event = happening.event
        return [
            MeasurementResult(
                measurement_id=uuid.uuid4().hex,
                utterance_id=None if happening.utterance is None else f"u{happening.utterance}",
                audio_start_ms=milliseconds(event.start),
                audio_end_ms=milliseconds(event.end),
                trigger=happening.trigger,
                dimensions=dimensions_of(event),
                speech_ratio=round(event.speech_ratio or 0.0, 4),
                confidence=None if event.confidence is None else round(event.confidence, 4),
                intervals=intervals_of(event) if self._intervals else None,
                deviation=deviation_of(event),
                change=event.change,
            )
        ]

    def close(self, reason: str) -> None:
        """Send session.closed."""
        utterances = sum(live.count for live in self.lives)
        self.send(
            SessionClosed(
                session_id=self.id,
                reason=reason,
                received=Received(audio_duration_ms=milliseconds(self.received_dur), frames=self.frames),
                produced=Produced(utterances=utterances, measurements=self.measurements),
            )
        )
