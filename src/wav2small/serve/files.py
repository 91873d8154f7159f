"""Endpoints for files: rows in any format of ``predict``, and Hume's file shape."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse

from wav2small.errors import AudioError, Wav2SmallError
from wav2small.network.config import OUTPUTS
from wav2small.options import Options, default_window
from wav2small.serve import answers
from wav2small.serve.answers import Job, Row
from wav2small.serve.body import BoundedRoute
from wav2small.serve.errors import ServeError
from wav2small.serve.messages import Dimensions, HumeMeasurement, HumeResult, HumeUtterance, ServiceError
from wav2small.serve.state import State
from wav2small.tables.spans import Span
from wav2small.tables.table import lines

T = TypeVar("T")
Format = Literal["json", "verbose_json", "jsonl", "csv", "vtt", "textgrid", "eaf", "rttm", "audformat"]
MEDIA_TYPES = {"csv": "text/csv", "audformat": "text/csv", "vtt": "text/vtt", "jsonl": "application/jsonl"}
MEDIA_TYPES |= {"eaf": "application/xml"}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ServiceError} for status in (400, 401, 403, 404, 408, 413, 415, 503)
}
router = APIRouter(route_class=BoundedRoute)


class Rows(BaseModel):
    """Rows as ``wav2small predict`` has them; verbose_json adds the rest."""

    model_config = ConfigDict(extra="allow")

    object: Literal["emotion"] = "emotion"
    model: str
    rows: list[dict[str, Any]]
    request_id: str | None = None
    duration: float | None = None
    model_info: dict[str, Any] | None = None


class HumeConfig(BaseModel):
    """The field ``config`` of Hume's shape."""

    measurement_timer_ms: int = Field(default=3000, ge=500, le=60_000)


@router.post(
    "/v1/audio/emotion",
    response_model=Rows,
    responses={200: {"content": {"text/plain": {}, "text/csv": {}, "text/vtt": {}}}, **ERRORS},
    tags=["files"],
)
async def emotion(
    request: Request,
    file: Annotated[UploadFile, File(description="Audio: wav, flac, ogg, opus, mp3, aiff, au, caf.")],
    model: Annotated[str | None, Form(max_length=100)] = None,
    response_format: Annotated[Format, Form()] = "json",
    hop: Annotated[float | None, Form(ge=0.05, le=3600, description="Seconds; a row for each window.")] = None,
    window: Annotated[float | None, Form(ge=0.1, le=60, description="Seconds of a window, with hop.")] = None,
    min_speech: Annotated[float, Form(ge=0, le=60)] = Options.min_speech,
    calibrated: Annotated[bool, Form()] = False,
    intervals: Annotated[bool, Form()] = False,
    by_speaker: Annotated[bool, Form(description="With segments: deviations from each speaker's baseline.")] = False,
    segments: Annotated[UploadFile | None, File(description="RTTM, Audacity's labels, CSV or JSON.")] = None,
) -> Response:
    """Arousal, dominance and valence of a file: one row, one a window with ``hop``, or one a segment."""
    state: State = request.app.state.service
    check_together(hop, window, segments is not None, by_speaker)
    win_dur = default_window(hop) if window is None else window
    try:
        options = Options(hop, win_dur, min_speech=min_speech, vad=state.settings.vad)
    except AudioError as error:
        raise ServeError("config_invalid", answers.sentence(error)) from None
    spans = answers.spans_of_bytes(await segments.read()) if segments else None
    name, job = file_name(file), Job(file.file, state.limits)
    listed = state.models.id_of(model)

    def compute() -> list[Row]:
        network = state.models.get(listed, calibrated or intervals)
        if spans is None:
            return answers.rows_of_file(job, name, network, options)
        rows = answers.rows_of_segments(job, name, network, options, spans)
        return answers.with_baselines(rows) if by_speaker else rows

    rows = await computed(request, job, compute)
    state.metrics.audio.labels(listed).inc(job.duration)
    columns = answers.columns(calibrated or intervals, intervals, spans is not None, by_speaker)
    rows = [{name: row[name] for name in columns} for row in rows]
    if response_format in ("json", "verbose_json"):
        content: dict[str, Any] = {"object": "emotion", "model": listed, "rows": rows}
        if response_format == "verbose_json":
            content["request_id"] = request.scope["wav2small"]["request_id"]
            content |= {"duration": job.duration, "model_info": state.models.about(listed)}
        return JSONResponse(content)
    text = "".join(lines(rows, response_format, columns))
    return Response(text, media_type=MEDIA_TYPES.get(response_format, "text/plain"))


