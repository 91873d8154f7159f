"""Distortions: some clips stay clean, each part has the documented effect, recordings are used, no value is NaN."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from online_world import RATE, pool_of, tone  # noqa: E402
from wav2small.train.online import distort  # noqa: E402
from wav2small.train.online.compose import rms  # noqa: E402
from wav2small.train.online.distort import (  # noqa: E402
    ROOM_LENGTH,
    Distortion,
    band,
    coded,
    coloured,
    equaliser,
    levelled,
    telephone,
)
from wav2small.train.online.draw import Draw  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
FREQUENCY = torch.linspace(0, RATE / 2, 4001)


def speech(count: int, samples: int = 8000, seed: int = 0) -> torch.Tensor:
    """Noise of RMS 1 that falls with frequency."""
    spectrum = torch.fft.rfft(torch.randn(count, samples, generator=torch.Generator().manual_seed(seed)))
    signal = torch.fft.irfft(spectrum / (1 + torch.linspace(0, 20, spectrum.shape[1])), samples)
    return signal / rms(signal)


def correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return ((one * other).mean(1, keepdim=True) / rms(one) / rms(other))[:, 0]


def power(signal: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Of each row between two frequencies, as a share."""
    bins, spectrum = torch.fft.rfftfreq(signal.shape[1], 1 / RATE), torch.fft.rfft(signal).abs().square()
    return spectrum[:, (bins >= low) & (bins <= high)].sum(1) / spectrum.sum(1)


@pytest.mark.parametrize("clean", [0.0, 0.25, 1.0])
def test_a_share_stays_clean_and_the_level_of_all_is_in_range(clean):
    signal, distortion = speech(400, 4000), Distortion(None, None, clean)
    before = signal.clone()
    made = distortion(signal, Draw((1,)))
    assert torch.equal(signal, before) and torch.equal(made, distortion(signal, Draw((1,))))
    untouched = (correlation(signal, made) > 0.99999).float().mean()
    assert clean * 0.8 <= untouched <= clean * 1.2 + 0.2, "and some get no distortion by chance"
    level = 20 * torch.log10(rms(made))
    assert -45.1 < level.min() < -43 and -14 < level.max() < -11.9 and made.abs().max() <= 1


def test_levels_are_those_asked_for_and_the_rest_is_clipped():
    made = levelled(torch.tensor([[100.0, -100.0] * 50, [1e-3, -1e-3] * 50]), Draw((1,)), -20, -20)
    torch.testing.assert_close(20 * torch.log10(rms(made)), torch.full((2, 1), -20.0), atol=1e-2, rtol=0)
    loud = levelled(torch.cat([torch.full((1, 1), 50.0), torch.full((1, 99), 0.1)], 1), Draw((1,)), -10, -10)
    assert loud.max() == 1


def test_the_equaliser_is_smooth_within_9_decibels_and_another_for_each_row():
    gains = 20 * torch.log10(equaliser(FREQUENCY, Draw((1,)), 200))
    assert gains.shape == (200, 4001) and 8.5 < gains.max() <= 9.001 and -9.001 <= gains.min() < -8.5
    assert gains[:, FREQUENCY > 100].diff(dim=1).abs().max() < 0.5
    assert gains.std(0).min() > 2, "every frequency is reached"
    assert (gains[:, FREQUENCY < 60] == gains[:, :1]).all()


def test_the_band_passes_speech_and_nothing_far_outside():
    gains = band(FREQUENCY, Draw((1,)), 100)
    assert (gains[:, (FREQUENCY > 700) & (FREQUENCY < 2000)] > 0.95).all()
    assert gains[:, 0].max() < 1e-6 and gains[:, -1].max() > 0.001 and gains.max() <= 1
    edge = FREQUENCY[(gains < 0.5).logical_and(FREQUENCY > 1000).float().argmax(1)]
    assert 2700 < edge.min() < 3300 and 6300 < edge.max() < 7100


@pytest.mark.parametrize("samples", [8000, 8001, 48000])
def test_a_telephone_passes_nothing_above_3400_hz_and_costs_eight_bits(samples):
    signal = speech(6, samples)
    made = telephone(signal)
    assert made.shape == signal.shape and (power(made, 3402, 8000) < 1e-9).all()
    spectrum = torch.fft.rfft(signal)
    spectrum[:, int(samples * 3400 / RATE) + 1 :] = 0
    narrow = torch.fft.irfft(spectrum, samples)
    snr = 20 * torch.log10(rms(narrow) / rms(made - narrow))
    assert (snr > 25).all() and (snr < 50).all()


def test_a_telephone_keeps_the_level_of_a_tone():
    made = telephone(torch.from_numpy(tone(1000))[None])
    np.testing.assert_allclose(made[0, 500:-500], tone(1000)[500:-500], atol=0.01)


