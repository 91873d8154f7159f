"""Metrics for Prometheus."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

DURATIONS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Of ``prometheus_client``: the folder in which several processes add up their numbers."""


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter("wav2small_requests", "Requests.", ("route", "code"), registry=registry)
        self.rejections = Counter("wav2small_rejections", "Errors that clients got.", ("code",), registry=registry)
        self.audio = Counter("wav2small_audio_seconds", "Audio processed.", ("model",), registry=registry)
        self.sessions = Gauge(
            "wav2small_sessions", "Live sessions.", ("route",), registry=registry, multiprocess_mode="livesum"
        )
        self.step = Histogram(
            "wav2small_step_seconds", "Time to compute a step of a session.", registry=registry, buckets=DURATIONS
        )
        self.lateness = Histogram(
            "wav2small_lateness_seconds", "From audio received to answer sent.", registry=registry, buckets=DURATIONS
        )

    def text(self) -> bytes:
        """All metrics in Prometheus's text format, of all processes if they share a folder."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