@router.post("/v1/expression/audio/file", response_model=HumeResult, responses=ERRORS, tags=["files"])
async def expression(
    request: Request,
    file: Annotated[UploadFile, File(description="Audio, as for /v1/audio/emotion.")],
    config: Annotated[str, Form(max_length=1000, description='JSON: {"measurement_timer_ms": 3000}')] = "{}",
) -> HumeResult:
    """Measurements of each utterance of a file: one for every 3 s, and one for what is left at its end."""
    state: State = request.app.state.service
    try:
        timer_dur = HumeConfig.model_validate_json(config).measurement_timer_ms / 1000
    except ValidationError as error:
        raise ServeError("config_invalid", f"The field config is not valid: {of_validation(error)}.") from None
    job = Job(file.file, state.limits)
    options = Options(None, vad=state.settings.vad)

    def compute() -> HumeResult:
        network = state.models.get(None)
        found = answers.utterances_of_file(job, options.vad)
        pieces = [(number, piece) for number, span in enumerate(found, 1) for piece in cut(span, timer_dur)]
        spans = [piece for _, piece in pieces]
        rows = answers.rows_of_segments(job, "", network, options, spans) if spans else []
        ends = {span.end for span in found}
        measured = zip((number for number, _ in pieces), rows, strict=True)
        return HumeResult(
            request_id=request.scope["wav2small"]["request_id"],
            utterances=[utterance(number, span) for number, span in enumerate(found, 1)],
            measurements=[measurement(number, row, ends) for number, row in measured if row["speech"]],
        )

    result = await computed(request, job, compute)
    state.metrics.audio.labels(state.models.default).inc(job.duration)
    return result


async def computed(request: Request, job: Job, compute: Callable[[], T]) -> T:
    """The result of a call in a thread, which ends early when the client has gone.

    Raises:
        ServeError: as the call does, and for any other error that a user can mend
    """
    state: State = request.app.state.service
    task = asyncio.ensure_future(state.compute(compute))
    try:
        while not (await asyncio.wait({task}, timeout=0.5))[0]:
            if await request.is_disconnected():
                job.is_cancelled.set()
        return task.result()
    except ServeError:
        raise
    except Wav2SmallError as error:
        raise ServeError("config_invalid", answers.sentence(error)) from None
    finally:
        job.is_cancelled.set()


def check_together(hop: float | None, window: float | None, has_segments: bool, by_speaker: bool) -> None:
    """Refuse fields that need another one, or contradict it.

    Raises:
        ServeError: naming them
    """
    if has_segments and hop is not None:
        raise ServeError("config_invalid", "The field segments says where rows begin and end; leave out hop.")
    if by_speaker and not has_segments:
        raise ServeError("config_invalid", "The field by_speaker needs segments, which name the speakers.")
    if window is not None and hop is None:
        raise ServeError("config_invalid", "The field window needs hop.")


def file_name(file: UploadFile) -> str:
    """The last part of the name of an uploaded file, for rows."""
    return PurePosixPath((file.filename or "audio").replace("\\", "/")).name[:200]


def of_validation(error: ValidationError) -> str:
    """The first thing that is wrong, in a few words."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def cut(span: Span, timer_dur: float) -> list[Span]:
    """An utterance in pieces of ``timer_dur`` seconds; the last one is shorter."""
    pieces, start = [], span.start
    while span.end - start > timer_dur:
        pieces.append(replace_times(span, start, start + timer_dur))
        start += timer_dur
    return [*pieces, replace_times(span, start, span.end)]


def replace_times(span: Span, start: float, end: float) -> Span:
    """The same span from ``start`` to ``end`` seconds."""
    return span._replace(start=start, end=end)


def utterance(number: int, span: Span) -> HumeUtterance:
    """An utterance in Hume's shape."""
    return HumeUtterance(
        utterance_id=f"u{number}", audio_start_ms=round(1000 * span.start), audio_end_ms=round(1000 * span.end)
    )


def measurement(number: int, row: Row, ends: set[float]) -> HumeMeasurement:
    """A row of an utterance in Hume's shape."""
    return HumeMeasurement(
        measurement_id=uuid.uuid4().hex,
        utterance_id=f"u{number}",
        audio_start_ms=round(1000 * row["start"]),
        audio_end_ms=round(1000 * row["end"]),
        trigger="speech_ended" if row["end"] in ends else "interval",
        dimensions=Dimensions(**{name: row[name] for name in OUTPUTS}),
    )
