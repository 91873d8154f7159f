"""Layouts of corpora: rows, error sentences, reports of missing files, and speaker-independent splits."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from miniatures import MINIATURES, msp_podcast_early, msp_podcast_json, put, write
from wav2small import plugins
from wav2small.cli import main
from wav2small.cli.corpus import known
from wav2small.corpora import load_corpus, read_corpus
from wav2small.corpora.acted import Names
from wav2small.corpora.folder import rated
from wav2small.corpora.protocol import deal, with_folds, with_splits
from wav2small.errors import ManifestError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.manifest import Segment, load_norms, read_manifest
from wav2small.tables.series import read_series
from wav2small.tables.table import read_table

DATA = Path(os.environ.get("WAV2SMALL_DATA") or Path(__file__).parents[3] / "shared" / "data")
DOCUMENT = Path(__file__).parents[2] / "docs" / "corpora.md"
WITHOUT_NORM = {
    "",
    "excitement",
    "frustration",
    "other",
    "anxious",
    "apologetic",
    "assertive",
    "concerned",
    "encouraging",
}
NEEDS = {"audformat": "audformat", "datasets": "datasets"}


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def build(name: str, root: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs the extra {NEEDS[name]}")
    MINIATURES[name](root)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["corpus", *map(str, arguments)])


def rows(segments: list[Segment]) -> list[tuple[str, str, str, str, tuple[float, ...]]]:
    return [
        (Path(s.file).name, s.speaker, s.split, s.label, tuple(round(v, 3) for v in s.emotion or ())) for s in segments
    ]


def test_every_corpus_has_a_miniature():
    assert plugins.names(plugins.CORPORA) == sorted(MINIATURES)


@pytest.mark.parametrize("name", sorted(MINIATURES))
def test_the_manifest_holds_what_was_read_and_nothing_is_missing(name, root, tmp_path):
    build(name, root)
    output = tmp_path / "out" / "manifest.csv"
    output.parent.mkdir()
    result = run(name, root, "-o", output)
    print(f"{name}: {result.output}")
    assert result.exit_code == 0
    assert re.findall(r"^(?:no|duplicate) \w+: (\d+)$", result.output, re.MULTILINE) == ["0", "0", "0"]
    expected = read_corpus(name, root, None, output.parent / "manifest-audio")
    found = read_manifest(output)
    assert [(s.file, s.path.resolve(), s.start, s.end) for s in found] == [
        (s.file, s.path.resolve(), s.start, s.end) for s in expected
    ]
    assert rows(found) == rows(expected)
    assert [s.fields for s in found] == [{name: s.fields.get(name, "") for name in found[0].fields} for s in expected]
    assert all(segment.path.is_file() for segment in found)
    assert {segment.fields["corpus"] for segment in found} == {name}


@pytest.mark.parametrize("name", sorted(set(MINIATURES) - {"plain", "datasets"}))
def test_labels_have_a_norm_or_are_known_to_have_none(name, root):
    build(name, root)
    labels = {s.label for s in read_corpus(name, root, None, root.parent / "audio")}
    assert not [label for label in labels - WITHOUT_NORM if label not in load_norms()]


@pytest.mark.parametrize(
    "name", ["aesdd", "crema-d", "emodb", "emogator", "esd", "jl", "ravdess", "savee", "shemo", "tess"]
)
def test_every_code_of_a_file_name_has_a_norm_or_is_known_to_have_none(name):
    corpus = load_corpus(name)
    module = __import__(f"wav2small.corpora.{name.replace('-', '_')}", fromlist=["NAMES"])
    names: Names = module.NAMES
    assert names.columns(names.example), f"{names.example} is not named so"
    labels = {*names.codes["label"].values()}
    assert not [label for label in labels - WITHOUT_NORM if label not in load_norms()]
    count = int(re.match(r"\d+", corpus.annotation)[0])
    assert len(labels) == count + (5 if name == "jl" else 0)


def test_msp_podcast_is_the_same_in_every_release(root):
    expected = [
        ("MSP-PODCAST_0001_0008.wav", "127", "test1", "neutral", (0.5, 0.0, 0.533)),
        ("MSP-PODCAST_0002_0033.wav", "4", "dev", "happiness", (1.0, 0.5, 0.75)),
        ("MSP-PODCAST_0153_0113.wav", "", "train", "", (0.25, 0.0, 0.333)),
        ("MSP-PODCAST_0200_0001.wav", "9", "test2", "contempt", (0.0, 1.0, 0.0)),
    ]
    for number, builder in enumerate((MINIATURES["msp-podcast"], msp_podcast_json, msp_podcast_early)):
        release = root / f"release-{number}"
        builder(release)
        assert rows(read_corpus("msp-podcast", release, None)) == expected


def test_iemocap_lists_valence_first_and_folds_are_its_sessions(root):
    build("iemocap", root)
    segments = read_corpus("iemocap", root, "session")
    assert rows(segments)[:3] == [
        ("Ses01F_impro01_F000.wav", "Ses01F", "dev", "neutral", (0.5, 0.0, 0.375)),
        ("Ses01F_impro01_M000.wav", "Ses01M", "dev", "", (1.0, 0.5, 0.0)),
        ("Ses01M_script01_1_M000.wav", "Ses01M", "dev", "frustration", (0.5, 0.5, 0.5)),
    ]
    assert {(s.column("session"), s.column("fold")) for s in segments} == {(f"0{n + 1}", f"{n}") for n in range(5)}


def test_msp_improv_reads_ratings_by_their_letters(root):
    build("msp-improv", root)
    first, second = rows(read_corpus("msp-improv", root, None))[:2]
    assert first == ("MSP-IMPROV-S01A-F01-P-FM01.wav", "F01", "dev", "neutral", (0.4, 1.0, 0.5))
    assert second == ("MSP-IMPROV-S02H-M01-R-MF02.wav", "M01", "dev", "happiness", ())


def test_msp_conversation_is_the_mean_of_the_raters_in_the_time_of_its_audio(root):
    build("msp-conversation", root)
    segments = read_corpus("msp-conversation", root, None)
    times = [(s.speaker[-4:], s.split, s.start, s.end) for s in segments]
    assert times == [("0047", "train", t, t + 5) for t in (0, 5, 10, 15)] + [("0050", "dev", 0, 5)]
    assert [tuple(s.emotion) for s in segments[1:4]] == [(0.5, 0.0, 0.75), (0.75, 0.25, 1.0), (0.75, 0.25, 1.0)]


def test_msp_conversation_over_time_is_the_mean_of_the_raters(root, tmp_path):
    build("msp-conversation", root)
    result = run("msp-conversation", root, "-o", tmp_path / "m.csv", "--series", tmp_path / "truth.csv")
    assert result.exit_code == 0, result.output
    first, second = read_series(tmp_path / "truth.csv")
    assert (first.file, first.split, len(first.time)) == ("Audio/MSP-Conversation_0047.wav", "train", 22 * 4)
    np.testing.assert_allclose(first.time, np.arange(88) / 4)
    np.testing.assert_allclose(first.values["arousal"], [0.5] * 40 + [0.75] * 48)
    np.testing.assert_allclose(first.values["valence"], [0.75] * 40 + [1.0] * 48)
    assert (second.split, len(second.time)) == ("dev", 22)


def test_allosat_has_satisfaction_as_valence(root, tmp_path):
    build("allosat", root)
    assert rows(read_corpus("allosat", root, None))[0] == ("c1.wav", "c1", "train", "", ())
    assert run("allosat", root, "--series", tmp_path / "truth.csv").exit_code == 0
    train, dev, test = read_series(tmp_path / "truth.csv")
    assert (train.file, train.split, train.dimensions) == ("Wavs/train/c1.wav", "train", ("valence",))
    np.testing.assert_allclose(train.time, [0.25, 0.5, 0.75])
    np.testing.assert_allclose([one.values["valence"] for one in (train, dev, test)],
                               [[0.1, 0.2, 0.3], [0.35, 0.45, 0.55], [0.6, 0.7, 0.8]])  # fmt: skip
    for call in ("c1", "c2", "c3"):
        write(root, f"Annots/labels_0.25/{call}.csv", f"name,time,satisfaction\n{call},0.25,0.5\n")
    assert [one.values["valence"].tolist() for one in load_corpus("allosat").series(root)] == [[0.5]] * 3
    for text, words in (("c1;0.25;11", "is not from 0 to 10"), ("c1;0.25;high", "a line is not call, seconds and")):
        write(root, "Annots/labels_0.25/c1.csv", f"name;time;satisfaction\n{text}\n")
        result = run("allosat", root, "--series", tmp_path / "no.csv")
        assert result.exit_code == 1 and words in result.output and not (tmp_path / "no.csv").exists()


def test_a_corpus_that_is_not_annotated_over_time_names_those_that_are(root, tmp_path):
    build("ravdess", root)
    result = run("ravdess", root, "-o", tmp_path / "m.csv", "--series", tmp_path / "truth.csv")
    assert result.exit_code == 1 and not (tmp_path / "m.csv").exists()
    assert result.output.endswith("not annotated over time. Corpora that are: allosat, msp-conversation.\n")


def test_crema_d_has_the_votes_of_those_who_only_heard(root):
    build("crema-d", root)
    happy, sad, neutral = read_corpus("crema-d", root, None)
    assert happy.fields["heard_happiness"] == "0.3333" and happy.fields["extra"] == "recognised_pct=33.33"
    assert sad.fields["heard_sadness"] == "0.7500" and sad.fields["heard_anger"] == "0.0000"
    assert "extra" not in neutral.fields
    responses = "localid,queryType,clipName,respEmo\n" + "x,1,1001_IEO_HAP_LO,H\nx,1,1001_IEO_HAP_LO,N\n"
    write(root, "finishedResponses.csv", responses + "x,1,1001_IEO_HAP_LO,N\nx,2,1001_IEO_HAP_LO,A\n")
    (root / "processedResults/tabulatedVotes.csv").unlink()
    assert read_corpus("crema-d", root, None)[0] == happy


def test_a_datasets_object_becomes_a_folder(tmp_path):
    hub = pytest.importorskip("datasets", reason="needs the extra datasets")
    from wav2small.corpora.datasets import unpack_dataset

    put(tmp_path, "1.wav")
    content = (tmp_path / "1.wav").read_bytes()
    sounds = [{"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "1.wav")}]
    columns = {"sound": sounds, "speaker": ["a", "b"], "arousal": [0.25, 1], "dominance": [0, 1], "valence": [1, 0]}
    unpack_dataset(hub.Dataset.from_dict(columns).cast_column("sound", hub.Audio(decode=False)), tmp_path / "out")
    segments = read_manifest(tmp_path / "out")
    assert [s.emotion for s in segments] == [Emotion(0.25, 0, 1), Emotion(1, 1, 0)]
    assert [s.path.read_bytes() for s in segments] == [content, content]


def test_an_archive_is_unpacked_once_and_mended(root, tmp_path):
    build("webdataset", root)
    assert run("webdataset", root, "-o", tmp_path / "m.csv").exit_code == 0
    whole, cut = tmp_path / "m-audio/x/1.wav", tmp_path / "m-audio/x/2.wav"
    before = whole.stat().st_mtime_ns
    content = cut.read_bytes()
    cut.write_bytes(content[:100])
    assert run("webdataset", root, "-o", tmp_path / "m.csv").exit_code == 0
    assert whole.stat().st_mtime_ns == before and cut.read_bytes() == content


def replace_in(file: str, old: str, new: str):
    def edit(root: Path) -> None:
        path = root / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return edit


def remove(*files: str):
    def edit(root: Path) -> None:
        for file in files:
            shutil.rmtree(root / file) if (root / file).is_dir() else (root / file).unlink()

    return edit


def only_video(root: Path) -> None:
    for path in root.rglob("*.wav"):
        path.rename(path.with_suffix(".mp4"))


def other_names(root: Path) -> None:
    shutil.rmtree(root)
    put(root, "somebody/hello.wav")


def cut_off(file: str):
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:700])


def packed(**files: bytes):
    """A shard of files with these suffixes."""

    def edit(root: Path) -> None:
        with tarfile.open(root / "shard-000001.tar", "w") as tar:
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"../out.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    return edit


BROKEN = [
    *((n, other_names, r"none of 1 are, somebody/hello.wav is the first\. Is it another corpus") for n in
      ("aesdd", "crema-d", "emodb", "emogator", "esd", "jl", "ravdess", "savee", "shemo", "tess")),
    ("allosat", remove("Parts/dev.txt"), "there is no dev.txt, which contains"),
    ("allosat", remove("Annots"), "no call of Parts has ratings in Annots/labels_0.25"),
    ("audformat", remove("db.yaml"), "there is no db.yaml"),
    ("audformat", lambda root: write(root, "db.files.pkl", ""), "is a pickle, which can run code"),
    ("audformat", remove("db.files.parquet"), "not a complete audformat database"),
    ("crema-d", replace_in("processedResults/tabulatedVotes.csv", '"H"', '"J"'), "has no column H"),
    ("crema-d", replace_in("processedResults/tabulatedVotes.csv", ",6,0,", ",six,0,"), "a count of votes is 'six'"),
    ("datasets", remove("train/dataset_info.json"), "not a dataset saved by save_to_disk"),
    ("iemocap", remove(*(f"Session{n}/dialog" for n in range(1, 6))), "there is no Session1/dialog/EmoEvaluation"),
    ("iemocap", replace_in("Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", "neu", "meh"), r"line 3: reads '\[6.29"),
    ("iemocap", replace_in("Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", "3.0000, 1.0", "7.0000, 1.0"),
     r"arousal is 7.0000. This corpus is rated from 1 to 5"),
    ("meld", remove("dev_sent_emo.csv"), "there is no dev_sent_emo.csv, which"),
    ("meld", replace_in("train_sent_emo.csv", "joy", "bliss"), "an Emotion is 'bliss'. Known: joy, anger"),
    ("meld", replace_in("train_sent_emo.csv", "Speaker", "Who"), "has no column Speaker"),
    ("meld", only_video, "train_splits contains only video. Extract the audio"),
    ("msp-conversation", remove("Annotations/Dominance"), "no part has ratings in all of"),
    ("msp-conversation", replace_in("partitions.txt", "Train", "Later"), "of MSP-Conversation_0047 is 'Later'"),
    ("msp-conversation", replace_in("Time_Labels/conversation_parts.txt", "100.0;", ""), "Needed: name;start;end"),
    ("msp-improv", remove("Evalution.txt"), "there is no Evalution.txt or Evaluation.txt, which contains"),
    ("msp-improv", replace_in("Evalution.txt", "A:2.600000; ", ""), "line 1: reads 'UTD-IMPROV-S01A-F01-P-FM01.avi; N"),
    ("msp-podcast", remove("Labels"), "there is no labels_consensus.csv or labels_consensus.json"),
    ("msp-podcast", replace_in("Labels/labels_consensus.csv", "EmoDom", "Dom"), "has no column EmoDom, only FileName"),
    ("msp-podcast", replace_in("Labels/labels_consensus.csv", "Test2", "Test9"), "row 4: the split is 'Test9'"),
    ("msp-podcast", replace_in("Labels/labels_consensus.csv", ",4.2,", ",42,"), "valence is 42. This corpus is rated"),
    ("nemo", remove("data.tsv"), "there is no data.tsv"),
    ("nemo", replace_in("data.tsv", "emotion", "feeling"), "has no column emotion"),
    ("plain", replace_in("manifest.csv", "file,", "path,"), "has no column file, only path"),
    ("webdataset", remove("shard-000001.tar", "shard-000002.tar"), "there is no .tar in it"),
    ("webdataset", cut_off("shard-000001.tar"), "not a tar file, or truncated"),
    ("webdataset", packed(wav=b"RIFF"), "'../out.wav' is outside the output folder"),
    ("webdataset", packed(wav=b"RIFF", json=b"[1]"), "the JSON or text of ../out.wav is not valid"),
    ("webdataset", packed(wav=b"RIFF", cls=b"\xff"), "the JSON or text of ../out.wav is not valid or not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edit", "words"), BROKEN, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(BROKEN)])
def test_a_broken_layout_is_said_in_one_line_and_nothing_is_written(name, edit, words, root, tmp_path):
    build(name, root)
    edit(root)
    result = run(name, root, "-o", tmp_path / "manifest.csv")
    print(f"{name}: {result.output}")
    assert result.exit_code == 1
    assert re.fullmatch(rf"wav2small: [^\n]*{words}[^\n]*\n", result.output), result.output
    assert not (tmp_path / "manifest.csv").exists()


def test_every_corpus_has_a_broken_layout():
    assert {name for name, _, _ in BROKEN} == set(MINIATURES)


def test_what_is_missing_or_doubtful_is_reported(root, tmp_path):
    build("meld", root)
    (root / "dev_splits_complete/dia0_utt0.wav").unlink()
    put(root, "train_splits/dia7_utt7.wav")
    shutil.copy(root / "train_splits/dia0_utt0.wav", root / "output_repeated_splits_test/dia0_utt0.wav")
    result = run("meld", root, "-o", tmp_path / "m.csv", "--report", tmp_path / "report.csv")
    assert result.exit_code == 0
    assert read_table(tmp_path / "report.csv") == [
        {"kind": "no audio", "name": "dev_splits_complete/dia0_utt0.wav", "detail": ""},
        {"kind": "no annotation", "name": "train_splits/dia7_utt7.wav", "detail": ""},
        {
            "kind": "duplicate audio",
            "name": "output_repeated_splits_test/dia0_utt0.wav",
            "detail": "of train_splits/dia0_utt0.wav, of another split: train, test",
        },
        {"kind": "speaker in two splits", "name": "Chandler", "detail": "dev, test, train"},
    ]
    assert "no annotation: 1, train_splits/dia7_utt7.wav\n" in result.output
    assert [row["file"] for row in read_table(tmp_path / "m.csv")].count("dev_splits_complete/dia0_utt0.wav") == 0


def test_annotation_without_any_audio_is_an_error(root, tmp_path):
    build("msp-podcast", root)
    shutil.rmtree(root / "Audios")
    result = run("msp-podcast", root, "-o", tmp_path / "m.csv")
    assert result.exit_code == 1 and "no annotated file has audio" in result.output
    assert not (tmp_path / "m.csv").exists()


def test_bad_words_on_the_command_line_are_said(root, tmp_path):
    build("ravdess", root)
    assert "unknown corpus 'ravdes'. Did you mean 'ravdess'?" in run("ravdes", root).output
    assert "there is no such folder" in run("ravdess", tmp_path / "nowhere").output
    assert "this corpus has no sessions" in run("ravdess", root, "--fold", "session").output
    assert "fold '1': give speaker, session, or a number of folds" in run("ravdess", root, "--fold", "1").output
    assert run("ravdess").exit_code == 2
    assert "Give -o MANIFEST" in run("webdataset", root).output


names = st.lists(st.sampled_from(["", *"abcdefghij"]), min_size=1, max_size=30)


@given(names, st.sampled_from(["speaker", "2", "5", None]))
def test_no_speaker_is_in_two_folds_or_splits(speakers, fold):
    segments = [Segment(file=f"{n}.wav", path=Path(f"{n}.wav"), speaker=s) for n, s in enumerate(speakers)]
    known_speakers = {*speakers} - {""}
    if fold == "speaker" and len(known_speakers) < 2:
        with pytest.raises(ManifestError, match="Leave-one-speaker-out needs at least two"):
            with_folds(segments, fold)
        return
    dealt = with_folds(with_splits(segments), fold)
    for column in ("fold", "split"):
        assert len({(s.speaker, s.column(column)) for s in dealt if s.speaker}) == len(known_speakers)
    assert {s.column("fold") for s in dealt if not s.speaker} <= {""}
    assert {s.split for s in dealt if not s.speaker} <= {"train"}
    wanted = len(known_speakers) if fold == "speaker" else min(len(known_speakers), int(fold or 5))
    assert len({s.column("fold") for s in dealt if s.speaker}) == wanted
    splits = {0: set(), 1: {"train"}, 2: {"dev", "train"}}.get(len(known_speakers), {"dev", "test", "train"})
    assert {s.split for s in dealt if s.speaker} == splits


def test_speakers_are_dealt_in_the_order_of_their_names():
    assert deal(["c", "a", "", "b", "a"], 2) == {"a": 0, "b": 1, "c": 0}


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from([(1, 7), (1, 5), (-100, 100)]))
def test_a_rating_keeps_its_place_on_the_scale(arousal, dominance, valence, scale):
    low, high = scale
    ratings = {n: str(low + v * (high - low)) for n, v in zip(OUTPUTS, (arousal, dominance, valence), strict=True)}
    assert rated(ratings, low, high, "x") == pytest.approx((arousal, dominance, valence), abs=1e-9)
    for rating in ("", "NaN"):
        assert rated(ratings | {"valence": rating}, low, high, "x") is None
    for rating, words in (
        ("high", "Needed: a number"),
        (str(high + 0.1), "rated from"),
        (str(low - 0.1), "rated from"),
    ):
        with pytest.raises(ManifestError, match=words):
            rated(ratings | {"valence": rating}, low, high, "x")
    assert rated(ratings | {"valence": str(high + 0.5)}, low, high, "x", slack=0.5).valence == 1


ORIGINAL = {
    "ravdess": ("noncommercial/ravdess", lambda file: file.replace("_03-", "/03-"), 1440),
    "emodb": ("open/emodb", lambda file: f"wav/{file}", 535),
    "emogator": ("open/emogator", lambda file: file.replace("_", "/"), 10706),
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_real_corpora_under_their_original_names(name, tmp_path):
    """The shared copies are renamed; their manifest, which was made without this code, is the truth."""
    folder, original, count = ORIGINAL[name]
    if not (DATA / folder).is_dir():
        pytest.skip("needs the shared data")
    with (DATA / folder / "manifest.csv").open(newline="") as file:
        truth = {original(row["file"]): row for row in csv.DictReader(file)}
    for file, row in truth.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).symlink_to(DATA / folder / row["file"])
    segments = read_corpus(name, tmp_path, None)
    assert len(segments) == count and {s.file for s in segments} == set(truth)
    for segment in segments:
        row = truth[segment.file]
        assert (segment.speaker, segment.label) == (row["speaker"], row["label"])
        assert segment.column("gender")[:1] == row["gender"]
        assert segment.column("intensity") == row["intensity"]


def test_the_table_in_the_documents_is_what_the_corpora_say():
    lines = ["| name | corpus | annotation | splits | licence | source |", "|---" * 6 + "|"]
    lines += [f"| `{row['name']}` | {' | '.join(str(v) for k, v in row.items() if k != 'name')} |" for row in known()]
    assert "\n".join(lines) in DOCUMENT.read_text(encoding="utf-8"), "\n".join(lines)


@pytest.mark.parametrize("name", ["m.vtt", "m.srt", "m.rttm", "m.TextGrid", "m.eaf"])
def test_a_format_that_cannot_hold_a_manifest_is_refused_before_the_work(root, tmp_path, monkeypatch, name):
    build("plain", root)
    monkeypatch.setattr("wav2small.corpora.read_corpus", lambda *_: pytest.fail("the corpus is read"))
    for option in ("-o", "--report"):
        result = run("plain", root, option, tmp_path / name)
        assert result.exit_code == 1 and "cannot hold these rows: it needs" in result.stderr
    assert not (tmp_path / name).exists()
