"""The C++ example on ONNX Runtime's C++ API compiles, and has Python's numbers; it needs the API's headers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2small import load
from wav2small.network.weights import resolve

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "integrations" / "onnxruntime" / "emotion.cpp"
HEADERS = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
"""Of Debian's libonnxruntime-dev, or of a release of ONNX Runtime."""
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror")

pytestmark = [
    pytest.mark.slow,  # a C++ compiler
    pytest.mark.skipif(not shutil.which("g++"), reason="needs g++"),
    pytest.mark.skipif(
        not (HEADERS / "onnxruntime_cxx_api.h").exists(), reason="needs onnxruntime_cxx_api.h in $ONNXRUNTIME_INCLUDE"
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The example, linked to the library of the Python package, which also runs programs of older headers."""
    import onnxruntime

    folder = tmp_path_factory.mktemp("cpp")
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    command = ["g++", *FLAGS, "-isystem", HEADERS, SOURCE, f"-L{folder}", "-lonnxruntime", f"-Wl,-rpath,{folder}"]
    done = subprocess.run([*command, "-o", folder / "emotion"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "emotion"


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("name", ["micro", "micro:int8"])
def test_it_has_python_s_numbers(tmp_path, program, name):
    samples, rate = soundfile.read(ROOT / "examples" / "10b10Wa.flac", dtype="int16")
    soundfile.write(tmp_path / "clip.wav", samples, rate, subtype="PCM_16")
    done = run(program, resolve(name), tmp_path / "clip.wav")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["arousal", "dominance", "valence"]
    difference = np.abs(np.array([float(row[1]) for row in rows]) - load(name)(tmp_path / "clip.wav")).max()
    print(f"\nC++, {name}: largest difference from Python {difference:.1e}")
    assert difference < 1e-5


@pytest.mark.parametrize(
    ("rate", "channels", "kind"),
    [(48000, 1, "PCM_16"), (16000, 2, "PCM_16"), (16000, 1, "FLOAT"), (16000, 1, "PCM_24")],
)
def test_other_audio_is_refused(tmp_path, program, rate, channels, kind):
    soundfile.write(tmp_path / "clip.wav", np.zeros((rate, channels)), rate, subtype=kind)
    done = run(program, resolve("micro"), tmp_path / "clip.wav")
    assert done.returncode == 1 and "not a WAV file of 16 kHz, mono, 16 bit" in done.stderr


def test_a_file_that_is_missing_or_too_short_is_an_error(tmp_path, program):
    assert run(program, resolve("micro"), tmp_path / "none.wav").returncode == 1
    soundfile.write(tmp_path / "clip.wav", np.zeros(20), 16000, subtype="PCM_16")
    assert run(program, resolve("micro"), tmp_path / "clip.wav").returncode == 1
