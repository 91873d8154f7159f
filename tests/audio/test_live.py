"""Live audio: a microphone that is there, goes away or never was; pipes; the pace of time; meters and lines."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import threading
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from wav2small import Event, Stream
from wav2small.audio import read as audio
from wav2small.audio import sources as live
from wav2small.cli import main
from wav2small.cli.stream import drawn
from wav2small.errors import AudioError, MissingExtraError
from wav2small.network.config import OUTPUTS
from wav2small.runtime.compiler import COMPILERS
from wav2small.runtime.event import CALIBRATION_COLUMNS, CATEGORY_COLUMNS, COLUMNS

EXAMPLE = Path(__file__).parents[2] / "examples" / "08a05Fe.flac"


class PortAudioError(Exception):
    pass


class Microphone:
    """Stands for sounddevice.InputStream: gives what ``spoken`` holds, then goes away."""

    spoken: tuple[np.ndarray, ...] = ()

    def __init__(self, callback, finished_callback, **options):
        self.callback, self.finished, self.options, self.closed = callback, finished_callback, options, False
        Microphone.last = self

    def start(self):
        for chunk in self.spoken:
            buffer = chunk.copy()
            self.callback(buffer, len(buffer), None, None)
            buffer[:] = 9  # PortAudio uses its buffer again
        self.finished()

    def close(self, ignore_errors):
        self.closed = True


DEVICES = [
    {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 48000.0},
    {"name": "USB microphone", "max_input_channels": 1, "default_samplerate": 48000.0},
]


def query_devices(device=None, kind=None):
    if kind is None:
        return DEVICES
    if device not in (None, 3, "USB"):
        raise ValueError(f"No {kind} device matching {device!r}")
    return {"name": "USB microphone", "default_samplerate": 48000.0}


@pytest.fixture
def sounddevice(monkeypatch):
    module = types.SimpleNamespace(InputStream=Microphone, query_devices=query_devices, PortAudioError=PortAudioError)
    module.default = types.SimpleNamespace(device=[1, 0])
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    signal, _ = soundfile.read(EXAMPLE, dtype="float32")
    loud = np.repeat(signal, 3)[:, None]
    monkeypatch.setattr(Microphone, "spoken", tuple(loud[start : start + 4800] for start in range(0, 147_000, 4800)))
    return module


def plain(event):
    """What a line of JSON has of an event that no calibration tells."""
    return {name: getattr(event, name) for name in COLUMNS}


IN_C = ("--backend", "c")


def run(*arguments, **options):
    return CliRunner().invoke(main, ["stream", *map(str, arguments)], **options)


def test_a_microphone_that_vanishes_is_answered_until_then_and_named(sounddevice):
    result = run("--device", "3", "--format", "jsonl")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["end"] for event in events] == [3.0, pytest.approx(3.1, abs=0.01)]
    assert result.exit_code == 1 and "USB microphone: the microphone is gone" in result.stderr
    assert Microphone.last.closed and Microphone.last.options["samplerate"] == 48000
    expected = Stream("micro").push(np.concatenate(Microphone.spoken), 48000)[0]
    assert events[0] == plain(expected)


def test_a_microphone_that_falls_silent_for_seconds_is_gone(sounddevice, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_DUR", 0.01)
    monkeypatch.setattr(Microphone, "start", lambda self: None)
    with (
        live.microphone_audio("USB") as heard,
        pytest.raises(AudioError, match="USB microphone: the microphone is gone"),
    ):
        next(heard.chunks)


def test_the_microphones_are_listed_and_no_loudspeaker(sounddevice, monkeypatch):
    lines = run("--list-devices").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["number", "name", "channels", "sampling_rate", "default"],
        ["1", "USB", "microphone", "1", "48000", "true"],
    ]
    monkeypatch.setattr(sounddevice, "query_devices", lambda: DEVICES[:1])
    assert run("--list-devices").stderr.startswith("wav2small: there is no microphone; connect one")


@pytest.mark.parametrize("device", ["7", "Bluetooth"])
def test_a_microphone_that_is_not_there_is_one_sentence(sounddevice, device):
    result = run("--device", device)
    assert result.exit_code == 1 and result.stdout == ""
    assert "no microphone can be opened (No input device matching" in result.stderr
    assert "Traceback" not in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_microphone_that_cannot_be_opened_is_one_sentence(sounddevice, monkeypatch):
    def refuse(self):
        raise PortAudioError("Device unavailable [PaErrorCode -9985]\nmore")

    monkeypatch.setattr(Microphone, "start", refuse)
    result = run()
    assert "no microphone can be opened (Device unavailable [PaErrorCode -9985]); connect one" in result.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError, r"^a microphone needs .*wav2small\[live\]'$"),
        (OSError, "^PortAudio, which sounddevice needs, is not installed"),
    ],
)
def test_without_the_extra_or_its_library_it_says_what_to_install(monkeypatch, error, words):
    import builtins

    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "sounddevice":
            raise error(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=words), live.microphone_audio(None):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "PCM_16"), ("AU", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
)
def test_a_file_through_a_pipe_is_heard_as_it_is(format, subtype):
    signal, rate = np.tile(soundfile.read(EXAMPLE)[0], 3), 16000
    content = io.BytesIO()
    soundfile.write(content, signal, rate, format=format, subtype=subtype)
    expected = audio.read(io.BytesIO(content.getvalue()))
    piped = content.getvalue()
    if format == "WAV":  # as a program writes it that does not know the end
        piped = piped[:4] + b"\xff" * 4 + piped[8:40] + b"\xff" * 4 + piped[44:]
    result = run("-", "--format", "jsonl", input=piped)
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events == [plain(event) for event in Stream("micro").run([expected])]


class Slow(io.RawIOBase):
    """A pipe that gives a few bytes at a time, odd numbers of them too."""

    def __init__(self, content: bytes):
        self.content, self.sizes = content, iter([1, 2, 3, 4097] * 10**6)

    def read1(self, size: int) -> bytes:
        size = min(size, next(self.sizes))
        given, self.content = self.content[:size], self.content[size:]
        return given


def test_samples_without_a_header_are_heard_whatever_the_pipe_gives_at_once():
    signal = np.arange(-20_000, 20_000, dtype=np.int16)
    with live.raw_audio(Slow(signal.tobytes()), 16000) as heard:
        chunks = list(heard.chunks)
    np.testing.assert_array_equal(np.concatenate(chunks)[:, 0], signal)
    assert heard.sampling_rate == 16000


class Plain:
    """A pipe that can only be read, as ``sys.stdin.buffer`` of a test or a wrapper is."""

    def __init__(self, content: bytes):
        self.read = io.BytesIO(content).read


@pytest.mark.parametrize("rate", [16000, 11_025])
@pytest.mark.parametrize("pipe", [Plain, io.BytesIO])
def test_samples_without_a_header_come_in_chunks_of_100_ms(pipe, rate):
    signal = np.arange(-4000, 4001, dtype=np.int16)
    with live.raw_audio(pipe(signal.tobytes()), rate) as heard:
        chunks = list(heard.chunks)
    np.testing.assert_array_equal(np.concatenate(chunks)[:, 0], signal)
    assert [len(chunk) for chunk in chunks[:-1]] == [round(rate / 10)] * (len(signal) // round(rate / 10))


def test_a_file_comes_in_chunks_of_100_ms(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.arange(-4000, 4001, dtype=np.int16), 11_025)
    with live.file_audio(tmp_path / "a.wav") as heard:
        lengths = [len(chunk) for chunk in heard.chunks]
    assert lengths == [1102] * 7 + [8001 - 7 * 1102] and heard.sampling_rate == 11_025


def test_what_is_no_audio_is_refused_and_raw_needs_a_pipe():
    assert "standard input: is not a WAV, AU, FLAC or Ogg file" in run("-", input=b"text").stderr
    assert "give - or the name of a pipe as FILE" in run(EXAMPLE, "--pcm", "16000").stderr
    assert "would skip the audio between them" in run(EXAMPLE, "--hop", "5").stderr
    assert "there is no such file" in run("gone.wav").stderr


@contextmanager
def named_pipe(path, content):
    """A FIFO into which somebody writes this once."""
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,), daemon=True)
    writer.start()
    yield path
    writer.join(10)
    assert not writer.is_alive(), "nobody has read the pipe"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_by_its_name_is_a_stream(tmp_path):
    expected = run("-", "--format", "jsonl", input=EXAMPLE.read_bytes()).stdout
    with named_pipe(tmp_path / "pipe", EXAMPLE.read_bytes()) as path:
        result = run(path, "--format", "jsonl", "--fast")
    assert (result.exit_code, result.stdout) == (0, expected) and expected
    samples = soundfile.read(EXAMPLE, dtype="int16")[0].astype("<i2").tobytes()
    with named_pipe(tmp_path / "samples", samples) as path:
        assert run(path, "--format", "jsonl", "--pcm", "16000").stdout == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_an_error_of_a_stream_names_its_source(tmp_path):
    nan = io.BytesIO()
    soundfile.write(nan, np.full(8000, np.nan, "f4"), 16000, format="WAV", subtype="FLOAT")
    with named_pipe(tmp_path / "pipe", nan.getvalue()) as path:
        assert run(path).stderr.startswith(f"wav2small: {path}: sample 0 (at 0.000 s) is nan")
    soundfile.write(tmp_path / "a.wav", np.zeros(9), 16000)
    assert run(tmp_path / "a.wav").stderr.startswith(f"wav2small: {tmp_path / 'a.wav'}: too short for an answer")
    said = run(EXAMPLE, "--channel", 1, "--fast").stderr
    assert said.startswith(f"wav2small: {EXAMPLE}: has no channel 1; it has 1, counted from 0\n")
    damaged = EXAMPLE.read_bytes()
    damaged = damaged[:20000] + bytes(5000) + damaged[25000:]
    assert run("-", input=damaged).stderr.startswith("wav2small: standard input: is damaged or truncated")


def test_a_file_is_heard_at_the_pace_of_time():
    clock = [0.0]
    chunks = iter([np.zeros((1600, 1))] * 5)

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    for number, _ in enumerate(live.in_real_time(live.Audio(chunks, 16000), lambda: clock[0], sleep), 1):
        assert clock[0] == pytest.approx(number / 10)
        clock[0] += 0.03  # work that is caught up with


def test_lines_say_the_same_as_json_in_words():
    lines = run(EXAMPLE, "--fast", "--hop", "1", "--window", "1").stdout.splitlines()
    rows = [
        json.loads(line)
        for line in run(EXAMPLE, "--fast", "--hop", "1", "--window", "1", "--format", "jsonl").stdout.splitlines()
    ]
    assert len(lines) == len(rows) == 3
    for line, row in zip(lines, rows, strict=True):
        assert line.split() == [
            f"{row['start']:.2f}", f"{row['end']:.2f}", "arousal", f"{row['arousal']:.2f}",
            "dominance", f"{row['dominance']:.2f}", "valence", f"{row['valence']:.2f}",
        ]  # fmt: skip


def test_the_meters_show_the_newest_event_and_the_course():
    from rich.console import Console

    history = [plain(Event(0, 3, 0.1, 0.5, 1.0, True, 0.9)), plain(Event(1, 4, None, None, None, False, 0.1))]
    history.append(plain(Event(2, 5, 0.5, 0.5, 0.0, True, 1.0)))
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(drawn(history))
    title, arousal, dominance, valence, speech = console.export_text().splitlines()
    assert title.strip() == "2.0 to 5.0 s"
    assert arousal.split() == ["arousal", "0.50", "█" * 15 + "·" * 15, "▁", "▅"]
    assert dominance.split()[:2] == ["dominance", "0.50"]
    assert valence.split() == ["valence", "0.00", "·" * 30, "█", "▁"]
    assert speech.split() == ["speech", "100%", "█" * 30, "█▁█"]
    console.print(drawn(history[:2]))
    assert "arousal" in (text := console.export_text()) and text.count("no speech") == 3


def test_the_meters_show_what_a_calibration_says():
    from rich.console import Console

    events = [Event(0, 3, 0.1, 0.5, 1.0, True, 0.9, 0.2)]
    events.append(Event(1, 4, None, 0.5, 0.6, True, 0.9, 0.5, "tense", "[mine]", 1.0))
    ends = {f"{name}_{end}": at for name in OUTPUTS for end, at in (("low", 0.25), ("high", 0.75))}
    console = Console(width=90, file=io.StringIO(), record=True)
    console.print(
        drawn(
            [
                {name: getattr(e, name) for name in COLUMNS + CALIBRATION_COLUMNS + CATEGORY_COLUMNS} | ends
                for e in events
            ]
        )
    )
    title, arousal, dominance, _, confidence, _ = console.export_text().splitlines()
    assert title.strip() == "1.0 to 4.0 s  tense  [mine] 1.00"
    assert arousal.split() == ["arousal", "unsure", "·" * 30, "▁"]
    assert dominance.split()[:4] == ["dominance", "0.50", "[0.25,", "0.75]"]
    assert confidence.split() == ["confidence", "50%", "█" * 15 + "·" * 15, "▂▅"]


@pytest.mark.parametrize("length", [0, 1, 63])
def test_what_ends_before_any_answer_is_one_sentence(length):
    result = run("-", "--pcm", "16000", input=np.ones(length, np.int16).tobytes())
    sentence = f"wav2small: standard input: too short for an answer: {length} of at least 64 samples at 16000 Hz\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", sentence)


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler")
def test_a_stream_in_c_says_the_same_and_without_a_compiler_one_sentence(monkeypatch, tmp_path):
    options = (EXAMPLE, "--fast", "--hop", 1, "--window", 2, "--format", "jsonl", "--calibrated")
    found, expected = ([json.loads(line) for line in run(*options, *more).stdout.splitlines()] for more in (IN_C, ()))
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    result = run(*options, *IN_C)
    assert result.exit_code == 1 and "the backend 'c' needs a C compiler once" in result.stderr


def test_a_stream_is_told_by_the_calibration_that_ships_as_predict_tells_it():
    options = ("--hop", 1, "--window", 2, "--format", "jsonl", "--fast")
    told = ["predict", EXAMPLE, "--hop", 1, "--window", 2, "--format", "jsonl", "--model", "micro"]
    plain_rows = [json.loads(line) for line in run(EXAMPLE, *options).stdout.splitlines()]
    assert all(row.keys() == set(COLUMNS) for row in plain_rows)
    for asked, extra in (
        (["--calibrated"], {"confidence", "word"}),
        (["--intervals"], {"confidence", "word", *(f"{name}_{end}" for name in OUTPUTS for end in ("low", "high"))}),
        (["--min-confidence", "0.99"], {"confidence", "word"}),
    ):
        rows = [json.loads(line) for line in run(EXAMPLE, *options, *asked).stdout.splitlines()]
        predicted = CliRunner().invoke(main, [*map(str, told), *asked]).stdout
        expected = [json.loads(line) for line in predicted.splitlines()]
        assert rows == [{key: row[key] for key in row if key not in ("file", "error")} for row in expected]
        assert all(row.keys() == {*COLUMNS, *extra} for row in rows)
        if "--min-confidence" in asked:
            assert {row["arousal"] for row in rows} == {None}
        else:
            assert all(row["arousal"] != before["arousal"] for row, before in zip(rows, plain_rows, strict=True))
    line = run(EXAMPLE, "--hop", 1, "--window", 2, "--fast", "--intervals").stdout.splitlines()[0]
    number = r"\d\.\d\d"
    each = rf"{number} \[{number}, {number}\]"
    said = rf" +0.00 +2.00  arousal {each}  dominance {each}  valence {each}  confidence {number}(  \w+)?"
    assert re.fullmatch(said, line)
