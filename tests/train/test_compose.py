"""Composed clips: the same for the same seed and number, whatever was made before, and fit to be labelled."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.audio.read import read
from wav2small.cli import main
from wav2small.errors import AudioError, ManifestError
from wav2small.tables.manifest import Segment, read_manifest
from wav2small.train.compose import compose, compose_all, file_name
from wav2small.train.config import ComposeConfig

RATE = 16000
PLAIN = ComposeConfig(durations=(0.5,), mixture=0.0, joined=0.0, plain=1.0)


def tone(frequency: float, dur: float = 0.6, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(dur * rate)) / rate)).astype(np.float32)


def segment(path: Path, signal: np.ndarray, rate: int = RATE, **options: float) -> Segment:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate)
    return Segment(file=path.name, path=path, **options)


def share(signal: np.ndarray, frequency: float) -> float:
    """Of the power that is within a speed of 1.25 of a frequency."""
    bins = np.fft.rfftfreq(len(signal), 1 / RATE)
    spectrum = np.abs(np.fft.rfft(signal)) ** 2
    return float(spectrum[(bins > frequency / 1.3) & (bins < frequency * 1.3)].sum() / spectrum.sum())


@pytest.fixture
def corpora(tmp_path) -> list[list[Segment]]:
    rng = np.random.default_rng(0)
    bursts = [segment(tmp_path / f"b{n}.wav", 0.1 * rng.standard_normal(4000 * (n + 1))) for n in range(4)]
    tones = [segment(tmp_path / f"t{n}.flac", tone(300 + 100 * n, rate=44100), 44100) for n in range(3)]
    return [bursts, tones]


def test_a_clip_follows_from_seed_and_number_alone(corpora):
    made = [compose(corpora, index, ComposeConfig(seed=1)) for index in range(6)]
    for index in (5, 0, 3):
        np.testing.assert_array_equal(compose(corpora, index, ComposeConfig(seed=1)), made[index])
    assert len({clip.tobytes() for clip in made}) == 6
    assert not np.array_equal(compose(corpora, 0, ComposeConfig(seed=2))[:8000], made[0][:8000])


def test_every_clip_has_a_length_and_level_that_was_asked_for(corpora):
    for index in range(60):
        clip = compose(corpora, index, ComposeConfig(seed=3))
        assert clip.dtype == np.float32 and len(clip) / RATE in (2.0, 3.0, 4.0)
        assert np.isfinite(clip).all() and np.abs(clip).max() <= 1
        level = 10 * np.log10(np.mean(clip.astype(np.float64) ** 2))
        assert -45.01 < level < -11.99


def test_both_ends_of_the_level_are_reached(corpora):
    levels = [10 * np.log10(np.mean(compose(corpora, index, replace(PLAIN, seed=4)) ** 2)) for index in range(80)]
    assert min(levels) < -42 and max(levels) > -15


def test_a_large_corpus_is_drawn_by_the_square_root_of_its_size(tmp_path):
    few = [segment(tmp_path / "few.wav", tone(400))]
    many = [segment(tmp_path / "many.wav", tone(2000))] * 9
    drawn = [share(compose([few, many], index, PLAIN), 2000) > 0.5 for index in range(200)]
    assert 0.66 < np.mean(drawn) < 0.84, "three quarters"


def test_a_mixture_holds_two_voices_and_a_joined_clip_one_after_the_other(tmp_path):
    low = [segment(tmp_path / "low.wav", tone(400))]
    high = [segment(tmp_path / "high.wav", tone(2000))]
    config = ComposeConfig(durations=(1.0,), mixture=1.0, plain=1.0)
    mixed = [compose([low, high], index, config) for index in range(20)]
    both = [clip for clip in mixed if min(share(clip, 400), share(clip, 2000)) > 0.01]
    assert 4 < len(both) < 16
    joined = [compose([low, high], index, replace(config, mixture=0, joined=1)) for index in range(20)]
    apart = [clip for clip in joined if min(share(clip, 400), share(clip, 2000)) > 0.2]
    assert 4 < len(apart) < 16
    assert all(abs(share(clip[:7000], 400) - share(clip[-7000:], 400)) > 0.5 for clip in apart)


@pytest.mark.parametrize("plain", [0.0, 1.0])
@pytest.mark.parametrize("samples", [1, 2, 100, 8000])
def test_silence_and_clips_of_a_sample_are_no_harm(tmp_path, plain, samples):
    silent = [segment(tmp_path / "silent.wav", np.zeros(samples))]
    click = [segment(tmp_path / "click.wav", np.full(samples, 0.5))]
    config = ComposeConfig(durations=(0.25,), plain=plain)
    for corpora in ([silent], [click], [silent, click]):
        for index in range(15):
            clip = compose(corpora, index, config)
            assert len(clip) == 4000 and np.isfinite(clip).all() and np.abs(clip).max() <= 1
            assert corpora != [silent] or np.abs(clip).max() < 2**-16


def test_only_the_segment_is_heard(tmp_path):
    signal = np.concatenate([tone(300, 1.0), tone(1000, 1.0), tone(3500, 1.0)])
    middle = segment(tmp_path / "three.wav", signal, start=1.0, end=2.0)
    for index in range(10):
        clip = compose([[middle]], index, PLAIN)
        assert share(clip, 1000) > 0.9


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.flac")}


def silently(done: float, total: float) -> None:
    pass


def test_a_stopped_run_goes_on_and_ends_the_same(corpora, tmp_path):
    told = []
    compose_all(corpora, tmp_path / "whole", ComposeConfig(5, 7), 2, lambda *progress: told.append(progress))
    assert told == [(count, 5) for count in range(1, 6)]
    compose_all(corpora, tmp_path / "parts", ComposeConfig(3, 7), 1, silently)
    (tmp_path / "parts" / file_name(1)).unlink()
    kept = (tmp_path / "parts" / file_name(2)).stat().st_mtime_ns
    compose_all(corpora, tmp_path / "parts", ComposeConfig(5, 7), 1, silently)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 5
    assert (tmp_path / "parts" / file_name(2)).stat().st_mtime_ns == kept
    segments = read_manifest(tmp_path / "parts")
    assert [s.file for s in segments] == [file_name(index) for index in range(5)]
    np.testing.assert_allclose(read(segments[4].path), compose(corpora, 4, ComposeConfig(seed=7)), atol=2**-15)


def test_a_folder_of_another_set_is_refused(corpora, tmp_path):
    compose_all(corpora, tmp_path / "set", ComposeConfig(1, 7), 1, silently)
    before = files(tmp_path / "set")
    config = ComposeConfig(2, 7)
    cases = (corpora, replace(config, seed=8)), (corpora[:1], config), (corpora, replace(config, plain=1.0))
    for others, config in cases:
        with pytest.raises(ManifestError, match="was started with seed 7, 25% plain, corpora of 4, 3 segments"):
            compose_all(others, tmp_path / "set", config, 1, silently)
    assert files(tmp_path / "set") == before


def test_a_file_that_cannot_be_read_is_named(corpora, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    corpora.append([Segment(file="broken.wav", path=broken)] * 200)
    with pytest.raises(AudioError, match=r"broken\.wav: cannot be decoded"):
        compose_all(corpora, tmp_path / "set", ComposeConfig(8, 7), 1, silently)
    assert not (tmp_path / "set" / "manifest.csv").exists()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["augment", *map(str, arguments)])


@pytest.fixture
def manifest(corpora, tmp_path) -> Path:
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "fold"], *([s.file, n % 2] for n, s in enumerate(corpora[0]))])
    return path


@pytest.mark.parametrize("options", [("--without-fold", 0), ("--where", "fold=1")])
def test_the_command_makes_a_set_without_the_fold(manifest, corpora, tmp_path, options):
    corpora[0][0].path.write_text("of fold 0: nobody reads it")
    corpora[0][2].path.write_text("likewise")
    output = tmp_path / "clips"
    result = run(manifest, "-o", output, "--clips", 2, "--workers", 1, *options)
    assert (result.exit_code, result.output) == (0, f"{output}: 2 clips\n")
    assert len(read_manifest(output)) == 2
    expected = compose([[corpora[0][1], corpora[0][3]]], 1, ComposeConfig())
    np.testing.assert_allclose(read(output / file_name(1)), expected, atol=2**-15)


def test_plain_clips_are_those_of_the_same_seed_before_their_distortion(manifest, tmp_path):
    """The same to a gain: a clip has any level, and the plain one has another."""
    for options in ((), ("--plain",)):
        run(manifest, "-o", tmp_path / f"set{len(options)}", "--clips", 12, "--workers", 1, *options)
    likeness = []
    for index in range(12):
        clip, plain = (read(tmp_path / folder / file_name(index)) for folder in ("set0", "set1"))
        assert len(clip) == len(plain)
        likeness.append(np.corrcoef(clip, plain)[0, 1])
        expected = compose([read_manifest(manifest)], index, ComposeConfig(plain=1.0))
        np.testing.assert_allclose(plain, expected, atol=2**-15)
    assert 1 <= sum(r > 0.9999 for r in likeness) <= 8, "a quarter is not distorted"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["MANIFEST", "missing.csv", "-o", "FOLDER"], "missing.csv: cannot be opened: No such file or directory"),
        (
            ["FOLD", "MANIFEST", "-o", "FOLDER", "--without-fold", "1"],
            "manifest number 1 has no row to draw from. Leave it out.",
        ),
        (["MANIFEST", "-o", "MANIFEST/new"], "MANIFEST/new: cannot be made a folder: Not a directory. Name another."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(manifest, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("MANIFEST").symlink_to(manifest.name)
    Path("FOLD").write_text("file,fold\nb0.wav,1\n")
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (1, f"wav2small: {sentence}\n")


def test_help_has_an_example_and_numbers_have_bounds():
    assert "Example:\n    wav2small augment open/emodb" in run("--help").output
    for option, value in (("--clips", 0), ("--workers", 0), ("--seed", -1)):
        assert run("x.csv", "-o", "folder", option, value).exit_code == 2
