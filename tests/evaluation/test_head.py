"""A head learns what can be learnt, by speakers it has not heard, and a file gives back the same head."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wav2small import Stream
from wav2small.audio import read as audio
from wav2small.cli import main
from wav2small.errors import ManifestError, WeightsError
from wav2small.evaluation.fit_head import fit_head
from wav2small.network.weights import weights_name, write_safetensors
from wav2small.runtime.head import load_head
from wav2small.runtime.model import load
from wav2small.runtime.predict import predict
from wav2small.tables.manifest import read_manifest

pytest.importorskip("sklearn", reason="needs the extra head")

EMODB = Path(os.environ.get("WAV2SMALL_DATA") or Path(__file__).parents[3] / "shared" / "data") / "open" / "emodb"
FELT = ("anger", "sadness")

METADATA = {"name": "mine", "version": "1", "precision": "fp32", "licence": "any", "sha256": "abc"}


def clips(count: int, categories: int, apart: float, seed: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    """Embeddings whose categories are so far apart, of six speakers who differ by more than that."""
    rng = np.random.default_rng(seed)
    places = rng.integers(categories, size=count)
    speakers = np.arange(count) % 6
    embedding = rng.standard_normal((count, 8)) + 3 * rng.standard_normal((6, 8))[speakers]
    embedding[:, 0] = rng.standard_normal(count)
    embedding[:, 0] += apart * places
    return embedding, [f"c{place}" for place in places], [f"s{speaker}" for speaker in speakers]


@pytest.mark.slow
@pytest.mark.parametrize("categories", [2, 3])
def test_a_head_finds_what_is_there_on_unheard_speakers(categories):
    embedding, labels, speakers = clips(300, categories, apart=6.0)
    head, confusion = fit_head(embedding, labels, speakers, METADATA)
    assert confusion.recall.min() > 0.9 and confusion.counts.sum() == 300 and confusion.speakers == 6
    right = 0
    for row, label in zip(embedding, labels, strict=True):
        found = head(row)
        assert sum(found.values()) == pytest.approx(1) and list(found.values()) == sorted(found.values(), reverse=True)
        right += next(iter(found)) == label
    assert right > 280


def test_the_matrix_is_of_speakers_whom_the_head_did_not_hear():
    """Labels that say who speaks and nothing else are learnt by heart, and not found again."""
    embedding, _, speakers = clips(240, 2, apart=0.0)
    labels = ["a" if speaker in ("s0", "s1", "s2") else "b" for speaker in speakers]
    head, confusion = fit_head(embedding, labels, speakers, METADATA)
    by_heart = np.mean([next(iter(head(row))) == label for row, label in zip(embedding, labels, strict=True)])
    assert by_heart > 0.9 and confusion.recall.mean() < 0.75


def test_a_head_round_trips_and_is_of_one_model(tmp_path):
    embedding, labels, speakers = clips(120, 3, apart=4.0)
    head, confusion = fit_head(embedding, labels, speakers, METADATA)
    head.save(tmp_path / "head.safetensors")
    found = load_head(tmp_path / "head.safetensors")
    assert found(embedding[0]) == head(embedding[0]) and found.labels == ("c0", "c1", "c2")
    assert json.loads(found.metadata["confusion"]) == confusion.counts.tolist()
    found.check(METADATA)
    with pytest.raises(WeightsError, match=r"head is of mine 1 fp32 \(sha256 abc...\), the weights are mine 1 int8"):
        found.check(METADATA | {"precision": "int8", "sha256": "d"})


@pytest.mark.slow
def test_two_layers_separate_categories_that_one_cannot(tmp_path):
    pytest.importorskip("torch", reason="needs the extra train")
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (240, 2))
    embedding = 5 + 2 * signs + 0.5 * rng.standard_normal((240, 2))
    labels = np.where(signs.prod(1) > 0, "same", "different").tolist()
    speakers = [f"s{number % 6}" for number in range(240)]
    head, confusion = fit_head(embedding, labels, speakers, METADATA, hidden=64)
    assert confusion.recall.mean() > 0.9, "no linear layer is above three quarters of an exclusive or"
    head.save(tmp_path / "head.safetensors")
    found = load_head(tmp_path / "head.safetensors")
    assert np.mean([next(iter(found(row))) == label for row, label in zip(embedding, labels, strict=True)]) > 0.9
    arrays = {**found.arrays, "hidden_bias": np.zeros(31, np.float32)}
    write_safetensors(tmp_path / "damaged.safetensors", arrays, found.metadata)
    with pytest.raises(WeightsError, match=r"hidden_bias is float32 \(31,\), this network has float32 \(64,\)"):
        load_head(tmp_path / "damaged.safetensors")


def test_what_is_no_head_is_refused(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"weight": np.zeros((2, 3), np.float32)}, {"kind": "other"})
    with pytest.raises(WeightsError, match="not a head; give a file that wav2small head wrote"):
        load_head(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("labels", "speakers", "message"),
    [
        (["a"] * 4, ["s", "t"] * 2, "1 category in 4 clips"),
        (["a", "a", "b", "b"], ["s", "t", "u", "u"], "'b' has clips of one"),
    ],
)
def test_what_cannot_be_tested_on_unheard_speakers_is_refused(labels, speakers, message):
    with pytest.raises(ManifestError, match=message):
        fit_head(np.zeros((4, 2)), labels, speakers, METADATA)


def test_the_command_fits_on_audio_and_shows_the_matrix(tmp_path):
    import soundfile

    rng = np.random.default_rng(0)
    lines = ["file,speaker,label"]
    for number in range(12):
        label, speaker = ("loud", "soft")[number % 2], f"s{number % 3}"
        signal = rng.standard_normal(8000) if label == "loud" else np.sin(np.arange(8000) / (8 + number))
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * signal, 16000)
        lines.append(f"{number}.wav,{speaker},{label}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    output = tmp_path / "head.safetensors"
    done = CliRunner().invoke(main, ["head", str(tmp_path), "--model", "micro", "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert done.output.split()[:4] == ["truth", "loud", "soft", "recall"] and "UA 1.000, WA 1.000" in done.output
    assert "not held-out" not in done.output and f"{output}: 2 categories, " in done.stderr
    model = load("micro")
    head = load_head(output)
    head.check(model.metadata)
    assert next(iter(head(model.embed(0.1 * rng.standard_normal(8000))))) == "loud"
    (tmp_path / "bare.csv").write_text("file\n0.wav\n")
    done = CliRunner().invoke(main, ["head", str(tmp_path / "bare.csv"), "-o", str(output)])
    assert done.exit_code == 1 and "none of 1 rows has a label" in done.output


@pytest.fixture(scope="module")
def emodb_head(tmp_path_factory):
    """Fitted by the command on acted anger and sadness, without the speakers of fold 0."""
    if not EMODB.exists():
        pytest.skip("needs EmoDB")
    output = tmp_path_factory.mktemp("head") / "emodb.safetensors"
    where = [word for label in FELT for word in ("--where", f"label={label}")]
    where += [word for fold in "1234" for word in ("--where", f"fold={fold}")]
    done = CliRunner().invoke(main, ["head", str(EMODB), "--model", "micro", "-o", str(output), *where])
    assert done.exit_code == 0, done.output
    assert "emodb is in the training data of micro; this is not held-out\n" in done.stderr
    return output


def told(*words: object):
    done = CliRunner().invoke(main, ["predict", "--model", "micro", *map(str, words), "--format", "json"])
    return json.loads(done.stdout) if done.exit_code == 0 else done.stderr


def test_predict_tells_the_categories_of_speakers_whom_the_head_did_not_hear(emodb_head):
    clips = [row for row in read_manifest(EMODB) if row.label in FELT and row.column("fold") == "0"]
    rows = told(*(clip.path for clip in clips), "--head", emodb_head)
    right = [row["category"] == clip.label for row, clip in zip(rows, clips, strict=True)]
    assert len(clips) > 20 and np.mean(right) > 0.9
    model = load("micro")
    expected = load_head(emodb_head)(model.embed(audio.read(clips[0].path)))
    assert rows[0]["probability"] == pytest.approx(expected[rows[0]["category"]], abs=1e-5)
    assert list(rows[0])[-3:] == ["category", "probability", "error"]


def test_windows_have_a_category_too_and_silence_has_none(emodb_head, tmp_path):
    import soundfile

    clips = [next(row for row in read_manifest(EMODB) if row.label == label) for label in FELT]
    parts = [np.tile(audio.read(clip.path), 5)[: 6 * 16000] for clip in clips]
    soundfile.write(tmp_path / "a.wav", np.concatenate([*parts, np.zeros(4 * 16000)]), 16000)
    rows = told(tmp_path / "a.wav", "--hop", 3, "--head", emodb_head)
    assert [row["category"] for row in rows[:4]] == ["anger", "anger", "sadness", "sadness"]
    assert (rows[4]["speech"], rows[4]["category"], rows[4]["probability"]) == (False, None, None)
    streamed = Stream(load("micro", head=emodb_head), 3, 3).run([audio.read(tmp_path / "a.wav")])
    assert [(row["category"], row["probability"]) for row in rows] == [(e.category, e.probability) for e in streamed]
    alone = told(tmp_path / "a.wav", "--hop", 3, "--head", emodb_head, "--calibrated")
    assert [row["probability"] for row in alone] == [row["probability"] for row in rows]


def test_a_stream_says_the_category_too(emodb_head):
    clip = next(row for row in read_manifest(EMODB) if row.label == "anger")
    options = ["stream", str(clip.path), "--fast", "--head", str(emodb_head)]
    (line,) = CliRunner().invoke(main, options).stdout.splitlines()
    (row,) = map(json.loads, CliRunner().invoke(main, [*options, "--format", "jsonl"]).stdout.splitlines())
    assert row["category"] == "anger" and line.endswith(f"  anger {row['probability']:.2f}")
    assert told(clip.path, "--head", emodb_head)[0]["probability"] == pytest.approx(row["probability"], abs=1e-4)


def test_a_long_file_is_told_by_the_mean_of_its_parts(emodb_head, tmp_path):
    model = load("micro", head=emodb_head)
    clips = [next(row for row in read_manifest(EMODB) if row.label == label) for label in FELT]
    signal = np.concatenate([np.tile(audio.read(clip.path), 20)[: 16 * 16000] for clip in clips])
    (row,) = predict(signal, 16000, model=model)
    third = -(-len(signal) // 3) + 1
    embedding = np.average(
        [model.embed(part) for part in (signal[:third], signal[third : 2 * third], signal[2 * third :])],
        axis=0,
        weights=[third, third, len(signal) - 2 * third],
    )
    assert row.probability == pytest.approx(next(iter(model.head(embedding).values())), abs=1e-5)


def test_a_head_of_other_weights_is_refused(emodb_head):
    said = told(Path(__file__).parents[2] / "examples", "--head", emodb_head, "--model", "micro:int8")
    micro, other = load("micro").metadata, weights_name(load("micro:int8").metadata)
    made = f"{weights_name(micro)} (sha256 {micro['sha256'][:12]}...)"
    assert said.startswith(f"wav2small: the head is of {made}, the weights are {other}")
    assert len(said.splitlines()) == 1
