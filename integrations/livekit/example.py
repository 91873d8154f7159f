"""The tone of clips in a LiveKit AgentSession with its local VAD, without a server, a microphone or an LLM.

python example.py CLIP...
"""

import asyncio
import sys

import numpy as np
import soundfile
from livekit import rtc
from livekit.agents import Agent, AgentSession, inference
from livekit.agents.voice.io import AudioInput
from livekit.plugins.wav2small import EmotionInput

PAUSE_DUR = 2


class Clips(AudioInput):
    """Each clip and a pause, in frames of 20 ms as they would arrive; in a room this is the participant's track."""

    def __init__(self, clips: list[str]) -> None:
        super().__init__(label="clips")
        self._frames = self._read(clips)

    async def _read(self, clips: list[str]):
        for clip in clips:
            signal, sampling_rate = soundfile.read(clip, dtype="int16")
            size = sampling_rate // 50
            signal = np.concatenate([signal, np.zeros(PAUSE_DUR * sampling_rate, np.int16)])
            for start in range(0, len(signal) - size, size):
                yield rtc.AudioFrame(signal[start : start + size].tobytes(), sampling_rate, 1, size)
                await asyncio.sleep(0.02)

    async def __anext__(self) -> rtc.AudioFrame:
        return await anext(self._frames)


async def main(clips: list[str]) -> None:
    """Print the reading of each turn; in an agent, ``await emotion.add_to(turn_ctx, new_message)`` hands it over."""
    session = AgentSession(vad=inference.VAD(), turn_handling={"turn_detection": "vad"})
    emotion = EmotionInput(Clips(clips), session)
    ended = asyncio.Queue()

    @session.on("user_state_changed")
    def on_state(event):
        if event.new_state == "listening":
            ended.put_nowait(event)

    session.input.audio = emotion
    await session.start(Agent(instructions="", llm=None))
    for _ in clips:
        await asyncio.wait_for(ended.get(), 60)
        reading = await emotion.reading()
        print(f"{reading.dur:.1f} s: arousal {reading.arousal:.2f} dominance {reading.dominance:.2f}", end=" ")
        print(f"valence {reading.valence:.2f}; {reading.note or 'no note'}")
    await session.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or sys.exit(__doc__)))
