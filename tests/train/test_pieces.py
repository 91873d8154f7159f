"""A teacher gets a clip of 30 s whole, and a longer one in the parts of ``runtime.windows``, weighted by length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_length
from wav2small.train.teachers.base import TransformerTeacher

RATE = 16000


class Lengths(TransformerTeacher):
    """Answers with the first sample of each piece, and records the pieces that it is given."""

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []

    def answers(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        self.pieces += signals
        return np.array([[signal[0], 0.5, 0.25, len(signal)] for signal in signals])


@pytest.mark.parametrize(
    ("length", "pieces"),
    [
        (1, [1]),
        (15 * RATE + 1, [15 * RATE + 1]),
        (30 * RATE - 1, [30 * RATE - 1]),
        (30 * RATE, [30 * RATE]),
        (30 * RATE + 1, [160_002, 160_002, 159_997]),
        (45 * RATE, [15 * RATE + 1] * 2 + [15 * RATE - 2]),
        (45 * RATE + 1, [180_002] * 3 + [179_995]),
    ],
)
def test_thirty_seconds_go_whole_and_more_in_pieces_of_at_most_fifteen(length, pieces):
    teacher = Lengths()
    teacher.label([np.zeros(length, np.float32)])
    assert [len(piece) for piece in teacher.pieces] == pieces


@given(st.lists(any_length(1, 100 * RATE), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_pieces_are_the_clips_and_each_clip_has_the_mean_of_its_own(lengths):
    teacher, rng = Lengths(), np.random.default_rng(0)
    clips = [rng.random(length, np.float32) for length in lengths]
    emotions, embeddings = teacher.label_and_embed(clips)
    np.testing.assert_array_equal(np.concatenate(teacher.pieces), np.concatenate(clips))
    pieces = iter(teacher.pieces)
    for clip, emotion, embedding in zip(clips, emotions, embeddings, strict=True):
        own = [next(pieces)]
        while sum(map(len, own)) < len(clip):
            own.append(next(pieces))
        assert len(own) == 1 or max(map(len, own)) <= 15 * RATE + 1
        sizes = [len(piece) for piece in own]
        arousal = np.average([piece[0] for piece in own], weights=sizes)
        np.testing.assert_allclose(emotion, (arousal, 0.5, 0.25), rtol=1e-6)
        np.testing.assert_allclose(embedding, [np.average(sizes, weights=sizes)])
