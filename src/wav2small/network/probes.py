"""Deterministic test signals, on which two implementations of a network are compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wav2small.network.config import FRONTEND, SAMPLING_RATE


def probes(window: int = FRONTEND.win_length) -> Iterator[tuple[str, np.ndarray]]:
    """Deterministic test signals, each with a label.

    Args:
        window: samples of the shortest signal

    Yields:
        label, and mono audio at 16 kHz, float32, shape=(samples,)
    """
    rng = np.random.default_rng(0)
    yield "one window of noise", rng.standard_normal(window).astype(np.float32) / 10
    yield "noise", rng.standard_normal(12345).astype(np.float32) / 10
    voiced = voice(rng)
    yield "a voice", voiced
    yield "a very quiet voice", voiced / 1000
    yield "digital silence", np.zeros(SAMPLING_RATE, np.float32)


def voice(rng: np.random.Generator, dur: float = 3.0) -> np.ndarray:
    """A synthetic voice of ``dur`` seconds: harmonics with gliding pitch in syllables, plus noise; float32, 16 kHz."""
    time = np.arange(round(dur * SAMPLING_RATE)) / SAMPLING_RATE
    pitch = 160 + 50 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    harmonics = sum(np.sin(index * phase) / index**1.2 for index in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 2 * time), 0, None) ** 0.5
    signal = 0.1 * syllables * harmonics + 0.003 * rng.standard_normal(len(time))
    return np.asarray(signal, np.float32)
