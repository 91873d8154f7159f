"""A client of the service: files by urllib, live sessions by the package websockets (extra ``serve``)."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from wav2small.errors import Wav2SmallError

Fact = Mapping[str, Any]
REALTIME = "/v1/emotion/realtime"


class ServiceError(Wav2SmallError):
    """An error of the service, with its ``code``, and whether to try again."""

    def __init__(self, content: Fact) -> None:
        super().__init__(str(content.get("message", content)))
        self.code = str(content.get("code", ""))
        self.is_retryable = bool(content.get("retryable"))


class Client:
    """A service at a URL.

    Args:
        url: such as ``http://localhost:8000``
        key: of the service, if it needs one
        timeout_dur: seconds to wait for an answer

    Example:
        >>> client = Client("http://localhost:8000")
        >>> client.emotion("talk.flac", hop=1.0)["rows"]  # doctest: +SKIP
    """

    def __init__(self, url: str, key: str | None = None, timeout_dur: float = 120.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_dur = timeout_dur

    def models(self) -> list[dict[str, Any]]:
        """The models of the service."""
        found: list[dict[str, Any]] = json.loads(self._fetch("/v1/models"))["data"]
        return found

    def emotion(self, file: str | Path | bytes, **fields: object) -> dict[str, Any]:
        """The rows of a file; ``fields`` are those of ``/v1/audio/emotion``.

        Raises:
            ServiceError: if the service refuses it
            Wav2SmallError: if the service or the file cannot be reached
        """
        found: dict[str, Any] = json.loads(self.emotion_text(file, **{**fields, "response_format": "verbose_json"}))
        return found

    def emotion_text(self, file: str | Path | bytes, **fields: object) -> str:
        """The same as text in a ``response_format``, such as csv."""
        body, boundary = form(file, fields)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._fetch("/v1/audio/emotion", body, headers)

    def stream(self, chunks: Iterable[bytes], **session: object) -> Iterator[dict[str, Any]]:
        """Messages of a live session: each chunk is sent when it comes, and answers follow as they are there.

        Args:
            chunks: mono, 16 bits a sample, little-endian, at the ``sample_rate`` of the session, 16000 by default
            session: settings, as in ``session.update``

        Raises:
            ServiceError: if the service ends the session with an error
        """
        from threading import Thread

        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        with connect(self._socket_url(), additional_headers=self._headers, compression=None) as socket:

            def send() -> None:
                try:
                    for message in outgoing(session):
                        socket.send(message)
                    for chunk in chunks:
                        socket.send(chunk)
                    socket.send(CLOSE)
                except ConnectionClosed:
                    pass  # the messages that were received say why

            sender = Thread(target=send, daemon=True)
            sender.start()
            try:
                for text in socket:
                    yield checked(text)
            except ConnectionClosed as error:
                raise Wav2SmallError(f"{self._url}: the session was lost: {error}") from None
            sender.join()

    async def astream(self, chunks: AsyncIterable[bytes], **session: object) -> AsyncIterator[dict[str, Any]]:
        """``stream`` for asyncio."""
        import asyncio

        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed

        async with connect(self._socket_url(), additional_headers=self._headers, compression=None) as socket:

            async def send() -> None:
                try:
                    for message in outgoing(session):
                        await socket.send(message)
                    async for chunk in chunks:
                        await socket.send(chunk)
                    await socket.send(CLOSE)
                except ConnectionClosed:
                    pass  # the messages that were received say why

            sender = asyncio.create_task(send())
            try:
                async for text in socket:
                    yield checked(text)
            except ConnectionClosed as error:
                raise Wav2SmallError(f"{self._url}: the session was lost: {error}") from None
            finally:
                sender.cancel()

    def _socket_url(self) -> str:
        return "ws" + self._url.removeprefix("http") + REALTIME

    def _fetch(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> str:
        request = Request(f"{self._url}{path}", body, {**self._headers, **(headers or {})})
        try:
            with urlopen(request, timeout=self._timeout_dur) as response:
                return str(response.read().decode())
        except HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            raise ServiceError(json.loads(text) if text.startswith("{") else {"message": text}) from None
        except (URLError, OSError) as error:
            raise Wav2SmallError(f"{self._url}: the service cannot be reached: {error}") from None


CLOSE = json.dumps({"type": "session.close"})


def outgoing(session: Fact) -> list[str]:
    """The messages before the audio."""
    return [json.dumps({"type": "session.update", "session": dict(session)})] if session else []


def checked(text: str | bytes) -> dict[str, Any]:
    """A message of the service.

    Raises:
        ServiceError: if it is an error that is not to be tried again
    """
    message: dict[str, Any] = json.loads(text)
    if message["type"] == "error" and not message["retryable"]:
        raise ServiceError(message)
    return message


def form(file: str | Path | bytes, fields: Fact) -> tuple[bytes, str]:
    """The body of a multipart form and its boundary; a field that is None is left out, bytes are a file."""
    boundary = uuid.uuid4().hex
    name, content = ("audio", file) if isinstance(file, bytes) else named(Path(file))
    quoted = name.encode().replace(b"\\", b"\\\\").replace(b'"', b"%22").replace(b"\r", b"").replace(b"\n", b"")
    parts = [(b'name="file"; filename="' + quoted + b'"', content)]
    for field, value in fields.items():
        if isinstance(value, bytes):
            parts.append((f'name="{field}"; filename="{field}"'.encode(), value))
        elif value is not None:
            parts.append((f'name="{field}"'.encode(), str(value).encode()))
    mark = f"--{boundary}\r\n".encode()
    body = b"".join(
        mark + b"Content-Disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), boundary


def named(path: Path) -> tuple[str, bytes]:
    """The name and the content of a file."""
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise Wav2SmallError(f"{path}: cannot be read: {error.strerror}") from None
