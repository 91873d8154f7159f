"""In a session: readings are those of Turn, audio passes through unchanged, and the note goes into the context."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

pytest.importorskip("livekit.agents", reason="needs livekit-agents")

from livekit import rtc
from livekit.agents import Agent, AgentSession, Plugin, llm
from livekit.agents.voice.io import AudioInput
from livekit.plugins.wav2small import METADATA, EmotionInput
from livekit.plugins.wav2small import emotion as emotion_module

from wav2small import Baseline, load
from wav2small.agents import Reading, Turn
from wav2small.runtime.baseline import READY_DUR

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.flac"))
MODEL = load("micro", calibration=True)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Tests may run on a machine that does other work."""
    monkeypatch.setattr(emotion_module, "PATIENCE_DUR", 60.0)


def clip(number: int, sampling_rate: int = 16000) -> np.ndarray:
    signal, own_rate = soundfile.read(EXAMPLES[number])
    resampled = signal if own_rate == sampling_rate else soxr.resample(signal, own_rate, sampling_rate)
    return np.round(resampled.clip(-1, 1) * 32767).astype(np.int16)


def audio(signal: np.ndarray, sampling_rate: int = 16000) -> list[rtc.AudioFrame]:
    chunks = [signal[start : start + sampling_rate // 50] for start in range(0, len(signal), sampling_rate // 50)]
    channels = 1 if signal.ndim == 1 else signal.shape[1]
    return [rtc.AudioFrame(chunk.tobytes(), sampling_rate, channels, len(chunk)) for chunk in chunks]


def expected(signal: np.ndarray, sampling_rate: int = 16000, baseline: Baseline | None = None) -> Reading:
    turn = Turn(MODEL, baseline)
    turn.push(signal, sampling_rate)
    return turn.stop()


class Source(AudioInput):
    """Frames of a list."""

    def __init__(self, frames: Iterable[rtc.AudioFrame] = ()) -> None:
        super().__init__(label="list")
        self.frames = iter(frames)
        self.calls: list[str] = []

    async def __anext__(self) -> rtc.AudioFrame:
        for frame in self.frames:
            return frame
        raise StopAsyncIteration

    def on_attached(self) -> None:
        self.calls.append("attached")

    def on_detached(self) -> None:
        self.calls.append("detached")


async def spoken(emotion: EmotionInput, session: AgentSession, frames: list[rtc.AudioFrame]) -> list[rtc.AudioFrame]:
    """The session says that the user speaks, frames pass, and it says that the user listens."""
    emotion.source.frames = iter(frames)
    session._update_user_state("speaking")
    passed = [frame async for frame in emotion]
    session._update_user_state("listening")
    return passed


def in_session(check, **options):
    """Run a coroutine with a session and its input."""

    async def main() -> None:
        session = AgentSession()
        emotion = EmotionInput(Source(), session, **{"model": MODEL, "max_waiting_dur": 60.0} | options)
        try:
            await check(session, emotion)
        finally:
            emotion.close()

    asyncio.run(main())


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 24000, 48000])
def test_the_reading_of_a_turn_is_that_of_turn_and_audio_passes_unchanged(sampling_rate):
    async def check(session, emotion):
        assert await emotion.reading() is None
        frames = audio(clip(0, sampling_rate), sampling_rate)
        assert await spoken(emotion, session, frames) == frames
        assert await emotion.reading() == expected(clip(0, sampling_rate), sampling_rate)

    in_session(check)


def test_channels_are_mixed():
    async def check(session, emotion):
        await spoken(emotion, session, audio(np.stack([clip(1), clip(1)], 1)))
        assert (await emotion.reading()).arousal == pytest.approx(expected(clip(1)).arousal, abs=1e-5)

    in_session(check)


def test_the_note_goes_into_the_context_and_the_reading_into_the_message():
    baseline = Baseline(speech_dur=READY_DUR, mean=np.zeros(3))
    wanted = expected(clip(0), baseline=Baseline(speech_dur=READY_DUR, mean=np.zeros(3)))

    async def check(session, emotion):
        class Assistant(Agent):
            async def on_user_turn_completed(self, turn_ctx, new_message):
                await emotion.add_to(turn_ctx, new_message)

        context, message = llm.ChatContext(), llm.ChatMessage(role="user", content=["hello"])
        await Assistant(instructions="").on_user_turn_completed(context, message)
        assert not context.items and METADATA not in message.extra, "nothing was said yet"
        await spoken(emotion, session, audio(clip(0)))
        await Assistant(instructions="").on_user_turn_completed(context, message)
        assert message.extra[METADATA] == wanted.as_dict() and wanted.note
        assert [(item.role, item.text_content) for item in context.items] == [("developer", wanted.note)]
        emotion.turn.baseline.speech_dur = 0.0  # not ready: no note
        await spoken(emotion, session, audio(clip(0)))
        await emotion.add_to(context, message)
        assert len(context.items) == 1

    in_session(check, baseline=baseline)


def test_disabled_audio_ends_the_turn_and_belongs_to_no_later_one():
    async def check(session, emotion):
        session.input.audio = emotion
        assert emotion.source.calls == ["attached"]
        emotion.source.frames = iter(audio(clip(1)))
        session._update_user_state("speaking")
        assert [frame async for frame in emotion]
        session.input.set_audio_enabled(False)
        assert emotion.source.calls == ["attached", "detached"]
        assert await emotion.reading() == expected(clip(1))
        session._update_user_state("speaking")
        session._update_user_state("listening")
        assert await emotion.reading() == expected(clip(1)), "no turn begins while audio is disabled"
        session.input.set_audio_enabled(True)
        await spoken(emotion, session, audio(clip(0)))
        assert await emotion.reading() == expected(clip(0))

    in_session(check)


def test_sessions_of_two_speakers_share_the_weights_and_nothing_else():
    async def check(session, one):
        two = EmotionInput(Source(), AgentSession(), model=MODEL, max_waiting_dur=60.0)
        await asyncio.gather(
            spoken(one, session, audio(clip(0))), spoken(two, two._session, audio(clip(1, 48000), 48000))
        )
        assert [await one.reading(), await two.reading()] == [expected(clip(0)), expected(clip(1, 48000), 48000)]
        two.close()

    in_session(check)


def test_late_audio_is_dropped_and_counted_and_passes_through(monkeypatch):
    push = Turn.push
    monkeypatch.setattr(Turn, "push", lambda *arguments: (time.sleep(0.01), push(*arguments)))

    async def check(session, emotion):
        frames = audio(clip(0))
        assert await spoken(emotion, session, frames) == frames
        reading = await emotion.reading()
        assert 0 < emotion.dropped < len(frames)
        assert reading.dur == pytest.approx((len(frames) - emotion.dropped) * 0.02, abs=0.03)

    in_session(check, max_waiting_dur=0.2)


def test_a_session_that_closes_ends_the_thread_and_audio_still_passes():
    async def check(session, emotion):
        session.input.audio = emotion
        await session.start(Agent(instructions=""))
        await spoken(emotion, session, audio(clip(0)))
        reading = await emotion.reading()
        await session.aclose()
        emotion.source.frames = iter(audio(clip(1)))
        assert len([frame async for frame in emotion]) == len(audio(clip(1)))
        with pytest.raises(RuntimeError, match="after shutdown"):
            emotion._thread.submit(print)
        assert await emotion.reading() == reading

    in_session(check)


def test_the_plugin_is_registered():
    (plugin,) = (plugin for plugin in Plugin.registered_plugins if "wav2small" in plugin.package)
    assert plugin.package == "livekit.plugins.wav2small" and plugin.logger.name == plugin.package
