"""Valence of words and voice: bounds, additivity in time, and wrong use in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from wav2small.cli import main
from wav2small.network.config import Emotion
from wav2small.tables.fuse import TimedValence, fuse
from wav2small.tables.manifest import Segment
from wav2small.tables.table import read_table

share = st.floats(0, 1)
valences = st.lists(st.tuples(share, st.floats(0.01, 3), share, st.floats(0, 2)), max_size=6)
"""Of each: a part of it at which it is cut in two, seconds, valence, and seconds of pause after it."""


def window(start: float, end: float, valence: float | None = 0.4, file: str = "a.wav") -> Segment:
    return Segment(file, Path(file), start, end, emotion=None if valence is None else Emotion(0.7, 0.6, valence))


def spoken(parts: list[tuple[float, float, float, float]]) -> tuple[list[TimedValence], list[TimedValence]]:
    """Words one after the other, and the same words cut in two."""
    whole, cut, time = [], [], 0.0
    for where, dur, valence, pause in parts:
        middle, end = time + where * dur, time + dur
        whole.append(TimedValence(time, end, valence))
        cut += [TimedValence(time, middle, valence), TimedValence(middle, end, valence)]
        time = end + pause
    return whole, cut


@given(valences.filter(bool), share, share)
def test_valence_is_between_voice_and_words_and_cutting_words_changes_nothing(parts, acoustic, weight):
    whole, cut = spoken(parts)
    row, same = (fuse([window(0, 4, acoustic)], words, weight)[0] for words in (whole, cut))
    assert row["valence"] == pytest.approx(same["valence"]) and row["text_share"] == pytest.approx(same["text_share"])
    bounds = (acoustic, row["text_valence"])
    assert min(bounds) - 1e-9 <= row["valence"] <= max(bounds) + 1e-9
    assert (row["arousal"], row["dominance"], row["acoustic_valence"]) == (0.7, 0.6, acoustic)
    inside = sum(max(0, min(4, one.end) - one.start) for one in whole)
    assert row["text_share"] == pytest.approx(inside / 4)


@given(valences.filter(bool), share)
def test_without_weight_or_words_the_voice_stays_as_it_is(parts, acoustic):
    words, _ = spoken(parts)
    assert fuse([window(0, 4, acoustic)], words, 0.0)[0]["valence"] == pytest.approx(acoustic)
    (later,) = fuse([window(100, 104, acoustic)], words, 1.0)
    assert (later["valence"], later["text_valence"], later["text_share"]) == (acoustic, None, 0.0)


def test_a_window_full_of_words_has_their_mean_by_time_and_one_in_part_its_share():
    words = [TimedValence(0, 3, 0.2), TimedValence(3, 4, 1.0)]
    full, half = fuse([window(0, 4), window(2, 6)], words, 1.0)
    assert full["valence"] == pytest.approx(0.4) and full["text_valence"] == pytest.approx(0.4)
    assert (half["text_share"], half["text_valence"]) == (0.5, pytest.approx(0.6))
    assert half["valence"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.6)
    assert fuse([window(0, 4, None)], words, 1.0)[0]["valence"] is None


def test_words_that_are_spoken_at_once_fill_a_window_once():
    (row,) = fuse([window(0, 4)], [TimedValence(0, 4, 0.2), TimedValence(0, 4, 0.8)], 1.0)
    assert (row["text_share"], row["valence"]) == (1.0, pytest.approx(0.5))


def test_words_belong_to_their_recording():
    words = [TimedValence(0, 4, 1.0, "b.wav"), TimedValence(0, 4, 0.0, "a")]
    rows = fuse([window(0, 4, file="x/a.wav"), window(0, 4, file="x/b.wav"), window(0, 4, file="c.wav")], words, 1.0)
    assert [row["valence"] for row in rows] == [0.0, 1.0, 0.4]


ROWS = "file,start,end,arousal,dominance,valence,speech,error\na.wav,0,4,0.5,0.5,0.4,true,\na.wav,4,8,,,,false,\n"
FAILED = "gone.wav,,,,,,,there is no such file\n"


def run(folder: Path, rows: str, words: str, *options: str) -> Result:
    (folder / "rows.csv").write_text(rows, encoding="utf-8")
    (folder / "words.csv").write_text(words, encoding="utf-8")
    return CliRunner().invoke(main, ["fuse", str(folder / "rows.csv"), str(folder / "words.csv"), *options])


def test_the_command_writes_a_row_per_window(tmp_path):
    result = run(tmp_path, ROWS + FAILED, "start,end,valence\n2,6,0.8\n", "-o", str(tmp_path / "fused.csv"))
    assert result.exit_code == 0, result.output
    first, second = read_table(tmp_path / "fused.csv")
    assert (first["valence"], first["acoustic_valence"], first["text_share"]) == ("0.5000", "0.4000", "0.5000")
    assert (second["valence"], second["text_valence"]) == ("", "0.8000")


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (ROWS, "start,end,valence\n0,4,-0.5\n", "row 1: valence is '-0.5'. Needed: 0 to 1; rescale -1 to 1"),
        (ROWS, "start,end,sentiment\n0,4,0.5\n", "row 1: valence is ''. Needed: 0 to 1"),
        (ROWS, "end,valence\n4,0.5\n", "row 1: has no start"),
        (ROWS, "start,end,valence\n4,4,0.5\n", "from 4 to 4 s is empty"),
        (ROWS, "file,start,end,valence\nb.wav,0,4,0.5\n", "there are words of b.wav, and predictions of a.wav"),
        (ROWS, "start,end,valence\n", "there are words of no file, and predictions of a.wav"),
        (
            ROWS + "b.wav,0,4,0.5,0.5,0.5,true,\n",
            "start,end,valence\n0,4,0.5\n",
            "the predictions are of 2 files, and some words name none",
        ),
        ("file,arousal,dominance,valence\na.wav,0.5,0.5,0.5\n", "start,end,valence\n0,4,0.5\n", "has no end"),
    ],
)
def test_wrong_use_is_one_sentence(rows, words, message, tmp_path):
    result = run(tmp_path, rows, words, "-o", str(tmp_path / "fused.csv"))
    assert result.exit_code == 1 and re.fullmatch(rf"wav2small: [^\n]*{re.escape(message)}[^\n]*\n", result.output), (
        result.output
    )
    assert not (tmp_path / "fused.csv").exists()
