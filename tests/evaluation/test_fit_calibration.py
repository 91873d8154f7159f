"""A calibration lays outputs on the labels' scale, and its intervals hold on clips that it was not made from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from wav2small.cli import main
from wav2small.errors import ManifestError
from wav2small.evaluation import fit_calibration as fitting
from wav2small.evaluation.fit_calibration import Answers, answer, conformal, fit_calibration, pink, read_corpora
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import weights_name
from wav2small.runtime.calibration import load_calibration
from wav2small.runtime.model import load
from wav2small.tables.manifest import Segment
from wav2small.tables.table import write_table

METADATA = {"name": "mine", "version": "1"}


def answers(clips: int, seed: int = 0, noise: float = 0.05, corpora: int = 2, labelled: bool = True) -> Answers:
    """Whole clips of 20 speakers; outputs are the square root of half the label, and noise."""
    rng = np.random.default_rng(seed)
    label = rng.random((clips, 3))
    output = np.sqrt(label / 2) + noise * rng.standard_normal((clips, 3))
    number = np.arange(clips)
    return Answers(
        output=output,
        label=label if labelled else np.full((clips, 3), np.nan),
        clip=number,
        corpus=(number % corpora).astype(str),
        speaker=np.array([f"{n % corpora}/{n % 20}" for n in number]),
        cut_dur=np.zeros(clips),
        snr=np.full(clips, np.inf),
        speech_dur=rng.uniform(1, 4, clips),
        contrast=rng.uniform(5, 30, clips),
    )


@given(st.integers(30, 300), st.sampled_from([0.5, 0.8, 0.95]), st.integers(0, 99))
def test_a_conformal_distance_keeps_its_share_and_no_more_than_it_must(clips, level, seed):
    distance = np.random.default_rng(seed).random(clips)
    kept = float(np.mean(distance <= conformal(distance, np.ones(clips), level)))
    assert level <= kept <= level + 2 / clips + 0.01 or conformal(distance, np.ones(clips), level) == 1.0


def test_intervals_hold_on_clips_that_were_not_used():
    calibration, unseen = fit_calibration(answers(2000), METADATA), answers(2000, seed=1)
    for level in (0.8, 0.95):
        inside = []
        for row in range(len(unseen.clip)):
            emotion = calibration.calibrated(Emotion(*unseen.output[row]))
            low, high = calibration.interval(emotion, unseen.speech_dur[row], unseen.contrast[row], level)
            inside.append([a <= x <= b for a, x, b in zip(low, unseen.label[row], high, strict=True)])
        assert np.all(np.abs(np.mean(inside, axis=0) - level) < 0.04)


def test_the_column_corpus_divides_a_manifest(tmp_path):
    rows = [{"file": f"{n}.wav", "corpus": corpus, "error": ""} for n, corpus in enumerate(["here", "there", ""])]
    write_table([*rows, {"file": "3.wav", "corpus": "there", "error": "cannot be read"}], tmp_path / "dev.csv")
    corpora = read_corpora([str(tmp_path / "dev.csv")])
    assert {name: [row.file for row in found] for name, found in corpora.items()} == {
        "here": ["0.wav"],
        "there": ["1.wav"],
        "dev": ["2.wav"],
    }
    with pytest.raises(ManifestError, match="two of the manifests have one name: dev, dev"):
        read_corpora([str(tmp_path / "dev.csv")] * 2)


def test_one_clip_of_a_corpus_in_a_bin_does_not_make_its_intervals_endless():
    """Weights are shares of all answers: in a bin of its own a corpus's only clip would outweigh a twentieth."""
    all_of_it = answers(2000)
    short = (all_of_it.corpus == "1") & (np.arange(2000) > 1)
    all_of_it.speech_dur[short] = 1.0
    assert ((all_of_it.corpus == "1") & (all_of_it.speech_dur > 2.5)).sum() <= 1
    tables = fit_calibration(all_of_it, METADATA).scales["arousal"].half_width
    assert max(width for table in tables.values() for row in table for width in row) < 0.6


def test_calibrated_outputs_have_the_range_of_the_labels():
    plain = answers(2000, noise=0.0)
    calibration = fit_calibration(plain, METADATA)
    mapped = np.array([calibration.calibrated(Emotion(*row)) for row in plain.output])
    np.testing.assert_allclose(mapped.mean(0), plain.label.mean(0), atol=0.01)
    np.testing.assert_allclose(mapped.std(0), plain.label.std(0), atol=0.02)
    assert np.abs(plain.output.std(0) - plain.label.std(0)).min() > 0.05


def test_without_labels_the_range_of_the_base_is_kept_and_its_intervals():
    base = fit_calibration(answers(500), METADATA)
    louder = answers(500, labelled=False)
    louder.output[:] = 0.5 * louder.output + 0.4
    again = fit_calibration(louder, METADATA, base)
    for name in OUTPUTS:
        assert again.scales[name].half_width == base.scales[name].half_width
        assert again.scales[name].mean == pytest.approx(base.scales[name].mean, abs=0.02)
    assert again.scales["arousal"].output != base.scales["arousal"].output
    with pytest.raises(ManifestError, match="no labels and the weights no calibration"):
        fit_calibration(louder, METADATA)


