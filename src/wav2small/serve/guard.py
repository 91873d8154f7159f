"""What every request passes before an endpoint: origin, key, number of requests; what it is counted and logged by."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from wav2small.serve.errors import ServeError
from wav2small.serve.settings import is_loopback
from wav2small.serve.state import LOG, State

PUBLIC = ("/", "/health", "/ready", "/docs", "/openapi.json")
"""Paths without a key; and the files of the page."""
IN_URL = {"access_token", "api_key", "apikey", "key", "token"}
"""Parameters that a key must not come in: URLs are written to logs."""
SCHEMES = ("bearer", "token")
"""Of the header Authorization, and as the first of two subprotocols, for browsers."""


class Guard:
    """ASGI middleware: checks a request, gives it an id, counts it, and answers our errors.

    Args:
        app: what comes next
        state: of the service
        public: paths without a key
    """

    def __init__(self, app: ASGIApp, state: State, public: frozenset[str]) -> None:
        self._app = app
        self._state = state
        self._public = public | set(PUBLIC)
        self._digests = [digest(key) for key in state.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id, start, status = uuid.uuid4().hex, time.perf_counter(), 101
        scope["wav2small"] = {"request_id": request_id, "key": ""}

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        has_body = scope["type"] == "http" and scope["method"] == "POST"
        self._state.requests += has_body
        try:
            self._check(scope, has_body)
            await self._app(scope, receive, counted)
        except ServeError as error:
            await refuse(error, scope, receive, counted)
            self._state.metrics.rejections.labels(error.code).inc()
        finally:
            self._state.requests -= has_body
            route = getattr(scope.get("route"), "path", "other")
            self._state.metrics.requests.labels(route, str(status)).inc()
            duration = time.perf_counter() - start
            LOG.info("%s %s %d %.3f s", request_id, route, status, duration)

    def _check(self, scope: Scope, has_body: bool) -> None:
        headers = Headers(scope=scope)
        if IN_URL & parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).keys():
            raise ServeError("key_in_url", "A key in a URL is written to logs; send it in a header.")
        check_origin(headers, self._state.settings.origins, has_keys=bool(self._digests))
        if self._digests and scope["path"] not in self._public:
            scope["wav2small"]["key"] = self._key(scope, headers)
        if has_body and self._state.requests > self._state.limits.requests:
            raise ServeError(
                "server_busy", f"There are {self._state.limits.requests} requests at once, the limit; try again."
            )

    def _key(self, scope: Scope, headers: Headers) -> str:
        """The digest of the key of a request, which stands for it in counts."""
        given = digest(key_of(headers, scope.get("subprotocols", [])))
        matches = [hmac.compare_digest(given, known) for known in self._digests]  # all, whichever fits
        if not any(matches):
            raise ServeError(
                "key_invalid", "There is no valid key; send one as Authorization: Bearer KEY or X-Api-Key: KEY."
            )
        return given.hex()


def digest(key: str) -> bytes:
    """A key as bytes of one length."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def key_of(headers: Headers, subprotocols: list[str]) -> str:
    """The key in the headers of a request, or in its subprotocols ``bearer, KEY``; "" if there is none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() in SCHEMES and key:
        return key.strip()
    if len(subprotocols) == 2 and subprotocols[0] in SCHEMES:
        return subprotocols[1]
    return headers.get("x-api-key", "")


def check_origin(headers: Headers, origins: tuple[str, ...], has_keys: bool) -> None:
    """Refuse requests that other pages make in a browser.

    Without keys a page could also give its own name the address of this machine, so the name in the request must be
    that of this machine.

    Raises:
        ServeError: if the origin is not that of this service and not among ``origins``
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin in origins:
        return
    if not has_keys and not is_loopback(hostname(f"//{host}")):
        raise ServeError("origin_refused", "Without keys the service is used by the name localhost or 127.0.0.1 only.")
    if origin is not None and origin.partition("://")[2] != host:
        raise ServeError("origin_refused", f"Pages of {origin[:100]} are not allowed here; start with --origin.")


def hostname(url: str) -> str:
    """The name in a URL without its port; "" if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def refuse(error: ServeError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error, before a response or the handshake of a WebSocket has begun."""
    headers = {"www-authenticate": "Bearer"} if error.kind.status == 401 else {}
    if error.kind.retryable:
        headers["retry-after"] = "5"
    content = {**error.content(), "request_id": scope["wav2small"]["request_id"]}
    response = JSONResponse(content, error.kind.status, headers)
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    await socket.receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close(1008, error.code)
