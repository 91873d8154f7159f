"""Messages of the service, by which they are checked and described."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wav2small.network.config import OUTPUTS
from wav2small.options import HOP_DUR, Options
from wav2small.runtime.event import Event
from wav2small.serve.utterances import SILENCE_DUR

DECIMALS = 4


class Message(BaseModel):
    """A message; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid")


class Dimensions(Message):
    """Arousal, dominance and valence, each from 0 to 1; None where a confidence is too low."""

    arousal: float | None
    dominance: float | None
    valence: float | None


class ServiceError(Message):
    """An error; over HTTP with the id of the request."""

    type: Literal["error"] = "error"
    code: str
    message: str
    retryable: bool
    request_id: str | None = None


class HumeUtterance(Message):
    """Where an utterance lies."""

    utterance_id: str
    audio_start_ms: int
    audio_end_ms: int


class HumeMeasurement(Message):
    """An answer for a part of an utterance."""

    measurement_id: str
    utterance_id: str
    audio_start_ms: int
    audio_end_ms: int
    trigger: Literal["interval", "speech_ended"]
    dimensions: Dimensions


class HumeResult(Message):
    """The answer for a file."""

    request_id: str
    utterances: list[HumeUtterance]
    measurements: list[HumeMeasurement]


class Audio(Message):
    """The audio that a session takes."""

    encoding: Literal["s16le"] = "s16le"
    sample_rate: int = Field(default=16000, ge=8000, le=48000)
    channels: Literal[1] = 1


class SessionSettings(Message):
    """Settings of a session; durations are in seconds."""

    model: str | None = Field(default=None, max_length=100)
    sample_rate: int = Field(default=16000, ge=8000, le=48000)
    hop: float = Field(default=HOP_DUR, ge=0.05, le=60)
    window: float = Field(default=Options.win_dur, ge=0.1, le=60)
    min_speech: float = Field(default=Options.min_speech, ge=0, le=60)
    silence: float = Field(default=SILENCE_DUR, ge=0.1, le=5)
    calibrated: bool = False
    intervals: bool = False
    baseline: bool = False


class SessionUpdate(Message):
    """Client: settings, before the first audio."""

    type: Literal["session.update"]
    session: SessionSettings


class SessionClose(Message):
    """Client: no more audio."""

    type: Literal["session.close"]


FromClient = Annotated[SessionUpdate | SessionClose, Field(discriminator="type")]
"""Text messages of a client of /v1/emotion/realtime; binary ones are audio."""


class SessionCreated(Message):
    """Server: the session is there, with these settings."""

    type: Literal["session.created"] = "session.created"
    session_id: str
    audio: Audio
    session: SessionSettings


class SessionUpdated(Message):
    """Server: the settings are changed."""

    type: Literal["session.updated"] = "session.updated"
    session_id: str
    audio: Audio
    session: SessionSettings


class UtteranceStart(Message):
    """Server: speech has begun."""

    type: Literal["utterance.start"] = "utterance.start"
    utterance_id: str
    audio_start_ms: int


class UtteranceEnd(Message):
    """Server: a pause has ended an utterance."""

    type: Literal["utterance.end"] = "utterance.end"
    utterance_id: str
    audio_start_ms: int
    audio_end_ms: int


class MeasurementResult(Message):
    """Server: an answer, for a window (``interval``) or an utterance or its last 15 s (``speech_ended``)."""

    type: Literal["measurement.result"] = "measurement.result"
    measurement_id: str
    utterance_id: str | None
    audio_start_ms: int
    audio_end_ms: int
    trigger: Literal["interval", "speech_ended"]
    dimensions: Dimensions
    speech_ratio: float
    confidence: float | None = None
    intervals: dict[str, tuple[float, float]] | None = None
    deviation: Dimensions | None = None
    change: str | None = None


class Received(Message):
    """What a session received."""

    audio_duration_ms: int
    frames: int


class Produced(Message):
    """What a session produced."""

    utterances: int
    measurements: int


class SessionClosed(Message):
    """Server: the last message of a session."""

    type: Literal["session.closed"] = "session.closed"
    session_id: str
    reason: str
    received: Received
    produced: Produced


FROM_SERVER = (
    SessionCreated,
    SessionUpdated,
    UtteranceStart,
    MeasurementResult,
    UtteranceEnd,
    SessionClosed,
    ServiceError,
)
"""Messages of the server of /v1/emotion/realtime."""


class ListenControl(Message):
    """Client of /v1/listen: KeepAlive, Finalize (end the utterance now) or CloseStream."""

    type: Literal["KeepAlive", "Finalize", "CloseStream"]


class SpeechStarted(Message):
    """Server of /v1/listen: speech has begun in a channel."""

    type: Literal["SpeechStarted"] = "SpeechStarted"
    channel: tuple[int, int]
    timestamp: float


class ListenAlternative(Message):
    """A transcript, which is always empty."""

    transcript: str = ""
    confidence: float = 0.0
    words: list[Any] = []


class ListenChannel(Message):
    """The transcripts of a channel."""

    alternatives: list[ListenAlternative] = [ListenAlternative()]


class ListenEmotion(Dimensions):
    """The answer of a result."""

    speech_ratio: float


class Results(Message):
    """Server of /v1/listen: an answer; ``speech_final`` is that for an utterance or its last 15 s."""

    type: Literal["Results"] = "Results"
    channel_index: tuple[int, int]
    start: float
    duration: float
    is_final: bool = True
    speech_final: bool
    from_finalize: bool = False
    channel: ListenChannel = ListenChannel()
    emotion: ListenEmotion
    metadata: dict[str, Any]


class ListenUtteranceEnd(Message):
    """Server of /v1/listen: a pause has ended an utterance."""

    type: Literal["UtteranceEnd"] = "UtteranceEnd"
    channel: tuple[int, int]
    last_word_end: float


class ListenMetadata(Message):
    """Server of /v1/listen: the last message, a summary."""

    type: Literal["Metadata"] = "Metadata"
    transaction_key: str = "deprecated"
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int
    models: list[str]
    model_info: dict[str, Any]
    reason: str


LISTEN_FROM_SERVER = (SpeechStarted, Results, ListenUtteranceEnd, ListenMetadata, ServiceError)
"""Messages of the server of /v1/listen."""


def milliseconds(seconds: float | None) -> int:
    """A time as messages have it."""
    return round(1000 * (seconds or 0.0))


def dimensions_of(event: Event) -> Dimensions:
    """The three dimensions, rounded."""
    found = {name: getattr(event, name) for name in OUTPUTS}
    return Dimensions(**{name: None if value is None else round(value, DECIMALS) for name, value in found.items()})


def deviation_of(event: Event) -> Dimensions | None:
    """Deviations from the speaker's baseline, rounded; None until there is one."""
    if event.arousal_deviation is None:
        return None
    return Dimensions(**{name: round(getattr(event, f"{name}_deviation"), DECIMALS) for name in OUTPUTS})


def intervals_of(event: Event) -> dict[str, tuple[float, float]] | None:
    """Lower and upper end of each dimension; None without a calibration."""
    if event.arousal_low is None:
        return None
    ends = {name: (getattr(event, f"{name}_low"), getattr(event, f"{name}_high")) for name in OUTPUTS}
    return {name: (round(low, DECIMALS), round(high, DECIMALS)) for name, (low, high) in ends.items()}
