"""The rule of windows: where those of a stream lie, which parts a long clip has, and which parts count."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lengths import any_duration
from wav2small.errors import AudioError
from wav2small.runtime.windows import Windows, check_length, counted, mean, parts

RATE = 16000
LIMITS = (1, 63, 64, 15 * RATE, 30 * RATE, 45 * RATE, 60 * RATE)
lengths = st.integers(1, 100 * RATE) | st.builds(
    lambda limit, more: max(1, limit + more), st.sampled_from(LIMITS), st.integers(-3, 3)
)


def noise(length: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(length).astype("f4")


def windows_of(length: int, hop_dur: float, win_dur: float) -> list[tuple[int, int]]:
    """Start and end of every window of a signal, as a stream finds them."""
    windows, found = Windows(hop_dur, win_dur), []
    while windows.next()[1] <= length:
        found.append(windows.next())
        windows.count += 1
    start, end = windows.last(length)
    return found + ([(start, end)] if end > start else [])


@given(st.integers(1, 5 * RATE), st.floats(0.02, 2), st.floats(0.1, 3))
@settings(deadline=None)
def test_windows_start_every_hop_until_one_reaches_the_end(length, hop_dur, win_dur):
    hop_dur, win_length = min(hop_dur, win_dur), round(win_dur * RATE)
    found = windows_of(length, hop_dur, win_dur)
    assert bool(found) == (length >= 64)
    assert [start for start, _ in found] == [round(n * hop_dur * RATE) for n in range(len(found))]
    assert all(end - start == win_length and end < length for start, end in found[:-1])
    if found:
        (start, end), next_start = found[-1], round(len(found) * hop_dur * RATE)
        assert end == min(start + win_length, length)
        assert start == 0 or (end - start) * 10 >= win_length
        assert end == length or (length - next_start) * 10 < win_length


@pytest.mark.parametrize(
    ("seconds", "win_dur", "hop_dur", "expected"),
    [
        (10, 3, 1, [(n, n + 3) for n in range(8)]),
        (10.5, 3, 1, [*[(n, n + 3) for n in range(8)], (8, 10.5)]),
        (2, 3, 1, [(0, 2)]),
        (0.01, 3, 1, [(0, 0.01)]),
        (3, 3, 1, [(0, 3)]),
        (6.2, 3, 3, [(0, 3), (3, 6)]),
        (6.3, 3, 3, [(0, 3), (3, 6), (6, 6.3)]),
        (0.67, 0.1, 0.1, [(n / 10, n / 10 + 0.1) for n in range(6)] + [(0.6, 0.67)]),
    ],
)
def test_windows_lie_where_the_rule_says(seconds, win_dur, hop_dur, expected):
    found = windows_of(round(seconds * RATE), hop_dur, win_dur)
    np.testing.assert_allclose(np.array(found) / RATE, expected)


def test_windows_every_third_of_a_second_do_not_drift():
    found = windows_of(60 * RATE, 1 / 3, 0.5)
    assert found[-1][0] == round((len(found) - 1) * RATE / 3)


@given(any_duration(160, RATE), any_duration(1600, 3 * RATE))
@example(0.5, 3.0)
@settings(deadline=None, max_examples=50)
def test_no_more_windows_start_before_the_end_of_one_than_memory_is_made_for(hop_dur, win_dur):
    """Whichever window that is: starts are rounded to samples. Two more at most."""
    windows = Windows(min(hop_dur, win_dur), win_dur)
    starts = np.array([windows.start(number) for number in range(100 + windows.most)])
    counts = np.searchsorted(starts, starts[:90] + windows.win_length) - np.arange(90)
    assert counts.max() <= windows.most <= counts.max() + 2


@given(lengths, st.lists(st.integers(0, 20 * RATE), max_size=8), st.floats(-2, 2))
@example(600_002, [], -2.0)
@example(479_999, [], 2.0)
@settings(deadline=None)
def test_parts_joined_are_the_clip_and_do_not_depend_on_the_blocks(length, sizes, error):
    """Nor is a sample lost where the header and the resampler round the duration differently."""
    signal, edges, duration = noise(length), np.cumsum(sizes), (length + error) / RATE
    found = list(parts(np.split(signal, edges[edges < length]), duration))
    np.testing.assert_array_equal(np.concatenate(found), signal)
    count = 1 if duration <= 30 else int(np.ceil(duration / 15))
    assert len(found) == count
    assert count == 1 or max(map(len, found)) <= 15 * RATE + 1
    assert all(len(one) == len(other) for one, other in pairwise(found[:-1]))
    assert len(found[0]) - len(found[-1]) <= 2 * count + max(error, 0)


@given(lengths)
@settings(deadline=None)
def test_a_clip_of_unknown_duration_has_one_part_or_parts_of_15_seconds(length):
    signal = noise(length)
    found = list(parts(np.array_split(signal, 7), None))
    left = length % (15 * RATE)
    if length <= 30 * RATE:
        expected = [length]
    else:
        expected = [15 * RATE] * (length // (15 * RATE)) + ([left] if left >= 1.5 * RATE else [])
    assert list(map(len, found)) == expected
    np.testing.assert_array_equal(np.concatenate(found), signal[: sum(expected)])


def test_a_clip_without_samples_is_one_part_that_is_too_short():
    for duration in (0.0, None):
        assert [len(part) for part in parts([], duration)] == [0]
    check_length(64, "a.wav")
    for length in (0, 1, 63):
        with pytest.raises(AudioError, match=f"^a.wav: too short for an answer: {length} of at least 64 samples"):
            check_length(length, "a.wav")


@given(st.lists(st.booleans(), min_size=1), st.booleans())
def test_parts_without_speech_count_only_if_no_other_does_and_an_answer_is_due(speech, always):
    found = list(counted(list(enumerate(speech)), lambda part: part[1], always))
    spoken = [(number, True) for number, has_speech in enumerate(speech) if has_speech]
    assert found == (spoken if spoken or not always else list(enumerate(speech)))


def test_the_speech_of_a_single_part_is_not_measured_where_an_answer_is_due():
    def refuse(part):
        raise AssertionError("measured")

    assert counted(["part"], refuse, always=True) == ["part"]


def test_the_mean_weights_parts_by_their_length_and_keeps_a_single_one():
    np.testing.assert_allclose(mean([[0.0, 1.0], [1.0, 3.0]], [300, 100]), [0.25, 1.5])
    np.testing.assert_allclose(mean([[0.0], [1.0]], [1, 3]), [0.75])
    values = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    for value, length in zip(values, range(0, 500_000, 9999), strict=False):
        np.testing.assert_array_equal(mean([value], [length]), value)


@pytest.mark.slow
def test_two_hours_are_cut_into_parts_in_bounded_memory():
    script = (
        "import resource, numpy as np; from wav2small.runtime.windows import parts\n"
        "blocks = (np.ones(60 * 16000, 'f4') for _ in range(120))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(1 for _ in parts(blocks, 7200.0))\n"
        "print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    count, grown_mb = map(int, output.split())
    assert count == 480 and grown_mb < 60
