"""A stream equals its batch for any cutting, hop and window, through reset and finish; wrong use is a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from functools import lru_cache, reduce
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_duration, any_length
from random_student import random_arrays
from wav2small import Event, Prediction, Stream, load, predict
from wav2small.audio import read as audio
from wav2small.errors import AudioError, Wav2SmallError
from wav2small.network import fixed_point, reference
from wav2small.network.config import Emotion
from wav2small.network.fixed_frontend import log_mel, to_samples
from wav2small.network.micro import MICRO
from wav2small.network.weights import DATA, NETWORK
from wav2small.runtime.causal import Causal, weights_from_arrays
from wav2small.runtime.compiler import COMPILERS
from wav2small.runtime.model import Model

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.flac"))
TOLERANCE = 1e-4

sizes = st.lists(st.just(0) | any_length(100, 30_000), min_size=1, max_size=12)
lengths = any_length(1, 5 * 16000)
hops = any_duration(320, 2 * 16000)
windows = any_duration(1600, 3 * 16000)


BACKENDS = [
    "onnx",
    pytest.param("c", marks=pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler")),
]


@lru_cache
def model(name: str = "micro", precision: str = "fp32", backend: str = "onnx") -> Model:
    return load(f"{name}:{precision}", backend)


@lru_cache
def voices() -> np.ndarray:
    return np.concatenate([audio.read(path) for path in EXAMPLES])


def signal_of(length: int, seed: int) -> np.ndarray:
    """A stretch of the examples, and more of them if it must be longer."""
    return np.resize(np.roll(voices(), -7919 * seed), length)


def cut(signal: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """Chunks of these sizes, again and again; all that is left if every size is 0."""
    start = 0
    while start < len(signal):
        for size in sizes if any(sizes) else [len(signal)]:
            yield signal[start : start + size]
            start += size


def answers(stream: Stream, chunks, sampling_rate: float = 16000) -> list:
    return [event for chunk in chunks for event in stream.push(chunk, sampling_rate)] + stream.finish()


def emotion(row) -> tuple:
    return row.arousal, row.dominance, row.valence


def batch(signal: np.ndarray, spans: list[tuple[int, int]]) -> list[np.ndarray]:
    """The definition: tokens of the whole signal, those inside each window pooled by the reference.

    A token is inside if all samples of its newest frame are; a last window that has none is padded with zeros.
    """
    arrays, _, config = reference.load_student(DATA / "micro.safetensors")
    tokens = reference.tokens(reference.features(np.pad(signal, (0, 800)), config), arrays, config)
    found = []
    for start, end in spans:
        first = -(-start // 320)
        embedding = reference.pool(tokens[first : max(first, (end - 400) // 320) + 1], arrays, config)
        found.append(np.clip(arrays["out.weight"] @ embedding + arrays["out.bias"], 0, 1))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@given(lengths, sizes, hops, windows, st.integers(0, 20), st.booleans())
@settings(max_examples=60, deadline=None)
def test_frame_by_frame_equals_the_batch_form_of_every_window(backend, length, sizes, hop, window, seed, used):
    hop = min(hop, window)
    signal, stream = signal_of(length, seed), Stream(model(backend=backend), hop, window, min_speech=0)
    if used:
        answers(stream, cut(signal_of(33_333, seed + 1), [1234]))
        stream.reset()
    events = answers(stream, cut(signal, sizes))
    assert [(event.start, event.end) for event in events] == grid(length, hop, window)
    spoken = [event for event in events if event.speech]
    spans = [(round(event.start * 16000), round(event.end * 16000)) for event in spoken]
    for event, expected in zip(spoken, batch(signal, spans), strict=True):
        np.testing.assert_allclose(emotion(event), expected, atol=TOLERANCE)


def grid(length: int, hop: float, window: float) -> list[tuple[float, float]]:
    """Start and end of the windows of a signal in seconds, by the rule as docs/stream.md has it."""
    win_length, hop_length, found = round(window * 16000), hop * 16000, []
    while length >= 64:
        start = round(len(found) * hop_length)
        if found and (length - start) * 10 < win_length:
            break
        found.append((start / 16000, min(start + win_length, length) / 16000))
        if start + win_length >= length:
            break
    return found


@pytest.mark.slow
@given(lengths, sizes, hops, windows, st.integers(0, 20), st.booleans())
@settings(max_examples=60, deadline=None)
def test_window_by_window_is_what_the_model_says_of_each_bit_for_bit(length, sizes, hop, window, seed, used):
    hop, heard = min(max(hop, 0.3), window), []

    def record(part: np.ndarray) -> Emotion:
        heard.append(part.copy())
        return model("wav2small", "int8")(part)

    signal, stream = signal_of(length, seed), Stream(record, hop, window, min_speech=0)
    if used:
        answers(stream, cut(signal_of(33_333, seed + 1), [1234]))
        stream.reset()
        heard.clear()
    events = answers(stream, cut(signal, sizes))
    assert [(event.start, event.end) for event in events] == grid(length, hop, window)
    spoken = [event for event in events if event.speech]
    assert len(spoken) == len(heard)
    for event, part in zip(spoken, heard, strict=True):
        window_of = signal[round(event.start * 16000) : round(event.end * 16000)]
        np.testing.assert_array_equal(part, window_of)
        assert emotion(event) == model("wav2small", "int8")(window_of)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["micro", "wav2small"])
def test_however_it_is_cut_the_events_are_the_same_bit_for_bit(name, backend):
    signal, rng = signal_of(8 * 16000, 1), np.random.default_rng(0)
    loaded = model(name, backend=backend)
    expected = answers(Stream(loaded, 0.7, 2.1), [signal])
    assert len(expected) == 10
    for largest in (100, 3000, 50_000):
        cuts = np.cumsum(rng.integers(0, largest, 20 * 16000 * 8 // largest))
        assert answers(Stream(loaded, 0.7, 2.1), np.split(signal, cuts[cuts < len(signal)])) == expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["micro", "wav2small"])
def test_after_a_reset_nothing_is_left_of_the_stream_before(name, backend):
    signal, loaded = signal_of(4 * 16000, 2), model(name, backend=backend)
    fresh = answers(Stream(loaded), [signal])
    stream = Stream(loaded)
    for before in (np.full(50_001, 0.9, "f4"), signal[:12_345], signal):
        stream.push(before, 44100)
        stream.reset()
        assert answers(stream, [signal]) == fresh
        stream.reset()


@pytest.mark.parametrize("backend", BACKENDS)
@given(st.integers(0, 3), any_length(160, 399), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_a_last_window_shorter_than_a_token_is_padded_to_one(backend, whole, rest, seed):
    signal = signal_of(1600 * whole + rest, seed)
    event = answers(Stream(model(backend=backend), 0.1, 0.1, min_speech=0), [signal])[-1]
    assert round(event.end * 16000) == len(signal)
    if event.speech:
        (expected,) = batch(signal, [(1600 * whole, len(signal))])
        np.testing.assert_allclose(emotion(event), expected, atol=TOLERANCE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_first_window_is_what_predict_says_of_it(precision, backend):
    micro, signal = model("micro", precision, backend), signal_of(7 * 16000, 3)
    for window in (0.5, 3.0, 7.0):
        (first, *_) = answers(Stream(micro, window / 4, window), cut(signal, [1600]))
        (row,) = predict(signal[: round(window * 16000)], 16000, model=micro)
        np.testing.assert_allclose(emotion(first), emotion(row), atol=TOLERANCE)


def test_the_tokens_are_those_of_the_reference_for_any_cutting():
    arrays = random_arrays(3, MICRO)
    network, signal = Causal(weights_from_arrays(arrays, MICRO), MICRO), signal_of(90_000, 4)
    expected = reference.tokens(reference.features(signal, MICRO), arrays, MICRO)
    for size in (1, 160, 161, 399, 5000):
        pieces = [network.push(chunk) for chunk in cut(signal[: size * 3000], [size])]
        found = np.concatenate(pieces)
        assert len(found) == len(expected[: len(found)])
        np.testing.assert_allclose(found, expected[: len(found)], atol=2e-4)
        network.reset()


def test_the_tokens_of_the_highest_tones_are_those_of_the_reference():
    """The last bins of the spectrum have power there and hardly any in speech."""
    arrays, time = random_arrays(3, MICRO), np.arange(16_001) / 16000
    network = Causal(weights_from_arrays(arrays, MICRO), MICRO)
    for hertz in (40, 80, 7700, 7900, 7960):
        signal = (0.1 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        expected = reference.tokens(reference.features(signal, MICRO), arrays, MICRO)
        network.reset()
        np.testing.assert_allclose(network.push(signal), expected, atol=2e-3)


def test_integers_stream_as_the_numbers_they_stand_for():
    integers = load(DATA / "micro-int8.safetensors", backend="numpy")
    signal = signal_of(60_000, 5)
    rows = [answers(Stream(one), [signal]) for one in (integers, model("micro", "int8"))]
    for one, other in zip(*rows, strict=True):
        np.testing.assert_allclose(emotion(one), emotion(other), atol=TOLERANCE)


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler")
def test_integers_in_c_stay_integers_window_by_window():
    """To the bit: as the reference pools the tokens of each window, part by part."""
    arrays, _, config = reference.load_student(DATA / "micro-int8.safetensors")
    signal = to_samples(signal_of(80_000, 8)).astype(np.float32) / 32768
    tokens = fixed_point.tokens(log_mel(to_samples(signal), config), arrays, config)
    events = answers(Stream(model("micro", "int8", "c"), 0.7, 2.1, min_speech=0), cut(signal, [1600]))
    assert len(events) == 6
    for event in events:
        cuts = [-(-round(start * 16000) // 320) for start in np.arange(0, 8, 0.7) if start >= event.start - 1e-9]
        end = (round(event.end * 16000) - 400) // 320 + 1
        parts = np.split(tokens[:end], [first for first in cuts if first < end])[1:]
        state = reduce(fixed_point.merge, [fixed_point.pool(part, arrays) for part in parts])
        assert emotion(event) == tuple(np.clip(fixed_point.read_pool(state, arrays)[1] / np.float32(2**15), 0, 1))


def test_only_what_looks_back_only_runs_frame_by_frame():
    assert model("micro").causal() is not None and model("wav2small").causal() is None
    assert load(DATA / "wav2small.safetensors", backend="numpy").causal() is None
    for metadata in ({"student": "micro"}, {NETWORK: MICRO.to_json()}):  # without weights
        assert Model(lambda signals: (signals, signals), metadata, lambda: {}).causal() is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro", "wav2small"])
def test_a_file_by_stream_and_by_predict_every_has_the_same_events(tmp_path, name):
    signal = signal_of(11 * 44100, 6)
    for suffix, options in {"wav": {"subtype": "FLOAT"}, "flac": {}, "ogg": {}}.items():
        soundfile.write(tmp_path / f"a.{suffix}", signal, 44100, **options)
        rows = predict(tmp_path / f"a.{suffix}", model=model(name), hop_dur=1, win_dur=2.5)
        raw, rate = soundfile.read(tmp_path / f"a.{suffix}", dtype="float32")
        events = answers(Stream(model(name), 1, 2.5), cut(raw, [4410]), rate)
        assert rows == [Prediction(file=str(tmp_path / f"a.{suffix}"), **vars(event)) for event in events]


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 16000.5])
def test_any_rate_is_resampled_as_a_whole_would_be(rate):
    signal = (0.3 * np.random.default_rng(0).standard_normal(round(4 * rate))).astype("f4")
    expected = answers(Stream(model()), [audio.prepare(signal, rate)])
    assert answers(Stream(model()), cut(signal, [1, 0, 777, 3000]), rate) == expected


def test_a_tone_above_8_khz_is_gone_at_16_khz():
    heard = []
    stream = Stream(lambda part: heard.append(part) or Emotion(0, 0, 0), 1, 1)
    time = np.arange(2 * 48000) / 48000
    tones = 0.01 * np.sin(2e4 * np.pi * time) + 0.01 * np.sin(800 * np.pi * time)
    answers(stream, cut(tones.astype("f4"), [480]), 48000)
    spectrum = np.abs(np.fft.rfft(heard[1]))
    assert spectrum[400] > 1000 * np.delete(spectrum, range(380, 421)).max()


@given(st.sampled_from([np.int16, np.int32, np.uint8, np.float64]), st.booleans(), sizes)
@settings(max_examples=20, deadline=None)
def test_integers_and_channels_are_floats_mixed_down_and_stay_as_they_are(dtype, stereo, sizes):
    rng = np.random.default_rng(0)
    signal = rng.integers(0, 200, (40_000, 2) if stereo else 40_000).astype(dtype)
    signal = signal / 256 if dtype is np.float64 else signal
    before = signal.copy()
    events = answers(Stream(model(), 1, 1), cut(signal, sizes))
    assert events == answers(Stream(model(), 1, 1), [audio.prepare(signal, 16000)])
    np.testing.assert_array_equal(signal, before)


def test_the_channel_asked_for_is_the_one_heard():
    signal = np.stack([voices()[:48000], np.zeros(48000, "f4")], axis=1)
    assert [Stream(model(), channel=number).push(signal)[0].speech for number in (0, 1)] == [True, False]


@pytest.mark.parametrize("min_speech", [0.1, 0.5, 1.0, 2.5])
def test_a_window_with_too_little_speech_says_so_and_has_no_emotion(min_speech):
    signal = np.concatenate([np.zeros(48000, "f4"), voices()[:48000], np.zeros(48000, "f4")])
    events = answers(Stream(model(), 0.2, 3, min_speech=min_speech), cut(signal, [1600]))
    assert {True, False} == {event.speech for event in events}
    for event in events:
        enough = event.speech_ratio * 3 >= min_speech
        assert (event.speech, event.arousal is None) == (enough, not enough)


def test_a_short_window_needs_less_speech_in_proportion():
    signal = np.concatenate([np.zeros(6400, "f4"), voices()[20_000:25_600], np.zeros(4000, "f4")])
    assert [answers(Stream(model(), min_speech=s), [signal])[0].speech for s in (0.9, 1.2)] == [True, False]


def test_silence_is_an_event_without_an_emotion():
    expected = [Event(number / 2, number / 2 + 3, speech=False, speech_ratio=0.0) for number in range(3)]
    assert answers(Stream(model()), [np.zeros(64_000, np.int16)]) == expected


def test_an_empty_stream_and_one_too_short_have_no_events():
    for length in (0, 1, 63):
        stream = Stream(model())
        assert stream.push(np.ones(length, "f4")) == [] and stream.finish() == []
    stream.reset()
    assert stream.push(voices()[20_000:20_064]) == []
    (event,) = stream.finish()
    assert event.end == 64 / 16000 and event.speech


@given(any_length(1600, 50_000), st.sampled_from([-1, 0, 1]), st.integers(0, 2), sizes)
@settings(max_examples=40, deadline=None)
def test_a_last_window_needs_a_tenth_of_a_window(win_length, off, whole, sizes):
    """The tenth of whole samples: a shorter one is left out, unless it is the only one."""
    shortest = -(-win_length // 10)
    signal, dur = np.zeros(whole * win_length + shortest + off, "f4"), win_length / 16000
    expected = whole + (off >= 0 or whole == 0)
    assert len(answers(Stream(model(), dur, dur), cut(signal, sizes))) == expected
    assert len(predict(signal, 16000, model=model(), hop_dur=dur, win_dur=dur)) == expected


def push_after_finish(stream: Stream) -> None:
    stream.finish()
    stream.push(np.zeros(10))


def finish_twice(stream: Stream) -> None:
    stream.finish()
    stream.finish()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: s.push(np.r_[np.zeros(5), np.nan]), r"sample 1605 \(at 0.100 s\) is nan; samples must be finite"),
        (lambda s: s.push(np.full(3, np.inf, "f4")), r"sample 1600 \(at 0.100 s\) is inf"),
        (lambda s: s.push(np.zeros(10), 8000), "changed from 16000 to 8000 Hz within a stream; call reset"),
        (lambda s: s.push(np.zeros((2, 1600))), r"shape \(2, 1600\) is not a signal; give"),
        (lambda s: s.push(np.zeros((1, 1, 1))), r"shape \(1, 1, 1\) is not a signal"),
        (lambda s: s.push(np.float32(1)), r"shape \(\) is not a signal"),
        (lambda s: s.push(np.zeros(3, complex)), "array of complex128 is not a signal"),
        (lambda s: s.push("abc"), "is not a signal"),
        (push_after_finish, r"has finished and takes no more audio; call reset\(\)"),
        (finish_twice, "has finished"),
    ],
)
def test_wrong_use_is_one_sentence_and_the_stream_goes_on(act, words):
    signal = signal_of(4 * 16000, 7)
    expected = answers(Stream(model()), [signal])
    stream = Stream(model())
    stream.push(signal[:1600])
    with pytest.raises(AudioError, match=words) as caught:
        act(stream)
    assert "\n" not in str(caught.value)
    if "finish" in words:
        stream.reset()
        stream.push(signal[:1600])
    assert answers(stream, [signal[1600:]]) == expected


@pytest.mark.parametrize(
    ("hop", "window", "words"),
    [
        (5, 3, "a window of 3 s every 5 s would skip the audio between them; give a window of 5 s or more"),
        (0, 3, "a window of 3 s every 0 s; allowed: 0.1 s or more, every 0.01 s or more"),
        (0.5, 0.05, "a window of 0.05 s every 0.5 s; allowed"),
        (float("nan"), 3, "every nan s"),
        (0.5, float("inf"), "a window of inf s"),
    ],
)
def test_impossible_times_are_refused(hop, window, words):
    with pytest.raises(AudioError, match=words):
        Stream(model(), hop, window)


def test_silero_tells_a_voice_from_noise_and_forgets_at_a_reset(silero):
    noise = (0.1 * np.random.default_rng(0).standard_normal(64_000)).astype("f4")
    stream = Stream(model(), vad="silero")
    assert [event.speech for event in answers(stream, cut(noise, [777]))] == [False] * 3
    for cuts in ([64_000], [1, 511, 3000]):
        stream.reset()
        events = answers(stream, cut(voices()[:64_000], cuts))
        assert all(event.speech and event.speech_ratio > 0.5 for event in events)
        assert events == answers(Stream(model()), [voices()[:64_000]])
    assert all(event.speech for event in answers(Stream(model(), vad="energy"), [noise]))


def test_silero_answers_the_examples_as_files(silero):
    for path in EXAMPLES:
        (row,) = predict(path, model=model(), vad="silero")
        assert row.speech and 0.5 < row.speech_ratio < 1


def test_an_unknown_detector_is_refused():
    with pytest.raises(Wav2SmallError, match="vad is 'webrtc'; known are silero and energy"):
        Stream(model(), vad="webrtc")


@pytest.mark.parametrize("level", [0.1, 0.0])
@pytest.mark.parametrize("backend", [*BACKENDS, None])
def test_memory_does_not_grow_in_speech_nor_in_silence(backend, level):
    """In frames, and in whole windows, of which an empty ear is shown all."""
    answer = model(backend=backend) if backend else lambda part: Emotion(0, 0, 0)
    stream, block = Stream(answer), (level * np.random.default_rng(0).standard_normal(48000)).astype("f4")
    held = []
    tracemalloc.start()
    for number in range(40):
        stream.push(block, 48000)
        if number % 10 == 9:
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held[1:]) - min(held[1:]) < 20_000


def test_the_state_of_micro_has_the_bytes_that_the_document_says():
    """docs/stream.md: the table of what ``micro`` remembers."""
    network = Causal(weights_from_arrays(random_arrays(0, MICRO), MICRO), MICRO)
    network.push(np.zeros(4 * 16000 + 80, "f4"))
    text = (Path(__file__).parents[2] / "docs" / "stream.md").read_text(encoding="utf-8")
    table = {cells[1].strip(): cells[2:] for cells in (line.split("|") for line in text.splitlines() if "|" in line)}
    state = network.state
    values = {
        "end of the signal": MICRO.frontend.win_length - MICRO.frontend.hop_length,
        "power of the level's frames": state["level"].size,
        "first convolution": state["conv"].size,
        "depthwise convolutions": sum(past.size for name, past in state.items() if name.startswith("depth")),
        "pooling": network.partial(network.push(np.zeros(1600, "f4"))).size,
    }
    for name, count in values.items():
        assert int(table[name][0].replace(",", "")) == count
        assert int(table[name][1].replace(",", "")) == 4 * count
    for column in (1, 2):
        parts = [int(table[name][column].replace(",", "")) for name in values]
        assert int(table["all"][column].replace(",", "")) == sum(parts)


THREADS = """
from pathlib import Path
import numpy as np
from wav2small import Stream

def ticks():
    fields = (task.read_text().rpartition(")")[2].split() for task in sorted(Path("/proc/self/task").glob("*/stat")))
    return [int(field[11]) + int(field[12]) for field in fields]

signal = np.random.default_rng(1).uniform(-0.1, 0.1, 16000).astype(np.float32)
stream, before = Stream("micro", vad="energy"), None
for _ in range(150):
    stream.push(signal)
    before = before or ticks()
main, *others = (now - then for now, then in zip(ticks(), before))
print(len(others), main, sum(others))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_a_stream_computes_on_the_thread_that_pushes():
    """Whatever BLAS is told: it is asked for 4 threads here, and they do nothing."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"}
    run = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True)
    others, main, theirs = map(int, run.stdout.split())
    assert main >= 10 and theirs <= 0.05 * main, f"{others} other threads took {theirs} ticks, this one {main}"
