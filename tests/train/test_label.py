"""Labels: a row a segment whatever happens to it, and a stopped run ends as one that was not stopped."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wav2small.audio.read import read
from wav2small.cli import main
from wav2small.errors import ManifestError, Wav2SmallError, WeightsError
from wav2small.files import locate
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment, read_manifest
from wav2small.tables.store import PLAN
from wav2small.tables.table import read_table

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("pyarrow", reason="needs the extra train")

from wav2small.train.config import LabelConfig
from wav2small.train.embedding import from_text, to_text
from wav2small.train.label import labelling
from wav2small.train.label import ray as ray_engine
from wav2small.train.label.ray import Workers
from wav2small.train.label.threads import Clip, Threads, ahead, by_length

RATE = 16000
PART_ROWS = 16


@dataclass
class Double:
    """Answers by level, length and first sample; keeps what it was given, and breaks off at more than some clips."""

    name: str = "double"
    version: str = "3"
    licence: str = "CC0-1.0"
    clips: float = np.inf
    error: Callable[[], BaseException] = KeyboardInterrupt
    heard: list[list[np.ndarray]] = field(default_factory=list)

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        if sum(map(len, self.heard)) + len(signals) > self.clips:
            raise self.error()
        self.heard.append(list(signals))
        return [emotion(signal) for signal in signals]

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        return self.label(signals), np.array([embedding(signal) for signal in signals])


def emotion(signal: np.ndarray) -> Emotion:
    level, dur = float(np.sqrt(np.mean(signal**2))), len(signal) / RATE
    return Emotion(round(min(1.0, level), 4), round(dur % 1, 4), round(float(abs(signal[0])) % 1, 4))


def embedding(signal: np.ndarray) -> np.ndarray:
    return np.array([len(signal) / RATE, -1.5, float(signal[0])])


def write(path: Path, signal: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, signal, rate, **options)
    return path


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def segment(path: Path, **options: object) -> Segment:
    return Segment(file=path.name, path=path, **options)


def silently(*_: object) -> None:
    pass


def label(
    segments, teacher, output: Path, progress=silently, embed=False, workers=1, part_rows=PART_ROWS, batch_dur=1.0
):
    """Label with so many batches at once, and read what was written, numbers as numbers and nothing as None."""
    config = LabelConfig(embed, batch_dur, part_rows)
    labelling.label(segments, Threads(teacher, config, workers), output, config, progress)
    return rows(output)


def rows(output: Path) -> list[dict[str, object]]:
    numbers = {"start", "end", *OUTPUTS}
    found = labelling.Store.find(output) if output.is_dir() else None
    return [
        {name: (float(v) if name in numbers else v) if v not in ("", None) else None for name, v in row.items()}
        for row in (found.rows() if found else read_table(output))
    ]


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """A folder of 49 files, of 0.01 to 0.3 s in no order."""
    folder = tmp_path_factory.mktemp("audio")
    for number, length in enumerate(np.random.default_rng(1).permutation(np.arange(200, 5100, 100))):
        write(folder / f"{number:02d}.wav", noise(length, number))
    return folder


@pytest.fixture
def segments(audio) -> list[Segment]:
    """The files in four parts, one of them missing."""
    found = [segment(path, speaker=f"s{number % 5}") for number, path in enumerate(sorted(audio.glob("*.wav")))]
    return [*found[:20], segment(audio / "gone.wav"), *found[20:]]


def test_rows_come_in_the_order_of_the_manifest_with_what_the_teacher_said(segments, tmp_path):
    told = []
    found = label(segments, Double(), tmp_path / "labels.csv", lambda *progress: told.append(progress))
    assert not (tmp_path / "labels.csv.parts").exists()
    for row, source in zip(found, segments, strict=True):
        assert row["file"] == source.file
        assert (row["teacher"], row["teacher_version"], row["teacher_licence"]) == ("double", "3", "CC0-1.0")
        assert row["speaker"] == source.speaker or not source.speaker
        if source.path.exists():
            expected = emotion(soundfile.read(source.path, dtype="float32")[0])
            assert Emotion(*(row[name] for name in OUTPUTS)) == expected and row["error"] is None
        else:
            assert [row[name] for name in OUTPUTS] == [None] * 3 and "there is no such file" in row["error"]
    assert told[0] == (0, 50, 0.0) and told[-1][:2] == (50, 50)
    assert told[-1][2] == pytest.approx(sum(soundfile.info(s.path).duration for s in segments if s.path.exists()))


def clip(number: int, length: int) -> Clip:
    return Clip(0, 1, number, np.zeros(length, np.float32))


@given(st.lists(st.integers(0, 3 * RATE), max_size=30), st.floats(0.01, 20))
def test_a_batch_is_of_like_length_and_padded_it_keeps_within_its_budget(lengths, batch_dur):
    clips = [clip(number, length) for number, length in enumerate(lengths)]
    batches = list(by_length(clips, batch_dur))
    found = [clip.number for batch in batches for clip in batch]
    assert found == sorted(range(len(lengths)), key=lambda number: lengths[number]), "each once, sorted, ties in order"
    for batch in batches:
        assert len(batch) == 1 or len(batch) * len(batch[-1].signal) <= batch_dur * RATE
    for batch, after in pairwise(batches):
        assert (len(batch) + 1) * len(after[0].signal) > batch_dur * RATE, "as large as may be"


def test_the_teacher_gets_those_batches(segments, tmp_path):
    teacher = Double()
    label(segments, teacher, tmp_path / "labels.csv", batch_dur=0.5)
    assert len(teacher.heard) > 10
    for batch in teacher.heard:
        lengths = [len(signal) for signal in batch]
        assert lengths == sorted(lengths) and len(batch) * lengths[-1] <= 0.5 * RATE
    (teacher := Double()).clips = np.inf
    label(segments, teacher, tmp_path / "again.csv", part_rows=100, batch_dur=1000.0)
    assert len(teacher.heard) == 1


def test_audio_in_memory_is_sorted_in_pools(segments, tmp_path, monkeypatch):
    monkeypatch.setattr("wav2small.train.label.threads.POOL_DUR", 1.0)
    teacher = Double()
    label(segments, teacher, tmp_path / "labels.csv", part_rows=100, batch_dur=1000.0)
    seconds = [sum(map(len, batch)) / RATE for batch in teacher.heard]
    assert len(seconds) > 5 and all(1.0 <= dur < 1.35 for dur in seconds[:-1])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("part_rows", [1, 7, 50, 1000])
def test_the_table_is_the_same_whatever_the_parts_and_workers(segments, tmp_path, workers, part_rows):
    label(segments, Double(), tmp_path / "a.csv")
    label(segments, Double(), tmp_path / "b.csv", workers=workers, part_rows=part_rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_order_of_the_manifest_changes_no_label(segments, tmp_path):
    straight = label(segments, Double(), tmp_path / "a.csv")
    shuffled = [segments[index] for index in np.random.default_rng(0).permutation(50)]
    mixed = label(shuffled, Double(), tmp_path / "b.csv")
    assert sorted(mixed, key=lambda row: row["file"]) == sorted(straight, key=lambda row: row["file"])


def test_batches_are_computed_at_once_and_in_one_thread_of_torch_each(segments, tmp_path):
    import torch

    together, threads = threading.Barrier(2, timeout=300), set()

    class Pair(Double):
        def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
            together.wait()
            threads.add(torch.get_num_threads())
            return super().label(signals)

    before = torch.get_num_threads()
    pair = segments[:2] * 8
    label(pair, Pair(), tmp_path / "labels.csv", workers=2, batch_dur=0.001)
    assert threads == {1} and torch.get_num_threads() == before


def test_what_waits_is_bounded_and_comes_in_order():
    from concurrent.futures import ThreadPoolExecutor

    begun = []

    def items():
        for number in range(40):
            begun.append(number)
            yield number

    with ThreadPoolExecutor(3) as executor:
        for taken, result in enumerate(ahead(executor, lambda number: number * 2, items(), 5)):
            assert result == 2 * taken and len(begun) <= taken + 6
    assert len(begun) == 40


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("clips", [0, 15, 16, 40])
@pytest.mark.parametrize("cut", [0, 1, 17, 10000])
def test_a_stopped_run_loses_no_row_and_doubles_none(segments, tmp_path, clips, cut, error):
    """``cut``: bytes of the last part that were not on the disk yet when the machine went down."""
    expected = label(segments, Double(), tmp_path / "whole.csv")
    output, folder = tmp_path / "labels.csv", tmp_path / "labels.csv.parts"
    stopped = Double(clips=clips, error=error)
    with pytest.raises(error):
        label(segments, stopped, output)
    assert not output.exists(), "nothing half done looks done"
    parts = sorted(folder.glob("part-*.parquet"))
    assert len(parts) >= sum(map(len, stopped.heard)) // PART_ROWS - 1, "what was done is on the disk"
    if parts:
        parts[-1].write_bytes(parts[-1].read_bytes()[: max(0, parts[-1].stat().st_size - cut)])
    (folder / ".wav2small-dead.parquet").write_bytes(b"half a part")
    whole = len(parts) - (cut > 0 and bool(parts))
    again = Double()
    assert label(segments, again, output) == expected
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not folder.exists()
    assert sum(map(len, again.heard)) == 49 - whole * PART_ROWS + (whole > 1), "what is whole is not done again"


def test_a_run_that_stops_again_and_again_ends_all_the_same(segments, tmp_path):
    expected, teachers = label(segments, Double(), tmp_path / "whole.csv"), []
    for _ in range(2):
        teachers.append(Double(clips=20))
        with pytest.raises(KeyboardInterrupt):
            label(segments, teachers[-1], tmp_path / "labels.csv")
    teachers.append(Double())
    assert label(segments, teachers[-1], tmp_path / "labels.csv") == expected
    assert sum(map(len, teachers[-1].heard)) < 20, "each time it came further"


def test_a_failed_batch_stops_the_rest(segments, tmp_path):
    """Whatever else is decoded or waits."""
    teacher = Double(clips=0, error=MemoryError)
    with pytest.raises(MemoryError):
        label(segments * 20, teacher, tmp_path / "labels.csv", workers=2)
    assert teacher.heard == []


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"name": "other"}, "teacher double, asked for other"),
        ({"version": "4"}, "teacher_version 3, asked for 4"),
        ({"licence": "MIT"}, "teacher_licence CC0-1.0, asked for MIT"),
    ],
)
def test_the_parts_of_another_teacher_are_refused_and_kept(segments, tmp_path, change, other):
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(clips=40), tmp_path / "labels.csv")
    before = {path.name: path.read_bytes() for path in (tmp_path / "labels.csv.parts").iterdir()}
    with pytest.raises(ManifestError, match=rf"labels\.csv\.parts: holds {re.escape(other)}\. Finish it as"):
        label(segments, Double(**change), tmp_path / "labels.csv")
    assert {path.name: path.read_bytes() for path in (tmp_path / "labels.csv.parts").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"embed": True}, r".*embed False, asked for True"),
        ({"batch_dur": 2.0}, r"batch_dur 1\.0, asked for 2\.0"),
        ({"part_rows": 8}, r"part_rows 16, asked for 8"),
    ],
)
def test_a_stopped_run_goes_on_only_as_it_was_begun(segments, tmp_path, change, other):
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(clips=20), tmp_path / "labels.csv")
    with pytest.raises(ManifestError, match=f"holds {other}"):
        label(segments, Double(), tmp_path / "labels.csv", **change)
    for others in (segments[1:], [*segments[:-1], segment(segments[-1].path, speaker="another")]):
        with pytest.raises(ManifestError, match=r"segments [0-9a-f]{64}, asked for "):
            label(others, Double(), tmp_path / "labels.csv")


def test_embeddings_are_a_column_that_the_manifest_keeps(segments, tmp_path):
    found = label(segments, Double(), tmp_path / "labels.csv", embed=True)
    plain = label(segments, Double(), tmp_path / "plain.csv")
    assert [{k: v for k, v in row.items() if k != "embedding"} for row in found] == plain
    for source, row, origin in zip(read_manifest(tmp_path / "labels.csv"), found, segments, strict=True):
        if row["error"]:
            assert row["embedding"] is None and source.column("embedding") == ""
        else:
            expected = embedding(soundfile.read(origin.path, dtype="float32")[0])
            np.testing.assert_allclose(from_text(source.column("embedding"), ""), expected, rtol=1e-3, atol=1e-6)


def test_the_embedding_of_an_earlier_teacher_is_not_kept(segments, tmp_path):
    label(segments, Double(), tmp_path / "first.csv", embed=True)
    again = label(read_manifest(tmp_path / "first.csv"), Double(version="4"), tmp_path / "second.csv")
    assert "embedding" not in again[0] and again[0]["teacher_version"] == "4"


@given(hnp.arrays(np.float16, st.integers(0, 50), elements=st.floats(-100, 100, width=16)))
def test_an_embedding_survives_as_text(values):
    np.testing.assert_array_equal(from_text(to_text(values.astype(np.float32)), ""), values)


@pytest.mark.parametrize("text", ["AAA", "AA==", "no base64!", "AAAA"])
def test_text_that_is_no_embedding_is_said(text):
    with pytest.raises(ManifestError, match=r"^a\.wav: its embedding is .*which is not base64 of float16"):
        from_text(text, "a.wav")


@pytest.mark.parametrize("text", ["no json", "[]", "3", "{}", '{"rows": 3, "part_rows": 0, "columns": {}}'])
def test_a_damaged_plan_is_said(segments, tmp_path, text):
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(clips=1), tmp_path / "labels.csv")
    (tmp_path / "labels.csv.parts" / PLAN).write_text(text)
    with pytest.raises(ManifestError, match=r"labels\.csv\.parts/plan\.json: is damaged\. Remove the folder"):
        label(segments, Double(), tmp_path / "labels.csv")


def test_without_a_suffix_the_store_is_the_output_and_a_manifest(segments, tmp_path):
    table = label(segments, Double(), tmp_path / "labels.jsonl", embed=True)
    assert label(segments, Double(), tmp_path / "labels", embed=True) == [
        {**row, "root": "../" + row["root"]} for row in table
    ]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == [
        *(f"part-0000{part}.parquet" for part in range(4)),
        PLAN,
    ]
    for found, source in zip(read_manifest(tmp_path / "labels"), segments, strict=True):
        assert found.path.resolve() == source.path.resolve() and (found.emotion is None) == (not source.path.exists())
    (teacher := Double()).clips = 0
    assert len(label(segments, teacher, tmp_path / "labels", embed=True)) == 50, "and it is not done again"


def test_a_store_is_what_any_reader_of_parquet_reads(segments, tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    expected = label(segments, Double(), tmp_path / "labels")
    table = dataset.dataset([str(path) for path in sorted((tmp_path / "labels").glob("*.parquet"))]).to_table()
    assert table["file"].to_pylist() == [row["file"] for row in expected]
    assert table["arousal"].to_pylist() == [row["arousal"] for row in expected]


def test_an_unfinished_or_damaged_store_is_no_manifest(segments, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(clips=40), tmp_path / "labels")
    with pytest.raises(ManifestError, match=r"labels: lacks \d of its 4 parts, such as part-0000\d\.parquet\. Finish"):
        read_manifest(tmp_path / "labels")
    label(segments, Double(), tmp_path / "labels")
    (tmp_path / "labels" / "part-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ManifestError, match=r"lacks 1 of its 4 parts, such as part-00001\.parquet"):
        read_manifest(tmp_path / "labels")


def test_a_folder_of_other_things_is_refused(segments, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "notes.txt").write_text("mine")
    with pytest.raises(Wav2SmallError, match="labels: holds other things"):
        label(segments, Double(), tmp_path / "labels")


def test_neighbouring_segments_of_a_file_decode_it_once(tmp_path, monkeypatch):
    decoded, path = [], write(tmp_path / "long.wav", noise(RATE))
    monkeypatch.setattr("wav2small.train.label.threads.read", lambda name: decoded.append(name) or read(name))
    spans = [segment(path, start=number / 10, end=(number + 1) / 10) for number in range(10)]
    label([*spans, segment(write(tmp_path / "other.wav", noise(99)))], Double(), tmp_path / "labels.csv")
    assert [name.name for name in decoded] == ["long.wav", "other.wav"]


def test_audio_and_labels_may_be_far_away(segments, audio, tmp_path):
    pytest.importorskip("upath", reason="extra remote")
    from fsspec.implementations.memory import MemoryFileSystem

    here = label([s for s in segments if s.path.exists()], Double(), tmp_path / "labels.csv")
    store = MemoryFileSystem()
    for path in audio.iterdir():
        store.pipe(f"/clips/deep/{path.name}", path.read_bytes())
    (there := locate("memory://labels")).mkdir()
    for output in (there / "one.csv", there / "store"):
        segments = read_manifest("memory://clips")
        assert [str(s.path) for s in segments[:1]] == ["memory://clips/deep/00.wav"]
        with pytest.raises(KeyboardInterrupt):
            label(segments, Double(clips=30), output)
        found = label(segments, Double(), output)
        assert [row["file"] for row in found] == [f"deep/{row['file']}" for row in here]
        assert [[row[n] for n in OUTPUTS] for row in found] == [[row[n] for n in OUTPUTS] for row in here]
        assert [str(s.path) for s in read_manifest(str(output))] == [str(s.path) for s in segments]
    assert sorted(path.name for path in there.iterdir()) == ["one.csv", "store"], "nothing is left over"


def test_what_cannot_be_read_is_a_row_and_the_rest_is_done(tmp_path):
    broken = {
        "text.wav": (b"no audio", "cannot be decoded"),
        "empty.wav": (b"", "the file is empty"),
        "cut.wav": (write(tmp_path / "cut.wav", noise(8000)).read_bytes()[:9000], "truncated"),
    }
    for name, (content, _) in broken.items():
        (tmp_path / name).write_bytes(content)
    write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.1], np.float32), subtype="FLOAT")
    write(tmp_path / "inf.wav", np.array([0.1, np.inf, 0.1], np.float32), subtype="FLOAT")
    (tmp_path / "folder.wav").mkdir()
    good = write(tmp_path / "good.wav", noise(800))
    reasons = {name: reason for name, (_, reason) in broken.items()}
    reasons |= {"nan.wav": "sample 1 .* is nan", "inf.wav": "sample 1 .* is inf", "folder.wav": "is a folder"}
    segments = [*(segment(tmp_path / name) for name in reasons), segment(good)]
    teacher = Double()
    rows = label(segments, teacher, tmp_path / "labels.csv")
    assert len(teacher.heard) == len(teacher.heard[0]) == 1
    for row, (name, reason) in zip(rows, reasons.items(), strict=False):
        assert row["file"] == name and row["arousal"] is None
        assert re.search(reason, row["error"])
    assert rows[-1]["error"] is None and rows[-1]["arousal"] == pytest.approx(0.1, abs=0.02)


def test_odd_clips_reach_the_teacher_as_mono_at_16_khz(tmp_path):
    eight = np.stack([noise(4000, channel) for channel in range(8)], 1)
    paths = [
        write(tmp_path / "silent.wav", np.zeros(RATE)),
        write(tmp_path / "one.wav", np.array([0.5])),
        write(tmp_path / "eight.wav", eight, 8000, subtype="FLOAT"),
    ]
    teacher = Double()
    rows = label([segment(path) for path in paths], teacher, tmp_path / "labels.csv", batch_dur=100.0)
    assert not any(row["error"] for row in rows)
    heard = {len(signal): signal for signal in teacher.heard[0]}
    assert sorted(heard) == [1, 8000, RATE]
    np.testing.assert_allclose(heard[8000][::2][50:-50], eight.mean(1)[50:-50], atol=0.03)


def test_a_segment_is_heard_from_its_start_to_its_end(tmp_path):
    signal = noise(2 * RATE)
    path = write(tmp_path / "long.wav", signal, subtype="FLOAT")
    spans = [(0.0, 0.5), (0.5, 1.0), (1.25, None), (1.9, 9.0), (2.5, 3.0), (1.0, 1.00001)]
    segments = [segment(path, start=start, end=end) for start, end in spans]
    rows = label(segments, Double(), tmp_path / "labels.csv")
    for row, (start, end) in zip(rows[:4], spans, strict=False):
        part = signal[round(start * RATE) : None if end is None else round(end * RATE)]
        assert Emotion(*(row[name] for name in OUTPUTS)) == emotion(part)
        assert (row["start"] or 0.0, row["end"]) == (start, end)
    assert rows[4]["error"] == f"{path}: is 2 s long, with no sample from 2.5 s to 3 s"
    assert "no sample from 1 s to 1.00001 s" in rows[5]["error"]


def test_a_segment_that_comes_twice_is_two_rows(tmp_path):
    twice = segment(write(tmp_path / "a.wav", noise(800)))
    first, second = label([twice, twice], Double(), tmp_path / "labels.csv")
    assert first == second and first["arousal"] is not None


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_table_is_a_manifest_of_the_same_audio_wherever_it_lies(segments, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="extra parquet")
    (tmp_path / "far" / "away").mkdir(parents=True)
    output = tmp_path / "far" / "away" / f"labels.{suffix}"
    rows = label(segments, Double(), output)
    for found, row, source in zip(read_manifest(output), rows, segments, strict=True):
        assert found.path.resolve() == source.path.resolve()
        assert (found.file, found.speaker) == (source.file, source.speaker)
        assert found.emotion == (None if row["error"] else Emotion(*(row[name] for name in OUTPUTS)))
        assert found.column("teacher_licence") == "CC0-1.0"
        assert found.column("error") == (row["error"] or "")


def test_labels_of_a_table_of_labels_still_find_the_audio(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "one" / "two").mkdir(parents=True)
    write(tmp_path / "audio" / "a.wav", noise(800))
    (tmp_path / "audio" / "manifest.csv").write_text("file,note\n./a.wav,kept\n")
    label(read_manifest(tmp_path / "audio"), Double(), tmp_path / "one" / "first.csv")
    second = tmp_path / "one" / "two" / "second.csv"
    label(read_manifest(tmp_path / "one" / "first.csv"), Double(version="4"), second)
    (found,) = read_manifest(second)
    assert found.path.resolve() == tmp_path / "audio" / "a.wav"
    assert (found.column("note"), found.column("teacher_version")) == ("kept", "4")


def test_a_link_to_the_folder_of_the_table_is_no_harm(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    clip = write(tmp_path / "audio" / "a.wav", noise(800))
    label([segment(clip)], Double(), tmp_path / "link" / "labels.csv")
    assert read_manifest(tmp_path / "link" / "labels.csv")[0].path.exists()


@pytest.fixture
def teacher(monkeypatch) -> Double:
    """What the command gets for any name of a teacher."""
    double = Double()
    monkeypatch.setattr("wav2small.train.teachers.load_teacher", lambda name, bf16, device: double)
    return double


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["label", *map(str, arguments)])


def test_the_command_labels_a_folder(teacher, audio, tmp_path):
    result = run(audio, "-o", tmp_path / "labels.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{tmp_path}/labels.csv: 49 labels by double 3, 0 errors, 3.1 KB\n"
    rows = read_table(tmp_path / "labels.csv")
    assert len(rows) == 49 and all(row["teacher"] == "double" and row["arousal"] for row in rows)


def test_the_exit_code_says_that_a_file_failed(teacher, segments, audio, tmp_path):
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "fold"], *([s.file, s.file[0]] for s in segments)])
    result = run(tmp_path, "--root", audio, "-o", tmp_path / "labels.csv")
    assert (result.exit_code, "49 labels by double 3, 1 errors" in result.stderr) == (1, True)
    assert run(tmp_path, "--root", audio, "--where", "fold=1", "-o", tmp_path / "some.jsonl").exit_code == 0
    kept = [json.loads(line)["file"] for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert kept == [s.file for s in segments if s.file[0] == "1"]


def test_the_command_adds_embeddings(teacher, audio, tmp_path):
    assert run(audio, "--embed", "-o", tmp_path / "labels.parquet").exit_code == 0
    assert all(len(from_text(row["embedding"], "")) == 3 for row in read_table(tmp_path / "labels.parquet"))


def test_ctrl_c_is_130_and_the_same_command_goes_on(teacher, audio, tmp_path):
    command = (audio, "-o", tmp_path / "labels.csv", "--batch", 0.3, "--part", PART_ROWS, "--workers", 1)
    teacher.clips = 20
    assert run(*command).exit_code == 130
    before, teacher.clips = sum(map(len, teacher.heard)), np.inf
    assert run(*command).exit_code == 0
    assert len(read_table(tmp_path / "labels.csv")) == 49
    assert sum(map(len, teacher.heard)) - before == 49 - PART_ROWS


@pytest.mark.parametrize("output", ["none/labels.csv", "labels.xyz", ".", "none/labels"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(audio, tmp_path, monkeypatch, output):
    monkeypatch.setattr("wav2small.train.teachers.load_teacher", lambda *_: pytest.fail("work was begun"))
    (tmp_path / "notes.txt").touch()
    result = run(audio, "-o", tmp_path / output)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"wav2small: {tmp_path / output}: ") and result.stderr.count("\n") == 1


def test_an_unknown_teacher_is_one_sentence(audio, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra train")
    result = run(audio, "--teacher", "nobody", "-o", tmp_path / "labels.csv")
    assert result.exit_code == 1
    assert result.stderr == "wav2small: unknown teacher 'nobody'. Known: dawn, odyssey, open, paper.\n"


def test_help_has_an_example():
    assert "Example:\n    wav2small label recordings --teacher open -o labels.csv" in run("--help").output


@dataclass
class Mortal(Double):
    """Kills its process before it answers for the second time, unless somebody did so before."""

    grave: Path = Path()

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        if len(self.heard) == 1 and not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().label(signals)


def mortal(grave: Path, device: str) -> Double:
    return Mortal(grave=grave)


def double(device: str) -> Double:
    return Double()


def none(device: str) -> Double:
    raise WeightsError("no weights on this machine. Bring them.")


def failing(device: str) -> Double:
    return Double(clips=1, error=partial(Wav2SmallError, "the network is down"))


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine; what is defined here is sent to its workers, which cannot import it."""
    ray = pytest.importorskip("ray", reason="extra ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


def far(segments, load, output: Path) -> list[dict[str, object]]:
    config = LabelConfig(batch_dur=1.0, part_rows=PART_ROWS)
    labelling.label(segments, Workers(load, config, "cpu", 2, None), output, config, silently)
    return rows(output)


@pytest.mark.slow
def test_workers_of_ray_write_the_same_bytes(cluster, segments, tmp_path):
    label(segments, Double(), tmp_path / "here.csv")
    far(segments, double, tmp_path / "there.csv")
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert far(segments[:0], double, tmp_path / "nothing.csv") == []


@pytest.mark.slow
def test_a_worker_of_ray_that_dies_loses_nothing(cluster, segments, tmp_path):
    expected = label(segments, Double(), tmp_path / "here.csv")
    grave = tmp_path / "grave"
    assert far(segments, partial(mortal, grave), tmp_path / "there.csv") == expected
    assert grave.exists()


OUTSIDE = """
import sys, ray
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
import test_label
ray.cloudpickle.register_pickle_by_value(test_label)
config = test_label.LabelConfig(batch_dur=1.0, part_rows=test_label.PART_ROWS)
engine = test_label.Workers(test_label.double, config, "cpu", 1, sys.argv[4])
segments, output = test_label.read_manifest(sys.argv[2]), test_label.Path(sys.argv[3])
test_label.labelling.label(segments, engine, output, config, test_label.silently)
"""


@pytest.mark.slow
def test_a_program_outside_the_cluster_has_the_same_bytes(audio, tmp_path):
    """A head of Ray has to be started, and two interpreters."""
    pytest.importorskip("ray", reason="extra ray")
    label(read_manifest(audio), Double(), tmp_path / "here.csv")
    own, client = free_ports(2)
    start = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--include-dashboard=false"]
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}
    environment = os.environ | settings
    ports = ["--num-cpus", "1", "--port", str(own), "--ray-client-server-port", str(client)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    head = subprocess.Popen([*start, *ports], env=environment, start_new_session=True, **quiet)
    try:
        wait_for(client)
        there = [str(Path(__file__).parent), str(audio), str(tmp_path / "there.csv"), f"ray://127.0.0.1:{client}"]
        subprocess.run([sys.executable, "-c", OUTSIDE, *there], env=environment, check=True, timeout=300)
    finally:
        os.killpg(head.pid, signal.SIGKILL)  # asked to end, it would wait for half a minute
        head.wait()
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def free_ports(count: int) -> list[int]:
    """Above those that Ray gives its workers."""
    return list(islice(filter(is_free, range(20_000 + os.getpid() % 5000, 32_000)), count))


def is_free(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) != 0


def wait_for(port: int) -> None:
    """Until somebody listens."""
    until = time.monotonic() + 300
    while is_free(port):
        assert time.monotonic() < until, "Ray did not start"
        time.sleep(0.2)


@pytest.mark.parametrize("refusals, connects", [(0, True), (2, True), (3, False)])
def test_a_head_of_ray_that_turns_the_first_visitor_away_is_asked_again(monkeypatch, refusals, connects):
    ray = pytest.importorskip("ray", reason="extra ray")
    visits = []

    def init(**where):
        visits.append(where["address"])
        if len(visits) <= refusals:
            raise ConnectionAbortedError("Initialization failure from server:\nTraceback\nRuntimeError: no server")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_engine, "_knock", lambda address: None)
    if connects:
        assert ray_engine.connected("ray://head:10001") is ray
    else:
        with pytest.raises(Wav2SmallError, match=r"ray://head:10001: .* \(RuntimeError: no server\)"):
            ray_engine.connected("ray://head:10001")
    assert visits == ["ray://head:10001"] * min(refusals + 1, 3)