def test_too_few_speakers_are_refused():
    few = answers(60)
    with pytest.raises(ManifestError, match=r"clips 27, speakers 9\. Needed: 30 clips with speech of 10 speakers"):
        fit_calibration(few[np.isin(few.speaker, sorted(set(few.speaker))[:9])], METADATA)


@pytest.mark.parametrize("labelled", [True, False])
def test_one_clip_is_refused_with_and_without_labels(labelled):
    base = fit_calibration(answers(500), METADATA)
    with pytest.raises(ManifestError, match="too little audio for a calibration: clips 1, speakers 1"):
        fit_calibration(answers(1, labelled=labelled), METADATA, base)


def test_outputs_that_do_not_differ_are_refused():
    """An interval is measured by the middle 80 % of the outputs, which must not be one value."""
    alike, base = answers(60, labelled=False), fit_calibration(answers(500), METADATA)
    alike.output[:, 2] = 0.0
    with pytest.raises(ManifestError, match=r"valence: the calibrated output for 80 % of 60 clips is .*no range"):
        fit_calibration(alike, METADATA, base)


def test_each_clip_is_heard_whole_in_parts_and_in_noise(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * pink(40000, 0), 16000)
    segment = Segment("a.wav", tmp_path / "a.wav", emotion=Emotion(0.1, 0.2, 0.3))
    lengths: list[int] = []

    def predict(signals):
        lengths.extend(map(len, signals))
        return [Emotion(0.5, 0.5, 0.5)] * len(signals)

    found = answer({"c": [segment]}, predict, lambda *_: None)
    assert sorted(set(lengths)) == [16000, 32000, 40000]
    assert sorted(zip(found.cut_dur, found.snr, strict=True)) == [
        (d, s) for d in (0, 1, 2) for s in (-10, 0, 10, np.inf)
    ]
    assert (found.label == [0.1, 0.2, 0.3]).all() and found.plain.sum() == 1


def test_the_command_writes_what_predict_reads(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for number in range(30):
        signal = pink(24000, number) * np.repeat(rng.uniform(0.01, 0.2, 10), 2400)
        soundfile.write(tmp_path / f"{number}.wav", signal, 16000)
        rows.append({"file": f"{number}.wav", "speaker": str(number), **dict.fromkeys(OUTPUTS, number / 30)})
    write_table(rows, tmp_path / "labels.csv")

    def run(*words: object):
        return CliRunner().invoke(main, [*map(str, words)])

    done = run("calibrate", tmp_path / "labels.csv", "--model", "micro", "-o", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    micro, wav2small = (weights_name(load(name).metadata) for name in ("micro", "wav2small"))
    assert done.stderr.startswith(f"{tmp_path}/c.json: calibration of {micro}, 30 clips, 30 speakers, ")
    assert "80 % interval, at best" in done.stdout
    assert load_calibration(tmp_path / "c.json").made["labels"] is True
    told = run("predict", tmp_path / "3.wav", "--model", "micro", "--calibration", tmp_path / "c.json", "--intervals",
               "--format", "json")  # fmt: skip
    (row,) = json.loads(told.stdout)
    assert row["arousal_low"] <= row["arousal"] <= row["arousal_high"]
    other = run("predict", tmp_path / "3.wav", "--model", "wav2small", "--calibration", tmp_path / "c.json")
    digest = load("micro").metadata["sha256"][:12]
    said = f"the calibration is of {micro} (sha256 {digest}...), the weights are {wav2small}"
    assert other.exit_code == 1 and said in other.stderr
    write_table([*rows[:6], *({"file": row["file"]} for row in rows[6:])], tmp_path / "half.csv")
    half = run("calibrate", tmp_path / "half.csv", "-o", tmp_path / "d.json")
    assert half.exit_code == 1 and "6 of 30 clips have labels. Give labels for all, or for none." in half.stderr
    assert fitting.MIN_SPEAKERS == 10 and not (tmp_path / "d.json").exists()
    write_table([{"file": row["file"]} for row in rows], tmp_path / "bare.csv")
    bare = run("calibrate", tmp_path / "bare.csv", "--model", "micro", "-o", tmp_path / "e.json")
    assert bare.exit_code == 0, bare.output
    assert "interval" not in bare.stdout and "no labels: only the range was fitted" in bare.stderr
    found, ships = load_calibration(tmp_path / "e.json"), load("micro", calibration=True).calibration
    assert found.made["labels"] is False
    for name in OUTPUTS:
        assert found.scales[name].half_width == ships.scales[name].half_width
        assert found.scales[name].label == ships.scales[name].label
        assert found.scales[name].output != ships.scales[name].output
