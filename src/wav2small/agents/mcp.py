"""A server of the Model Context Protocol: the tone of files and of the microphone as tools of a language model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any

import numpy as np

import wav2small
from wav2small.agents.turn import NOTE
from wav2small.audio.sources import microphone_audio
from wav2small.errors import AudioError, Wav2SmallError, missing_packages
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.options import DEFAULT_MODEL
from wav2small.runtime import model as network
from wav2small.runtime.baseline import Baseline
from wav2small.runtime.event import INTERVAL_COLUMNS, Event
from wav2small.runtime.model import Model
from wav2small.runtime.predict import predict
from wav2small.runtime.stream import Stream

INSTRUCTIONS = (
    "Estimates of arousal (calm to excited), dominance (soft to firm) and valence (negative to positive), each from 0 "
    "to 1, of how a voice sounds. They do not say what somebody feels or means. _low to _high is an interval for 80 % "
    "of clips; differences within it mean nothing. Present them as tentative, and do not compare two people by them."
)
KEPT_DUR = 60.0
"""Seconds of the microphone that an answer is about."""
WIN_DUR = 3.0
DIGITS = 3
Tool = Callable[..., Any]


class LastMinute:
    """Answers for the last minute of audio. It keeps the answers for windows of 3 s, and no audio.

    Args:
        model: loaded with a calibration
    """

    def __init__(self, model: Model) -> None:
        self._baseline = Baseline()
        self._stream = Stream(model, WIN_DUR, WIN_DUR, baseline=self._baseline)
        self._events: deque[Event] = deque(maxlen=round(KEPT_DUR / WIN_DUR))
        self._lock = threading.Lock()
        self.error: str | None = None

    def push(self, chunk: np.ndarray, sampling_rate: float) -> None:
        """Process the next chunk, as ``Stream.push``."""
        for event in self._stream.push(chunk, sampling_rate):
            with self._lock:
                self._events.append(event)

    def follow(self, device: str | None) -> None:
        """Process the microphone until it is gone; ``error`` says why."""
        try:
            with microphone_audio(device) as audio:
                for chunk in audio.chunks:
                    self.push(chunk, audio.sampling_rate)
        except Wav2SmallError as error:
            self.error = str(error)

    def answer(self) -> dict[str, Any]:
        """The means over the windows with speech, the change from the usual voice, and each window.

        Raises:
            AudioError: if the microphone is gone, or there was no audio or no speech yet
        """
        if self.error:
            raise AudioError(self.error)
        with self._lock:
            spoken = [event for event in self._events if event.speech]
            if not spoken:
                raise AudioError(f"no speech in the last {len(self._events) * WIN_DUR:g} s of the microphone")
            names = (*OUTPUTS, *INTERVAL_COLUMNS)
            means = {name: float(np.mean([getattr(event, name) for event in spoken])) for name in names}
            change = self._change(means)
            dur = len(self._events) * WIN_DUR
        return rounded({"dur": dur, "speech_dur": len(spoken) * WIN_DUR, **means, "note": change}) | {
            "windows": [rounded({name: getattr(event, name) for name in ("start", *OUTPUTS)}) for event in spoken]
        }

    def _change(self, means: dict[str, float]) -> str | None:
        if not self._baseline.is_ready:
            return None
        emotion, low, high = (Emotion(*(means[f"{name}{end}"] for name in OUTPUTS)) for end in ("", "_low", "_high"))
        change = self._baseline.change(emotion, low, high)
        return NOTE.format(change=change) if change else None


def server(model_name: str = DEFAULT_MODEL, microphone: LastMinute | None = None) -> Any:
    """An ``MCPServer`` with the tools; ``run("stdio")`` serves it.

    Args:
        model_name: name or path of weights, which need a calibration
        microphone: adds the tool for the last minute

    Raises:
        MissingExtraError: if the extra ``mcp`` is not installed
        WeightsError: if there are no such weights
    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError:
        raise missing_packages("a server of MCP", ["mcp"], "wav2small[mcp]") from None
    model = network.load(model_name, calibration=True)

    def tone_of_file(path: str, hop_dur: float | None = None) -> list[dict[str, Any]]:
        """How the voice in an audio file sounds: one row, or one every hop_dur seconds (0.5 or more; windows of 3 s).

        A row without speech has speech false and no values.
        """
        rows = predict(path, model=model, hop_dur=hop_dur)
        return [rounded({name: value for name, value in asdict(row).items() if value is not None}) for row in rows]

    def models() -> list[dict[str, Any]]:
        """The models that ship: name, precision, parameters, licence, teacher and the data they were trained on."""
        return network.models()

    def tone_of_last_minute() -> dict[str, Any]:
        """How the voice at the microphone of this machine sounded in the last minute, and how it changed.

        note is None unless the voice differs from how it usually sounds.
        """
        assert microphone is not None
        return microphone.answer()

    made = MCPServer("wav2small", instructions=INSTRUCTIONS, version=wav2small.__version__)
    for tool in (tone_of_file, models, *((tone_of_last_minute,) if microphone else ())):
        made.tool()(with_sentences(tool))
    return made


def with_sentences(tool: Tool) -> Tool:
    """A tool whose expected errors reach the language model as sentences."""

    @wraps(tool)
    def called(*arguments: Any, **named: Any) -> Any:
        from mcp.server.mcpserver.exceptions import ToolError

        try:
            return tool(*arguments, **named)
        except Wav2SmallError as error:
            raise ToolError(str(error)) from None

    return called


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """The same with floats of three digits, since more only cost a language model tokens."""
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in row.items()}
