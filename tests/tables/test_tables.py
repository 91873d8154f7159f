"""Tables: what is written is read back, in every format, and a file is whole or not there."""

from __future__ import annotations

import builtins
import errno
import json
import os
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.errors import ManifestError, MissingExtraError, Wav2SmallError
from wav2small.tables import table as tables

ROWS = [
    {"file": "a b,c.wav", "start": 0.0, "n": 3, "speech": True, "error": None},
    {"file": 'ä "q"\nz', "start": 1 / 3, "n": None, "speech": False, "error": "no such file; check"},
]
FILE_FORMATS = ("csv", "tsv", "json", "jsonl", *(["parquet"] if find_spec("pyarrow") else []))

names = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
floats = st.floats(-1e6, 1e6).map(lambda value: round(value, 4))
cells = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | floats | names


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_rows_round_trip_as_text(tmp_path, format):
    path = tmp_path / f"a.{format}"
    tables.write_table(ROWS, path)
    rows = tables.read_table(path)
    assert [row["file"] for row in rows] == ["a b,c.wav", 'ä "q"\nz']
    assert [row["speech"] for row in rows] == ["true", "false"]
    assert [row["error"] for row in rows] == ["", "no such file; check"]
    assert [float(row["start"]) for row in rows] == pytest.approx([0, 1 / 3], abs=1e-4)
    assert [row["n"] for row in rows][1] == ""


def as_text(value):
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@given(st.lists(st.fixed_dictionaries({"a": names.map("x".__add__)}, optional=dict.fromkeys("bcd", cells)), min_size=1))
@settings(deadline=None, max_examples=50)
def test_any_rows_round_trip_through_every_text_format(tmp_path_factory, rows):
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for format in ("csv", "tsv", "json", "jsonl"):
        path = tmp_path_factory.mktemp("t") / "table"
        tables.write_table(rows, path, format)
        for row, again in zip(rows, tables.read_table(path), strict=True):
            assert list(again) == columns
            for column, value in ((column, row.get(column)) for column in columns):
                if isinstance(value, float):
                    assert float(again[column]) == value
                else:
                    assert again[column] == as_text(value)


def test_the_content_says_the_format_not_the_name(tmp_path):
    for format in FILE_FORMATS:
        tables.write_table([{"a": "1", "b": "x"}], tmp_path / "t.txt", format)
        assert tables.read_table(tmp_path / "t.txt") == [{"a": "1", "b": "x"}]


def test_a_table_shows_numbers_to_the_right_with_four_decimals():
    text = tables.render([{"file": "a.wav", "v": 0.5, "n": 1}, {"file": "b", "v": None, "n": 10}], "table")
    assert text == "file        v   n\na.wav  0.5000   1\nb" + 14 * " " + "10\n"


def test_floats_in_csv_have_four_decimals_and_in_json_all():
    assert tables.render([{"v": 1 / 3, "f": np.float32(0.25), "n": None}], "csv") == "v,f,n\n0.3333,0.2500,\n"
    assert json.loads(tables.render([{"v": 1 / 3, "n": None}], "json")) == [{"v": 1 / 3, "n": None}]


def test_json_is_strict_and_knows_numpy_and_paths():
    row = {"a": np.float32(0.5), "b": np.int64(3), "c": float("nan"), "d": np.arange(2), "e": Path("x"), "f": np.True_}
    expected = {"a": 0.5, "b": 3, "c": None, "d": [0, 1], "e": "x", "f": True}
    for format, shape in (("json", [expected]), ("jsonl", expected)):
        assert json.loads(tables.render([row], format), parse_constant=pytest.fail) == shape


def test_no_rows_are_an_empty_table_of_the_given_columns():
    assert "".join(tables.lines([], "csv", ["a", "b"])) == "a,b\n"
    assert "".join(tables.lines([], "table", ["a", "b"])) == "a  b\n"
    assert json.loads("".join(tables.lines([], "json", ["a"]))) == []
    assert "".join(tables.lines([], "jsonl", ["a"])) == ""
    assert tables.render([], "table") == ""


def test_the_error_column_of_a_table_is_there_only_if_there_is_an_error():
    assert "error" not in tables.render([{"a": 1, "error": None}], "table")
    assert "error" in tables.render([{"a": 1, "error": "gone"}], "table")


def test_a_table_cannot_move_the_cursor():
    assert "\x1b" not in tables.render([{"a": "x\x1b[2Jy\nz"}], "table")


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "json"])
def test_each_row_is_text_before_the_next_is_asked_for(format):
    asked = []

    def rows():
        for n in range(3):
            asked.append(n)
            yield {"n": n}

    seen = [(piece, len(asked)) for piece in tables.lines(rows(), format, ["n"])]
    for n in range(3):
        assert next(count for piece, count in seen if str(n) in piece) == n + 1


def test_tsv_is_csv_with_tabs():
    assert tables.render([{"a": "x,y", "b": 0.5}, {"a": "t\tt", "b": None}], "tsv") == 'a\tb\nx,y\t0.5000\n"t\tt"\t\n'


