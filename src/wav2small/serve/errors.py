"""Errors of the service: a code, one sentence, and whether to try again."""

from __future__ import annotations

from typing import NamedTuple

from wav2small.errors import Wav2SmallError


class Kind(NamedTuple):
    """What an error means in HTTP and for a WebSocket; ``close`` is None if the session goes on."""

    status: int
    close: int | None
    retryable: bool


CODES = {
    "audio_decode_failed": Kind(400, None, False),
    "audio_too_long": Kind(413, None, False),
    "client_too_slow": Kind(503, 1008, True),
    "config_invalid": Kind(400, 1008, False),
    "internal_error": Kind(500, 1011, True),
    "invalid_audio_frame": Kind(400, None, False),
    "key_in_url": Kind(400, 1008, False),
    "key_invalid": Kind(401, 1008, False),
    "message_invalid": Kind(400, None, False),
    "message_too_large": Kind(413, 1009, False),
    "method_not_allowed": Kind(405, None, False),
    "not_found": Kind(404, None, False),
    "origin_refused": Kind(403, 1008, False),
    "processing_too_long": Kind(413, None, False),
    "rate_limited": Kind(429, None, True),
    "request_too_large": Kind(413, None, False),
    "request_too_slow": Kind(408, None, True),
    "server_busy": Kind(503, None, True),
    "too_many_errors": Kind(400, 1008, False),
    "unsupported_media_type": Kind(415, None, False),
}
"""All codes of errors."""


class ServeError(Wav2SmallError):
    """An error that a client gets; its text is one sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.kind = CODES[code]

    def content(self) -> dict[str, object]:
        """The error as a client gets it."""
        return {"type": "error", "code": self.code, "message": str(self), "retryable": self.kind.retryable}
