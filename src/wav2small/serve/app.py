"""The ASGI application: all endpoints, behind the guard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, JSONResponse

from wav2small.serve import files, listen, page, realtime
from wav2small.serve.errors import ServeError
from wav2small.serve.guard import Guard
from wav2small.serve.messages import ServiceError
from wav2small.serve.settings import SETTINGS_VARIABLE, Settings, from_json, read_keys
from wav2small.serve.state import State

BUSY: dict[int | str, dict[str, Any]] = {503: {"model": ServiceError}}


def create_app(settings: Settings | None = None, keys: tuple[str, ...] | None = None) -> FastAPI:
    """The application.

    Args:
        settings: None for those of the environment variable ``WAV2SMALL_SETTINGS``, or the defaults
        keys: None for those that the settings and the environment name

    Raises:
        Wav2SmallError: if the keys cannot be read, or there is no such model
    """
    if settings is None:
        text = os.environ.get(SETTINGS_VARIABLE)
        settings = from_json(text) if text else Settings()
    state = State(settings, read_keys(settings) if keys is None else keys)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(state.start)
        yield
        await state.drain()
        state.close()

    app = FastAPI(
        title="wav2small",
        version=version("wav2small"),
        description="Arousal, dominance and valence of a voice, each from 0 to 1.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.service = state
    add_service(app, state)
    for router in (files.router, realtime.router, listen.router):
        app.include_router(router)
    names = frozenset(add_page(app))
    add_handlers(app, state)
    app.add_middleware(Guard, state=state, public=names)
    if settings.origins:
        headers = ["Authorization", "X-Api-Key", "Content-Type"]
        methods = ["GET", "POST"]
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_headers=headers, allow_methods=methods)
    return app


def add_service(app: FastAPI, state: State) -> None:
    """Endpoints about the service itself."""

    @app.get("/health", tags=["service"])
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready", tags=["service"], responses=BUSY)
    async def ready() -> dict[str, str]:
        """The default model is loaded, and the service is not ending."""
        if not state.is_ready or state.is_draining:
            raise ServeError("server_busy", "The service is starting or ending.")
        return {"status": "ready"}

    @app.get("/metrics", tags=["service"])
    async def metrics() -> Response:
        """Metrics in Prometheus's text format."""
        return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """All models, in OpenAI's list shape."""
        return {"object": "list", "data": [state.models.about(name) for name in state.models.ids()]}

    @app.get("/v1/models/{model}", tags=["models"], responses={404: {"model": ServiceError}})
    async def model(model: str) -> dict[str, Any]:
        """One model, with licence, sha256 and precision."""
        return state.models.about(model)


def add_page(app: FastAPI) -> list[str]:
    """The page with a student in the browser; the paths of its files."""
    folder = page.folder()
    paths = []
    for file in sorted(folder.iterdir()):
        if file.suffix in page.TYPES and file.name != page.EXAMPLE:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            app.add_api_route(path, serving(file), methods=["GET", "HEAD"], include_in_schema=False)
            paths.append(path)
    app.add_api_route(f"/{page.EXAMPLE}", serving(page.clip()), methods=["GET", "HEAD"], include_in_schema=False)
    return [*paths, f"/{page.EXAMPLE}"]


def serving(file: Path) -> Callable[[], Awaitable[Response]]:
    """An endpoint that serves a file."""

    async def serve() -> Response:
        return FileResponse(file, media_type=page.TYPES[file.suffix])

    return serve


def add_handlers(app: FastAPI, state: State) -> None:
    """Every error is one sentence, in one shape."""

    def answer(request: Request, error: ServeError) -> JSONResponse:
        state.metrics.rejections.labels(error.code).inc()
        content = {**error.content(), "request_id": request.scope["wav2small"]["request_id"]}
        headers = {"retry-after": "5"} if error.kind.retryable else None
        return JSONResponse(content, error.kind.status, headers)

    @app.exception_handler(ServeError)
    async def ours(request: Request, error: ServeError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return answer(request, ServeError("config_invalid", f"The field {where} is not valid: {first['msg']}."))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, ServeError):  # FastAPI wraps what reading a body raises
            return answer(request, error.__cause__)
        if error.status_code == 404:
            return answer(request, ServeError("not_found", "There is no such endpoint; see /docs."))
        if error.status_code == 405:
            return answer(
                request, ServeError("method_not_allowed", f"{request.method} is not allowed here; see /docs.")
            )
        return answer(request, ServeError("message_invalid", f"The request is not valid: {error.detail}."))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return answer(request, ServeError("internal_error", "The service failed; the log has the reason."))
