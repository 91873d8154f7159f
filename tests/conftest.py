"""Fixtures that several test files use."""

from __future__ import annotations

import signal

import pytest

from wav2small.audio import vad as speech


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
    """Speech is told by its level, as without the extra vad, but in tests that ask for Silero's network."""
    if "silero" not in request.fixturenames:
        monkeypatch.setattr(speech, "SILERO_FILES", {})


@pytest.fixture
def silero():
    """Silero's network, if it is installed."""
    if speech.silero_path() is None:
        pytest.skip("needs the extra vad")


@pytest.fixture
def ctrl_c():
    """SIGINT interrupts this process and the ones it starts, even if the tests run in a background job.

    A shell without job control starts background jobs with SIGINT ignored, and child processes inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
