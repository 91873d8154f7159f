"""A diary has each window once, a file per date, and survives kills; its hours and its picture show its rows."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner

from wav2small import Event, Stream
from wav2small.audio.read import read
from wav2small.cli import main
from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.runtime.diary import COLUMNS, Diary, hours, partial, read_diary

EXAMPLE = Path(__file__).parents[2] / "examples" / "08a05Fe.flac"
ZONE = timezone(timedelta(hours=2))
MORNING = datetime(2026, 11, 28, 9, tzinfo=ZONE)
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")


class Clock:
    """A clock that is set by the end of the window that is written."""

    def __init__(self, time: datetime = MORNING) -> None:
        self.begun, self.time = time, time

    def __call__(self) -> datetime:
        return self.time

    def write(self, diary: Diary, event: Event) -> None:
        self.time = self.begun + timedelta(seconds=event.end)
        diary.add(event)


def event(start: float, arousal: float | None = 0.4, dur: float = 3.0) -> Event:
    """A window of speech, or without if arousal is None."""
    if arousal is None:
        return Event(start, start + dur, speech=False, speech_ratio=0.125)
    return Event(start, start + dur, arousal, 0.5, 0.25, speech=True, speech_ratio=0.75, arousal_deviation=2.0)


def written(path: Path, events: list[Event], clock: Clock | None = None) -> Path:
    clock = clock or Clock()
    diary = Diary(path, "micro", clock)
    for one in events:
        clock.write(diary, one)
    return diary.close()


def times(path: Path) -> list[str]:
    return [row["time"][11:19] for row in read_diary(path)]


def run(*arguments: object):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_row_has_time_zone_model_and_every_field(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    path = written(tmp_path / f"day.{suffix}", [event(0.0), event(3.0, None)])
    assert path == tmp_path / f"day-2026-11-28.{suffix}" and os.listdir(tmp_path) == [path.name]
    first, second = read_diary(path)
    assert list(first) == list(COLUMNS)
    assert (first["time"], first["dur"], first["model"]) == ("2026-11-28T09:00:00+02:00", 3.0, "micro")
    assert {name: first[name] for name in vars(event(0.0)) if name in COLUMNS} == {
        name: value for name, value in vars(event(0.0)).items() if name in COLUMNS
    }
    assert (second["time"][11:19], second["speech"], second["arousal"]) == ("09:00:03", False, None)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_diary_is_for_its_owner_alone(tmp_path):
    clock, path = Clock(), tmp_path / "day.csv"
    diary = Diary(path, "micro", clock)
    clock.write(diary, event(0.0))
    (rows,) = tmp_path.iterdir()
    assert rows.stat().st_mode & 0o777 == diary.close().stat().st_mode & 0o777 == 0o600


def test_windows_that_overlap_are_left_out_and_the_rows_are_those_of_the_stream(tmp_path):
    events = list(Stream("micro", 0.5, 1.0, vad="energy").run([read(EXAMPLE)]))
    rows = read_diary(written(tmp_path / "day.jsonl", events))
    assert [row["time"][17:19] for row in rows] == ["00", "01", "02"]
    alone = [one for one in events if one.start in (0.0, 1.0, 2.0)]
    assert [row["arousal"] for row in rows] == pytest.approx([one.arousal for one in alone], abs=1e-4)


def test_a_day_that_runs_past_midnight_has_two_files(tmp_path):
    begun = datetime(2026, 11, 28, 23, 59, 55, tzinfo=ZONE)
    last = written(tmp_path / "day.csv", [event(3.0 * number) for number in range(4)], Clock(begun))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day-2026-11-28.csv", "day-2026-11-29.csv"]
    assert times(tmp_path / "day-2026-11-28.csv") == ["23:59:55", "23:59:58"]
    assert times(last) == ["00:00:01", "00:00:04"]


def test_a_second_stream_of_a_day_continues_it(tmp_path):
    first = written(tmp_path / "day.csv", [event(0.0)])
    content = first.read_text()
    second = written(tmp_path / "day.csv", [event(0.0)], Clock(MORNING + timedelta(hours=1)))
    assert second == first and times(first) == ["09:00:00", "10:00:00"] and second.read_text().startswith(content)
    assert written(tmp_path / "day.csv", []) == first and times(first) == ["09:00:00", "10:00:00"]


def test_a_stream_without_a_window_leaves_no_file(tmp_path):
    assert not written(tmp_path / "day.csv", []).exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [1, 30, 90])
def test_after_a_kill_at_any_byte_only_the_last_row_is_lost(tmp_path, cut):
    path = written(tmp_path / "day.csv", [event(3.0 * number) for number in range(3)])
    rows = path.rename(partial(path))
    rows.write_bytes(rows.read_bytes()[:-cut])
    assert times(path) == ["09:00:00", "09:00:03"], "readable as it is"
    written(tmp_path / "day.csv", [event(0.0)], Clock(MORNING + timedelta(hours=1)))
    assert times(path) == ["09:00:00", "09:00:03", "10:00:00"]


def test_the_next_stream_completes_an_earlier_day_that_was_killed(tmp_path):
    path = written(tmp_path / "day.csv", [event(0.0)])
    path.rename(partial(path))
    other = written(tmp_path / "night.csv", [event(0.0)])
    other.rename(partial(other))
    written(tmp_path / "day.csv", [event(0.0)], Clock(MORNING + timedelta(days=2)))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["day-2026-11-28.csv", "day-2026-11-30.csv", "night-2026-11-28.csv.partial"]


def test_the_time_follows_the_clock_after_a_sleep_and_not_a_lag(tmp_path):
    clock = Clock()
    diary = Diary(tmp_path / "day.csv", "micro", clock)
    for start, lag in ((0.0, 0.0), (3.0, 4.0), (6.0, 3600.0), (9.0, 3600.0)):
        clock.time = MORNING + timedelta(seconds=start + 3.0 + lag)
        diary.add(event(start))
    assert times(diary.close()) == ["09:00:00", "09:00:03", "10:00:06", "10:00:09"]


def test_two_programs_do_not_write_one_diary(tmp_path):
    pytest.importorskip("fcntl", reason="Windows refuses it by itself")
    clock = Clock()
    diary = Diary(tmp_path / "day.csv", "micro", clock)
    with pytest.raises(Wav2SmallError, match="another program writes this diary"):
        Diary(tmp_path / "day.csv", "micro", clock)
    Diary(tmp_path / "day.csv", "micro", Clock(MORNING + timedelta(days=1))).close()
    clock.write(diary, event(0.0))
    assert times(diary.close()) == ["09:00:00"]


@pytest.mark.slow
def test_memory_does_not_grow_over_a_day(tmp_path):
    """8,640 windows of 10 s: each second is in the file once, and the last windows need the memory of the first."""
    clock = Clock(datetime(2026, 11, 28, tzinfo=ZONE))
    diary, peaks = Diary(tmp_path / "day.csv", "micro", clock), []
    for number in range(8640):
        if number % 2880 == 1440:
            tracemalloc.start()
        clock.write(diary, event(10.0 * number, None if number % 4 else 0.5, dur=10.0))
        if number % 2880 == 1540:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks) < 1.2 * min(peaks) < 200_000
    tracemalloc.start()
    path = diary.close()
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    rows = read_diary(path)
    assert len(rows) == 8640 and rows[-1]["time"] == "2026-11-28T23:59:50+02:00"
    found = hours(rows)
    assert [row["hour"][11:] for row in found] == [f"{hour:02}:00" for hour in range(24)]
    assert {row["minutes"] for row in found} == {60.0}
    assert {row["speech_minutes"] for row in found} == {(90 * 0.75 + 270 * 0.125) * 10 / 60}


def test_means_of_an_hour_are_weighted_by_speech(tmp_path):
    path = written(tmp_path / "day.csv", [event(0.0, 0.2, 1.0), event(1.0, 0.6, 3.0), event(3600.0, None)])
    first, second = hours(read_diary(path))
    assert math.isclose(first["arousal"], (0.2 + 3 * 0.6) / 4) and first["arousal_deviation"] == 2.0
    assert second["arousal"] is None and second["minutes"] == 0.05


@pytest.mark.slow
def test_a_killed_process_loses_the_current_window_at_most(tmp_path):
    code = (
        "import os, wav2small\nfrom wav2small.runtime.diary import Diary\ndiary = Diary('day.csv', 'micro')\n"
        "for number in range(5):\n"
        "    diary.add(wav2small.Event(3.0 * number, 3.0 * number + 3, speech=False, speech_ratio=0.0))\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 9
    (rows,) = tmp_path.iterdir()
    assert rows.name.endswith(".csv.partial") and len(read_diary(str(rows).removesuffix(".partial"))) == 5


def test_the_command_writes_a_diary_and_prints_no_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("stream", EXAMPLE, "--fast", "--log", "day.csv", "--window", 1, "--vad", "energy", "--intervals")
    (path,) = tmp_path.iterdir()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{path.name}: written\n")
    rows = read_diary(path)
    assert len(rows) == 3 and all(row["arousal_low"] < row["arousal"] < row["arousal_high"] for row in rows)
    result = run("diary", path, "-o", "hours.jsonl")
    assert result.exit_code == 0 and len(Path("hours.jsonl").read_text().splitlines()) >= 1
    header, *lines = run("diary", path).stdout.splitlines()
    assert header.split()[:4] == ["hour", "minutes", "speech_minutes", "arousal"] and lines
    assert run("stream", EXAMPLE, "--fast", "--log", "day.csv", "--format", "text").stdout


@pytest.mark.slow
def test_a_day_is_drawn_while_it_is_written_and_at_the_end(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "day.csv", [event(30.0 * number, None if number % 7 else 0.5) for number in range(1000)])
    path.rename(partial(path))
    assert run("diary", path, "--plot", "day.svg").exit_code == 0
    text = (tmp_path / "day.svg").read_text()
    assert "</svg>" in text
    result = run("stream", EXAMPLE, "--fast", "--log", "now.csv", "--plot", "now.png", "--vad", "energy")
    assert result.exit_code == 0 and (tmp_path / "now.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_picture_has_the_gaps_of_the_day_and_its_minutes(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    from wav2small.evaluation import day

    events = [event(3.0 * number, 0.5 if number < 400 or number >= 1200 else None) for number in range(1600)]
    rows = read_diary(written(tmp_path / "day.csv", events))
    figure = day.figure_of(rows)
    arousal, _, _, deviation, minutes = figure.axes
    times, values = arousal.lines[0].get_data()
    silent = (times > 9 + 1300 / 3600) & (times < 9 + 3500 / 3600)
    assert not silent.any() and any(map(math.isnan, values)), "the line is interrupted where nobody spoke"
    assert len(deviation.lines) == 3
    heights = [bar.get_height() for bar in minutes.patches]
    assert heights == pytest.approx([row[name] for name in ("minutes", "speech_minutes") for row in hours(rows)])
    assert minutes.get_xlim() == (9, 11)
    without = [{**row, "arousal_deviation": None} for row in rows]
    assert len(day.figure_of(without).axes) == 4


BROKEN = {
    "empty": b"",
    "other": b"file,arousal\na.wav,0.5\n",
    "binary": b"\xff\xfe\x00\x01",
    "cells": ",".join(COLUMNS).encode() + b"\nyesterday,3,micro" + b"," * (len(COLUMNS) - 3) + b"\n",
}


def test_rows_that_a_power_failure_has_emptied_begin_anew(tmp_path):
    (tmp_path / "day-2026-11-28.csv.partial").touch()
    assert times(written(tmp_path / "day.csv", [event(0.0)])) == ["09:00:00"]


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_a_diary_is_one_sentence(tmp_path, name):
    path = tmp_path / "day-2026-11-28.csv"
    path.write_bytes(BROKEN[name])
    result = run("diary", path)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith(f"wav2small: {path}: ") and len(result.stderr.splitlines()) == 1
    with pytest.raises(ManifestError):
        Diary(tmp_path / "day.csv", "micro", Clock())
    assert path.read_bytes() == BROKEN[name], "and is left as it was"
    if name == "empty":
        return
    path.rename(partial(path))
    with pytest.raises(ManifestError):
        Diary(tmp_path / "day.csv", "micro", Clock())
    assert partial(path).read_bytes() == BROKEN[name]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("stream", EXAMPLE, "--log", "day.txt"), 1, "day.txt: a diary is a local file that ends with .csv, .tsv"),
        (("stream", EXAMPLE, "--log", "day"), 1, "day: no format has the suffix ''"),
        (("stream", EXAMPLE, "--log", "s3://bucket/day.csv"), 1, "a diary is a local file"),
        (("stream", EXAMPLE, "--log", "gone/day.csv"), 1, "cannot be written: there is no folder gone; create it"),
        (("stream", EXAMPLE, "--plot", "day.png"), 2, "--plot needs --log FILE"),
        (("stream", EXAMPLE, "--log", "day.csv", "--plot", "day.gif"), 1, "day.gif: no picture has this suffix"),
        (("diary", "day.csv"), 1, "day.csv: cannot be opened: No such file or directory"),
        (("diary", "kept.csv"), 1, "kept.csv: there is no such file; a diary has a date, such as kept-2026-11-28.csv"),
        (("diary", "kept-2026-11-28.csv", "--format", "parquet"), 2, "--format parquet needs -o FILE"),
        (("diary",), 2, "Missing argument 'FILE'"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    written(Path("kept.csv"), [event(0.0)])
    result = run(*arguments)
    assert result.exit_code == code and words in result.stderr and "Traceback" not in result.output
    assert sorted(os.listdir()) == ["kept-2026-11-28.csv"]
