"""The monitor of the C runtime answers as a stream of Python with a baseline, speech detected by level."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wav2small
from wav2small.audio import read as reading
from wav2small.audio import vad
from wav2small.audio.vad import SpeechMeter
from wav2small.export.boards import MONITOR_BYTES
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA
from wav2small.runtime import compiler
from wav2small.runtime.c_header import HEADER, header

C = compiler.runtime()
DEVIATIONS = [f"{name}_deviation" for name in OUTPUTS]
PROGRAM = """
/* Arguments: hop, chunk sizes in turn. Standard input: 16-bit samples. A line for each event. */
#include <stdio.h>
#include <stdlib.h>
#include "w2s.h"
static w2s_monitor monitor;
static w2s_speech speech;
static void print(const w2s_emotion *values)
{
    printf(" %.9g %.9g %.9g", (double)values->arousal, (double)values->dominance, (double)values->valence);
}
int main(int count, char **words)
{
    static int16_t samples[65536];
    w2s_event event;
    int n = 0;
    int status = w2s_monitor_init(&monitor, atoi(words[1]));
    if (status != W2S_OK) return printf("%d\\n", status), 0;
    w2s_speech_init(&speech);
    for (int turn = 0;; turn++) {
        n = (int)fread(samples, 2, (size_t)atoi(words[2 + turn % (count - 2)]), stdin);
        if (n == 0) break;
        w2s_speech_push_int16(&speech, samples, n);
        if (w2s_monitor_push(&monitor, samples, n, &event) != 1) continue;
        printf("%.9g", (double)event.speech_ratio);
        if (event.has_emotion) print(&event.emotion);
        if (event.has_deviation) print(&event.deviation);
        printf("\\n");
    }
    printf("ratio %.9g bytes %zu\\n", (double)w2s_speech_ratio(&speech, 48000), sizeof monitor - sizeof monitor.stream);
    return 0;
}
"""

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def program(folder: Path, name: str, *flags: str) -> Path:
    (folder / HEADER).write_text(header(DATA / f"{name}.safetensors"))
    (folder / "main.c").write_text(PROGRAM)
    warn = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    sources = [folder / "main.c", C / "w2s.c"]
    subprocess.run(["gcc", *warn, *flags, f"-I{C}", f"-I{folder}", *sources, "-o", folder / "run"], check=True)
    return folder / "run"


def run(path: Path, samples: np.ndarray, hop: int, *chunks: int) -> list[str]:
    command = [str(path), str(hop), *map(str, chunks)]
    return (
        subprocess.run(command, input=samples.tobytes(), check=True, capture_output=True).stdout.decode().splitlines()
    )


@pytest.fixture(scope="module")
def micro(tmp_path_factory) -> Path:
    return program(tmp_path_factory.mktemp("monitor"), "micro-int8")


def values(event: wav2small.Event) -> list[float]:
    found = [getattr(event, name) for name in ("speech_ratio", *OUTPUTS, *DEVIATIONS)]
    return [value for value in found if value is not None]


@pytest.mark.parametrize("chunks", [(160,), (16000, 1, 4321), (48000,), (30000, 20000)])
def test_its_events_are_those_of_python_however_the_signal_is_cut(micro, samples, events, chunks):
    lines, ends = run(micro, samples, 16000, *chunks)[:-1], np.array([event.end * 16000 for event in events])
    pushed = np.minimum(np.cumsum(np.resize(chunks, len(samples))), len(samples))
    events = [
        events[number] for number in np.unique(ends.searchsorted(pushed, "right") - 1) if number >= 0
    ]  # last ones
    assert [len(line.split()) for line in lines] == [len(values(event)) for event in events]
    for line, event in zip(lines, events, strict=True):
        np.testing.assert_allclose([float(word) for word in line.split()], values(event), atol=2e-5, rtol=1e-5)


def test_the_clip_has_all_kinds_of_events(events):
    assert {len(values(event)) for event in events} == {1, 4, 7}


@pytest.mark.slow
@pytest.mark.parametrize(("hop", "parts"), [(1600, 1), (4800, 4), (4001, 5), (8000, 6), (16000, 8)])
def test_any_hop_and_window_answer_as_in_python(tmp_path, samples, hop, parts):
    path = program(tmp_path, "micro-int8", f"-DW2S_PARTS={parts}")
    samples = samples[: 15 * 16000]
    model = wav2small.load("micro:int8", backend="c")
    stream = wav2small.Stream(model, hop / 16000, hop * parts / 16000, vad="energy", baseline=wav2small.Baseline())
    events, lines = stream.push(samples, 16000), run(path, samples, hop, 1000)[:-1]
    assert [len(line.split()) for line in lines] == [len(values(event)) for event in events]
    for line, event in zip(lines, events, strict=True):
        np.testing.assert_allclose([float(word) for word in line.split()], values(event), atol=2e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_float_model_answers_as_in_python(tmp_path, samples):
    lines = run(program(tmp_path, "micro"), samples[: 10 * 16000], 16000, 500)[:-1]
    stream = wav2small.Stream(wav2small.load("micro", backend="c"), 1.0, 3.0, vad="energy")
    events = stream.push(samples[: 10 * 16000], 16000)
    assert len(lines) == len(events) == 8
    for line, event in zip(lines, events, strict=True):
        np.testing.assert_allclose([float(word) for word in line.split()], values(event), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(1, 60000), chunk=st.integers(1, 3000), level=st.integers(-75, 3))
def test_speech_is_detected_as_by_level_in_python(micro, seed, length, chunk, level):
    """Noise at random levels, in steps of 10 to 200 ms."""
    rng = np.random.default_rng(seed)
    envelope = np.repeat(10 ** (rng.uniform(level - 50, level, 400) / 20), rng.integers(160, 3200))
    signal = rng.standard_normal(length) * np.resize(envelope, length) + rng.uniform(-0.1, 0.1)
    samples = np.clip(np.round(signal * 32768), -32768, 32767).astype(np.int16)
    meter = SpeechMeter(vad.Energy())
    meter.push(samples.astype(np.float32) / 32768)
    expected = meter.sound(max(0, length - 48000), length).ratio
    assert float(run(micro, samples, 16000, chunk)[-1].split()[1]) == pytest.approx(expected, abs=1e-6)


def test_its_memory_beside_the_stream_is_what_export_counts(micro):
    found = int(run(micro, np.zeros(1, np.int16), 16000, 1)[-1].split()[3])
    assert MONITOR_BYTES - 256 < found <= MONITOR_BYTES


@pytest.mark.parametrize("hop", [0, 1599, 16001])
def test_a_hop_that_it_cannot_have_is_an_error(micro, hop):
    assert run(micro, np.zeros(1, np.int16), hop, 1) == ["-3"]


@pytest.mark.slow
def test_a_model_that_is_normalised_over_the_utterance_is_an_error(tmp_path):
    assert run(program(tmp_path, "wav2small-int8"), np.zeros(1, np.int16), 16000, 1) == ["-6"]


def test_its_constants_are_those_of_python():
    text = (C / "w2s_speech.h").read_text() + (C / "w2s_monitor.h").read_text()
    found = {name: float(number) for name, number in re.findall(r"#define W2S_(\w+) ([\d.]+)f?\b", text)}
    assert found["SPEECH_FRAME"] == reading.FRAME_LENGTH
    assert found["SPEECH_PAUSE"] == pytest.approx(10 ** (-vad.PAUSE_LEVEL / 10))
    assert found["SPEECH_LEAST"] == pytest.approx(10 ** (reading.SPEECH_LEVEL / 10) * 2.0**48, rel=1e-8)
    assert found["MONITOR_MIN_SPEECH_DUR"] == vad.MIN_SPEECH_DUR
    assert found["MONITOR_WHOLE_DUR"] == vad.WINDOW_DUR
