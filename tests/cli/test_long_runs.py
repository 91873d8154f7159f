"""Predictions of many files: rows that outlive an interrupt, workers, tables of files, and the order of outputs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import Wav2SmallError
from wav2small.network.config import Emotion
from wav2small.tables.journal import journal, partial_path
from wav2small.tables.table import read_table

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = [sys.executable, "-m", "wav2small"]
SETTINGS = {"model": "a", "option": {"hop": 1.0}}
CLIPS = 900
"""Enough that a program goes on for a while on a busy machine: one clip takes 20 ms."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of five clips of two seconds."""
    (tmp_path / "clips").mkdir()
    for number in range(5):
        samples = 0.1 * np.random.default_rng(number).standard_normal(32000)
        soundfile.write(tmp_path / "clips" / f"{number}.wav", samples, 16000)
    return tmp_path / "clips"


@pytest.fixture
def calls(monkeypatch):
    """The signals that a model which stands in was called with; it is interrupted after ``calls.most``."""

    class Calls(list):
        most = 10**9
        error: BaseException = KeyboardInterrupt()

    seen = Calls()

    def answer(signal):
        if len(seen) >= seen.most:
            raise seen.error
        seen.append(signal)
        return Emotion(0.1, 0.2, float(np.clip(abs(signal).mean(), 0, 1)))

    monkeypatch.setattr("wav2small.runtime.model.load", lambda *_, **__: answer)
    return seen


def test_an_interrupted_run_is_resumed_without_computing_a_file_again(folder, tmp_path, calls):
    assert run(folder, "-o", tmp_path / "whole.csv").exit_code == 0
    calls.clear()
    calls.most = 3
    result = run(folder, "-o", tmp_path / "rows.csv")
    partial = tmp_path / "rows.csv.partial"
    assert result.exit_code == 130 and not (tmp_path / "rows.csv").exists()
    sentence = f"3 of 5 files are done and in {partial}; the same command with --resume continues"
    assert result.stderr == f"wav2small: {sentence}\n"
    calls.most = 10**9
    result = run(folder, "-o", tmp_path / "rows.csv")
    assert result.exit_code == 1 and "is of an earlier run; go on with it by --resume, or delete it" in result.stderr
    result = run(folder, "-o", tmp_path / "rows.csv", "--resume")
    assert (result.exit_code, result.stderr) == (0, f"{tmp_path / 'rows.csv'}: 5 rows\n")
    assert len(calls) == 5 and not partial.exists()
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_interrupt_before_a_file_is_done_leaves_nothing(folder, tmp_path, calls):
    calls.most = 0
    result = run(folder, "-o", tmp_path / "rows.csv")
    assert (result.exit_code, os.listdir(tmp_path)) == (130, ["clips"])
    assert result.stderr == f"wav2small: interrupted before a file was done; {tmp_path / 'rows.csv'} is not written\n"


def test_any_other_end_keeps_the_files_that_are_done_too(folder, tmp_path, calls):
    calls.most, calls.error = 2, Wav2SmallError("the disk is full")
    result = run(folder, "-o", tmp_path / "rows.csv")
    assert result.exit_code == 1 and "2 of 5 files are done" in result.stderr and "the disk is full" in result.stderr
    calls.most = 10**9
    assert run(folder, "-o", tmp_path / "rows.csv", "--resume").exit_code == 0 and len(calls) == 5


def test_a_run_is_resumed_with_the_same_settings_only(folder, tmp_path, calls):
    calls.most = 2
    run(folder, "-o", tmp_path / "rows.csv")
    for options in (["--hop", 1], ["--model", "wav2small"], ["--vad", "energy", "--min-speech", 2], ["--intervals"]):
        result = run(folder, "-o", tmp_path / "rows.csv", "--resume", *options)
        assert result.exit_code == 1 and "is of a run with another" in result.stderr
    assert (tmp_path / "rows.csv.partial").exists()
    result = run("a.wav", "--resume")
    assert result.exit_code == 2 and "--resume needs -o FILE" in result.stderr


