"""Clips to a Wyoming server in front of a pretended speech-to-text server, over loopback, without network.

python example.py CLIP...
"""

import asyncio
import sys
from functools import partial

import soundfile
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.server import AsyncEventHandler, AsyncServer
from wyoming_wav2small import EmotionHandler, state

from wav2small import load
from wav2small.agents import Reading

ASR, OURS = "tcp://127.0.0.1:10310", "tcp://127.0.0.1:10311"


class Pretended(AsyncEventHandler):
    """Transcribes everything in the same way."""

    async def handle_event(self, event: Event) -> bool:
        """Answer when the audio ends."""
        if AudioStop.is_type(event.type):
            await self.write_event(Transcript("turn on the light").event())
        return True


def show(reading: Reading) -> None:
    """What the sensors of Home Assistant get."""
    print(*state(reading))


async def main(clips: list[str]) -> None:
    """Send each clip as one voice command."""
    asr, ours = AsyncServer.from_uri(ASR), AsyncServer.from_uri(OURS)
    await asr.start(Pretended)
    await ours.start(partial(EmotionHandler, asr_uri=ASR, model=load("micro", calibration=True), on_reading=show))
    async with AsyncClient.from_uri(OURS) as client:
        for clip in clips:
            signal, sampling_rate = soundfile.read(clip, dtype="int16")
            form = {"rate": sampling_rate, "width": 2, "channels": 1}
            await client.write_event(Transcribe().event())
            await client.write_event(AudioStart(**form).event())
            for start in range(0, len(signal), 1024):
                await client.write_event(AudioChunk(audio=signal[start : start + 1024].tobytes(), **form).event())
            await client.write_event(AudioStop().event())
            transcript = Transcript.from_event(await client.read_event())
            print(transcript.text, {name: transcript.context["wav2small"][name] for name in ("arousal", "valence")})
    for server in (ours, asr):
        await server.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or sys.exit(__doc__)))
