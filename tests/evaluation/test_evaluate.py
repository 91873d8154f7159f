"""Evaluation scores what it says it scores, counts every row that it leaves out, and repeats itself."""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from random_student import metadata_of, random_arrays
from wav2small.cli import main
from wav2small.errors import AudioError, ManifestError, MissingExtraError, Wav2SmallError
from wav2small.evaluation.predictors import model_predictor, training_notes
from wav2small.evaluation.score import (
    Answer,
    answer_segments,
    answer_table,
    category_norms,
    check_plot,
    evaluate,
    own_truth,
    tidy,
)
from wav2small.metrics import auc, concordance_cc, pearson_cc
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import sha256, write_safetensors
from wav2small.runtime.model import Model, load
from wav2small.runtime.predict import predict, predict_segments
from wav2small.tables.manifest import Segment, load_norms, read_manifest
from wav2small.tables.spans import Span
from wav2small.tables.store import Store
from wav2small.tables.table import read_table, write_table

DATA = Path(os.environ.get("WAV2SMALL_DATA") or Path(__file__).parents[3] / "shared" / "data")
EXAMPLES = Path(__file__).parents[2] / "examples"
LABELS = ("anger", "happiness", "sadness", "neutral", "fear", "shouting")
NORMS = load_norms()


def tone(level, dur=0.5):
    return level * np.sin(2 * np.pi * 440 * np.arange(round(16000 * dur)) / 16000)


def hear_level(signals):
    """A double of a model: the louder, the more of everything."""
    levels = [float(np.abs(signal).max()) for signal in signals]
    return [Emotion(level, level / 2, 1 - level) for level in levels]


