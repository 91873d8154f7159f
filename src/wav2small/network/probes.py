"""Signals that two computations of one network are compared on; the same every time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wav2small.network.config import FRONTEND, SAMPLING_RATE


def probes(window: int = FRONTEND.win_length) -> Iterator[tuple[str, np.ndarray]]:
    """Signals that an artefact is tried on, each with its name; the same every time."""
    rng = np.random.default_rng(0)
    yield "one window of noise", rng.standard_normal(window).astype(np.float32) / 10
    yield "noise", rng.standard_normal(12345).astype(np.float32) / 10
    voiced = voice(rng)
    yield "a voice", voiced
    yield "a very quiet voice", voiced / 1000
    yield "digital silence", np.zeros(SAMPLING_RATE, np.float32)


def voice(rng: np.random.Generator, dur: float = 3.0) -> np.ndarray:
    """Syllables of harmonics over a gliding pitch, with breath: float32 at 16 kHz."""
    time = np.arange(round(dur * SAMPLING_RATE)) / SAMPLING_RATE
    pitch = 160 + 50 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    harmonics = sum(np.sin(index * phase) / index**1.2 for index in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 2 * time), 0, None) ** 0.5
    signal = 0.1 * syllables * harmonics + 0.003 * rng.standard_normal(len(time))
    return np.asarray(signal, np.float32)
