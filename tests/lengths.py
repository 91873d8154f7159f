"""Lengths in samples that tests draw: any, and those next to the edges of frames, windows and hops.

Left to itself Hypothesis draws round numbers and the ends of a range, where an error by one sample does not show.
"""

from __future__ import annotations

from hypothesis import strategies as st

RATE = 16000
STEPS = (32, 64, 160, 320, 400, 512, 1600, 8000, 16000, 48000)
"""Windows and hops of the students, a frame of speech, a chunk, an answer's hop, a second, an answer's window."""
PRIMES = (67, 401, 1009, 1601, 7919, 15_991, 31_991, 47_981, 65_537)


def any_length(least: int, most: int) -> st.SearchStrategy[int]:
    """Samples from ``least`` to ``most``: any, primes, and multiples of steps with one sample less or more."""
    edges = {step * count + off for step in STEPS for count in range(1, 9) for off in (-1, 0, 1)}
    chosen = sorted(length for length in edges | {*PRIMES} if least <= length <= most)
    return st.integers(least, most) | st.sampled_from(chosen)


def any_duration(least: int, most: int) -> st.SearchStrategy[float]:
    """Seconds of as many samples, and of parts of a sample."""
    return any_length(least, most).map(lambda length: length / RATE) | st.floats(least / RATE, most / RATE)
