"""A manifest is read as it was written, whatever holds it, and says what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.errors import AudioError, ManifestError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment, read_manifest, select
from wav2small.tables.table import write_table

DATA = Path(os.environ.get("WAV2SMALL_DATA") or Path(__file__).parents[3] / "shared" / "data")

text = st.text("aä ,\"'\n=0é;", max_size=6)
numbers = st.integers(0, 10000).map(lambda n: n / 10000)


@st.composite
def manifest_rows(draw):
    files = draw(st.lists(st.text("abcä ,-", min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
    rows = []
    for file in files:
        start = draw(st.integers(0, 50)) / 10
        values = draw(st.one_of(st.just((None, None, None)), st.tuples(numbers, numbers, numbers)))
        rows.append(
            {
                "file": file,
                "start": start,
                "end": draw(st.one_of(st.none(), st.just(start + 0.5))),
                "speaker": draw(text),
                "label": draw(text),
                **dict(zip(OUTPUTS, values, strict=True)),
                "extra": draw(text),
            }
        )
    return rows


def expected(row, folder):
    emotion = Emotion(*(row[name] for name in OUTPUTS)) if row["arousal"] is not None else None
    return Segment(
        file=row["file"],
        path=folder / row["file"],
        start=row["start"],
        end=row["end"],
        speaker=row["speaker"],
        label=row["label"],
        emotion=emotion,
        fields={"extra": row["extra"]},
    )


@settings(deadline=None)
@given(manifest_rows())
@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_what_was_written_is_read(tmp_path_factory, format, rows):
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="extra parquet")
    folder = tmp_path_factory.mktemp("manifest")
    write_table(rows, folder / f"table.{format}", format)
    assert read_manifest(folder / f"table.{format}") == [expected(row, folder) for row in rows]


def test_the_name_of_the_file_changes_nothing(tmp_path):
    for name in ("manifest.csv", "labels.parquet", "labels"):
        (tmp_path / name).write_text("file,fold\na.wav,3\n")
    assert read_manifest(tmp_path / "labels.parquet") == read_manifest(tmp_path / "labels") == read_manifest(tmp_path)


def test_a_folder_with_a_manifest_is_its_manifest_and_root_is_where_the_audio_is(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,speaker\nsub/a.wav,s1\n")
    (segment,) = read_manifest(str(tmp_path))
    assert (segment.path, segment.speaker, segment.end) == (tmp_path / "sub/a.wav", "s1", None)
    (segment,) = read_manifest(tmp_path, root="/elsewhere")
    assert (segment.file, segment.path) == ("sub/a.wav", Path("/elsewhere/sub/a.wav"))


def test_a_folder_of_audio_is_walked_and_sorted(tmp_path):
    for name in ("b.wav", "sub/a.wav", "a.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(100), 16000)
    (tmp_path / "notes.txt").write_text("no audio")
    segments = read_manifest(tmp_path)
    assert [segment.file for segment in segments] == ["a.flac", "b.wav", "sub/a.wav"]
    assert all(segment.path.is_file() for segment in segments)


def test_a_folder_without_audio_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="no audio"):
        read_manifest(tmp_path)


def test_columns_by_name(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,speaker,split,label,fold\na.wav,s1,dev,anger,3\n")
    (segment,) = read_manifest(tmp_path)
    assert [segment.column(name) for name in ("file", "speaker", "split", "label", "fold", "gender")] == [
        *("a.wav", "s1", "dev", "anger", "3", "")
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("path,label\na.wav,anger\n", "no column file, only path, label"),
        ("file,label\n", "no rows"),
        ("file,label\n,anger\n", "row 1: the column file is empty"),
        ("file,start\na.wav,0\na.wav,soon\n", "row 2: start is 'soon'"),
        ("file,start,end\na.wav,2,1\n", "from 2.0 to 1.0 s is empty"),
        ("file,start\na.wav,-1\n", "0 <= start"),
        ("file,end\na.wav,0\n", "is empty"),
        ("file,arousal,dominance,valence\na.wav,0.5,nan,0.5\n", "dominance is 'nan'"),
        ("file,arousal,dominance,valence\na.wav,0.5,,0.5\n", "no dominance"),
        ("file,arousal\na.wav,0.5\n", "no dominance and no valence"),
        ("file\na.wav\nb.wav\na.wav\n", "rows 1 and 3 are the same segment of a.wav"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, table, words):
    (tmp_path / "manifest.csv").write_text(table)
    with pytest.raises(ManifestError, match=words):
        read_manifest(tmp_path)


def test_a_missing_manifest_is_said(tmp_path):
    with pytest.raises(ManifestError, match="cannot be opened"):
        read_manifest(tmp_path / "none.csv")


def test_select_takes_any_value_of_a_column_and_every_column():
    segments = [
        Segment(f"{label}{fold}", Path("x"), label=label, fields={"fold": fold}) for label in "abc" for fold in "01"
    ]
    chosen = select(segments, [("label", "a"), ("fold", "1"), ("label", "c")])
    assert [segment.file for segment in chosen] == ["a1", "c1"]
    assert select(segments, []) == segments
    with pytest.raises(ManifestError, match=r"no row has fold = 7\. Values there: 0, 1"):
        select(segments, [("fold", "7")])
    with pytest.raises(ManifestError, match=r"no row has gender = f\. Values there: nothing"):
        select(segments, [("gender", "f")])


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data: set WAV2SMALL_DATA to its folder")
def test_a_real_corpus():
    segments = read_manifest(DATA / "noncommercial" / "ravdess")
    assert len(segments) == 1440
    assert len({segment.speaker for segment in segments}) == 24
    assert Counter(segment.label for segment in segments)["neutral"] == 96
    assert all(segment.path.is_file() for segment in segments)
