"""Composed batches: deterministic, of RMS 1, and each operation has the documented effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from online_world import RATE, pool_of, tone  # noqa: E402
from wav2small.train.config import DistilConfig  # noqa: E402
from wav2small.train.online.compose import (  # noqa: E402
    add,
    compose,
    decibel,
    durations,
    fast_length,
    modulate,
    pieces,
    resample,
    rms,
    stretch,
)
from wav2small.train.online.draw import Draw  # noqa: E402
from wav2small.train.online.pool import PEAK  # noqa: E402

PLAIN = DistilConfig(mixture=0.0, joined=0.0, fastest=1.0, stretched=0.0, modulated=0.0)
LOW, HIGH = 400, 2500

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A corpus of a low tone, and one of a high tone."""
    return pool_of(tmp_path_factory.mktemp("pool"), low=[tone(LOW, 2.0)] * 2, high=[tone(HIGH, 2.0)] * 2)


def share(signal: torch.Tensor, frequency: float, factor: float = 1.3) -> torch.Tensor:
    """Of the power of each row that is within a factor of a frequency."""
    bins = torch.fft.rfftfreq(signal.shape[-1], 1 / RATE)
    power = torch.fft.rfft(signal).abs().square()
    return power[..., (bins > frequency / factor) & (bins < frequency * factor)].sum(-1) / power.sum(-1)


def peak(signal: torch.Tensor) -> float:
    """Frequency of the largest value of a spectrum, in Hz."""
    return float(torch.fft.rfft(signal * torch.hann_window(len(signal))).abs().argmax()) * RATE / len(signal)


def corpora(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


@pytest.mark.parametrize("samples", [4000, 8001])
def test_the_same_draw_gives_the_same_clips_of_rms_1(pool, samples):
    config = DistilConfig()
    for seed in range(6):
        made = compose(pool, corpora(*[0, 1] * 8), samples, Draw((seed,)), config)
        assert made.shape == (16, samples) and torch.isfinite(made).all()
        torch.testing.assert_close(made.square().mean(1), torch.ones(16), rtol=1e-4, atol=1e-4)
        assert torch.equal(made, compose(pool, corpora(*[0, 1] * 8), samples, Draw((seed,)), config))
        assert not torch.equal(made, compose(pool, corpora(*[0, 1] * 8), samples, Draw((seed, 1)), config))
        assert len({row.numpy().tobytes() for row in made}) == 16


def test_a_plain_clip_is_of_its_corpus(pool):
    made = compose(pool, corpora(0, 1, 0, 1), 8000, Draw((1,)), PLAIN)
    assert (share(made[::2], LOW) > 0.99).all() and (share(made[1::2], HIGH) > 0.99).all()


def test_a_mixture_holds_two_voices_at_the_same_time(pool):
    made = compose(pool, corpora(*[0] * 64), 8000, Draw((1,)), replace(PLAIN, mixture=1.0))
    low, high = share(made, LOW), share(made, HIGH)
    assert (low + high > 0.99).all()
    both = high > 0.01
    assert 8 < both.sum() < 28, "the other is of the same corpus half of the time, else of any"
    snr = 10 * torch.log10(low[both] / high[both])
    assert -3.5 < snr.min() < 3 and 6 < snr.max() < 12.5
    for half in (made[both, :4000], made[both, 4000:]):
        assert (share(half, HIGH) > 0.01).all()


def test_a_joined_clip_has_one_after_the_other_of_one_corpus_at_two_levels(pool):
    made = compose(pool, corpora(*[0] * 32, *[1] * 32), 8000, Draw((1,)), replace(PLAIN, joined=1.0))
    first, second = made[:, :4000], made[:, 4000:]
    steps = 20 * torch.log10(rms(first) / rms(second)).abs()
    assert 3 < steps.max() < 8.1 and (steps > 0.5).float().mean() > 0.7
    assert (share(made[:32], LOW) > 0.98).all() and (share(made[32:], HIGH) > 0.98).all()


def test_kinds_of_clips_have_their_shares(tmp_path):
    """A second corpus of silence but for a click at its end shows which rows were mixed or joined."""
    noise = np.random.default_rng(0).standard_normal((20, 4000)).astype(np.float32) * 0.1
    pool = pool_of(tmp_path, a=list(noise))
    alone = compose(pool, corpora(*[0] * 400), 4000, Draw((3,)), PLAIN)
    mixed = compose(pool, corpora(*[0] * 400), 4000, Draw((3,)), replace(PLAIN, mixture=0.3, joined=0.2))
    like = (alone * mixed).mean(1).abs()
    assert 0.4 < (like > 0.9999).float().mean() < 0.6, "half stays as it was"
    assert 0.24 < ((like < 0.99) & (like > 0.4)).float().mean() < 0.45


def test_pieces_are_short_clips_whole_and_parts_of_long_ones_anywhere(tmp_path):
    ramp = np.linspace(0.1, 1, 3200, dtype=np.float32)
    pool = pool_of(tmp_path, a=[ramp])
    drawn = pieces(pool, corpora(*[0] * 40), 6400, Draw((1,)), 1.0)
    starts = [int(torch.nonzero(row)[0]) for row in drawn]
    assert all(int((row != 0).sum()) == 3200 for row in drawn)
    assert min(starts) < 400 and max(starts) > 2800 and len(set(starts)) > 30
    drawn = pieces(pool, corpora(*[0] * 40), 1280, Draw((1,)), 1.0)
    firsts = drawn[:, 0] * 32768 / PEAK
    assert firsts.min() < 0.16 and firsts.max() > 0.55 and (drawn[:, -1] > drawn[:, 0]).all()


def test_pieces_are_slower_and_faster_up_to_the_factor(pool):
    found = [peak(row) for seed in range(60) for row in pieces(pool, corpora(1), 7680, Draw((seed,)), 1.35)]
    assert HIGH / 1.38 < min(found) < HIGH / 1.2 and HIGH * 1.2 < max(found) < HIGH * 1.38
    assert 4 < sum(abs(value - HIGH) < 3 for value in found) < 26, "a fifth is neither"


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 300), st.integers(2000, 6000))
def test_resampling_moves_a_tone_exactly(cycles, samples):
    """A whole number of cycles stays one, whatever the length, if both lengths can hold it."""
    time = torch.arange(4000) / 4000
    signal = torch.stack([torch.sin(2 * torch.pi * cycles * time), torch.cos(2 * torch.pi * cycles * time)])
    time = torch.arange(samples) / samples
    expected = torch.stack([torch.sin(2 * torch.pi * cycles * time), torch.cos(2 * torch.pi * cycles * time)])
    torch.testing.assert_close(resample(signal, samples), expected, atol=4e-4, rtol=0)