@pytest.fixture
def corpus(tmp_path):
    """24 clips: 4 speakers x 6 labels (one without a norm), each with a level of its own."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = []
    for number, (speaker, label) in enumerate([(s, label) for s in "wxyz" for label in LABELS]):
        soundfile.write(folder / f"{number}.wav", tone(0.05 + number / 30), 16000)
        rows.append({"file": f"{number}.wav", "speaker": speaker, "label": label, "fold": str(number % 2)})
    write_table(rows, folder / "manifest.csv")
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_scores_are_the_metrics_of_the_rows_that_have_a_norm(corpus):
    segments = read_manifest(corpus)
    answers = list(answer_segments(segments, hear_level))
    result = evaluate(segments, category_norms(segments, NORMS), answers, NORMS, draws=20)
    kept = [i for i, segment in enumerate(segments) if segment.label != "shouting"]
    assert result.left_out == {"no norm": 4}
    for column, dimension in enumerate(OUTPUTS):
        truth = [NORMS[segments[i].label].emotion[column] for i in kept]
        said = [answers[i].emotion[column] for i in kept]
        for name, metric in (("ccc", concordance_cc), ("r", pearson_cc)):
            score = result.score(dimension, name)
            assert (score.value, score.n, score.speakers) == (pytest.approx(metric(truth, said)), 20, 4)
            assert np.isnan(score.low) and np.isnan(score.high), "four speakers are too few for an interval"
    loud = np.array([answer.emotion.arousal for answer in answers])
    high = np.array([segment.label in ("anger", "happiness") for segment in segments])
    low = np.array([segment.label in ("sadness", "neutral") for segment in segments])
    score = result.score("arousal", "auc")
    assert (score.value, score.n) == (pytest.approx(auc(high[high | low], loud[high | low])), 16)
    happy = np.array([segment.label == "happiness" for segment in segments])
    bad = np.array([segment.label in ("anger", "sadness") for segment in segments])
    score = result.score("valence", "auc")
    assert (score.value, score.n) == (pytest.approx(auc(happy[happy | bad], 1 - loud[happy | bad])), 12)
    assert [s.statistic for s in result.scores if s.dimension == "dominance"] == ["ccc", "r"]
    angry = np.array([segment.label == "anger" for segment in segments])
    score = result.score("valence", "auc_happiness_anger")
    assert (score.value, score.n) == (pytest.approx(auc(happy[happy | angry], 1 - loud[happy | angry])), 8)
    assert result.score("valence", "r_own_arousal").value == pytest.approx(-1.0)
    cccs = [result.score(dimension, "ccc").value for dimension in OUTPUTS]
    assert result.score("mean", "mean_ccc").value == pytest.approx(np.mean(cccs))


def test_a_predictor_that_says_the_truth_scores_one(corpus):
    segments = read_manifest(corpus)
    truth = category_norms(segments, NORMS)
    result = evaluate(segments, truth, truth, NORMS, draws=20)
    values = [score.value for score in result.scores if score.statistic != "r_own_arousal"]
    assert values == pytest.approx([1.0] * 10)


def test_unreadable_files_are_counted_and_stop_nothing(corpus):
    (corpus / "3.wav").write_text("no audio")
    (corpus / "4.wav").unlink()
    segments = read_manifest(corpus)
    answers = list(answer_segments(segments, hear_level))
    assert [i for i, answer in enumerate(answers) if answer.reason == "error"] == [3, 4]
    assert "no such file" in answers[4].detail
    result = evaluate(segments, category_norms(segments, NORMS), answers, NORMS, draws=5)
    assert result.left_out == {"no norm": 4, "error": 2}
    assert len(result.truth) + sum(result.left_out.values()) == len(segments) == 24


def test_answers_keep_their_order_whatever_fails_inside_a_batch(corpus):
    def refuse_loud(signals):
        if any(np.abs(signal).max() > 0.5 for signal in signals):
            raise AudioError("too loud")
        return hear_level(signals)

    segments = read_manifest(corpus)
    answers = list(answer_segments(segments, refuse_loud))
    for number, answer in enumerate(answers):
        if 0.05 + number / 30 > 0.5:
            assert answer == Answer(None, "error", "too loud")
        else:
            assert answer.emotion.arousal == pytest.approx(0.05 + number / 30, abs=1e-3)


def test_an_answer_that_is_not_finite_is_an_error_not_a_score(corpus):
    segments = read_manifest(corpus)[:2]
    answers = list(answer_segments(segments, lambda signals: [Emotion(np.nan, 0.5, 0.5)] * len(signals)))
    assert [answer.reason for answer in answers] == ["error", "error"]
    assert "not finite" in answers[0].detail


def test_silent_clips_are_scored_unless_only_speech_is_asked_for(corpus):
    soundfile.write(corpus / "0.wav", np.zeros(8000), 16000)
    segments = read_manifest(corpus)
    answers = list(answer_segments(segments, hear_level))
    assert answers[0] == Answer(Emotion(0.0, 0.0, 1.0))
    assert list(answer_segments(segments, hear_level, speech_only=True)) == [Answer(None, "no speech"), *answers[1:]]


def test_segments_are_cut_to_the_sample(tmp_path):
    soundfile.write(tmp_path / "talk.wav", np.repeat([0.1, 0.4, 0.8], 16000), 16000)
    (tmp_path / "manifest.csv").write_text(
        "file,start,end\ntalk.wav,0,1\ntalk.wav,1,2.5\ntalk.wav,2.25,\ntalk.wav,3,4\n"
    )
    lengths = []

    def note(signals):
        lengths.extend(len(signal) for signal in signals)
        return hear_level(signals)

    answers = list(answer_segments(read_manifest(tmp_path), note))
    assert lengths == [16000, 24000, 12000]
    assert [answer.emotion and round(answer.emotion.arousal, 2) for answer in answers] == [0.1, 0.8, 0.8, None]
    assert "is 3 s long, with no sample from 3 s to 4 s" in answers[3].detail


def test_a_long_clip_is_the_mean_of_its_equal_parts_with_speech(tmp_path):
    parts = [tone(0.2, 13), tone(0.6, 13), np.zeros(13 * 16000)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), 16000)
    (answer,) = answer_segments([Segment("long.wav", tmp_path / "long.wav")], hear_level)
    assert answer.emotion.arousal == pytest.approx(0.4, abs=1e-3)


SIGNAL_DUR = 100


@pytest.fixture(scope="module")
def voices():
    """100 s of speech with pauses, 20 s of it silent."""
    clips = [soundfile.read(file, dtype="float32")[0] for file in sorted(EXAMPLES.glob("*.flac"))]
    clips = [np.concatenate([clip, np.zeros(4000, "f4")]) for clip in clips]
    signal = np.resize(np.concatenate(clips), SIGNAL_DUR * 16000)
    signal[40 * 16000 : 60 * 16000] = 0
    return signal


@pytest.fixture(scope="module")
def micro():
    return load("micro")


LIMITS = (64, 15 * 16000, 30 * 16000, 45 * 16000, 60 * 16000)
lengths = st.integers(64, 80 * 16000) | st.integers(64, 12 * 16000)
lengths |= st.builds(int.__add__, st.sampled_from(LIMITS), st.integers(0, 3))
lengths |= st.builds(int.__sub__, st.sampled_from(LIMITS[1:]), st.integers(0, 3))


@given(lengths, st.integers(0, SIGNAL_DUR - 1), st.booleans(), st.just(1.0) | st.floats(0, 1))
@example(6 * 16000, 1, False, 0.15)
@settings(max_examples=30, deadline=None)
def test_evaluate_answers_a_clip_as_predict_to_the_bit(
    tmp_path_factory, voices, micro, length, first, is_segment, spoken
):
    """Clips of any length, files and segments; where ``predict`` withholds the answer, ``evaluate`` gives one."""
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    signal = np.roll(voices, -16000 * first)[:length]
    signal[round(length * spoken) :] = 0
    times = (1.0, 1.0 + length / 16000) if is_segment else (0.0, None)
    before = np.ones(16000, "f4") if is_segment else np.zeros(0, "f4")
    soundfile.write(path, np.concatenate([before, signal]), 16000, subtype="FLOAT")
    segments = [Segment("clip.wav", path, *times)] * 3
    if is_segment:
        ((_, row),) = predict_segments(path, [Span(*times)], model=micro)
    else:
        (row,) = predict(path, model=micro)
    for answer in answer_segments(segments, model_predictor(micro)):
        assert row.arousal is None or answer.emotion == (row.arousal, row.dominance, row.valence)
        assert answer.emotion is not None
    for answer in answer_segments(segments, model_predictor(micro), speech_only=True):
        assert (answer.reason == "no speech") == (row.speech is False)
        assert row.arousal is None or answer.emotion == (row.arousal, row.dominance, row.valence)


@pytest.mark.parametrize(("rate", "dur"), [(44100, 31.00001), (44100, 47.123), (8000, 75.7), (22050, 30.0001)])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_evaluate_answers_a_resampled_file_as_predict_to_the_bit(tmp_path, voices, micro, rate, dur, suffix):
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, np.resize(voices, round(rate * dur)), rate)
    (row,) = predict(path, model=micro)
    (answer,) = answer_segments([Segment(path.name, path)], model_predictor(micro))
    assert answer.emotion == (row.arousal, row.dominance, row.valence)


def test_evaluate_answers_a_file_that_does_not_state_its_length_as_predict(tmp_path, voices, micro):
    for dur, parts in ((20, 1), (37, 3)):
        path, seen = tmp_path / f"{dur}.flac", []
        soundfile.write(path, voices[: dur * 16000], 16000)
        content = bytearray(path.read_bytes())
        content[8 + 13] &= 0xF0
        content[8 + 14 : 8 + 18] = bytes(4)
        path.write_bytes(content)
        (row,) = predict(path, model=lambda signal, seen=seen: seen.append(len(signal)) or micro(signal))
        (answer,) = answer_segments([Segment(path.name, path)], model_predictor(micro))
        assert answer.emotion == (row.arousal, row.dominance, row.valence)
        assert len(seen) == parts


def test_a_long_clip_without_speech_is_the_mean_of_all_its_parts(tmp_path):
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.concatenate([tone(1e-4, 20), tone(3e-4, 20)]), 16000, subtype="FLOAT")
    segments = [Segment("quiet.wav", path)]
    (answer,) = answer_segments(segments, hear_level)
    assert answer.emotion.arousal == pytest.approx((1e-4 + 3e-4 + 3e-4) / 3, rel=1e-3)
    assert list(answer_segments(segments, hear_level, speech_only=True)) == [Answer(None, "no speech")]


def test_a_model_answers_clips_of_one_length_one_by_one(tmp_path):
    """ONNX Runtime may round a batch otherwise than one signal."""
    rng, sizes = np.random.default_rng(0), []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(8000), 16000)

    def backend(signals):
        sizes.append(len(signals))
        return np.full((len(signals), 3), 0.5, np.float32), np.zeros((len(signals), 9), np.float32)

    predictor = model_predictor(Model(backend, {}))
    assert [answer.emotion for answer in answer_segments(read_manifest(tmp_path), predictor)] == [(0.5, 0.5, 0.5)] * 4
    assert sizes == [1] * 4


def table_of(*rows):
    return [Segment(file, Path(file), start, end, emotion=Emotion(v, v, v)) for file, start, end, v in rows]


@pytest.mark.parametrize(
    ("segment", "table", "found"),
    [
        (("a", 0.0, None), [("a", 0.0, None, 0.3), ("b", 0.0, None, 0.4)], 0.3),
        (("a", 0.0, 2.0), [("a", 0.0, 1.0, 0.3), ("a", 0.0, 2.0004, 0.4)], 0.4),
        (("a", 0.0, 2.0), [("a", 0.5, 2.0, 0.3)], None),
        (("a", 0.0, None), [("a", 0.0, 2.13, 0.3)], 0.3),
        (("a", 0.0, 2.13), [("a", 0.0, None, 0.3)], 0.3),
        (("a", 0.0, None), [("a", 0.0, 3.0, 0.3), ("a", 1.0, 4.0, 0.4)], None),
        (("a", 0.0, None), [("b", 0.0, None, 0.3)], None),
    ],
)
def test_predictions_are_joined_by_file_and_times(segment, table, found):
    file, start, end = segment
    (answer,) = answer_table([Segment(file, Path(file), start, end)], table_of(*table), "no prediction")
    assert (answer.emotion.arousal if answer.emotion else answer.reason) == (found or "no prediction")


@pytest.mark.parametrize(("off", "is_joined"), [(0.0, True), (0.0009, True), (0.0011, False), (0.0019, False)])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("side", ["start", "end"])
def test_times_are_the_same_to_a_millisecond(side, sign, off, is_joined):
    start, end = (1.0 + sign * off, 2.0) if side == "start" else (1.0, 2.0 + sign * off)
    (answer,) = answer_table([Segment("a", Path("a"), 1.0, 2.0)], table_of(("a", start, end, 0.3)), "no prediction")
    assert answer.reason == ("" if is_joined else "no prediction")


def test_one_prediction_for_a_whole_file_is_not_taken_for_its_segments():
    segments = [Segment("a", Path("a"), 0.0, 1.0), Segment("a", Path("a"), 1.0, 2.0)]
    answers = answer_table(segments, table_of(("a", 0.0, None, 0.3)), "no prediction")
    assert [answer.reason for answer in answers] == ["no prediction"] * 2


def test_predictions_are_found_by_the_place_of_the_file(corpus, tmp_path, monkeypatch):
    """As ``wav2small predict`` writes names: as they were given, from where it was called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    rows = [{"file": name, "arousal": 0.3, "dominance": 0.3, "valence": 0.3} for name in ("corpus/3.wav", "4.wav")]
    write_table(rows, tmp_path / "results" / "said.csv")
    answers = answer_table(read_manifest(corpus), read_manifest(tmp_path / "results" / "said.csv"), "no prediction")
    assert [i for i, answer in enumerate(answers) if answer.emotion] == [3, 4]
    monkeypatch.chdir("/")
    answers = answer_table(read_manifest(corpus), read_manifest(tmp_path / "results" / "said.csv"), "no prediction")
    assert [i for i, answer in enumerate(answers) if answer.emotion] == [4]
    write_table(rows, tmp_path / "said.csv")
    answers = answer_table(read_manifest(corpus), read_manifest(tmp_path / "said.csv"), "no prediction")
    assert [i for i, answer in enumerate(answers) if answer.emotion] == [3, 4]


