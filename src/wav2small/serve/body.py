"""Forms that are read into memory within limits, and never onto a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wav2small.serve.errors import ServeError
from wav2small.serve.settings import Limits
from wav2small.serve.state import State

MAX_FIELDS = 32


class InMemoryParser(MultiPartParser):
    """A parser whose files stay in memory: the limit of a request is below what it would write to disk."""

    spool_max_size = 2**40


class BoundedRequest(Request):
    """A request whose form is bounded in size and time."""

    async def form(self, **_: Any) -> FormData:  # type: ignore[override]
        """The fields and files of a multipart form.

        Raises:
            ServeError: if it is another kind of body, is damaged, or passes a limit
        """
        state: State = self.app.state.service
        if not self.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ServeError("unsupported_media_type", "The body is not multipart/form-data; send the audio as file.")
        parser = InMemoryParser(
            self.headers, self._bounded(state.limits), max_files=2, max_fields=MAX_FIELDS, max_part_size=2**16
        )
        try:
            return await asyncio.wait_for(parser.parse(), state.limits.upload_dur)
        except MultiPartException as error:
            raise ServeError("message_invalid", f"The form cannot be read: {error.message.rstrip('.')}.") from None
        except ClientDisconnect:
            raise ServeError("message_invalid", "The request ended before its body.") from None
        except asyncio.TimeoutError:
            raise ServeError(
                "request_too_slow", f"The body took longer than {state.limits.upload_dur:g} s to arrive; try again."
            ) from None

    async def _bounded(self, limits: Limits) -> AsyncGenerator[bytes, None]:
        text = (
            f"The body is larger than {limits.request_bytes} bytes, the limit of a request; cut or compress the audio."
        )
        stated = self.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limits.request_bytes:
            raise ServeError("request_too_large", text)
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limits.request_bytes:
                raise ServeError("request_too_large", text)
            yield chunk


class BoundedRoute(APIRoute):
    """A route whose requests are bounded."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, given a bounded request."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handler(BoundedRequest(request.scope, request.receive))

        return bounded