@pytest.mark.slow
def test_what_goes_wrong_on_a_worker_of_ray_is_one_sentence_here(cluster, segments, tmp_path):
    with pytest.raises(WeightsError, match=r"^no weights on this machine\. Bring them\.$"):
        far(segments, none, tmp_path / "there.csv")
    with pytest.raises(Wav2SmallError, match=r"^the network is down$"):
        far(segments, failing, tmp_path / "there.csv")
    label(segments, Double(), tmp_path / "there.csv", part_rows=PART_ROWS)


def test_no_cluster_is_said(audio, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="extra ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    result = run(audio, "-o", tmp_path / "labels.csv", "--engine", "ray", "--ray-address", "ray://127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.startswith("wav2small: ray://127.0.0.1:1: there is no Ray cluster to work with (")


KILLED = """
import sys, time
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
import test_label
class Slow(test_label.Double):
    def label(self, signals):
        time.sleep(0.03)
        return super().label(signals)
segments, output = test_label.read_manifest(sys.argv[2]), test_label.Path(sys.argv[3])
test_label.label(segments, Slow(), output, part_rows=4, batch_dur=0.3)
"""


@pytest.mark.slow
def test_kill_9_again_and_again_loses_no_row_and_doubles_none(audio, tmp_path):
    """Each process has to import torch first."""
    expected = label(read_manifest(audio), Double(), tmp_path / "here.csv")
    output, parts, kills = tmp_path / "labels.csv", tmp_path / "labels.csv.parts", 0
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(audio), str(output)]
    while not output.exists():
        child = subprocess.Popen(command)
        before = len(list(parts.glob("part-*")))
        while child.poll() is None and kills < 3 and len(list(parts.glob("part-*"))) < before + 2:
            time.sleep(0.01)
        if kills < 3:
            child.kill()
            kills += 1
        child.wait()
    assert kills == 3 and rows(output) == expected and not parts.exists()
