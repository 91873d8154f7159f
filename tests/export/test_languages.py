"""Packages for other languages are whole, and their golden tests pass and can fail; make bindings runs all of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2small.cli import export as command
from wav2small.errors import WeightsError
from wav2small.export import languages
from wav2small.export.golden import CUTS, calls, write_golden
from wav2small.export.languages import LANGUAGES, export_language
from wav2small.network import reference
from wav2small.network.probes import voice
from wav2small.network.weights import DATA, identity
from wav2small.runtime.compiler import SOURCES

CLIP = Path(__file__).parents[2] / "examples" / "10b10Wa.flac"
PLACEHOLDER = re.compile(r"\$\{?(name|identifier|version|model_version|precision|licence|teacher|sha256)\b")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_package_is_whole(language, tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "largest_error", lambda *_: 0.0)  # test_drop_in.py compares
    folder = export_language("micro:int8", tmp_path / "package", language).path
    sources = folder / LANGUAGES[language]
    assert {path.name for path in sources.glob("w2s*")} == {*SOURCES, "w2s_model.h"} - {"w2s_float.h"}
    card = (folder / "README.md").read_text("utf-8")
    assert identity(DATA / "micro-int8.safetensors") in card and "licence Apache-2.0" in card
    assert "Apache License" in (folder / "LICENSE").read_text("utf-8")
    assert (folder / "golden" / "clip.raw").stat().st_size == 48000
    for path in {*folder.rglob("*")} - {*sources.glob("w2s*"), folder / "golden" / "clip.raw"}:
        assert path.is_dir() or not PLACEHOLDER.search(path.read_text("utf-8")), path


def test_the_command_has_every_language():
    assert command.LANGUAGES == tuple(LANGUAGES) == tuple(sorted(LANGUAGES))


def test_what_c_cannot_run_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="pools channels; C pools tokens"):
        export_language("wav2small-17k", tmp_path / "package", "rust")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "largest_error", lambda *_: 0.0)
    (tmp_path / "main.go").write_text("package main\n")
    with pytest.raises(WeightsError, match="has other content"):
        export_language("micro:int8", tmp_path, "go")
    assert [path.name for path in tmp_path.iterdir()] == ["main.go"]


def test_golden_calls_cover_every_case():
    arrays, _, network = reference.load_student(DATA / "micro-int8.safetensors")
    samples = (32767 * voice(np.random.default_rng(1), dur=1.5)).astype(np.int16)
    lines = list(calls(samples, arrays, network))
    half = len(lines) // 2
    assert lines.count("reset") == lines.count("finish") == 2 and lines[0] == lines[half] == "reset"
    assert "read" in lines and "tokens,0" in lines and {"ready,0", "ready,1"} <= set(lines)
    assert sum(int(line.split(",")[1]) for line in lines if line.startswith("push_")) == 2 * len(samples)
    emotions = [[line for line in part if line.startswith("read,")] for part in (lines[:half], lines[half:])]
    assert emotions[0] == emotions[1] and len(set(emotions[0])) > len(CUTS) / 2


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "g++"))), reason="needs gcc and g++")
@pytest.mark.parametrize("model", ["micro", "wav2small-int8"])
def test_cpp_gives_the_golden_answers_and_a_wrong_one_fails(model, tmp_path):
    folder = export_language(DATA / f"{model}.safetensors", tmp_path / "package", "cpp").path
    write_golden(DATA / f"{model}.safetensors", soundfile.read(CLIP, dtype="float32")[0], folder / "golden")
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
    run("gcc", "-std=c99", "-O2", "-c", "c/w2s.c", "-o", "w2s.o", folder=folder)
    for source in ("tests/golden", "examples/print_emotion"):
        options = ("-std=c++17", *warnings, "-Iinclude", "-Ic")
        run("g++", *options, f"{source}.cpp", "w2s.o", "-o", f"{Path(source).name}.out", folder=folder)
    assert re.match(r"\d+ emotions, largest difference", run("./golden.out", "golden", folder=folder))
    calls = folder / "golden" / "golden.csv"
    answer = re.findall(r"^read,(.+),", calls.read_text(), re.MULTILINE)[-1]
    calls.write_text(calls.read_text().replace(answer, "0.5,0.5"))
    assert subprocess.run(["./golden.out", "golden"], cwd=folder, capture_output=True).returncode == 1


def run(*command: str, folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
