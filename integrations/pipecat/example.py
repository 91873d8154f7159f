"""The tone of each turn of a conversation of two clips, in a Pipecat pipeline, without network or microphone.

python example.py CLIP...
"""

import asyncio
import sys

import soundfile
from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    LLMMessagesAppendFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner
from pipecat_wav2small import EmotionProcessor


async def main(clips: list[str]) -> None:
    """Send each clip as one turn; in a real pipeline the transport and the VAD send these frames."""
    emotion = EmotionProcessor()
    worker = PipelineWorker(Pipeline([emotion]), enable_rtvi=False)

    @emotion.event_handler("on_reading")
    async def on_reading(processor, reading, user_id):
        print(f"arousal {reading.arousal:.2f} dominance {reading.dominance:.2f} valence {reading.valence:.2f}")
        if reading.note:  # the LLM is told only what the interval supports
            message = {"role": "developer", "content": reading.note}
            await worker.queue_frame(LLMMessagesAppendFrame([message], run_llm=False))

    async def talk() -> None:
        for clip in clips:
            signal, sampling_rate = soundfile.read(clip, dtype="int16")
            await worker.queue_frame(VADUserStartedSpeakingFrame())
            for start in range(0, len(signal), sampling_rate // 50):
                chunk = signal[start : start + sampling_rate // 50].tobytes()
                await worker.queue_frame(InputAudioRawFrame(chunk, sampling_rate, num_channels=1))
                await asyncio.sleep(0.002)
            await worker.queue_frame(VADUserStoppedSpeakingFrame())
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or sys.exit(__doc__)))