def test_coloured_noise_falls_by_0_to_6_decibels_an_octave():
    noise = coloured(Draw((1,)), 300, 16000)
    octaves = [power(noise, low, 2 * low) / low for low in (125, 250, 500, 1000, 2000)]
    slopes = (10 * torch.log10(torch.stack(octaves))).diff(dim=0).mean(0)
    assert -6.6 < slopes.min() < -5.4 and -0.6 < slopes.max() < 0.6
    assert slopes.mean() == pytest.approx(-3, abs=0.5)


def test_recorded_noise_is_added_to_a_fifth(tmp_path):
    noise = pool_of(tmp_path, noise=[tone(7000, 2.0)])
    signal = speech(600, 4000)
    before, after = (Distortion(pool, None).add_noise(signal, Draw((5,))) for pool in (None, noise))
    heard = power(after, 6950, 7050)
    added = heard > 10 * power(signal, 6950, 7050)
    assert (power(before, 6950, 7050) > 0.03).sum() == 0
    assert 0.13 < added.float().mean() < 0.24, "what is 30 dB below is not always seen"
    assert heard.max() > 0.3


def test_a_long_recording_is_used_from_everywhere(tmp_path):
    parts = [tone(frequency, 1.0) for frequency in (6000, 6500, 7000, 7500)]
    noise = pool_of(tmp_path, noise=[np.concatenate(parts)])
    after = Distortion(noise, None).add_noise(speech(400, 1600), Draw((5,)))
    for frequency in (6000, 6500, 7000, 7500):
        assert (power(after, frequency - 60, frequency + 60) > 0.05).sum() > 3


def test_recorded_rooms_are_used_for_half_of_the_batches(tmp_path):
    response = np.zeros(4000, np.float32)
    response[3000] = 0.5
    distortion = Distortion(None, pool_of(tmp_path, rooms=[response]))
    found = [distortion.room(Draw((seed,)), 3) for seed in range(40)]
    recorded = [bool((room[:, 0] == 0).any()) for room in found]
    assert 10 < sum(recorded) < 30
    for room, is_recorded in zip(found, recorded, strict=True):
        assert room.shape == (3, ROOM_LENGTH)
        if is_recorded:
            torch.testing.assert_close(room.square().sum(1), torch.ones(3))
        else:
            assert (room[:, 0].abs() > 0.5).all() and (room[:, -1] == 0).all(), "0.8 s is where the longest ends"


def test_a_twentieth_passes_a_codec(monkeypatch):
    """Which is marked here by a constant."""
    monkeypatch.setattr(distort, "coded", lambda signal, rng: np.full_like(signal, 7))
    made = Distortion(None, None).channel(speech(600, 800), Draw((1,)))
    assert 0.03 < (made == 7).all(1).float().mean() < 0.075


def test_a_room_echoes():
    """What is silent after a click is not, afterwards, in two rows of five."""
    clicks = torch.zeros(300, 8000)
    clicks[:, 100] = 1
    made = Distortion(None, None).channel(clicks, Draw((1,)))
    late = made[:, 800:1600].square().sum(1) > 1e-4
    assert 0.3 < late.float().mean() < 0.55


def test_babble_is_other_clips_of_the_batch():
    """Each row is a tone of its own: in one of six there are others, backwards."""
    tones = torch.from_numpy(np.stack([tone(500 + 100 * number, 0.5) for number in range(60)]))
    made = Distortion(None, None).add_noise(tones, Draw((2,)))
    bins = torch.fft.rfft(made).abs().square()[:, [(500 + 100 * number) // 2 for number in range(60)]]
    others = ((bins > 1e-4 * bins.amax(1, keepdim=True)) & (bins > 100)).sum(1) - 1
    assert 2 < (others >= 1).sum() < 20 and others[others > 0].median() == 3


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("what", ["silence", "click", "noise"])
def test_nothing_is_ever_nan(tmp_path, count, what):
    signal = {"silence": torch.zeros(count, 4000), "noise": speech(count, 4000)}.get(what, torch.zeros(count, 4000))
    signal = signal.clone()
    if what == "click":
        signal[:, 2000] = 1
    recorded = pool_of(tmp_path, a=[tone(500, 0.2), tone(700, 3.0)])
    for seed in range(12):
        for pools in ((recorded, recorded), (None, None)):
            made = Distortion(*pools, clean=0.1)(signal, Draw((seed,)))
            assert made.shape == signal.shape and torch.isfinite(made).all() and made.abs().max() <= 1
            assert torch.isfinite(telephone(signal)).all()


def test_a_codec_is_not_the_same_each_time_and_keeps_the_length():
    voice = speech(1, 4001)[0].numpy()
    made = [coded(voice, np.random.default_rng(seed)) for seed in range(8)]
    assert len({clip.tobytes() for clip in made}) == 8
    assert {len(clip) for clip in made} == {4001}
