"""A processor that passes every frame on, and reads the tone of each turn off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    STTMuteFrame,
    SystemFrame,
    TranscriptionFrame,
    UserMuteStartedFrame,
    UserMuteStoppedFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from wav2small import Baseline, load
from wav2small.agents import Reading, Turn
from wav2small.errors import Wav2SmallError
from wav2small.runtime.model import Model

METADATA = "wav2small"
"""Key of the reading in the ``metadata`` of a ``TranscriptionFrame``."""
MAX_SPEAKERS = 16
"""Speakers whose turns are kept; the one whose audio is oldest is forgotten, except for its baseline."""
PATIENCE_DUR = 1.0
"""Seconds that a transcription waits for the reading of its turn, milliseconds unless the worker is late."""
END_PATIENCE_DUR = 10.0
"""The same for the end of the pipeline, so that the reading of the last turn is not lost."""

Job = Callable[[], list[tuple[str, Reading]]]


@dataclass
class EmotionFrame(SystemFrame):
    """The reading of one turn. A system frame, so that an interruption does not cancel it.

    Parameters:
        reading: arousal, dominance, valence, their intervals, the deviation from the speaker's baseline, and a note.
        user_id: of the audio's ``UserAudioRawFrame``; empty for an ``InputAudioRawFrame``.
        dropped: audio frames of this turn that were dropped because the worker was late.
    """

    reading: Reading
    user_id: str = ""
    dropped: int = 0


class EmotionProcessor(FrameProcessor):
    """Reads the tone of every user turn, from the start to the stop of speech that the VAD announces.

    Place it after the STT service, so that transcriptions pass through it. It passes every frame on at once; a worker
    thread runs the network while the user speaks. At ``VADUserStoppedSpeakingFrame`` it pushes an ``EmotionFrame``,
    calls the event handler ``on_reading``, and puts the reading into the metadata of the transcription that follows.
    While the user is muted, audio is ignored and the turn is discarded.

    Event handlers:
        on_reading(processor, reading, user_id): called for every turn.

    Example::

        emotion = EmotionProcessor()

        @emotion.event_handler("on_reading")
        async def on_reading(processor, reading, user_id):
            print(reading.arousal, reading.note)

        pipeline = Pipeline([transport.input(), stt, emotion, user_aggregator, llm, ...])
    """

    def __init__(
        self,
        *,
        model: str | Path | Model = "micro",
        calibrated: bool = True,
        baselines: dict[str, Baseline] | None = None,
        max_waiting_dur: float = 2.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the processor; weights are loaded by ``setup``.

        Args:
            model: name or path of weights, or what ``wav2small.load`` returns, to share it between sessions.
            calibrated: whether a model given by name is calibrated; without, there are no intervals and no notes.
            baselines: of speakers by their user_id ("" where audio has none), from earlier sessions; updated by turns.
            max_waiting_dur: seconds of audio that may wait for the worker; what comes then is dropped and counted.
            **kwargs: for ``FrameProcessor``.
        """
        super().__init__(**kwargs)
        self._model = model
        self._calibrated = calibrated
        self._max_waiting_dur = max_waiting_dur
        self.baselines: dict[str, Baseline] = {} if baselines is None else baselines
        self.dropped = 0
        """Audio frames that were dropped since the start."""
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._jobs: deque[Job] = deque()
        self._waiting_dur = 0.0
        self._dropped_before = 0
        self._is_speaking, self._is_muted = False, False
        self._has_job, self._is_answered = asyncio.Event(), asyncio.Event()
        self._is_answered.set()
        self._unanswered = 0
        self._readings: dict[str, Reading] = {}
        self._speakers: set[str] = set()
        self._register_event_handler("on_reading")

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Load the model and start the worker.

        Args:
            setup: as ``FrameProcessor`` has it.
        """
        await super().setup(setup)
        self._thread = ThreadPoolExecutor(1, "wav2small")
        if not isinstance(self._model, Model):
            loop = asyncio.get_running_loop()
            self._model = await loop.run_in_executor(self._thread, self._load)
        self._worker = self.create_task(self._work())

    async def cleanup(self) -> None:
        """Stop the worker and its thread."""
        await super().cleanup()
        await self.cancel_task(self._worker)
        self._thread.shutdown(wait=False)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame on, and hand what concerns the turn to the worker.

        Args:
            frame: any frame.
            direction: in which it flows.
        """
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._take(frame)
        elif isinstance(frame, VADUserStartedSpeakingFrame) and not self._is_muted:
            self._is_speaking, self._dropped_before = True, self.dropped
            self._add(self._start)
        elif isinstance(frame, VADUserStoppedSpeakingFrame) and self._is_speaking:
            self._is_speaking = False
            self._unanswered += 1
            self._is_answered.clear()
            self._add(self._stop)
        elif isinstance(frame, (UserMuteStartedFrame, UserMuteStoppedFrame, STTMuteFrame)):
            self._is_muted = frame.mute if isinstance(frame, STTMuteFrame) else isinstance(frame, UserMuteStartedFrame)
            self._is_speaking = False
            self._add(self._reset)
        elif isinstance(frame, TranscriptionFrame):
            await self._attach(frame)
        elif isinstance(frame, EndFrame):
            await self._answered(END_PATIENCE_DUR)
        await self.push_frame(frame, direction)

    def _take(self, frame: InputAudioRawFrame) -> None:
        """Queue audio for the worker, or drop it if too much waits."""
        dur = frame.num_frames / frame.sample_rate
        if self._is_muted:
            return
        if self._waiting_dur + dur > self._max_waiting_dur:
            self.dropped += 1
            return
        self._waiting_dur += dur
        user_id = getattr(frame, "user_id", "")

        def push() -> list[tuple[str, Reading]]:
            self._turn(user_id).push(frame.audio, frame.sample_rate, frame.num_channels)
            return []

        self._add(push)

    def _add(self, job: Job) -> None:
        self._jobs.append(job)
        self._has_job.set()

    async def _attach(self, frame: TranscriptionFrame) -> None:
        """Put the reading of the turn into the metadata of its transcription."""
        await self._answered(PATIENCE_DUR)
        reading = self._readings.pop(frame.user_id, None) or self._readings.pop("", None)
        if reading is not None:
            frame.metadata[METADATA] = reading.as_dict()

    async def _answered(self, most: float) -> None:
        """Wait until every turn that stopped is answered, so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_answered.wait(), most)

    async def _work(self) -> None:
        """Run jobs in their order on the thread, all that wait at once, and report what they read."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_job.wait()
            self._has_job.clear()
            jobs, self._jobs, self._waiting_dur = self._jobs, deque(), 0.0
            readings, errors = await loop.run_in_executor(self._thread, run, jobs)
            for error in errors:
                await self.push_error(f"wav2small: {error}", error)
            for user_id, reading in readings:
                await self._report(user_id, reading)
            self._unanswered -= sum(job == self._stop for job in jobs)
            if self._unanswered == 0:
                self._is_answered.set()

    async def _report(self, user_id: str, reading: Reading) -> None:
        self._readings[user_id] = reading
        await self.push_frame(EmotionFrame(reading, user_id, self.dropped - self._dropped_before))
        await self._call_event_handler("on_reading", reading, user_id)

    # What follows runs on the worker's thread.

    def _load(self) -> Model:
        return load(self._model, calibration=self._calibrated)

    def _turn(self, user_id: str) -> Turn:
        if user_id not in self._turns:
            self._turns[user_id] = Turn(self._model, self.baselines.get(user_id))
            self.baselines[user_id] = self._turns[user_id].baseline
            if len(self._turns) > MAX_SPEAKERS:
                self._turns.popitem(last=False)
        self._turns.move_to_end(user_id)
        self._speakers.add(user_id)
        return self._turns[user_id]

    def _start(self) -> list[tuple[str, Reading]]:
        for user_id, turn in self._turns.items():
            if user_id in self._speakers:
                turn.start()
            else:
                turn.reset()  # its audio is from before the last turn
        self._speakers.clear()
        return []

    def _stop(self) -> list[tuple[str, Reading]]:
        """Readings of the speakers who had audio in this turn, if there was any sound in it."""
        readings = [(user_id, turn.stop()) for user_id, turn in self._turns.items() if user_id in self._speakers]
        self._speakers.clear()
        return [(user_id, reading) for user_id, reading in readings if reading.speech_ratio > 0]

    def _reset(self) -> list[tuple[str, Reading]]:
        for turn in self._turns.values():
            turn.reset()
        return []


def run(jobs: deque[Job]) -> tuple[list[tuple[str, Reading]], list[Wav2SmallError]]:
    """Run jobs in their order; one that fails prevents no other."""
    readings, errors = [], []
    for job in jobs:
        try:
            readings += job()
        except Wav2SmallError as error:
            errors.append(error)
    return readings, errors
