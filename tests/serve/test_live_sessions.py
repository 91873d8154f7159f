"""A live signal: the same whatever its chunks, and the numbers of Stream and predict."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from running_service import dialogue
from wav2small import Stream, load, predict
from wav2small.audio import vad
from wav2small.audio.read import frame_power
from wav2small.audio.vad import Energy, FrameCutter
from wav2small.errors import AudioError
from wav2small.network.config import OUTPUTS
from wav2small.runtime.baseline import Baseline
from wav2small.serve.live import Boundary, LiveOptions, LiveSignal, Measurement, Push, push_together
from wav2small.serve.session import MULAW, AudioFormat
from wav2small.serve.utterances import Utterances

OPTIONS = LiveOptions(vad="energy")


@pytest.fixture(scope="module")
def micro():
    return load("micro", "c")


@pytest.fixture(scope="module")
def talk(clip):
    return dialogue(clip)


def happenings(model, signal, sizes, options=OPTIONS, sampling_rate=16000):
    """What becomes of a signal in chunks of these sizes, over and over."""
    live, found, start, turn = LiveSignal(model, options), [], 0, 0
    while start < len(signal):
        found += live.push(signal[start : start + sizes[turn % len(sizes)]], sampling_rate)
        start, turn = start + sizes[turn % len(sizes)], turn + 1
    return found + live.finish()


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 2000))
@settings(max_examples=10, deadline=None)
def test_the_chunks_of_a_signal_change_nothing(micro, talk, sizes):
    whole = happenings(micro, talk, [len(talk)])
    cut = happenings(micro, talk, sizes)
    assert [type(one) for one in cut] == [type(one) for one in whole]
    for one, other in zip(cut, whole, strict=True):
        assert one == other


def test_intervals_are_the_events_of_a_stream_with_speech(micro, talk):
    stream = Stream(micro, vad="energy")
    expected = [event for event in stream.push(talk) + stream.finish() if event.speech]
    found = [
        one.event
        for one in happenings(micro, talk, [1600])
        if isinstance(one, Measurement)
        if one.trigger == "interval"
    ]
    assert found == expected and len(expected) > 8


def test_an_utterance_gets_the_answer_of_predict(micro, talk):
    ended = [
        one for one in happenings(micro, talk, [777]) if isinstance(one, Measurement) if one.trigger == "speech_ended"
    ]
    assert [one.utterance for one in ended] == [1, 2]
    for one in ended:
        part = talk[round(one.event.start * 16000) : round(one.event.end * 16000)]
        (expected,) = predict(part, 16000, model=micro, vad="energy")
        assert [getattr(one.event, name) for name in OUTPUTS] == [getattr(expected, name) for name in OUTPUTS]


def test_a_long_utterance_is_answered_from_its_last_15_s(micro, clip):
    speech = clip[3000:45000]
    signal = np.concatenate([*[speech] * 8, np.zeros(16000, np.int16)])
    (ended,) = [one for one in happenings(micro, signal, [4000]) if getattr(one, "trigger", "") == "speech_ended"]
    assert ended.event.end - ended.event.start == pytest.approx(15.0)


def test_utterances_begin_and_end_with_their_speech(talk, clip):
    frames = FrameCutter().push(talk.astype(np.float32) / 32768)
    marks = Utterances(Energy()).push(frame_power(frames))
    assert [mark.end is None for mark in marks] == [True, False, True, False]
    for start, end, offset in ((0, 1, 0), (2, 3, len(clip) + 16000)):
        assert offset <= marks[start].start < offset + 8000
        assert offset + len(clip) - 4800 < marks[end].end <= offset + len(clip) + 512
        assert marks[end].position - marks[end].end == 19 * 512


def test_a_cut_ends_an_utterance_and_the_next_begins(micro, clip):
    live = LiveSignal(micro, OPTIONS)
    first = live.push(clip[:24000], 16000)
    forced = live.cut()
    assert isinstance(first[0], Boundary) and first[0].end is None
    assert [type(one) for one in forced] == [Measurement, Boundary] and forced[0].event.end == forced[1].end
    assert live.cut() == []
    assert Boundary in map(type, live.push(clip[24000:], 16000)) and live.count == 2


def test_signals_that_are_pushed_together_get_what_each_gets_alone(silero, micro, talk):
    """Of a stream and of predict, too; and the network of Silero gets every frame once."""
    options = LiveOptions()
    signals = [talk, talk[8000:], np.zeros(40_000, np.int16)]
    alone = [happenings(micro, signal, [4000], options) for signal in signals]
    lives, together = [LiveSignal(micro, options) for _ in signals], [[] for _ in signals]
    with counted_frames() as frames:
        for start in range(0, len(talk), 4000):
            pushes = [
                Push(live, signal[start : start + 4000], 16000) for live, signal in zip(lives, signals, strict=True)
            ]
            for found, new in zip(together, push_together(pushes), strict=True):
                found += new
        assert sum(frames) == sum(len(signal) // 512 for signal in signals)
    for live, found, expected in zip(lives, together, alone, strict=True):
        found += live.finish()
        assert found == expected
    stream = Stream(micro)
    assert [one.event for one in together[0] if getattr(one, "trigger", "") == "interval"] == [
        event for event in stream.push(talk) + stream.finish() if event.speech
    ]


def test_an_error_of_one_signal_does_not_touch_the_others(micro, talk):
    good, bad = LiveSignal(micro, OPTIONS), LiveSignal(micro, OPTIONS)
    bad.push(talk[:1600], 16000)
    first, second = push_together([Push(bad, talk, 8000), Push(good, talk, 16000)])
    assert isinstance(first, AudioError) and "sampling rate" in str(first)
    assert second == LiveSignal(micro, OPTIONS).push(talk, 16000)


@contextmanager
def counted_frames():
    """The rows of each call of Silero's network."""
    network, rows = vad._silero_session(), []

    class Counting:
        def run(self, names, given):
            rows.append(len(given["input"]))
            return network.run(names, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vad, "_silero_session", Counting)
        yield rows