@pytest.mark.parametrize("format", ["vtt", "srt", "rttm", "textgrid", "eaf"])
def test_an_annotation_format_refuses_rows_that_it_cannot_hold(tmp_path, format):
    words = rf"^the format {format} cannot hold these rows: it needs start, end, speech, arousal, .*; write csv, tsv"
    for columns in (None, ["file", "label"]):
        with pytest.raises(Wav2SmallError, match=words):
            tables.write_table([{"file": "a.wav", "label": "anger"}], tmp_path / f"a.{format}", columns=columns)
    assert os.listdir(tmp_path) == []
    with pytest.raises(Wav2SmallError, match="it needs file, start, end"):
        tables.check_columns("audformat", ["label"])
    tables.check_columns("csv", ["label"])


def test_unknown_formats_and_suffixes_are_refused():
    with pytest.raises(Wav2SmallError, match="there are table, csv, tsv, json, jsonl"):
        tables.render(ROWS, "xml")
    with pytest.raises(Wav2SmallError, match=r"no format has the suffix '.xml'"):
        tables.format_of("a.xml")
    assert [tables.format_of(f"A{suffix.upper()}") for suffix in tables.SUFFIXES] == list(tables.SUFFIXES.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"csv: is empty; give a table whose first line"),
        (b"\n1,2\n", "its first line is empty"),
        (b"a,a\n1,2\n", "each once"),
        (b"a,b\n1,2,3\n", "line 2 has 3 cells, its first line 2"),
        (b"a,b\n1,2\n3", "line 3 has 1 cells"),
        (b"\xff\xfe\x00", "is not a table"),
        (b"[{", "is neither JSON nor"),
        (b'{"a": 1}\n{"a":\n', "line 2"),
        (b"[1, 2]", "must be an object"),
        (b"PAR1 broken", "damaged Parquet"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, content, words):
    if "Parquet" in words:
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=words) as caught:
        tables.read_table(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_table_and_a_folder_are_one_sentence(tmp_path):
    for path in (tmp_path / "gone.csv", tmp_path):
        with pytest.raises(ManifestError, match=r"cannot be opened: \w+"):
            tables.read_table(path)


def test_a_spreadsheets_csv_with_mark_and_carriage_returns_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbffile,label\r\na.wav,joy\r\n\r\n")
    assert tables.read_table(tmp_path / "a.csv") == [{"file": "a.wav", "label": "joy"}]


def test_parquet_keeps_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    tables.write_table(ROWS, tmp_path / "a.parquet")
    assert pyarrow.read_table(tmp_path / "a.parquet").to_pylist() == ROWS
    with pytest.raises(Wav2SmallError, match="one type"):
        tables.write_table([{"a": 1}, {"a": "x"}], tmp_path / "b.parquet")
    assert os.listdir(tmp_path) == ["a.parquet"]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(MissingExtraError, match=r"pip install 'wav2small\[parquet\]'"):
        tables.write_table(ROWS, tmp_path / "a.parquet")
    with pytest.raises(MissingExtraError):
        tables.check_parquet()
    assert os.listdir(tmp_path) == []


def failing_rows():
    yield {"a": 1}
    raise KeyboardInterrupt


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_a_file_is_written_whole_or_left_as_it_was(tmp_path, format):
    path = tmp_path / "a.out"
    for before in (None, "precious"):
        if before:
            path.write_text(before)
        with pytest.raises(KeyboardInterrupt):
            tables.write_table(failing_rows(), path, format, ["a"])
        assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_a_written_file_has_the_rights_of_any_new_file_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "new").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    tables.write_table([{"a": 1}], tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "a.csv").read_text() == "a\n1\n"
    assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_the_temporary_file_is_beside_its_target_and_has_its_suffix(tmp_path):
    with tables.whole_file(tmp_path / "a.onnx") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".onnx"
        assert not (tmp_path / "a.onnx").exists()
        temporary.write_text("whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.onnx": "whole"}


@pytest.mark.parametrize("name", ["gone/a.csv", ".", "file/a.csv"])
def test_what_cannot_be_written_is_one_sentence_before_the_work(tmp_path, name):
    (tmp_path / "file").touch()
    path = f"{tmp_path}/{name}"
    for act in (lambda: tables.check_writable(path), lambda: tables.write_table(failing_rows(), path, "csv", ["a"])):
        with pytest.raises(Wav2SmallError) as caught:
            act()
        assert "cannot be written" in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_a_writable_target_is_left_as_it_was_by_the_check(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    tables.check_writable(tmp_path / "a.csv")
    tables.check_writable(tmp_path / "b.csv")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, code):
    words = rf"a.csv: cannot be written: {os.strerror(code)}$"
    with pytest.raises(Wav2SmallError, match=words), tables.whole_file(tmp_path / "a.csv"):
        raise OSError(code, os.strerror(code))
    assert os.listdir(tmp_path) == []


def test_an_error_that_is_not_of_the_disk_is_not_taken_for_one(tmp_path):
    with pytest.raises(BrokenPipeError), tables.whole_file(tmp_path / "a.csv"):
        raise BrokenPipeError
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to_and_never_replaced(tmp_path):
    """A pipe of our own stands for devices: were this broken, the test would replace /dev/null for everybody."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    tables.check_writable(tmp_path / "pipe")
    tables.write_table([{"a": 1}], tmp_path / "pipe", "csv")
    assert os.read(reader, 100) == b"a\n1\n"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc here")
def test_standard_output_named_as_a_file_is_written_to():
    script = "from wav2small.tables.table import write_table; write_table([{'a': 1}], '/proc/self/fd/1', 'csv')"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout == "a\n1\n"
