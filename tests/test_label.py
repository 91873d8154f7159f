"""Labels: a row a segment whatever happens to it, and a stopped run ends as one that was not stopped."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wav2small.cli import main
from wav2small.config import OUTPUTS, Emotion
from wav2small.errors import ManifestError
from wav2small.manifest import Segment, read_manifest
from wav2small.tables import read_table
from wav2small.train.label import BATCH_SIZE, from_text, label, to_text

RATE = 16000


@dataclass
class Double:
    """Answers by level, length and first sample; breaks off after some batches, and keeps what it was given."""

    name: str = "double"
    version: str = "3"
    licence: str = "CC0-1.0"
    batches: float = np.inf
    error: type[BaseException] = KeyboardInterrupt
    heard: list[list[np.ndarray]] = field(default_factory=list)

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        if len(self.heard) >= self.batches:
            raise self.error
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


def silently(done: float, total: float) -> None:
    pass


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """A folder of 49 files, of lengths in no order."""
    folder = tmp_path_factory.mktemp("audio")
    for number, length in enumerate(np.random.default_rng(1).permutation(np.arange(200, 5100, 100))):
        write(folder / f"{number:02d}.wav", noise(length, number))
    return folder


@pytest.fixture
def segments(audio) -> list[Segment]:
    """The files in four batches, one of them missing."""
    found = [segment(path, speaker=f"s{number % 5}") for number, path in enumerate(sorted(audio.glob("*.wav")))]
    return [*found[:20], segment(audio / "gone.wav"), *found[20:]]


def test_rows_come_in_the_order_of_the_manifest_with_what_the_teacher_said(segments, tmp_path):
    teacher, told = Double(), []
    rows = label(segments, teacher, tmp_path / "labels.csv", lambda *progress: told.append(progress))
    assert [row["file"] for row in rows] == [segment.file for segment in segments]
    for row, segment_ in zip(rows, segments, strict=True):
        assert (row["teacher"], row["teacher_version"], row["teacher_licence"]) == ("double", "3", "CC0-1.0")
        assert row["speaker"] == segment_.speaker
        if segment_.path.exists():
            expected = emotion(soundfile.read(segment_.path, dtype="float32")[0])
            assert Emotion(*(row[name] for name in OUTPUTS)) == expected and row["error"] is None
        else:
            assert [row[name] for name in OUTPUTS] == [None] * 3 and "there is no such file" in row["error"]
    assert told[-1] == (50, 50) and len(told) == 4


def test_a_batch_holds_clips_of_like_length(segments, tmp_path):
    teacher = Double()
    label(segments, teacher, tmp_path / "labels.csv", silently)
    lengths = [[len(signal) for signal in batch] for batch in teacher.heard]
    assert all(len(batch) <= BATCH_SIZE for batch in lengths)
    assert list(itertools.chain(*lengths)) == sorted(itertools.chain(*lengths))


def test_the_order_of_the_manifest_changes_no_label(segments, tmp_path):
    straight = label(segments, Double(), tmp_path / "a.csv", silently)
    shuffled = [segments[index] for index in np.random.default_rng(0).permutation(50)]
    mixed = label(shuffled, Double(), tmp_path / "b.csv", silently)
    assert sorted(mixed, key=lambda row: row["file"]) == sorted(straight, key=lambda row: row["file"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("batches", range(4))
@pytest.mark.parametrize("cut", [0, 1, 17, 10000])
def test_a_stopped_run_loses_no_row_and_doubles_none(segments, tmp_path, batches, cut, error):
    """``cut``: bytes of the part that were not on the disk yet when the machine went down."""
    expected = label(segments, Double(), tmp_path / "whole.csv", silently)
    output, part = tmp_path / "labels.csv", tmp_path / "labels.csv.part"
    with pytest.raises(error):
        label(segments, Double(batches=batches, error=error), output, silently)
    assert not output.exists(), "nothing half done looks done"
    content = part.read_bytes()[: max(0, part.stat().st_size - cut)]
    part.write_bytes(content)
    done = sum('"arousal"' in line for line in content.decode().splitlines(True) if line.endswith("\n"))
    again = Double()
    assert label(segments, again, output, silently) == expected
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not part.exists()
    assert sum(map(len, again.heard)) == 49 - done, "what was done is not done again"
    assert cut > 1 or done >= batches * BATCH_SIZE - 2, "and what was done is a batch at a time"


@pytest.mark.parametrize("cut", [0, 9])
def test_a_run_that_stops_again_and_again_ends_all_the_same(segments, tmp_path, cut):
    expected = label(segments, Double(), tmp_path / "whole.csv", silently)
    part = tmp_path / "labels.csv.part"
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            label(segments, Double(batches=1), tmp_path / "labels.csv", silently)
        part.write_bytes(part.read_bytes()[: part.stat().st_size - cut])
    assert label(segments, Double(), tmp_path / "labels.csv", silently) == expected


def test_a_batch_is_on_the_disk_before_the_next_is_begun(segments, tmp_path):
    found = []

    class Watched(Double):
        def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
            found.append((tmp_path / "labels.csv.part").read_text().count('"arousal"'))
            return super().label(signals)

    label(segments, Watched(), tmp_path / "labels.csv", silently)
    assert found == [0, 15, 31, 47]


@pytest.mark.parametrize("change", [{"name": "other"}, {"version": "4"}, {"licence": "MIT"}])
def test_the_part_of_another_teacher_is_refused_and_kept(segments, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(batches=2), tmp_path / "labels.csv", silently)
    before = (tmp_path / "labels.csv.part").read_bytes()
    with pytest.raises(
        ManifestError, match=r"labels\.csv\.part: was begun by teacher double version 3 \(CC0-1\.0\) without"
    ):
        label(segments, Double(**change), tmp_path / "labels.csv", silently)
    assert (tmp_path / "labels.csv.part").read_bytes() == before


def test_embeddings_are_a_column_that_the_manifest_keeps(segments, tmp_path):
    rows = label(segments, Double(), tmp_path / "labels.csv", silently, embed=True)
    plain = label(segments, Double(), tmp_path / "plain.csv", silently)
    assert [{k: v for k, v in row.items() if k != "embedding"} for row in rows] == plain
    for found, row, source in zip(read_manifest(tmp_path / "labels.csv"), rows, segments, strict=True):
        if row["error"]:
            assert "embedding" not in row and found.column("embedding") == ""
        else:
            expected = embedding(soundfile.read(source.path, dtype="float32")[0])
            np.testing.assert_allclose(from_text(found.column("embedding"), ""), expected, rtol=1e-3, atol=1e-6)


def test_a_stopped_run_with_embeddings_goes_on_only_with_embeddings(segments, tmp_path):
    expected = label(segments, Double(), tmp_path / "whole.csv", silently, embed=True)
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(batches=2), tmp_path / "labels.csv", silently, embed=True)
    with pytest.raises(ManifestError, match=r"was begun by .* with embeddings, not by .* without embeddings"):
        label(segments, Double(), tmp_path / "labels.csv", silently)
    assert label(segments, Double(), tmp_path / "labels.csv", silently, embed=True) == expected
    assert (tmp_path / "labels.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@given(hnp.arrays(np.float16, st.integers(0, 50), elements=st.floats(-100, 100, width=16)))
def test_an_embedding_survives_as_text(values):
    np.testing.assert_array_equal(from_text(to_text(values.astype(np.float32)), ""), values)


@pytest.mark.parametrize("text", ["AAA", "AA==", "no base64!", "AAAA"])
def test_text_that_is_no_embedding_is_said(text):
    with pytest.raises(ManifestError, match=r"^a\.wav: its embedding reads .*which is not base64 of float16"):
        from_text(text, "a.wav")


@pytest.mark.parametrize("line", ["no json", "[]", "[1, 2]", '["a.wav", 0.0]', "3", '{"a": 1}'])
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_damaged_part_is_said(segments, tmp_path, line, where):
    part = tmp_path / "labels.csv.part"
    with pytest.raises(KeyboardInterrupt):
        label(segments, Double(batches=1), tmp_path / "labels.csv", silently)
    part.write_text(f"{line}\n" if where == "first" else part.read_text() + f"{line}\n")
    with pytest.raises(ManifestError, match=r"labels\.csv\.part: is damaged.*Remove it"):
        label(segments, Double(), tmp_path / "labels.csv", silently)


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
    rows = label(segments, teacher, tmp_path / "labels.csv", silently)
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
    rows = label([segment(path) for path in paths], teacher, tmp_path / "labels.csv", silently)
    assert not any(row["error"] for row in rows)
    heard = {len(signal): signal for signal in teacher.heard[0]}
    assert sorted(heard) == [1, 8000, RATE]
    np.testing.assert_allclose(heard[8000][::2][50:-50], eight.mean(1)[50:-50], atol=0.03)


def test_a_segment_is_heard_from_its_start_to_its_end(tmp_path):
    signal = noise(2 * RATE)
    path = write(tmp_path / "long.wav", signal, subtype="FLOAT")
    spans = [(0.0, 0.5), (0.5, 1.0), (1.25, None), (1.9, 9.0), (2.5, 3.0), (1.0, 1.00001)]
    segments = [segment(path, start=start, end=end) for start, end in spans]
    rows = label(segments, Double(), tmp_path / "labels.csv", silently)
    for row, (start, end) in zip(rows[:4], spans, strict=False):
        part = signal[round(start * RATE) : None if end is None else round(end * RATE)]
        assert Emotion(*(row[name] for name in OUTPUTS)) == emotion(part)
        assert (row["start"] or 0.0, row["end"]) == (start, end)
    assert rows[4]["error"] == f"{path}: is 2 s long, with no sample from 2.5 s to 3 s"
    assert "no sample from 1 s to 1.00001 s" in rows[5]["error"]


def test_a_segment_that_comes_twice_is_two_rows(tmp_path):
    twice = segment(write(tmp_path / "a.wav", noise(800)))
    first, second = label([twice, twice], Double(), tmp_path / "labels.csv", silently)
    assert first == second and first["arousal"] is not None


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_table_is_a_manifest_of_the_same_audio_wherever_it_lies(segments, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="extra parquet")
    (tmp_path / "far" / "away").mkdir(parents=True)
    output = tmp_path / "far" / "away" / f"labels.{suffix}"
    rows = label(segments, Double(), output, silently)
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
    label(read_manifest(tmp_path / "audio"), Double(), tmp_path / "one" / "first.csv", silently)
    second = tmp_path / "one" / "two" / "second.csv"
    label(read_manifest(tmp_path / "one" / "first.csv"), Double(version="4"), second, silently)
    (found,) = read_manifest(second)
    assert found.path.resolve() == tmp_path / "audio" / "a.wav"
    assert (found.column("note"), found.column("teacher_version")) == ("kept", "4")


def test_a_link_to_the_folder_of_the_table_is_no_harm(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    clip = write(tmp_path / "audio" / "a.wav", noise(800))
    label([segment(clip)], Double(), tmp_path / "link" / "labels.csv", silently)
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
    assert result.stderr == f"{tmp_path}/labels.csv: 49 labels by double 3, 0 errors\n"
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
    teacher.batches = 2
    assert run(audio, "-o", tmp_path / "labels.csv").exit_code == 130
    teacher.batches = np.inf
    assert run(audio, "-o", tmp_path / "labels.csv").exit_code == 0
    assert len(read_table(tmp_path / "labels.csv")) == 49
    assert sum(map(len, teacher.heard)) == 49


@pytest.mark.parametrize("output", ["none/labels.csv", "labels.xyz", "."])
def test_an_output_that_cannot_be_written_is_said_before_the_work(audio, tmp_path, monkeypatch, output):
    monkeypatch.setattr("wav2small.train.teachers.load_teacher", lambda *_: pytest.fail("work was begun"))
    result = run(audio, "-o", tmp_path / output)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"wav2small: {tmp_path / output}: ") and result.stderr.count("\n") == 1


def test_an_unknown_teacher_is_one_sentence(audio, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra train")
    result = run(audio, "--teacher", "nobody", "-o", tmp_path / "labels.csv")
    assert result.exit_code == 1
    assert result.stderr == "wav2small: there is no teacher 'nobody'. Known: open, or a file that fit wrote.\n"


def test_help_has_an_example():
    assert "Example:\n    wav2small label recordings --teacher open -o labels.csv" in run("--help").output