def test_rows_without_an_answer_say_why(tmp_path):
    header = "file,arousal,dominance,valence,speech,error\n"
    (tmp_path / "said.csv").write_text(header + "a,,,,,cannot be decoded\nb,,,,false,\nc,,,,,\nd,.5,.5,.5,true,\n")
    segments = [Segment(name, tmp_path / name) for name in "abcde"]
    answers = answer_table(segments, read_manifest(tmp_path / "said.csv"), "no prediction")
    assert [answer.reason for answer in answers] == ["error", "no speech", "no prediction", "", "no prediction"]
    assert answers[0].detail == "cannot be decoded"


def test_the_interval_is_over_speakers_not_clips():
    """Ten copies of every clip change neither value nor interval."""
    rng = np.random.default_rng(0)
    segments = [Segment(str(i), Path("x"), speaker=f"s{i % 5}", label=LABELS[i % 4]) for i in range(40)]
    truth = category_norms(segments, NORMS)
    said = [Answer(Emotion(*rng.random(3))) for _ in segments]
    once = evaluate(segments, truth, said, NORMS, draws=100).scores
    often = evaluate(segments * 10, truth * 10, said * 10, NORMS, draws=100).scores
    for one, many in zip(once, often, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((many.value, many.low, many.high))
        assert (one.speakers, many.speakers, many.n) == (5, 5, 10 * one.n)


def test_clips_without_a_speaker_count_as_speakers_of_their_own():
    segments = [Segment(str(i), Path("x"), label=LABELS[i % 4]) for i in range(12)]
    said = [Answer(Emotion(i / 12, i / 12, i / 12)) for i in range(12)]
    score = evaluate(segments, category_norms(segments, NORMS), said, NORMS, draws=100).score("arousal", "ccc")
    assert score.speakers == 0
    assert score.low < score.value < score.high


def test_what_is_undefined_is_none_in_the_rows(corpus):
    segments = [segment for segment in read_manifest(corpus) if segment.label == "anger"]
    said = [Answer(Emotion(0.1 * i, 0.2, 0.3)) for i in range(len(segments))]
    rows = tidy(evaluate(segments, category_norms(segments, NORMS), said, NORMS, draws=10), "p", "norms", "m")
    values = {(row["dimension"], row["statistic"]): row["value"] for row in rows}
    assert values["arousal", "ccc"] == 0.0
    assert values["arousal", "r"] is None
    assert values["arousal", "auc"] is None
    columns = "predictor truth manifest dimension statistic value low high n speakers"
    assert " ".join(rows[0]) == columns


def test_nothing_to_score_and_a_truth_on_another_scale_are_errors(corpus):
    segments = [segment for segment in read_manifest(corpus) if segment.label == "shouting"]
    said = [Answer(Emotion(0.5, 0.5, 0.5))] * 4
    with pytest.raises(ManifestError, match=r"none of 4 rows has a truth \(no norm: 4\)"):
        evaluate(segments, category_norms(segments, NORMS), said, NORMS)
    with pytest.raises(ManifestError, match=r"all 4 rows are left out \(no speech: 4\)"):
        evaluate(segments, said, [Answer(None, "no speech")] * 4, NORMS)
    with pytest.raises(ManifestError, match="goes from 3 to 5"):
        evaluate(segments, [Answer(Emotion(3, 4, 5))] * 4, said, NORMS)


def test_the_truth_is_the_manifests_own_columns_before_norms(corpus):
    segments = [
        Segment("a", Path("a"), emotion=Emotion(0.1, 0.2, 0.3)),
        Segment("b", Path("b"), fields={"error": "no"}),
    ]
    assert own_truth(segments) == [Answer(Emotion(0.1, 0.2, 0.3)), Answer(None, "error", "no")]
    said = corpus.parent / "said.csv"
    annotated = [
        {**row, "arousal": 0.02 * i, "dominance": 0.5, "valence": 0.9} if i < 20 else row
        for i, row in enumerate(read_table(corpus / "manifest.csv"))
    ]
    write_table(annotated, corpus / "manifest.csv")
    write_table([{**row, "label": ""} for row in annotated[:20]], said)
    result = run(said, "--on", corpus, "--draws", 5, "-o", corpus.parent / "own.json")
    report = json.loads((corpus.parent / "own.json").read_text())
    assert report["truth"] == {"name": "manifest", "sha256": None}
    assert report["scores"][0]["value"] == pytest.approx(1.0)
    assert "said.csv: 4 of 24 rows left out: no annotation" in result.stderr
    result = run(said, "--on", corpus, "--draws", 5, "--truth", "norms", "-o", corpus.parent / "norms.csv")
    assert {row["truth"] for row in read_table(corpus.parent / "norms.csv")} == {"norms"}
    assert "truth: norms" in result.stdout


@pytest.fixture
def predictions(corpus):
    file = corpus.parent / "loudness.csv"
    rows = [
        {"file": segment.file, **answer.emotion._asdict()}
        for segment, answer in zip(
            read_manifest(corpus), answer_segments(read_manifest(corpus), hear_level), strict=True
        )
    ]
    write_table(rows, file)
    return file


def test_the_command_writes_the_same_figures_everywhere_and_twice(corpus, predictions):
    folder = corpus.parent
    for name in ("one", "two"):
        files = ("-o", folder / f"{name}.json", "-o", folder / f"{name}.csv")
        result = run(predictions, "--on", corpus, "--draws", 50, *files)
        assert result.exit_code == 0, result.output
    for suffix in ("json", "csv"):
        assert (folder / f"one.{suffix}").read_bytes() == (folder / f"two.{suffix}").read_bytes()
    report = json.loads((folder / "one.json").read_text())
    assert report["manifest"]["name"] == "corpus"
    assert (report["manifest"]["rows"], report["interval"]["seed"]) == (24, 0)
    assert report["predictors"] == [
        {**report["predictors"][0], "name": "loudness.csv", "kind": "table", "left_out": {"no norm": 4}}
    ]
    assert len(report["norms"]["sha256"]) == len(report["predictors"][0]["sha256"]) == 64
    assert str(folder) not in (folder / "one.json").read_text()
    rows = read_table(folder / "one.csv")
    assert [float(row["value"]) for row in rows] == pytest.approx([s["value"] for s in report["scores"]], abs=6e-5)
    ccc = f"{report['scores'][0]['value']:.3f}"
    assert ccc in result.stdout
    assert "loudness.csv: 4 of 24 rows left out: no norm" in result.stderr


def test_rows_are_chosen_by_column(corpus, predictions):
    result = run(predictions, "--on", corpus, "--where", "fold=1", "--draws", 5)
    assert "corpus, 12 rows" in result.stdout
    result = run(predictions, "--on", corpus, "--where", "fold=7")
    assert (result.exit_code, result.stderr) == (1, "wav2small: no row has fold = 7. Values there: 0, 1.\n")
    result = run(predictions, "--on", corpus, "--where", "fold")
    assert result.exit_code == 2


def test_scores_by_a_column_are_those_of_its_rows_alone(corpus, predictions, tmp_path):
    files = [tmp_path / f"{name}.csv" for name in ("all", "fold", "one")]
    shown = run(predictions, "--on", corpus, "--by", "fold", "--by", "speaker", "--draws", 20, "-o", files[0]).stdout
    assert shown.splitlines()[1].split()[:3] == ["predictor", "by", "dimension"]
    run(predictions, "--on", corpus, "--where", "fold=1", "--draws", 20, "-o", files[1])
    run(predictions, "--on", corpus, "--draws", 20, "-o", files[2])
    whole, fold, one = map(read_table, files)
    assert {row["by"] for row in whole} == {"", "fold=0", "fold=1", *(f"speaker={name}" for name in "wxyz")}
    for by, expected in (("", one), ("fold=1", fold)):
        assert [{key: row[key] for key in row if key != "by"} for row in whole if row["by"] == by] == expected
    alone = next(row for row in whole if (row["by"], row["statistic"]) == ("speaker=w", "ccc"))
    assert (alone["speakers"], alone["low"]) == ("1", "") and alone["value"]
    result = run(predictions, "--on", corpus, "--by", "gender")
    assert (result.exit_code, result.stderr) == (
        1,
        "wav2small: corpus: no row has a gender, so scores by it cannot be computed; leave --by gender out\n",
    )


def test_a_label_store_is_scored_as_the_table_of_its_rows(corpus, predictions):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    labels = [{**row, "file": str(corpus / row["file"])} for row in read_table(predictions)]
    columns = {name: "string" for name in labels[0]}
    store = Store.begin(corpus.parent / "labels", {"rows": 24, "part_rows": 16, "columns": columns})
    store.write(0, labels[:16])
    assert "lacks 1 of its 2 parts" in run(store.folder, "--on", corpus).stderr
    store.write(1, labels[16:])
    result = run(predictions, store.folder, "--on", corpus, "--draws", 5, "-o", corpus.parent / "both.json")
    assert result.exit_code == 0, result.output
    report = json.loads((corpus.parent / "both.json").read_text())
    values = {
        name: [s["value"] for s in report["scores"] if s["predictor"] == name] for name in ("labels", "loudness.csv")
    }
    assert values["labels"] == values["loudness.csv"] and len(values["labels"]) == 11
    assert len(report["predictors"][1]["sha256"]) == 64


def test_a_table_of_labels_can_be_the_truth(corpus, predictions):
    labels = corpus.parent / "teacher.csv"
    write_table(read_table(predictions)[:10], labels)
    result = run(predictions, "--on", corpus, "--truth", labels, "--draws", 5, "-o", corpus.parent / "out.csv")
    rows = read_table(corpus.parent / "out.csv")
    assert {row["truth"] for row in rows} == {"teacher"}
    assert [float(row["value"]) for row in rows if row["statistic"] == "ccc"] == pytest.approx([1.0] * 3)
    assert {row["n"] for row in rows if row["statistic"] == "ccc"} == {"10"}
    assert "14 of 24 rows left out: no truth" in result.stderr


class Loudness:
    """Stands in for a model and for a teacher."""

    metadata = {"version": "9"}  # noqa: RUF012
    name, version = "loud", "9"

    def __call__(self, signal):
        return hear_level([signal])[0]

    def label(self, signals):
        return hear_level(signals)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_saved_predictions_score_as_the_model_did(corpus, monkeypatch, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="extra parquet")
    monkeypatch.setattr("wav2small.evaluation.predictors.load", lambda *_: Loudness())
    weights = corpus.parent / "any.onnx"
    weights.write_bytes(bytes(100))
    (corpus / "3.wav").write_text("no audio")
    saved = corpus.parent / f"saved.{suffix}"
    one = run(weights, "--on", corpus, "--draws", 5, "--predictions", saved, "-o", corpus.parent / "one.csv")
    two = run(saved, "--on", corpus, "--draws", 5, "-o", corpus.parent / "two.csv")
    for result in (one, two):
        assert result.exit_code == 1, "a file failed"
        assert "1 of 24 rows left out: error" in result.stderr
        assert "3.wav: cannot be decoded" in result.stderr
    first, second = (
        [float(row["value"]) for row in read_table(corpus.parent / f"{name}.csv")] for name in ("one", "two")
    )
    assert first == pytest.approx(second, abs=1e-3)


def test_saved_predictions_of_segments_know_their_times_and_their_silence(tmp_path, monkeypatch):
    monkeypatch.setattr("wav2small.evaluation.predictors.load", lambda *_: Loudness())
    (tmp_path / "any.onnx").write_bytes(bytes(100))
    talk = np.concatenate([tone(0.1), tone(0.9), np.zeros(8000), tone(0.4)])
    soundfile.write(tmp_path / "talk.wav", talk, 16000)
    rows = [
        {"file": "talk.wav", "start": 0.5 * i, "end": 0.5 * i + 0.5, "label": label, "speaker": i % 2}
        for i, label in enumerate(("sad", "angry", "calm", "happy"))
    ]
    write_table(rows, tmp_path / "segments.csv")
    options = ("--on", tmp_path / "segments.csv", "--draws", 5)
    one = run(tmp_path / "any.onnx", *options, "--speech-only", "--predictions", tmp_path / "said.csv")
    two = run(tmp_path / "said.csv", *options)
    assert "1 of 4 rows left out: no speech" in one.stderr
    shown = one.output.replace("any.onnx", "said.csv").splitlines()
    assert shown.pop().endswith("said.csv: 4 rows, 237 bytes") and two.output.splitlines() == shown


def test_a_model_is_named_by_name_and_precision_or_by_its_file(corpus, monkeypatch):
    loaded = []
    monkeypatch.setattr("wav2small.evaluation.predictors.load", lambda *given: loaded.append(given) or Loudness())
    monkeypatch.setattr("wav2small.evaluation.predictors.locate", lambda *given: corpus / "0.wav")
    onnx, safetensors = corpus.parent / "weights", corpus.parent / "other.bin"
    onnx.write_bytes(bytes(100))
    safetensors.write_bytes((2).to_bytes(8, "little") + b"{}")
    specs = ("tiny:int8", "tiny", onnx, safetensors)
    result = run(*specs, "--on", corpus, "--draws", 5, "-o", corpus.parent / "out.json")
    assert result.exit_code == 0, result.output
    assert loaded == [
        ("tiny:int8", "onnx"),
        ("tiny", "onnx"),
        (str(onnx), "onnx"),
        (str(safetensors), "numpy"),
    ]
    about = json.loads((corpus.parent / "out.json").read_text())["predictors"]
    assert [one["name"] for one in about] == ["tiny:int8", "tiny", "weights", "other.bin"]
    assert {(one["kind"], one["version"], one["sha256"]) for one in about} == {("model", "9", sha256(corpus / "0.wav"))}


def test_real_weights_answer_in_evaluate_as_in_predict(tmp_path):
    """Random weights of the real network, in NumPy, on the example clips: the same rows, silence apart."""
    arrays = dict(random_arrays())
    arrays |= {"out.weight": 0.05 * arrays["out.weight"], "out.bias": np.full(3, 0.5, np.float32)}
    weights = tmp_path / "random.safetensors"
    write_safetensors(weights, arrays, metadata_of())
    labels = [{"file": file.name, "arousal": 0.5, "dominance": 0.5, "valence": 0.5} for file in EXAMPLES.glob("*.flac")]
    write_table(labels, tmp_path / "truth.csv")
    files = ("--truth", tmp_path / "truth.csv", "--predictions", tmp_path / "said.csv", "-o", tmp_path / "out.json")
    result = run(weights, "--on", EXAMPLES, *files)
    assert result.exit_code == 0, result.output
    rows = {row["file"]: row for row in read_table(tmp_path / "said.csv")}
    assert len(rows) == len(labels) > 0
    assert len({row["arousal"] for row in rows.values()} - {"0.0000", "1.0000"}) == len(labels)
    for file, row in rows.items():
        (expected,) = predict(EXAMPLES / file, model=load(weights, backend="numpy"))
        assert [f"{getattr(expected, name):.4f}" for name in OUTPUTS] == [row[name] for name in OUTPUTS]
    assert json.loads((tmp_path / "out.json").read_text())["predictors"][0]["sha256"] == sha256(weights)


def test_two_files_of_one_name_are_told_apart(corpus, predictions):
    other = corpus.parent / "other"
    other.mkdir()
    write_table(read_table(predictions), other / "loudness.csv")
    result = run(predictions, other / "loudness.csv", "--on", corpus, "--draws", 5, "-o", corpus.parent / "out.csv")
    assert result.exit_code == 0, result.output
    names = {row["predictor"] for row in read_table(corpus.parent / "out.csv")}
    assert names == {f"{predictions.parent.name}/loudness.csv", "other/loudness.csv"}


def test_a_teacher_is_asked_for_by_name_or_by_its_file(corpus, monkeypatch):
    asked = []
    teachers = types.ModuleType("wav2small.train.teachers")
    teachers.load_teacher = lambda name: asked.append(name) or Loudness()
    monkeypatch.setitem(sys.modules, "wav2small.train.teachers", teachers)
    head = corpus.parent / "head.safetensors"
    write_safetensors(head, {"weight": np.zeros(1, np.float32)}, {})
    out = corpus.parent / "out.json"
    result = run("teacher:open", f"teacher:{head}", "--on", corpus, "--draws", 5, "-o", out)
    assert result.exit_code == 0, result.output
    assert asked == ["open", str(head)]
    about = json.loads(out.read_text())["predictors"]
    assert [(one["name"], one["kind"], one["version"]) for one in about] == [
        ("teacher:open", "teacher", "9"),
        ("teacher:head.safetensors", "teacher", "9"),
    ]
    assert about[1]["sha256"] == sha256(head)
    assert str(corpus.parent) not in out.read_text()


def test_a_teacher_without_the_extra_is_one_sentence(corpus, monkeypatch):
    real = builtins.__import__

    def without_torch(name, *rest):
        if name.startswith("wav2small.train"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    result = run("teacher:open", "--on", corpus)
    assert result.exit_code == 1
    assert result.stderr == "wav2small: teacher:open needs torch, not installed: pip install 'wav2small[train]'\n"


def test_outputs_that_cannot_be_written_are_said_before_the_work(corpus, predictions, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    monkeypatch.setattr("wav2small.tables.manifest.read_manifest", lambda *_: pytest.fail("work was begun"))
    for option in ("-o", "--predictions"):
        result = run(predictions, "--on", corpus, option, corpus / "none" / "out.csv")
        assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)
    result = run(predictions, "--on", corpus, "--plot", corpus / "none" / "out.png")
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)
    assert run(predictions, "x.csv", "--on", corpus, "--predictions", corpus / "p.csv").exit_code == 2


def test_a_table_without_predictions_is_said(corpus):
    result = run(corpus / "manifest.csv", "--on", corpus)
    assert result.exit_code == 1
    assert "no row has arousal, dominance, valence" in result.stderr


def test_plots(corpus, predictions):
    pytest.importorskip("matplotlib", reason="extra plot")
    picture = corpus.parent / "scatter.png"
    result = run(predictions, "--on", corpus, "--draws", 5, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = run(predictions, "--on", corpus, "--plot", picture.with_suffix(".svg"))
    assert (result.exit_code, "ends in .png" in result.stderr) == (1, True)


def test_every_point_is_within_the_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="extra plot")
    from wav2small.evaluation.score import _scatter_figure

    segments = [Segment(str(i), Path("x"), label="anger") for i in range(3)]
    said = [Answer(Emotion(v, v, v)) for v in (-0.7, 0.5, 1.9)]
    result = evaluate(segments, category_norms(segments, NORMS), said, NORMS, draws=5)
    axes = _scatter_figure({("a/b", "m"): result, ("c", "m"): result}, "norms").axes[3]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("arousal, norms", "arousal, c")
    assert axes.get_title() == f"m, arousal: CCC {result.score('arousal', 'ccc').value:.2f} (n = 3)"
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((-0.72, 1.92))
    line = axes.lines[0].get_xydata()
    np.testing.assert_array_equal(line[:, 0], line[:, 1])


def test_a_plot_without_matplotlib_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "wav2small.evaluation.score.find_spec",
        lambda name: None if name == "matplotlib" else importlib.util.find_spec(name),
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'wav2small\[plot\]'"):
        check_plot(tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
    assert issubclass(MissingExtraError, Wav2SmallError)


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data: set WAV2SMALL_DATA to its folder")
def test_loudness_alone_hears_some_arousal_in_real_acted_speech():
    """RAVDESS keeps its level: two of its speakers, end to end, with no model at all."""

    def hear_decibels(signals):
        levels = [20 * np.log10(np.sqrt(np.mean(signal**2)) + 1e-6) / 60 + 1.2 for signal in signals]
        return [Emotion(level, level, level) for level in levels]

    segments = [s for s in read_manifest(DATA / "noncommercial" / "ravdess") if s.speaker in ("05", "06")]
    answers = list(answer_segments(segments, hear_decibels))
    result = evaluate(segments, category_norms(segments, NORMS), answers, NORMS, draws=50)
    assert (result.left_out, len(segments)) == ({}, 120)
    assert (result.score("arousal", "auc").n, result.score("valence", "auc").n) == (72, 48)
    assert result.score("arousal", "auc").value > 0.85
    assert result.score("arousal", "r").value > 0.5


def few(folder: Path, clips: int, speakers: int) -> None:
    """A manifest of so many clips, one of which is missing, and predictions for it."""
    rows = [
        {"file": f"{n}.wav", "speaker": str(n % speakers), **dict.fromkeys(OUTPUTS, n / clips)} for n in range(clips)
    ]
    write_table(rows, folder / "manifest.csv")
    write_table([row | {"arousal": row["arousal"] / 2} for row in rows], folder / "said.csv")


@pytest.mark.parametrize(
    ("clips", "speakers", "cell", "said"),
    [
        (1, 1, "-", ["no CCC and no r of", "each needs at least 2 clips", "no interval of", "at least 5 speakers"]),
        (8, 4, "0.", ["no interval of", "it needs at least 5 speakers"]),
        (8, 5, "0.", []),
    ],
)
def test_figures_need_clips_and_intervals_speakers(tmp_path, clips, speakers, cell, said):
    few(tmp_path, clips, speakers)
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path / "said.csv"), "--on", str(tmp_path)])
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if " arousal " in line)
    assert line.split()[2].startswith(cell) and ("[" in line) == (not said)
    assert all(words in result.stderr for words in said) and bool(result.stderr) == bool(said)


def test_a_file_that_fails_is_exit_code_1_and_the_rest_is_scored(tmp_path):
    for n in (0, 1):
        soundfile.write(tmp_path / f"{n}.wav", np.random.default_rng(n).standard_normal(16000) / 10, 16000)
    few(tmp_path, 3, 3)
    arguments = ["evaluate", "micro", "--on", str(tmp_path), "-o", str(tmp_path / "scores.csv")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "micro: 1 of 3 rows left out: error" in result.stderr
    rows = len(read_table(tmp_path / "scores.csv"))
    assert rows and f"{tmp_path}/scores.csv: {rows} rows, " in result.stderr


@pytest.mark.parametrize(
    ("corpus", "is_in"),
    [
        ("emodb", True),
        ("EmoDB", True),
        ("speechocean", True),
        ("emodb-test", False),
        ("emo", False),
        ("ravdess", False),
    ],
)
def test_a_corpus_among_the_training_data_is_named(corpus, is_in):
    notes = training_notes("micro", "EmoDB, EmoGator, speechocean762", [corpus, corpus])
    assert notes == ([f"{corpus} is in the training data of micro; this is not held-out"] if is_in else [])
