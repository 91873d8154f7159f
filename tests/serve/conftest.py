"""Fixtures of the service."""

from __future__ import annotations

import pytest

for package in ("fastapi", "uvicorn", "websockets", "multipart", "prometheus_client"):
    pytest.importorskip(package, reason="needs the extra serve")

from running_service import running, samples  # noqa: E402
from wav2small.serve.settings import Limits  # noqa: E402


@pytest.fixture(scope="session")
def service():
    """A service without keys, with generous limits of time for slow machines."""
    with running(limits=Limits(ahead_dur=1e6, processing_dur=600, idle_dur=600)) as found:
        yield found


@pytest.fixture(scope="session")
def clip():
    """An example, int16 at 16 kHz, shape=(samples,)."""
    return samples("examples/08a05Fe.flac")