@pytest.mark.parametrize(
    ("near", "length"), [(0.2, 1), (13, 12), (997.6, 1000), (48000, 48000), (47744, 48000), (60800, 60750)]
)
def test_transforms_have_fast_lengths(near, length):
    assert fast_length(near) == length


def test_resampling_does_not_alias_and_leaves_an_equal_length_alone():
    high = torch.sin(2 * torch.pi * 1900 / 4000 * torch.arange(4000))[None]
    assert resample(high, 3000).abs().max() < 1e-3, "above half of the new rate there is nothing"
    assert torch.equal(resample(high, 4000), high)


@pytest.mark.parametrize("rate", [0.75, 0.9, 1.0, 1.2, 1.35])
def test_stretching_changes_the_duration_and_keeps_the_frequency(rate):
    signal = torch.from_numpy(np.stack([tone(600, 2.0), tone(1500, 2.0)]))
    made = stretch(signal, rate)
    assert made.shape[1] == pytest.approx(signal.shape[1] / rate, abs=300)
    middle = made[:, 2000:-2000]
    assert peak(middle[0]) == pytest.approx(600, abs=4) and peak(middle[1]) == pytest.approx(1500, abs=4)
    if rate >= 1:  # slower, a plain phase vocoder smears what is adjacent
        torch.testing.assert_close(rms(middle), rms(signal), rtol=0.05, atol=0)


def test_stretching_moves_what_happens(pool):
    signal = torch.zeros(1, 32000)
    signal[0, 16000:] = torch.from_numpy(tone(600, 1.0))
    for rate in (0.8, 1.25):
        made = stretch(signal, rate)[0]
        assert int((made.abs() > 0.1).nonzero()[0]) == pytest.approx(16000 / rate, abs=500)


def test_half_of_a_batch_is_stretched_for_a_share_of_the_batches(pool):
    config = replace(PLAIN, stretched=0.5, stretch=1.35)
    changed = []
    for seed in range(30):
        draw = Draw((seed,))
        made = compose(pool, corpora(*[0] * 4), 8000, draw, config)
        assert (share(made, LOW) > 0.97).all() and torch.isfinite(made).all()
        changed.append(not torch.allclose(rms(made[:2, :400]), rms(made[2:, :400]), rtol=0.02))
    assert 6 < sum(changed) < 25


def test_modulation_is_slow_and_has_its_depth_and_its_share():
    flat = torch.ones(400, 8000)
    gains = 20 * torch.log10(modulate(flat, Draw((1,)), 0.3, 8.0))
    moved = gains.abs().amax(1) > 1e-4
    assert 0.22 < moved.float().mean() < 0.38
    assert 7.5 < gains.abs().max() <= 8.001 and gains.diff(dim=1).abs().max() < 16.1 / 999
    assert (modulate(flat, Draw((1,)), 0.0, 8.0) == 1).all()


@pytest.mark.parametrize("snr", [-3.0, 0.0, 12.0])
def test_what_is_added_has_the_snr_asked_for(snr):
    signal, other = 3 * torch.randn(5, 4000), 0.2 * torch.randn(5, 4000)
    before = signal.clone(), other.clone()
    noise = add(signal, other, torch.full((5, 1), snr)) - signal
    torch.testing.assert_close(20 * torch.log10(rms(signal) / rms(noise)), torch.full((5, 1), snr), atol=1e-3, rtol=0)
    assert torch.equal(signal, before[0]) and torch.equal(other, before[1])


def test_decibels_and_rms_are_what_they_are():
    torch.testing.assert_close(decibel(torch.tensor([0.0, 20.0, -6.0206])), torch.tensor([1.0, 10.0, 0.5]))
    assert rms(torch.tensor([[3.0, -3.0]])).item() == pytest.approx(3) and 0 < rms(torch.zeros(1, 5)).item() < 1e-5
    assert durations(DistilConfig(durations=(2.0, 0.25))) == [32000, 4000]
