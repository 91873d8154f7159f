"""The exported folder, a clip, and what Python answers for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wav2small
from wav2small.audio.read import read
from wav2small.export.c_folder import export_c

EXAMPLES = Path(__file__).parents[2] / "examples"
STAND_INS = Path(__file__).parent / "stand_ins"


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The export of micro:int8."""
    return export_c("micro:int8", tmp_path_factory.mktemp("export") / "wav2small_micro_int8").path


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    """Speech of four people with pauses, 40 s, 16-bit: enough for the baseline, and windows with too little speech."""
    speech = [np.concatenate([read(path), np.zeros(14000 * number, np.float32)]) for number, path in enumerate(clips())]
    return (np.tile(np.concatenate(speech), 3)[: 40 * 16000] * 32767).astype(np.int16)


def clips() -> list[Path]:
    return sorted(EXAMPLES.glob("*.flac"))


@pytest.fixture(scope="session")
def clip(samples, tmp_path_factory) -> Path:
    """A folder with clip.raw, which the microphones of the stand-ins play."""
    folder = tmp_path_factory.mktemp("clip")
    samples.tofile(folder / "clip.raw")
    return folder


@pytest.fixture(scope="session")
def events(samples) -> list[wav2small.Event]:
    """Of Python: a prediction every second for the last three, speech by level, relative to the speaker's baseline."""
    model = wav2small.load("micro:int8", backend="c")
    stream = wav2small.Stream(model, 1.0, 3.0, vad="energy", baseline=wav2small.Baseline())
    return stream.push(samples, 16000)
