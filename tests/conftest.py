"""Fixtures that several test files use."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from wav2small.audio import vad as speech

MAX_DUR = 4
"""Processor time of a test that is not marked ``slow``, which means about one second on a quiet machine."""
BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[BEGAN] = processor_dur()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Where slow tests are left out, a test that takes long, with its fixtures, fails until it is marked as one."""
    result = yield
    taken = processor_dur() - item.stash[BEGAN]
    if item.config.option.markexpr == "not slow" and taken > MAX_DUR:
        pytest.fail(f"takes {taken:.1f} s of processor time. Mark it: @pytest.mark.slow", pytrace=False)
    return result


def processor_dur() -> float:
    """Of this process and of its children that ended: other work on the machine adds nothing to it."""
    return sum(os.times()[:4])


@pytest.fixture
def one_thread():
    """torch on one thread, so that a seed repeats."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def energy(request, monkeypatch):
    """Speech is detected by its level, so that noise is speech, but in tests that ask for the Silero VAD."""
    if "silero" not in request.fixturenames:
        monkeypatch.setattr(speech, "Silero", speech.Energy)


@pytest.fixture
def silero():
    """The Silero VAD, as outside of the tests."""


@pytest.fixture(autouse=True)
def no_ffmpeg(request, monkeypatch):
    """As where ffmpeg is not installed, but in tests that ask for it."""
    if "ffmpeg" not in request.fixturenames:
        monkeypatch.setattr("wav2small.audio.ffmpeg.program", lambda: None)


@pytest.fixture
def ffmpeg() -> str:
    """Path of ffmpeg, if it is installed."""
    return shutil.which("ffmpeg") or pytest.skip("needs ffmpeg")


@pytest.fixture
def ctrl_c():
    """SIGINT interrupts this process and the ones it starts, even if the tests run in a background job.

    A shell without job control starts background jobs with SIGINT ignored, and child processes inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
