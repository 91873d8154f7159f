"""Clips as files: they follow from the seed and their number, and a run that was stopped ends the same."""

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
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment, read_manifest
from wav2small.train.config import AugmentConfig

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from wav2small.train.augment import augment, file_name  # noqa: E402
from wav2small.train.online.pool import Source  # noqa: E402

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

RATE = 16000
FEW = AugmentConfig(clips=5, seed=7, group_size=2, durations=(0.5, 0.75))


def segment(path: Path, signal: np.ndarray) -> Segment:
    soundfile.write(path, signal, RATE)
    return Segment(file=path.name, path=path)


@pytest.fixture
def sources(tmp_path) -> list[Source]:
    rng = np.random.default_rng(0)
    bursts = [segment(tmp_path / f"b{n}.wav", 0.1 * rng.standard_normal(4000 * (n + 1))) for n in range(4)]
    time = np.arange(RATE) / RATE
    tones = [segment(tmp_path / f"t{n}.wav", 0.3 * np.sin(2 * np.pi * (300 + 100 * n) * time)) for n in range(3)]
    return [Source("bursts", bursts), Source("tones", tones)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.flac")}


def silently(done: float, total: float) -> None:
    pass


def test_a_stopped_run_goes_on_and_ends_the_same(sources, tmp_path):
    told = []
    augment(sources, tmp_path / "whole", FEW, 2, lambda *progress: told.append(progress))
    assert told == [(2, 5), (4, 5), (5, 5)]
    augment(sources, tmp_path / "parts", replace(FEW, clips=3), 1, silently)
    (tmp_path / "parts" / file_name(2)).unlink()
    kept = (tmp_path / "parts" / file_name(0)).stat().st_mtime_ns
    augment(sources, tmp_path / "parts", FEW, 1, silently)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 5
    assert (tmp_path / "parts" / file_name(0)).stat().st_mtime_ns == kept
    segments = read_manifest(tmp_path / "parts")
    assert [s.file for s in segments] == [file_name(index) for index in range(5)]
    assert {s.column("corpus") for s in segments} <= {"bursts", "tones"}
    assert not (tmp_path / "parts" / "audio").exists()


def test_plain_clips_are_those_of_the_same_seed_before_their_distortion(sources, tmp_path):
    config = replace(FEW, clips=24, mixture=0.0)
    for name, plain in (("distorted", False), ("plain", True)):
        augment(sources, tmp_path / name, replace(config, plain=plain), 1, silently)
    likeness = []
    for index in range(config.clips):
        clip, plain = (read(tmp_path / folder / file_name(index)) for folder in ("distorted", "plain"))
        assert len(clip) == len(plain) and np.abs(clip).max() <= 1
        likeness.append(np.corrcoef(clip, plain)[0, 1])
    assert 1 <= sum(r > 0.9995 for r in likeness) <= 16, "a quarter is not distorted, and some hardly"


def test_a_folder_of_another_set_is_refused(sources, tmp_path):
    augment(sources, tmp_path / "set", replace(FEW, clips=2), 1, silently)
    before = files(tmp_path / "set")
    for others, config in ((sources, replace(FEW, seed=8)), (sources[:1], FEW), (sources, replace(FEW, plain=True))):
        with pytest.raises(ManifestError, match="contains clips from other settings or other audio"):
            augment(others, tmp_path / "set", config, 1, silently)
    assert files(tmp_path / "set") == before


def test_a_file_that_cannot_be_read_is_left_out_and_named(sources, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    mixed = [Source("bursts", [Segment(file="broken.wav", path=broken), *sources[0].segments])]
    skipped = augment(mixed, tmp_path / "set", replace(FEW, clips=2), 1, silently)
    assert len(skipped) == 1 and "broken.wav: cannot be decoded" in skipped[0]
    assert len(files(tmp_path / "set")) == 2


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["augment", *map(str, arguments)])


@pytest.fixture
def manifest(sources, tmp_path) -> Path:
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "fold"], *([s.file, n % 2] for n, s in enumerate(sources[0].segments))])
    return path


@pytest.mark.parametrize("options", [("--without-fold", 0), ("--where", "fold=1")])
def test_the_command_makes_a_set_without_the_fold(manifest, sources, tmp_path, options):
    for number in (0, 2):
        sources[0].segments[number].path.write_text("of fold 0: nobody reads it")
    output = tmp_path / "clips"
    result = run(manifest, "-o", output, "--clips", 2, "--workers", 1, *options)
    assert (result.exit_code, result.output) == (0, f"{output}: 2 clips\n")
    assert len(read_manifest(output)) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["MANIFEST", "missing.csv", "-o", "FOLDER"], "missing.csv: cannot be opened: No such file or directory"),
        (
            ["FOLD", "MANIFEST", "-o", "FOLDER", "--without-fold", "1"],
            "FOLD: has no clip of 0.1 s or more that can be read.",
        ),
        (
            ["MANIFEST", "-o", "MANIFEST/new"],
            "MANIFEST/new: cannot be created as a folder: Not a directory. Give another.",
        ),
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
