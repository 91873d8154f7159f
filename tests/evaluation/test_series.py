"""Annotation over time: the delay is recovered, the CCC is over the concatenation, and wrong use is one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.cli import main
from wav2small.evaluation.series import MEAN, at_moments, best_delay, join_tracks, score_series
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment
from wav2small.tables.series import Series, read_series, series_rows
from wav2small.tables.table import read_table, write_table

WIN_DUR, HOP_DUR = 2.0, 0.5


def emotion(time: np.ndarray, phase: float) -> np.ndarray:
    """A voice that changes smoothly, shape=(3, times)."""
    return np.array([0.5 + 0.3 * np.sin(time / speed + phase) for speed in (3.1, 4.3, 5.9)])


def recording(file: str, split: str, delay: float, phase: float) -> tuple[Series, list[Segment]]:
    """A rater who is right, ``delay`` seconds late, and windows that are right at their centres."""
    time = np.arange(delay + 2, 58, 0.25)
    truth = Series(file, time, dict(zip(OUTPUTS, emotion(time - delay, phase), strict=True)), split)
    starts = np.arange(0, 58, HOP_DUR)
    answers = emotion(starts + WIN_DUR / 2, phase).T
    rows = [
        Segment(file, Path(file), float(start), float(start + WIN_DUR), emotion=Emotion(*answer.tolist()))
        for start, answer in zip(starts, answers, strict=True)
    ]
    return truth, rows


def world(delay: float, files: int = 6) -> tuple[list[Series], list[Segment]]:
    made = [recording(f"{n}.wav", "dev" if n % 2 else "test", delay, float(n)) for n in range(files)]
    return [truth for truth, _ in made], [row for _, rows in made for row in rows]


@settings(max_examples=8)
@given(st.integers(0, 60))
def test_the_delay_of_a_rater_is_recovered(tenths):
    truth, rows = world(tenths / 10, files=2)
    tracks = join_tracks(truth, rows, "rows.csv")
    assert best_delay(truth, tracks) == pytest.approx(tenths / 10)
    for name in OUTPUTS:
        assert concordance_cc(*at_moments(truth, tracks, name, tenths / 10)) > 0.999


def test_the_ccc_is_over_the_concatenation_and_its_interval_over_files():
    truth, rows = world(1.0, files=10)
    scale = {one.file: 0.5 + 0.05 * number for number, one in enumerate(truth)}
    wrong = [
        Segment(r.file, r.path, r.start, r.end, emotion=Emotion(*(np.array(r.emotion) * scale[r.file]).tolist()))
        for r in rows
    ]
    tracks = join_tracks(truth, wrong[::-1], "rows.csv")
    scores = {(one.split, one.dimension): one for one in score_series(truth, tracks, 1.0, draws=200, seed=0)}
    assert [*scores] == [(split, name) for split in ("test", "dev") for name in (*OUTPUTS, MEAN)]
    for split in ("test", "dev"):
        own = [index for index, one in enumerate(truth) if one.split == split]
        parts = [at_moments([truth[row]], [tracks[row]], "valence", 1.0) for row in own]
        score = scores[split, "valence"]
        assert score.ccc == concordance_cc(*map(np.concatenate, zip(*parts, strict=True)))
        assert score.ccc_within == pytest.approx(np.mean([concordance_cc(*part) for part in parts]))
        assert score.ccc != pytest.approx(score.ccc_within, abs=1e-3)
        assert score.low < score.ccc < score.high
        assert (score.n, score.files) == (sum(len(part[0]) for part in parts), 5)
        assert scores[split, MEAN].ccc == pytest.approx(np.mean([scores[split, name].ccc for name in OUTPUTS]))


def test_moments_outside_of_the_windows_get_the_nearest_and_silence_is_bridged():
    truth = Series("a.wav", np.array([0.0, 2.0, 3.0, 99.0]), {"valence": np.array([0.1, 0.2, 0.3, 0.4])})
    rows = [
        Segment("a.wav", Path("a.wav"), start, start + 2, emotion=answer)
        for start, answer in ((0.0, Emotion(0, 0, 0.2)), (1.0, None), (2.0, Emotion(0, 0, 0.6)))
    ]
    found = at_moments([truth], join_tracks([truth], rows, "rows.csv"), "valence", 0.0)[1]
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.6])


def test_the_order_of_rows_does_not_matter():
    truth, rows = world(1.0, files=2)
    for one, other in zip(join_tracks(truth, rows, "r"), join_tracks(truth, rows[::-1], "r"), strict=True):
        np.testing.assert_array_equal(one.time, other.time)
        np.testing.assert_array_equal(one.emotion, other.emotion)


def test_files_are_matched_by_the_end_of_their_path():
    truth, rows = world(0.0, files=2)
    moved = [Segment(f"corpus/Audio/{r.file}", r.path, r.start, r.end, emotion=r.emotion) for r in rows]
    np.testing.assert_array_equal(join_tracks(truth, moved, "m")[1].emotion, join_tracks(truth, rows, "r")[1].emotion)


def test_what_is_written_is_what_is_read(tmp_path):
    truth, _ = world(0.5, files=2)
    write_table(series_rows(truth), tmp_path / "truth.jsonl")
    for one, other in zip(truth, read_series(tmp_path / "truth.jsonl"), strict=True):
        assert (one.file, one.split, one.dimensions) == (other.file, other.split, other.dimensions)
        np.testing.assert_array_equal(one.time, other.time)
        np.testing.assert_array_equal(one.values["valence"], other.values["valence"])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["series", *map(str, arguments)])


@pytest.fixture
def files(tmp_path) -> Path:
    truth, rows = world(2.0)
    write_table(series_rows(truth), tmp_path / "truth.csv")
    cells = [
        {"file": r.file, "start": r.start, "end": r.end, **(r.emotion or Emotion(0, 0, 0))._asdict()} for r in rows
    ]
    write_table(cells, tmp_path / "rows.csv")
    return tmp_path


def test_the_command_chooses_the_delay_on_dev_and_scores_each_split(files):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    options = ("--on", files / "truth.csv", "--delay", "dev", "-o", files / "s.csv", "--plot", files / "s.svg")
    result = run(files / "rows.csv", *options)
    assert result.exit_code == 0, result.output
    table = read_table(files / "s.csv")
    assert [(row["split"], row["dimension"]) for row in table] == [
        (s, d) for s in ("test", "dev") for d in (*OUTPUTS, MEAN)
    ]
    assert {row["delay"] for row in table} == {"2.0000"} and all(float(row["ccc"]) > 0.99 for row in table)
    assert {row["low"] for row in table} == {""}, "three files have no interval"
    assert (files / "s.svg").read_text(encoding="utf-8").startswith("<?xml")
    late = run(files / "rows.csv", "--on", files / "truth.csv")
    assert len(re.findall(r"A/D/V  0\.0000  0\.8", late.output)) == 2, late.output


def edited(file: str, old: str, new: str):
    def edit(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return edit


WRONG = [
    (lambda folder: (folder / "truth.csv").write_text("file,time,valence\n"), "has no rows. Needed: a row per moment"),
    (edited("truth.csv", ",time,", ",seconds,"), "lacks time"),
    (edited("truth.csv", "arousal,dominance,valence", "a,d,v"), "lacks none of arousal, dominance, valence"),
    (edited("truth.csv", "0.wav,test,4.2500", "0.wav,test,3.9"), "0.wav goes from 4 to 3.9 s"),
    (edited("truth.csv", "0.wav,test,4.2500", "0.wav,dev,4.25"), "0.wav is in two splits"),
    (edited("truth.csv", "0.wav,test,4.2500", "0.wav,test,soon"), "time is 'soon'. Needed: a number"),
    (edited("truth.csv", "0.wav", "z.wav"), "for z.wav, which is annotated, there are none"),
    (edited("truth.csv", ",dev,", ",train,"), "no file has the split dev"),
    (edited("rows.csv", "\n0.wav,0.0000,2.0000,", "\n0.wav,0.0000,,"), "a row of 0.wav has no end"),
    (edited("rows.csv", "\n1.wav,", "\nx/0.wav,"), "for 1.wav, which is annotated, there are none"),
]


@pytest.mark.parametrize(("edit", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_use_is_one_sentence(edit, words, files):
    edit(files)
    result = run(files / "rows.csv", "--on", files / "truth.csv", "--delay", "dev", "-o", files / "s.csv")
    assert result.exit_code == 1 and re.fullmatch(rf"wav2small: [^\n]*{re.escape(words)}[^\n]*\n", result.output), (
        result.output
    )
    assert not (files / "s.csv").exists()


@pytest.mark.parametrize("delay", ["-1", "late", "nan", "60"])
def test_a_delay_is_seconds_or_dev(delay, files):
    result = run(files / "rows.csv", "--on", files / "truth.csv", "--delay", delay)
    assert result.exit_code == 2 and f"{delay} is neither seconds from 0 to 60 nor dev" in result.output