def test_a_file_that_failed_is_tried_again_and_rows_have_the_order_of_the_files(folder, tmp_path, calls):
    content = (folder / "1.wav").read_bytes()
    (folder / "1.wav").write_bytes(content[:1000])
    calls.most = 3
    assert run(folder, "-o", tmp_path / "rows.csv").exit_code == 130
    (folder / "1.wav").write_bytes(content)
    calls.most = 10**9
    assert run(folder, "-o", tmp_path / "rows.csv", "--resume").exit_code == 0
    rows = read_table(tmp_path / "rows.csv")
    assert [Path(row["file"]).stem for row in rows] == list("01234") and {row["error"] for row in rows} == {""}


def test_baselines_and_trends_are_those_of_all_rows_after_a_resume(folder, tmp_path, calls):
    (tmp_path / "spans.csv").write_text(
        "file,start,end,speaker\n" + "".join(f"{n}.wav,{a},{a + 1},s\n" for n in range(5) for a in (0, 1))
    )
    options = ("--segments", tmp_path / "spans.csv", "--by-speaker", "--min-speech", 0)
    assert run(folder, *options, "-o", tmp_path / "whole.jsonl").exit_code == 0
    calls.clear()
    calls.most = 5
    assert run(folder, *options, "-o", tmp_path / "rows.jsonl").exit_code == 130
    calls.most = 10**9
    trends = ("--trends", tmp_path / "t.csv")
    assert run(folder, *options, *trends, "-o", tmp_path / "rows.jsonl", "--resume").exit_code == 0
    assert (tmp_path / "rows.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    assert (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("lost", [1, 20, 60])
def test_a_journal_that_is_cut_off_is_read_up_to_the_last_whole_file(tmp_path, lost):
    with pytest.raises(KeyboardInterrupt), journal(tmp_path / "a.csv", SETTINGS, False) as book:
        book.add("\udce9.wav", [{"v": 1 / 3, "error": None}])
        book.add("b.wav", [{"v": None}, {"v": 2}])
        raise KeyboardInterrupt
    path = partial_path(tmp_path / "a.csv")
    path.write_bytes(path.read_bytes()[:-lost])
    with journal(tmp_path / "a.csv", SETTINGS, True) as book:
        assert book.done == {"\udce9.wav"}
        book.add("b.wav", [{"v": 3}])
        assert list(book.rows(["b.wav", "gone", "\udce9.wav"])) == [{"v": 3}, {"v": 1 / 3, "error": None}]
    assert os.listdir(tmp_path) == []


def test_what_is_no_file_has_no_journal(tmp_path):
    assert partial_path("/dev/null") is None or sys.platform == "win32"
    assert partial_path("s3://bucket/a.csv") is None
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert partial_path(tmp_path / "link.csv") == Path(os.path.realpath(tmp_path / "real.csv.partial"))


@pytest.mark.slow
def test_workers_write_the_rows_of_one_process_in_the_same_order(folder, tmp_path):
    (folder / "2.wav").write_bytes(b"")
    options = ("--hop", "1", "--window", "1", "--vad", "energy")
    for name, more in (("one", ()), ("two", ("--workers", "2"))):
        command = [*PROGRAM, "predict", folder, *options, *more, "-o", tmp_path / f"{name}.jsonl"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 1 and "1 of 5 files failed" in result.stderr
    assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()
    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 9


def test_workers_need_files_on_disk(calls):
    result = run("-", "--workers", 2)
    assert result.exit_code == 2 and "--workers needs files on disk, and - is a pipe" in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind here")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_to_the_real_program_keeps_what_is_done(tmp_path, sent, code, workers):
    (tmp_path / "clips").mkdir()
    for number in range(CLIPS):
        (tmp_path / "clips" / f"{number:04}.flac").symlink_to(EXAMPLES / "08a05Fe.flac")
    output, partial = tmp_path / "rows.csv", tmp_path / "rows.csv.partial"
    command = [*PROGRAM, "predict", tmp_path / "clips", "-o", output, "--workers", workers]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (partial.exists() and partial.read_bytes().count(b'"end": "') > 3):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == code and "Traceback" not in error
    said = re.search(rf"(\d+) of {CLIPS} files are done and in .*rows.csv.partial; the same command with --re", error)
    assert 3 < int(said[1]) < CLIPS and not output.exists()
    assert all_end(process.pid)
    lines = [json.loads(line) for line in partial.read_text().splitlines()]
    assert sum("end" in line for line in lines) == int(said[1])


def all_end(group: int) -> bool:
    """Whether all processes of a group end within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_of_files_is_read_relative_to_itself(folder, calls, monkeypatch, suffix):
    from wav2small.tables.table import write_table

    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    write_table([{"file": "3.wav", "label": "x"}, {"file": "1.wav", "label": "y"}], folder / f"manifest.{suffix}")
    monkeypatch.chdir(folder.parent)
    rows = json.loads(run(f"clips/manifest.{suffix}", "--format", "json").stdout)
    assert [row["file"] for row in rows] == ["clips/3.wav", "clips/1.wav"] and rows[0]["arousal"] == 0.1


def test_a_table_of_segments_is_given_as_segments_too(folder, calls):
    (folder / "m.csv").write_text("file,start,end,speaker\n3.wav,0,1,a\n1.wav,0.5,2,b\n")
    assert "has start and end, which are segments" in run(folder / "m.csv").stderr
    rows = json.loads(run(folder / "m.csv", "--segments", folder / "m.csv", "--format", "json").stdout)
    assert [(row["start"], row["end"], row["speaker"]) for row in rows] == [(0, 1, "a"), (0.5, 2, "b")]
    (folder / "n.csv").write_text("path\n3.wav\n")
    assert "n.csv: has no column file, only path" in run(folder / "n.csv").stderr


def test_a_picture_or_trends_that_fail_leave_the_rows(folder, tmp_path, calls, monkeypatch):
    pytest.importorskip("matplotlib")
    options = ("--hop", 1, "--plot", tmp_path / "p.png", "--trends", tmp_path / "t.csv")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wav2small.evaluation.plots.draw", full)
    result = run(folder / "0.wav", *options, "-o", tmp_path / "rows.csv")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert result.stderr.splitlines() == [
        f"{tmp_path / 'rows.csv'}: 1 row",
        f"{tmp_path / 't.csv'}: 0 rows",
        f"wav2small: {tmp_path / 'p.png'}: cannot be written: No space left on device",
    ]
    assert len(read_table(tmp_path / "rows.csv")) == 1
    shown = run(folder / "0.wav", *options, "--format", "csv")
    assert shown.exit_code == 1 and len(shown.stdout.splitlines()) == 2


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode here")
def test_a_recording_whose_name_is_no_unicode_is_drawn(folder, tmp_path, calls):
    pytest.importorskip("matplotlib")
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    os.rename(folder / "0.wav", name)
    result = run(name, "--hop", 1, "--plot", tmp_path / "p.png", "--format", "csv")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_trends_in_a_format_that_cannot_hold_them_are_refused_before_the_work(folder, tmp_path, calls):
    for trends, output in (("t.vtt", "rows.csv"), ("t.csv", "rows.xml")):
        options = ("--hop", 1, "--trends", tmp_path / trends, "-o", tmp_path / output)
        result = run(folder / "0.wav", *options)
        assert result.exit_code == 1 and calls == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_by_its_name_is_read_as_standard_input_is(folder, tmp_path):
    command = f"{sys.executable} -m wav2small predict --format csv"
    for shell in (f"{command} <(cat {folder}/0.wav)", f"cat {folder}/0.wav | {command} /dev/stdin"):
        result = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        assert result.returncode == 0 and re.match(r"/dev/\S+,0.0000,2.0000,", result.stdout.splitlines()[1])
