"""A turn equals predict and Stream for any cutting and rate; its note needs a baseline and an interval outside it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_length
from wav2small import Baseline, Emotion, Stream, load, predict
from wav2small.agents import Reading, Turn
from wav2small.errors import AudioError, WeightsError
from wav2small.runtime.baseline import READY_DUR
from wav2small.runtime.model import Model

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.flac"))
DIMENSIONS = ("arousal", "dominance", "valence")
RATES = (8000, 16000, 24000, 44100, 48000)


@lru_cache
def model(name: str = "micro") -> Model:
    return load(name, calibration=True)


@lru_cache
def clip(path: Path, sampling_rate: int = 16000) -> np.ndarray:
    """int16, shape=(samples,)."""
    signal, own_rate = soundfile.read(path)
    resampled = signal if own_rate == sampling_rate else soxr.resample(signal, own_rate, sampling_rate)
    return np.round(resampled.clip(-1, 1) * 32767).astype(np.int16)


def spoken(turn: Turn, signal: np.ndarray, sampling_rate: int = 16000, size: int = 320) -> Reading:
    for start in range(0, len(signal), size):
        turn.push(signal[start : start + size].tobytes(), sampling_rate)
    return turn.stop()


def values(row) -> list[float]:
    ends = [f"{name}_{end}" for name in DIMENSIONS for end in ("low", "high")]
    return [getattr(row, name) for name in (*DIMENSIONS, *ends)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["micro", "wav2small"])
def test_a_turn_is_what_predict_answers_for_it_as_a_file(path, name):
    (row,) = predict(clip(path), 16000, model=model(name), vad="energy")
    reading = spoken(Turn(model(name)), clip(path))
    np.testing.assert_allclose(values(reading), values(row), atol=1e-4)
    assert reading.speech_ratio == pytest.approx(row.speech_ratio) and reading.dur == pytest.approx(row.end)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro", "wav2small"])
def test_a_long_turn_is_the_mean_of_windows_of_thirty_seconds(name):
    signal = np.concatenate([clip(path) for path in EXAMPLES] * 6)[: 70 * 16000]
    stream = Stream(model(name), 30, 30, vad="energy")
    events = [*stream.push(signal), *stream.finish()]
    durs = [event.end - event.start for event in events]
    assert durs == [30, 30, pytest.approx(len(signal) / 16000 - 60)]
    expected = np.average([values(event) for event in events], axis=0, weights=durs)
    np.testing.assert_allclose(values(spoken(Turn(model(name)), signal, size=4000)), expected, rtol=1e-12)


@given(st.lists(any_length(100, 30_000), min_size=1, max_size=9), st.sampled_from(RATES), st.sampled_from(EXAMPLES))
@settings(max_examples=10, deadline=None)
def test_any_cutting_gives_the_same_reading_bit_for_bit(sizes, sampling_rate, path):
    signal, turn = clip(path, sampling_rate), Turn(model())
    start = 0
    for size in np.resize(sizes, len(signal) // sum(sizes) * len(sizes) + len(sizes)):
        turn.push(signal[start : start + size], sampling_rate)
        start += size
    assert turn.stop() == spoken(Turn(model()), signal, sampling_rate, len(signal))


@pytest.mark.parametrize("sampling_rate", RATES)
def test_bytes_arrays_and_channels_are_the_same_audio_at_every_rate(sampling_rate):
    signal = clip(EXAMPLES[0], sampling_rate)
    stereo = np.stack([signal, np.roll(signal, 5000)[::-1]], 1)
    (row,) = predict(signal, sampling_rate, model=model(), vad="energy")
    np.testing.assert_allclose(values(spoken(Turn(model()), signal, sampling_rate)), values(row), atol=2e-3)
    left, both = Turn(model(), channel=0), Turn(model())
    left.push(stereo.tobytes(), sampling_rate, 2)
    assert left.stop() == spoken(Turn(model()), signal, sampling_rate)
    both.push(stereo, sampling_rate)
    half = Turn(model())
    half.push((stereo / 32768).mean(1), sampling_rate)
    np.testing.assert_allclose(values(both.stop()), values(half.stop()), atol=1e-5)


def test_after_reset_the_same_audio_has_the_same_reading():
    expected = spoken(Turn(model()), clip(EXAMPLES[1]))
    turn = Turn(model())
    turn.push(clip(EXAMPLES[0], 48000), 48000)
    turn.reset()
    turn.start()
    assert spoken(turn, clip(EXAMPLES[1])) == expected
    assert spoken(turn, clip(EXAMPLES[1])) == expected, "a turn does not depend on the one before"


@pytest.mark.parametrize("sampling_rate", RATES)
@pytest.mark.parametrize("size", [160, 20_000])
def test_a_turn_begins_half_a_second_before_its_start(sampling_rate, size):
    before, signal = clip(EXAMPLES[2], sampling_rate), clip(EXAMPLES[3], sampling_rate)
    turn = Turn(model())
    for begin in range(0, len(before), size):
        turn.push(before[begin : begin + size], sampling_rate)
    turn.start()
    found = spoken(turn, signal, sampling_rate)
    assert found == spoken(Turn(model()), np.concatenate([before[-sampling_rate // 2 :], signal]), sampling_rate)


def test_the_rate_changes_between_turns_and_not_within_one():
    turn = Turn(model())
    for rate in RATES:
        turn.start()
        assert spoken(turn, clip(EXAMPLES[0], rate), rate) == spoken(Turn(model()), clip(EXAMPLES[0], rate), rate)
    turn.push(bytes(640), 16000)
    with pytest.raises(AudioError, match="sampling rate changed from 16000 to 8000 Hz"):
        turn.push(bytes(640), 8000)
    assert turn.stop().dur == 0.02


@pytest.mark.parametrize(("pcm", "channels"), [(b"abc", 1), (bytes(6), 2), (bytes(6), 0)])
def test_bytes_that_are_not_whole_samples_are_refused(pcm, channels):
    with pytest.raises(AudioError, match=rf"{len(pcm)} bytes are not whole int16 samples of {channels} channels"):
        Turn(model()).push(pcm, 16000, channels)


def test_silence_and_an_empty_turn_have_no_emotion():
    turn = Turn(model())
    assert turn.stop() == Reading(dur=0.0, speech_ratio=0.0)
    assert spoken(turn, np.zeros(16000, np.int16)) == Reading(dur=1.0, speech_ratio=0.0)
    assert turn.baseline.speech_dur == 0


def test_a_baseline_is_made_by_turns_and_notes_are_relative_to_it():
    sad, happy = clip(EXAMPLES[2]), clip(EXAMPLES[0])
    turn, readings = Turn(model()), []
    while not turn.baseline.is_ready:
        readings.append(spoken(turn, happy))
    assert {reading.deviation for reading in readings} == {reading.note for reading in readings} == {None}
    seconds = sum(reading.dur * reading.speech_ratio for reading in readings)
    assert turn.baseline.speech_dur == pytest.approx(seconds) and seconds >= READY_DUR
    before = Baseline(speech_dur=turn.baseline.speech_dur, mean=turn.baseline.mean, spread=turn.baseline.spread)
    reading = spoken(turn, sad)
    emotion = Emotion(*values(reading)[:3])
    assert reading.deviation == before.deviation(emotion) and reading.deviation.arousal < 0
    words = before.change(emotion, Emotion(*values(reading)[3::2]), Emotion(*values(reading)[4::2]))
    assert reading.note == f"The speaker may sound {words} (an estimate from the voice alone)."
    turn.new_speaker()
    assert turn.baseline.speech_dur == 0 and spoken(turn, sad).deviation is None


def test_there_is_a_note_only_where_an_interval_excludes_the_baseline():
    reading = spoken(Turn(model()), clip(EXAMPLES[0]))
    inside = Baseline(speech_dur=READY_DUR, mean=np.array(values(reading)[:3]) + 0.01, spread=np.full(3, 0.05))
    assert spoken(Turn(model(), inside), clip(EXAMPLES[0])).note is None
    low = Baseline(speech_dur=READY_DUR, mean=np.array([reading.arousal_low - 0.01, *values(reading)[1:3]]))
    assert spoken(Turn(model(), low), clip(EXAMPLES[0])).note == (
        "The speaker may sound livelier than usual (an estimate from the voice alone)."
    )
    without = Baseline(speech_dur=READY_DUR, mean=np.zeros(3))
    reading = spoken(Turn("micro", without, calibrated=False), clip(EXAMPLES[0]))
    assert reading.note is None and reading.arousal_low is None and reading.deviation is not None


def test_a_baseline_of_other_weights_is_refused():
    baseline = Turn("micro").baseline
    with pytest.raises(WeightsError, match="the baseline is of micro"):
        Turn("wav2small", baseline)


def test_a_reading_is_json():
    baseline = Baseline(speech_dur=READY_DUR, mean=np.zeros(3))
    reading = spoken(Turn(model(), baseline), clip(EXAMPLES[0]))
    content = json.loads(json.dumps(reading.as_dict()))
    assert content["deviation"] == reading.deviation._asdict() and content["note"] == reading.note
    assert Reading(**content | {"deviation": Emotion(**content["deviation"])}) == reading
    assert Reading(1.0, 0.0).as_dict()["deviation"] is None
    with pytest.raises(AttributeError):
        reading.arousal = 0.0


@pytest.mark.slow
def test_memory_does_not_grow_with_turns_or_with_one_long_turn():
    turn, chunk = Turn(model()), clip(EXAMPLES[0])[:1600].tobytes()

    def held(dur: int, turns: int) -> int:
        """Bytes held 5 s after the start of a turn, after one of so many seconds and so many of one second."""
        for seconds in (dur, *[1] * turns):
            turn.start()
            for _ in range(10 * seconds):
                turn.push(chunk, 16000)
            turn.stop()
        for _ in range(50):
            turn.push(chunk, 16000)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    before = held(70, 5)
    assert held(200, 30) - before < 10_000
    tracemalloc.stop()


def test_no_framework_is_imported():
    names = ("pipecat", "livekit", "wyoming", "mcp")
    script = f"import sys, wav2small.agents; print([name for name in {names} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
