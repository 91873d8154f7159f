"""The check of speakers by their voices: known pitch, planted errors, and what cannot be compared."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from wav2small.cli import main
from wav2small.corpora.voices import SAME_VOICE, describe, project, same_voices
from wav2small.tables.table import read_table

RATE = 16000


def voice(f0: float, formants: tuple[float, float], rng: np.random.Generator, dur: float = 0.6) -> np.ndarray:
    """Harmonics of a pitch that varies a little, louder near two formants, with a little noise."""
    time = np.arange(int(dur * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(f0 * (1 + 0.03 * rng.normal() + 0.05 * np.sin(2 * np.pi * 3 * time))) / RATE
    signal = 0.001 * rng.normal(size=len(time))
    for number in range(1, int(4000 / f0)):
        gain = sum(np.exp(-(((number * f0 - formant) / 250) ** 2)) for formant in formants) + 0.02
        signal += 0.1 * gain * np.sin(number * phase)
    return signal.astype(np.float32)


@pytest.mark.parametrize("f0", [90, 130, 220, 350])
def test_median_f0_is_that_of_the_voice(f0):
    time = np.arange(RATE) / RATE
    signal = sum(np.sin(2 * np.pi * number * f0 * time) / number for number in range(1, 9)) * 0.1
    assert np.exp(describe(signal)[-6]) == pytest.approx(f0, rel=0.02)


def test_the_level_does_not_change_the_description():
    signal = voice(150, (600, 1700), np.random.default_rng(0))
    np.testing.assert_allclose(describe(signal / 3), describe(signal), atol=0.05)


@pytest.mark.parametrize("signal", [np.zeros(0), np.zeros(RATE), np.full(100, 0.5)])
def test_silent_and_very_short_clips_have_finite_descriptions(signal):
    assert np.isfinite(describe(signal.astype(np.float32))).all()


def clips(seed: int, count: int = 20, speakers: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = np.repeat([f"s{number:02}" for number in range(speakers)], count)
    return np.repeat(rng.normal(size=(speakers, 40)), count, axis=0) + rng.normal(size=(len(names), 40)), names


SEEDS = range(10)


def test_few_names_of_different_voices_are_reported():
    assert sum(len(same_voices(*clips(seed))) for seed in SEEDS) <= 15, "of 300 names"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_voice_under_two_names_is_reported_with_both(seed):
    embedding, names = clips(seed)
    names[10:20] = "s99"
    first = same_voices(embedding, names)[0]
    assert (first.name, first.other) == ("s00", "s99")


def test_the_projection_centres_the_clips():
    voices = np.random.default_rng(0).normal(size=(50, 67))
    np.testing.assert_allclose(project(voices + 100), project(voices), atol=1e-3)


def write_corpus(folder, names: int, count: int):
    rng = np.random.default_rng(1)
    rows = ["file,speaker,split,label"]
    for number in range(names):
        f0, formants = 90 + 12 * number, (400 + rng.uniform(0, 500), 1200 + rng.uniform(0, 1500))
        for clip in range(count):
            file = f"{number}-{clip}.wav"
            soundfile.write(folder / file, voice(f0, formants, rng), RATE)
            name = f"s{number}" if number or clip % 2 else "renamed"
            rows.append(f"{file},{name},{'test' if name == 'renamed' else 'train'},neutral")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def check(folder, *options: str):
    return CliRunner().invoke(main, ["corpus", "plain", str(folder / "clips.csv"), *options])


def test_the_command_reports_a_renamed_speaker_and_the_splits(tmp_path):
    write_corpus(tmp_path, names=10, count=10)
    result = check(tmp_path, "--check-voices", "--report", str(tmp_path / "report.csv"))
    assert result.exit_code == 0, result.output
    rows = [row for row in read_table(tmp_path / "report.csv") if row["kind"] == SAME_VOICE]
    assert rows[0]["name"] == "renamed"
    assert rows[0]["detail"].startswith("and s0, score ")
    assert rows[0]["detail"].endswith(", of another split: test, train")
    assert re.search(r"one voice under two names: \d, renamed \(and s0", result.output)
    assert "voice" not in check(tmp_path).output


def test_too_few_speakers_are_an_error(tmp_path):
    write_corpus(tmp_path, names=3, count=10)
    result = check(tmp_path, "--check-voices")
    assert result.exit_code == 1
    assert "4 speakers have 5 clips or more" in result.output
    assert "leave it out" in result.output