def test_silence_is_answered_by_nothing(micro):
    assert happenings(micro, np.zeros(80_000, np.int16), [1600]) == []


def test_deviations_are_those_of_a_stream_with_a_baseline(micro, clip):
    signal = np.concatenate([clip[3000:45000]] * 12)
    stream = Stream(micro, vad="energy", baseline=Baseline())
    expected = [event for event in stream.push(signal) + stream.finish() if event.speech]
    found = happenings(micro, signal, [1600], LiveOptions(vad="energy", baseline=True))
    assert [one.event for one in found if getattr(one, "trigger", "") == "interval"] == expected
    assert expected[0].arousal_deviation is None and expected[-1].arousal_deviation is not None
    ended = [one.event for one in found if getattr(one, "trigger", "") == "speech_ended"]
    assert ended[-1].arousal_deviation is not None


def test_memory_does_not_grow(micro, clip):
    live = LiveSignal(micro, OPTIONS)
    speech = clip[3000:45000]
    for _ in range(30):
        live.push(speech, 16000)
    assert sum(map(len, live._recent._blocks)) < 20 * 16000


def test_mulaw_is_that_of_g711():
    """Values of ITU-T G.711, table 2: the ends, the steps of the first segment, and both zeros."""
    assert MULAW[[0x00, 0x80, 0x7F, 0xFF, 0xFE, 0x7E, 0x8F, 0x10]].tolist() == [
        -32124,
        32124,
        0,
        0,
        8,
        -8,
        16764,
        -15996,
    ]
    assert len(set(MULAW.tolist())) == 255
    stereo = AudioFormat(8000, 2, is_mulaw=True)
    assert stereo.decode(b"\x00\x80\x7f\xff").tolist() == [[-32124, 32124], [0, 0]] and stereo.duration(16000) == 1.0
