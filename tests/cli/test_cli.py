"""The command line: formats, exit codes, what each bad input prints, Ctrl-C, and nothing half written."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import wav2small
from wav2small.cli import COMMANDS, main
from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import full_name
from wav2small.options import Options
from wav2small.runtime.event import CALIBRATION_COLUMNS, INTERVAL_COLUMNS
from wav2small.runtime.predict import COLUMNS
from wav2small.tables.table import read_table

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = [sys.executable, "-c", "from wav2small.cli import main; main()"]


@pytest.fixture
def answer(monkeypatch):
    """Every command answers .1, .2, .3 instead of loading weights; returns how they were asked for."""
    asked = []

    def load(name: str = "micro", backend: str = "auto", **_: object):
        asked.append((name, backend))
        return lambda signal: Emotion(0.1, 0.2, 0.3)

    monkeypatch.setattr("wav2small.runtime.model.load", load)
    return asked


@pytest.fixture
def clip(tmp_path) -> str:
    return str(write(tmp_path / "clip.wav", noise(2)))


def noise(seconds: float, sampling_rate: int = 16000) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * sampling_rate))).astype("f4")


def write(path: Path, samples: np.ndarray, sampling_rate: int = 16000, **options: str) -> Path:
    soundfile.write(path, samples, sampling_rate, **options)
    return path


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def test_help_lists_every_command_with_its_first_sentence():
    result = run("--help")
    assert result.exit_code == 0
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", result.output, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: main {name}")


@pytest.mark.parametrize("name", ["predict", "stream"])
def test_the_defaults_of_a_command_are_those_of_the_options(name):
    """Every field of ``Options`` has an option; ``predict`` has a row a file, unless --hop is given."""
    command = main.get_command(click.Context(main), name)
    context = command.make_context(name, ["a.wav"])
    found = {key: value for key, value in context.params.items() if key in vars(Options())}
    expected = vars(Options()) | ({"hop_dur": None, "win_dur": None} if name == "predict" else {})
    assert found == expected


def test_python_and_the_command_line_have_the_same_defaults():
    for call in (wav2small.predict, wav2small.Stream):
        parameters = inspect.signature(call).parameters
        shared = {key: value for key, value in vars(Options()).items() if key in parameters}
        if call is wav2small.predict:  # one row a file, unless there is a hop
            shared |= {"hop_dur": None, "win_dur": None}
        assert shared.keys() >= {"channel", "min_speech", "vad", "min_confidence"}
        assert {key: parameters[key].default for key in shared} == shared


def test_the_version_is_the_installed_one():
    assert re.fullmatch(r"\w+, version \d+\.\d+\.\d+\n", run("--version").output)


def test_a_table_names_its_columns_and_has_a_row_a_file(answer, clip):
    result = run("predict", clip, EXAMPLES / "08a05Fe.flac")
    header, first, second = result.stdout.splitlines()
    assert header.split() == ["file", "start", "end", "arousal", "dominance", "valence", "speech", "speech_ratio"]
    assert first.split() == [clip, "0.0000", "2.0000", "0.1000", "0.2000", "0.3000", "true", "1.0000"]
    assert second.split()[3:] == ["0.1000", "0.2000", "0.3000", "true", "0.8247"]
    assert (result.exit_code, result.stderr) == (0, "")


def test_every_format_has_the_same_rows_on_screen_and_in_a_file(answer, clip, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    expected = {"file": clip, "start": 0, "end": 1, "arousal": 0.1, "dominance": 0.2, "valence": 0.3, "speech": True}
    expected["speech_ratio"] = 1.0
    options = ("predict", clip, "--hop", 1, "--window", 1)
    shown = {name: run(*options, "--format", name).stdout for name in ("csv", "json", "jsonl")}
    assert json.loads(shown["json"]) == [json.loads(line) for line in shown["jsonl"].splitlines()]
    assert json.loads(shown["json"])[0] == expected | {"error": None}
    assert next(csv.reader(io.StringIO(shown["csv"]))) == list(COLUMNS)
    for name in ("csv", "json", "jsonl", "parquet"):
        result = run(*options, "--format", name, "-o", tmp_path / "rows")
        assert (result.exit_code, result.output) == (0, f"{tmp_path / 'rows'}: 2 rows\n")
        rows = read_table(tmp_path / "rows")
        assert [float(row["start"]) for row in rows] == [0, 1]
        assert [(row["file"], row["speech"], row["error"], float(row["valence"])) for row in rows] == [
            (clip, "true", "", 0.3)
        ] * 2
        run(*options, "-o", tmp_path / f"rows.{name}")
        assert read_table(tmp_path / f"rows.{name}") == rows
        if name in shown:
            assert (tmp_path / "rows").read_text() == shown[name]


def test_a_file_for_other_programs_has_the_columns_that_were_asked_for():
    header = {
        "": ["speech_ratio", "error"],
        "--intervals": ["speech_ratio", *CALIBRATION_COLUMNS, *INTERVAL_COLUMNS, "error"],
    }
    for option, expected in header.items():
        asked = ["predict", EXAMPLES / "08a05Fe.flac", "--format", "audformat", *([option] if option else [])]
        assert run(*asked).stdout.splitlines()[0].split(",")[7:] == expected


@pytest.mark.parametrize(("samples", "is_enough"), [(30 * 512, False), (31 * 512, False), (32 * 512, True)])
@pytest.mark.parametrize(
    "command",
    [
        ("predict", "--format", "jsonl"),
        ("predict", "--format", "jsonl", "--hop", "2", "--window", "12"),
        ("stream", "--format", "jsonl", "--fast", "--window", "12"),
    ],
)
def test_an_emotion_needs_one_second_of_speech_unless_asked_otherwise(answer, tmp_path, command, samples, is_enough):
    """In frames of 512 samples: 31 of them are 0.992 s, 32 are 1.024 s."""
    signal = np.zeros(375 * 512, "f4")
    signal[100 * 512 :][:samples] = noise(2)[:samples]
    result = run(*command, write(tmp_path / "a.wav", signal), "--vad", "energy")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert row["speech_ratio"] == pytest.approx(samples / len(signal), abs=5e-5)
    assert (row["speech"], row["arousal"]) == ((True, 0.1) if is_enough else (False, None))


def test_the_model_asked_for_is_the_one_loaded(answer, clip):
    run("predict", clip)
    run("predict", clip, "--model", "mine.onnx", "--backend", "c")
    assert answer == [("micro", "auto"), ("mine.onnx", "c")]


def test_silence_is_a_row_without_an_emotion_and_no_failure(answer, tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(16000, "f4"))
    result = run("predict", path, "--format", "csv")
    assert result.stdout.splitlines()[1] == f"{path},0.0000,1.0000,,,,false,0.0000,"
    assert result.exit_code == 0


def test_standard_input_folders_and_patterns(answer, clip, tmp_path):
    result = run("predict", "-", "--format", "csv", stdin=Path(clip).read_bytes())
    assert result.stdout.splitlines()[1] == "-,0.0000,2.0000,0.1000,0.2000,0.3000,true,1.0000,"
    for path in (tmp_path, tmp_path / "*.wav"):
        assert json.loads(run("predict", path, "--format", "json").stdout)[0]["file"] == clip


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Kind -> (path, all that is said after it)."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    content = write(folder / "whole.wav", noise(2)).read_bytes()
    (folder / "truncated.wav").write_bytes(content[: len(content) // 2])
    write(folder / "one.wav", noise(1)[:1])
    for name, value in (("nan.wav", np.nan), ("infinite.wav", -np.inf)):
        samples = noise(1)
        samples[8000] = value
        write(folder / name, samples, subtype="FLOAT")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("no audio")
    readable = "Readable here: wav, flac, ogg, opus, mp3, aiff, au, caf, w64, sph, voc"
    finite = "samples must be finite, nominally within -1 to 1"
    sentences = {
        "missing.wav": "there is no such file; check the name",
        "empty.wav": "the file is empty (0 bytes); copy or record it again",
        "text.wav": f"cannot be decoded. {readable}. Install ffmpeg for more, or convert it: "
        "ffmpeg -i text.wav new.wav",
        "truncated.wav": "is truncated: its header states 2.00 s, it has 1.00 s; copy it again",
        "one.wav": "too short for an answer: 1 of at least 64 samples at 16000 Hz",
        "nan.wav": f"sample 8000 (at 0.500 s) is nan; {finite}",
        "infinite.wav": f"sample 8000 (at 0.500 s) is -inf; {finite}",
        "folder": "no audio in this folder; looked for .aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd "
        ".sph .voc .w64 .wav .wave",
        "*.mp3": "no file matches this pattern",
    }
    return {name: (folder / name, sentence) for name, sentence in sentences.items()}


def test_each_bad_input_is_one_sentence_and_a_failing_exit_code(answer, tmp_path):
    for path, sentence in bad_inputs(tmp_path).values():
        result = run("predict", path)
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"wav2small: {path}: {sentence}\n")


def test_bad_inputs_are_rows_with_their_error_and_the_rest_are_done(answer, clip, tmp_path):
    (tmp_path / "bad").mkdir()
    bad = bad_inputs(tmp_path / "bad")
    paths = [path for path, _ in bad.values()]
    for name in ("csv", "jsonl"):
        result = run("predict", clip, *paths, EXAMPLES / "08a05Fe.flac", "--format", name, "-o", tmp_path / "rows")
        rows = read_table(tmp_path / "rows")
        assert [row["file"] for row in rows] == [clip, *map(str, paths), str(EXAMPLES / "08a05Fe.flac")]
        assert [row["error"] for row in rows] == ["", *(sentence for _, sentence in bad.values()), ""]
        assert [row["valence"] != "" for row in rows] == [row["error"] == "" for row in rows]
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == f"wav2small: {len(bad)} of {len(bad) + 2} files failed"


def test_unusual_audio_is_answered_not_refused(answer, tmp_path):
    write(tmp_path / "8 channels.wav", np.stack([noise(1, 8000)] * 8, axis=1), 8000)
    write(tmp_path / "96 kHz.flac", noise(1, 96000), 96000)
    write(tmp_path / "clipped.wav", np.clip(100 * noise(1), -1, 1))
    write(tmp_path / "opus.ogg", noise(1, 48000), 48000, format="OGG", subtype="OPUS")
    result = run("predict", tmp_path, "--format", "csv")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split(",")[2:] for line in result.stdout.splitlines()[1:]] == [
        ["1.0000", "0.1000", "0.2000", "0.3000", "true", "1.0000", ""]
    ] * 4
    assert run("predict", tmp_path / "8 channels.wav", "--channel", 7).exit_code == 0


def test_a_channel_that_is_not_there_is_a_failure(answer, clip):
    result = run("predict", clip, "--channel", 5)
    assert (result.exit_code, result.stderr) == (1, f"wav2small: {clip}: has no channel 5; it has 1, counted from 0\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Missing argument 'PATH...'"),
        (["a.wav", "--hop", "0"], "--hop"),
        (["a.wav", "--hop", "1", "--window", "0"], "--window"),
        (["a.wav", "--window", "3"], "--window needs --hop"),
        (["a.wav", "--channel", "-1"], "--channel"),
        (["a.wav", "--format", "xml"], "--format"),
        (["a.wav", "--format", "parquet"], "--format parquet needs -o FILE"),
        (["a.wav", "--precision", "int8"], "No such option"),
    ],
)
def test_a_wrong_call_is_a_usage_error(answer, options, words):
    if "parquet" in options:
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    result = run("predict", *options)
    assert result.exit_code == 2 and words in result.stderr
    assert answer == []


@pytest.mark.parametrize("name", ["gone/a.csv", ".", "clip.wav/a.csv", "a.xyz"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(answer, clip, tmp_path, name):
    result = run("predict", clip, "-o", f"{tmp_path}/{name}")
    assert result.exit_code == 1 and answer == []
    assert re.fullmatch(rf"wav2small: {tmp_path}/{re.escape(name)}: .+\n", result.stderr)
    assert os.listdir(tmp_path) == ["clip.wav"]


def test_unknown_weights_are_one_sentence(clip):
    result = run("predict", clip, "--model", "no-such-weights")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"wav2small: .*no-such-weights.*\n", result.stderr)


def interrupted(monkeypatch, after: int) -> None:
    calls = []

    def predictor(heard):
        calls.append(heard)
        if len(calls) > after:
            raise KeyboardInterrupt
        return Emotion(0.1, 0.2, 0.3)

    monkeypatch.setattr("wav2small.runtime.model.load", lambda *_, **__: predictor)


@pytest.mark.parametrize(("format", "count"), [("csv", 4), ("jsonl", 3), ("table", 4)])
def test_ctrl_c_keeps_the_rows_that_are_done(monkeypatch, clip, format, count):
    interrupted(monkeypatch, after=3)
    result = run("predict", clip, "--hop", 0.25, "--window", 0.25, "--format", format)
    assert (result.exit_code, len(result.stdout.splitlines())) == (130, count)


def test_ctrl_c_closes_the_json_that_is_begun(monkeypatch, clip):
    interrupted(monkeypatch, after=3)
    assert len(json.loads(run("predict", clip, "--hop", 0.25, "--window", 0.25, "--format", "json").stdout)) == 3


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet", "table"])
def test_ctrl_c_leaves_no_half_written_file(monkeypatch, clip, tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    interrupted(monkeypatch, after=3)
    result = run("predict", clip, "--hop", 0.25, "--window", 0.25, "--format", format, "-o", tmp_path / "rows")
    assert result.exit_code == 130
    assert os.listdir(tmp_path) == ["clip.wav"]


def test_our_errors_are_one_line_and_a_bug_is_a_traceback(monkeypatch, clip):
    def fail(error: Exception):
        def load(*_: object, **__: object):
            raise error

        monkeypatch.setattr("wav2small.runtime.model.load", load)
        return run("predict", clip)

    result = fail(WeightsError("x.onnx: is damaged"))
    assert (result.exit_code, result.stderr) == (1, "wav2small: x.onnx: is damaged\n")
    assert isinstance(fail(AssertionError("a bug")).exception, AssertionError)


def test_models_lists_what_ships():
    shown = run("models")
    assert shown.exit_code == 0
    rows = json.loads(run("models", "--format", "json").stdout)
    ships = wav2small.models()
    assert [{key: row[key] for key in ship} for row, ship in zip(rows, ships, strict=False)] == ships
    assert "wav2small" in {row["name"] for row in ships}
    students = {row["name"]: row["train"] for row in rows[len(ships) :]}
    assert students["wav2small-17k"] == "wav2small train --student wav2small-17k"
    table, _, about = shown.stdout.partition("\n\n")
    assert set(students) <= set(re.findall(r"[\w:-]*\w", about))
    assert max(map(len, shown.stdout.splitlines())) <= 100
    lines = {line.split()[0]: line.split() for line in table.splitlines()[1:]}
    assert lines.keys() == {full_name(row) if row["name"] != "open" else "teacher:open" for row in ships}
    for row in ships:
        assert {"name", "version", "parameters", "bytes", "licence", "teacher", "ccc"} <= row.keys()
        if row["file"].endswith(".onnx"):
            parameters, size, licence = lines[full_name(row)][1:4]
            assert (int(parameters), licence) == (row["parameters"], row["licence"])
            assert int(size) == pytest.approx(row["bytes"] / 1000, abs=0.5)
    micro = next(row["ccc"] for row in ships if row["file"] == "micro.onnx")
    means = [np.mean([ccc[name] for name in OUTPUTS]) for ccc in micro.values()]
    assert lines["micro"][-3:] == [*(f"{mean:.2f}" for mean in means), "yes"] and lines["wav2small"][-1] == "no"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind here")
@pytest.mark.usefixtures("ctrl_c")
def test_a_real_interrupt_of_the_real_program_keeps_rows_and_exits_130(tmp_path):
    path = write(tmp_path / "long.wav", noise(900))
    process = subprocess.Popen(
        [*PROGRAM, "predict", path, "--hop", "0.5", "--format", "csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=300)
    assert process.returncode == 130 and b"Traceback" not in error
    lines = b"".join(first).splitlines() + rest.splitlines()
    assert 5 <= len(lines) < 1800
    assert all(len(line.split(b",")) == len(COLUMNS) for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind here")
@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_that_the_parent_ignores_stays_ignored(tmp_path):
    """As of a job that a script started in the background."""
    command = [*PROGRAM, "predict", write(tmp_path / "minute.wav", noise(60)), "--hop", "0.5", "--format", "csv"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert (process.returncode, len(rest.splitlines())) == (0, (60 - 3) / 0.5 + 1), "one row a window of three seconds"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind here")
def test_a_reader_that_leaves_early_is_no_error_message(tmp_path):
    path = write(tmp_path / "long.wav", noise(60))
    command = [*PROGRAM, "predict", path, "--hop", "0.5", "--format", "csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=300)


def on_a_terminal(command: list[str]) -> bytes:
    """What a command writes to a standard error that is a terminal."""
    ours, theirs = pytest.importorskip("pty", reason="no terminals of this kind here").openpty()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait(timeout=300) == 0
    return seen


@pytest.mark.slow
def test_a_bar_is_drawn_only_on_a_terminal_and_only_for_long_work(tmp_path):
    slow = (
        "import time, wav2small.runtime.model, wav2small.cli.progress as progress\n"
        "from wav2small.network.config import Emotion\n"
        "progress.PATIENCE_DUR = {patience}\n"
        "wav2small.runtime.model.load = lambda *_, **__: lambda signal: time.sleep(0.1) or Emotion(0.1, 0.2, 0.3)\n"
        "from wav2small.cli import main; main()"
    )
    options = ["predict", str(write(tmp_path / "a.wav", noise(10))), "--hop", "1", "--vad", "energy"]
    assert b"%" in on_a_terminal([sys.executable, "-c", slow.format(patience=0.2), *options])
    assert on_a_terminal([sys.executable, "-c", slow.format(patience=60), *options]) == b""
    command = [sys.executable, "-c", slow.format(patience=0.2), *options]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


@pytest.mark.slow
def test_one_short_file_is_answered_quickly():
    before = children_dur()
    subprocess.run([*PROGRAM, "predict", EXAMPLES / "08a05Fe.flac"], check=True, capture_output=True)
    assert children_dur() - before < 3


def children_dur() -> float:
    """Processor time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.slow
def test_a_two_hour_file_is_answered_in_bounded_memory(tmp_path):
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 16000, 1) as file:
        for _ in range(120):
            file.write(noise(60))
    script = (
        "import resource, sys, atexit; from wav2small.cli import main\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "atexit.register(lambda: print(peak(), file=sys.stderr)); main()"
    )

    def peak_mb(path: object) -> int:
        command = [sys.executable, "-c", script, "predict", str(path), "--format", "csv"]
        output = subprocess.run(command, capture_output=True, text=True, check=True)
        end = float(output.stdout.splitlines()[1].split(",")[2])
        assert end == pytest.approx(soundfile.info(path).duration, abs=0.01)
        return int(output.stderr)

    short = peak_mb(write(tmp_path / "short.flac", noise(60)))
    assert peak_mb(tmp_path / "long.flac") < short + 30
