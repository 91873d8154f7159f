"""Milliseconds from the end of a turn to its reading, by the clock on the wall, in Pipecat and LiveKit Agents.

    make integrations   # installs both into .venv-integrations
    .venv-integrations/bin/python benchmarks/turn_latency.py [CLIP] [--turns 100] [--speed 4]

Each turn is the clip in frames of 20 ms, at --speed times real time.

- Turn: the call of ``stop``.
- Pipecat: from queueing ``VADUserStoppedSpeakingFrame`` into a pipeline to the arrival of the ``EmotionFrame`` at the
  processor after ``EmotionProcessor``.
- LiveKit: from the session's change of the user state to ``listening`` until ``await EmotionInput.reading()`` returns.

The second three columns are the processor time of the whole process in between, which is what the clock shows where no
other program has the processor.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wav2small import load
from wav2small.agents import Turn

CLIP = Path(__file__).parents[1] / "examples" / "08a05Fe.flac"
MODEL = "micro"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", default=str(CLIP))
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--speed", type=float, default=4.0)
    arguments = parser.parse_args()
    signal, sampling_rate = soundfile.read(arguments.clip, dtype="int16")
    frames = [signal[start : start + sampling_rate // 50] for start in range(0, len(signal), sampling_rate // 50)]
    print(f"{arguments.turns} turns of {len(signal) / sampling_rate:.1f} s, {MODEL}\n")
    print("| end of a turn to its reading, ms | clock: median | 95 % | largest | processor: median | 95 % | largest |")
    print("|---|---|---|---|---|---|---|")
    for name, measure in (("`Turn.stop`", of_turn), ("Pipecat", of_pipecat), ("LiveKit Agents", of_livekit)):
        waits = np.array(asyncio.run(measure(Turns(frames, sampling_rate, arguments.turns, arguments.speed))))
        values = np.quantile(waits, (0.5, 0.95, 1), axis=0).T.ravel()
        print(f"| {name} | {' | '.join(f'{1000 * value:.1f}' for value in values)} |", flush=True)


Times = list[np.ndarray]
"""Of each turn: seconds until the reading, on the clock and of processor time."""


def now() -> np.ndarray:
    """The clock and the processor time of this process, s."""
    return np.array([time.perf_counter(), time.process_time()])


class Turns:
    """The frames of each turn, at their time."""

    def __init__(self, frames: list[np.ndarray], sampling_rate: int, count: int, speed: float) -> None:
        self.frames, self.sampling_rate, self.count, self._speed = frames, sampling_rate, count, speed

    async def paced(self) -> AsyncIterator[np.ndarray]:
        begun = time.perf_counter()
        for number, frame in enumerate(self.frames, 1):
            await asyncio.sleep(max(0.0, begun + 0.02 * number / self._speed - time.perf_counter()))
            yield frame


async def of_turn(turns: Turns) -> Times:
    """``Turn.stop`` alone."""
    turn, waits = Turn(MODEL), []
    for _ in range(turns.count):
        turn.start()
        async for frame in turns.paced():
            turn.push(frame, turns.sampling_rate)
        begun = now()
        turn.stop()
        waits.append(now() - begun)
    return waits


async def of_pipecat(turns: Turns) -> Times:
    """In a pipeline."""
    from loguru import logger
    from pipecat.frames.frames import (
        EndFrame,
        InputAudioRawFrame,
        VADUserStartedSpeakingFrame,
        VADUserStoppedSpeakingFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.workers.runner import WorkerRunner
    from pipecat_wav2small import EmotionFrame, EmotionProcessor

    logger.remove()
    arrived: asyncio.Queue[np.ndarray] = asyncio.Queue()

    class After(FrameProcessor):
        """Notes when a reading arrives."""

        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, EmotionFrame):
                arrived.put_nowait(now())
            await self.push_frame(frame, direction)

    pipeline = Pipeline([EmotionProcessor(model=load(MODEL, calibration=True)), After()])
    worker = PipelineWorker(pipeline, cancel_on_idle_timeout=False, enable_rtvi=False)
    started, waits = asyncio.Event(), []
    worker.add_event_handler("on_pipeline_started", lambda worker, frame: started.set())

    async def talk() -> None:
        await started.wait()
        for _ in range(turns.count):
            await worker.queue_frame(VADUserStartedSpeakingFrame())
            async for frame in turns.paced():
                await worker.queue_frame(InputAudioRawFrame(frame.tobytes(), turns.sampling_rate, 1))
            begun = now()
            await worker.queue_frame(VADUserStoppedSpeakingFrame())
            waits.append(await arrived.get() - begun)
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())
    return waits


async def of_livekit(turns: Turns) -> Times:
    """In a session."""
    from livekit import rtc
    from livekit.agents import AgentSession
    from livekit.agents.voice.io import AudioInput
    from livekit.plugins.wav2small import EmotionInput

    class Source(AudioInput):
        """Frames of one turn after another."""

        async def __anext__(self) -> rtc.AudioFrame:
            frame = await anext(self.frames)
            return rtc.AudioFrame(frame.tobytes(), turns.sampling_rate, 1, len(frame))

    source, session, waits = Source(label="clip"), AgentSession(), []
    emotion = EmotionInput(source, session, model=load(MODEL, calibration=True))
    for _ in range(turns.count):
        source.frames = turns.paced()
        session._update_user_state("speaking")
        async for _ in emotion:
            pass
        begun = now()
        session._update_user_state("listening")
        assert await emotion.reading() is not None
        waits.append(now() - begun)
    emotion.close()
    return waits


if __name__ == "__main__":
    main()
