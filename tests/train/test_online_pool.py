"""Draws and the clips they choose: a seed repeats, shares hold, clips are trimmed, and what cannot be read is named."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from online_world import RATE, pool_of, segments, silently, tone  # noqa: E402
from wav2small.train.online import pool as pools  # noqa: E402
from wav2small.train.online.draw import Draw  # noqa: E402
from wav2small.train.online.pool import PEAK, Source, load_pool  # noqa: E402


def everything(draw: Draw) -> list[torch.Tensor]:
    limits, weights = torch.tensor([1, 7, 10**9]), torch.tensor([1.0, 2.0])
    drawn = [draw.uniform(3, 2), draw.normal(4), draw.below(limits), draw.choose(weights, 5), draw.rows(50, 0.5)]
    return [*drawn, torch.tensor(draw.rng.random(3))]


def test_a_seed_repeats_and_another_differs_in_everything():
    torch.manual_seed(77)
    first = everything(Draw((1, 2, 3)))
    torch.manual_seed(5)
    assert all(map(torch.equal, first, everything(Draw((1, 2, 3)))))
    for other in ((1, 2, 4), (2, 2, 3), (1, 2)):
        assert not any(map(torch.equal, first, everything(Draw(other)))), other


def test_uniform_and_below_stay_in_range_and_reach_its_ends():
    draw = Draw((1,))
    values = draw.uniform(20_000, low=-3, high=12)
    assert -3 <= values.min() < -2.99 and 11.99 < values.max() <= 12 and abs(values.mean() - 4.5) < 0.1
    found = draw.below(torch.full((20_000,), 5))
    assert Counter(found.tolist()).keys() == {0, 1, 2, 3, 4}
    assert min(Counter(found.tolist()).values()) > 3800
    assert (draw.below(torch.ones(1000, dtype=torch.long)) == 0).all()
    assert draw.below(torch.full((2000,), 10**8)).max() > 9.9e7, "clips of an hour are reached to their end"


def test_rows_are_a_share_of_all():
    draw = Draw((4,))
    assert 0.28 < len(draw.rows(5000, 0.3)) / 5000 < 0.32
    assert len(draw.rows(100, 0.0)) == 0 and draw.rows(100, 1.0).tolist() == list(range(100))


def test_clips_are_trimmed_and_as_loud_as_another(tmp_path):
    silence = np.zeros(RATE // 2, np.float32)
    pool = pool_of(tmp_path, a=[np.concatenate([silence, tone(440, level=0.01), silence]), tone(300, level=0.9)])
    assert pool.length.tolist()[1] == RATE // 2
    assert RATE // 2 <= pool.length[0] < 0.8 * RATE, "0.1 s stays at either end"
    for start, length in zip(pool.start, pool.length, strict=True):
        assert pool.audio[start : start + length].abs().max() == PEAK
    assert pool.duration == pytest.approx(pool.length.sum().item() / RATE)


def test_a_room_is_not_trimmed(tmp_path):
    response = np.zeros(RATE, np.float32)
    response[4000] = 1
    source = Source("rooms", segments(tmp_path, [response]))
    assert load_pool([source], tmp_path / "audio", "cpu", silently, trimmed=False).length.tolist() == [RATE]
    assert load_pool([source], tmp_path / "audio", "cpu", silently).length[0] < RATE / 2


def test_what_is_unreadable_silent_or_short_is_left_out_and_named(tmp_path):
    good = segments(tmp_path / "a", [tone(440), np.zeros(RATE, np.float32), tone(440, 0.05)])
    (tmp_path / "a" / "text.wav").write_text("no audio")
    odd = [Segment(name, tmp_path / "a" / name) for name in ("text.wav", "gone.wav")]
    pool = load_pool([Source("a", [odd[0], *good, odd[1]])], tmp_path / "audio", "cpu", silently)
    assert len(pool) == 1
    said = [("text.wav", "decode"), ("1.wav", "is silent, or shorter"), ("2.wav", "is silent, or shorter")]
    for reason, (name, words) in zip(pool.skipped, [*said, ("gone.wav", "there is no such file")], strict=True):
        assert f"/a/{name}: " in reason and words in reason


def test_a_cut_is_zero_outside_its_clip_and_never_another_clip(tmp_path):
    pool = pool_of(tmp_path, a=[tone(440, 0.2), tone(1000, 0.3), tone(440, 0.2)])
    middle = torch.tensor([1])
    start, length = int(pool.start[1]), int(pool.length[1])
    whole = pool.audio[start : start + length].float() / 32768
    cut = pool.cut(middle, torch.tensor([-100]), length + 300)[0]
    assert (cut[:100] == 0).all() and (cut[100 + length :] == 0).all()
    assert torch.equal(cut[100 : 100 + length], whole)
    assert torch.equal(pool.cut(middle, torch.tensor([50]), 70)[0], whole[50:120])
    ends = pool.cut(torch.tensor([0, 2]), torch.tensor([-10_000, 10_000]), 500)
    assert ends.shape == (2, 500) and (ends == 0).all()


def test_a_clip_is_of_its_corpus_and_every_clip_is_drawn(tmp_path):
    pool = pool_of(tmp_path, a=[tone(300)] * 3, b=[tone(400)], c=[tone(500)] * 5)
    draw = Draw((1,))
    for number, expected in enumerate(({0, 1, 2}, {3}, {4, 5, 6, 7, 8})):
        assert set(pool.clips(draw, torch.full((300,), number)).tolist()) == expected


def test_shares_are_respected_and_are_the_square_root_of_the_clips_without(tmp_path):
    signals = {"a": [tone(300)] * 9, "b": [tone(400)], "c": [tone(500)] * 4}
    pool = pool_of(tmp_path / "own", **signals)
    assert pool.shares.tolist() == pytest.approx([3, 1, 2])
    drawn = np.bincount(pool.corpora(Draw((2,)), 6000), minlength=3) / 6000
    np.testing.assert_allclose(drawn, [1 / 2, 1 / 6, 1 / 3], atol=0.03)
    pool = pool_of(tmp_path / "given", {"a": 0.0, "b": 6.0}, **signals)
    drawn = np.bincount(pool.corpora(Draw((2,)), 6000), minlength=3) / 6000
    np.testing.assert_allclose(drawn, [0, 3 / 4, 1 / 4], atol=0.03)


def test_a_second_load_decodes_nothing_and_is_the_same_and_other_clips_are_another_pool(tmp_path, monkeypatch):
    first = pool_of(tmp_path, a=[tone(300), np.zeros(4000, np.float32)], b=[tone(400)])
    right = pools.segment_signal
    monkeypatch.setattr(pools, "segment_signal", lambda segment: pytest.fail("decoded again"))
    again = pool_of(tmp_path, a=[tone(300), np.zeros(4000, np.float32)], b=[tone(400)])
    assert torch.equal(first.audio, again.audio) and torch.equal(first.start, again.start)
    assert (first.key, first.skipped) == (again.key, again.skipped) and len(again.skipped) == 1
    assert pool_of(tmp_path, {"a": 5.0}, a=[tone(300), np.zeros(4000, np.float32)], b=[tone(400)]).key != first.key
    monkeypatch.setattr(pools, "segment_signal", right)
    assert pool_of(tmp_path / "other", a=[tone(310)], b=[tone(400)]).key != first.key


def test_decoding_that_is_interrupted_leaves_nothing_half(tmp_path):
    def stop(done: float, total: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    source = Source("a", segments(tmp_path / "a", [tone(300), tone(400), tone(500)]))
    with pytest.raises(KeyboardInterrupt):
        load_pool([source], tmp_path / "audio", "cpu", stop)
    assert list((tmp_path / "audio").iterdir()) == []
    assert len(load_pool([source], tmp_path / "audio", "cpu", silently)) == 3


def test_two_corpora_of_one_name_and_an_empty_one_are_a_sentence(tmp_path):
    source = Source("a", segments(tmp_path / "a", [tone(300)]))
    with pytest.raises(ManifestError, match=r"^two corpora have one name: a, a\. Rename a folder or a file\.$"):
        load_pool([source, source], tmp_path / "audio", "cpu", silently)
    silent = Source("b", segments(tmp_path / "b", [np.zeros(RATE, np.float32)]))
    with pytest.raises(ManifestError) as caught:
        load_pool([source, silent], tmp_path / "audio", "cpu", silently)
    assert str(caught.value) == (
        f"b: has no clip of 0.1 s or more that can be read ({tmp_path}/b/0.wav: is silent, or shorter than 0.1 s)."
    )
