"""Fixtures that several test files use."""

from __future__ import annotations

import pytest


@pytest.fixture
def one_thread():
    """torch on one thread, so that a seed repeats."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
