"""The conditions of ``robustness`` are what their names state, and depend on the seed and the clip alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2small.audio import distort
from wav2small.audio.read import read
from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.evaluation import conditions
from wav2small.evaluation.conditions import (
    CONDITIONS,
    DAWN,
    SNRS,
    Sounds,
    check_available,
    choose,
    sounds_of,
)
from wav2small.tables.manifest import Segment

RATE = 16000
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.flac"))
CLIP = Segment("a.wav", Path("a.wav"), speaker="a")
BY_NAME = {one.name: one for one in CONDITIONS}


def noise(samples, seed=0, rms=0.03):
    return (rms * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def rms(signal):
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two noises, a piece of music, a room and four voices, all made by chance."""
    folder = tmp_path_factory.mktemp("sounds")
    segments = {}
    for number, name in enumerate(["hiss", "hum", "song", "hall", "v0", "v1", "v2", "v3"]):
        samples = 2000 if name == "hall" else 20000 + 9000 * number
        decay = np.exp(-np.arange(samples) / 300) if name == "hall" else 1
        soundfile.write(folder / f"{name}.wav", noise(samples, number, 0.1) * decay, RATE)
        label = "Music" if name == "song" else name
        segments[name] = Segment(f"{name}.wav", folder / f"{name}.wav", speaker=name[:2], label=label)
    voices = [segments[f"v{number}"] for number in range(4)]
    return sounds_of(voices, [segments["hiss"], segments["hum"], segments["song"]], [segments["hall"]], seed=0)


def test_there_are_all_conditions_of_the_documentation():
    assert len(CONDITIONS) == len(BY_NAME) == 39
    page = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text(encoding="utf-8")
    assert [name for name in BY_NAME if f"`{name}`" not in page and f"`{BY_NAME[name].kind}:" not in page] == []


@pytest.mark.parametrize("name", BY_NAME)
def test_a_condition_depends_on_the_seed_and_the_clip_alone(name, sounds):
    signal = noise(12345)
    signal.flags.writeable = False
    once = BY_NAME[name].apply(signal, CLIP, sounds, 1)
    for other in ("white:0", "packets", "babble:10"):
        BY_NAME[other].apply(noise(5000, 3), Segment("b.wav", Path("b.wav")), sounds, 1)
    np.testing.assert_array_equal(BY_NAME[name].apply(signal, CLIP, sounds, 1), once)
    moved = Segment("a.wav", Path("elsewhere") / "a.wav", speaker="a")
    np.testing.assert_array_equal(BY_NAME[name].apply(signal, moved, sounds, 1), once)
    assert once.dtype == np.float32 and np.isfinite(once).all() and np.abs(once).max() <= 1


@pytest.mark.parametrize(
    "name", ["white:0", "pink:0", "babble:0", "music:0", "noise:0", "reverb:0.3", "speed-part:1.25", "packets"]
)
def test_another_seed_or_clip_is_another_draw(name, sounds):
    signal = noise(12345)
    made = [BY_NAME[name].apply(signal, CLIP, sounds, seed) for seed in range(4)]
    made += [BY_NAME[name].apply(signal, Segment(f"{n}.wav", Path("a.wav"), speaker="a"), sounds, 0) for n in range(4)]
    made += [BY_NAME[name].apply(signal, Segment("a.wav", Path("a.wav"), 1.0, speaker="a"), sounds, 0)]
    assert len({clip.tobytes() for clip in made}) == 9


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "music", "noise"])
def test_the_signal_to_noise_ratio_is_reached_and_the_noise_is_the_same(kind, sounds):
    signal = noise(RATE, rms=0.01)
    added = {snr: BY_NAME[f"{kind}:{snr}"].apply(signal, CLIP, sounds, 0) - signal for snr in SNRS}
    for snr, sound in added.items():
        assert abs(20 * np.log10(rms(signal) / rms(sound)) - snr) < 0.1
        np.testing.assert_allclose(sound / rms(sound), added[-10] / rms(added[-10]), atol=1e-3)


def test_a_loud_clip_is_turned_down_and_keeps_its_ratio(sounds):
    signal = noise(RATE, rms=0.25)
    out = BY_NAME["white:-10"].apply(signal, CLIP, sounds, 0)
    assert np.abs(out).max() == 1
    gain = float(out @ signal / (signal @ signal))
    assert abs(20 * np.log10(gain * rms(signal) / rms(out - gain * signal)) + 10) < 0.35


def test_only_other_voices_babble(sounds):
    mine, _ = sounds.voices[0]
    only = Sounds(voices=[sounds.voices[0], (Segment("x.wav", Path("x.wav"), speaker="x"), np.ones(400, np.float32))])
    babble = only.babble(mine, 1000, np.random.default_rng(0))
    np.testing.assert_allclose(babble, 1, atol=1e-6)
    same = [(Segment(f"{n}.wav", Path(f"{n}.wav"), speaker="x"), np.full(9, n, np.float32)) for n in (1, -1)]
    np.testing.assert_allclose(Sounds(voices=same).babble(same[0][0], 50, np.random.default_rng(0)), -1, atol=1e-6)


def test_the_voices_do_not_depend_on_the_order_of_the_manifest(sounds, monkeypatch):
    monkeypatch.setattr(conditions, "VOICES", 2)
    clips = [voice for voice, _ in sounds.voices]
    unreadable = Segment("gone.wav", Path("gone.wav"))
    one, other = sounds_of(clips, [], [], 5), sounds_of([*clips[::-1]], [], [], 5)
    assert [voice.file for voice, _ in one.voices] == [voice.file for voice, _ in other.voices]
    assert len(one.voices) == 2
    assert unreadable not in [voice for voice, _ in sounds_of([*clips, unreadable], [], [], 5).voices]


@pytest.mark.parametrize(
    ("name", "samples"),
    [("cut:1", 16000), ("cut:2", 32000), ("cut:3", 48000), ("speed:0.8", 80000), ("speed:1.25", 51200)]
    + [("silence:leading", 96000), ("silence:trailing", 96000), ("level:-20", 64000), ("room", 64000), ("fade", 64000)],
)
def test_lengths(name, samples, sounds):
    assert abs(len(BY_NAME[name].apply(noise(64000), CLIP, sounds, 0)) - samples) <= 1


def test_silence_is_at_its_end(sounds):
    signal = noise(RATE)
    leading, trailing = (BY_NAME[f"silence:{end}"].apply(signal, CLIP, sounds, 0) for end in ("leading", "trailing"))
    for quiet, kept in ((leading[: 2 * RATE], leading[2 * RATE :]), (trailing[RATE:], trailing[:RATE])):
        assert 0 < rms(quiet) < rms(signal) / 170
        np.testing.assert_allclose(kept, signal, atol=3e-3)


def test_levels(sounds):
    signal = noise(RATE)
    np.testing.assert_allclose(BY_NAME["level:-20"].apply(signal, CLIP, sounds, 0), signal / 10, rtol=1e-6)
    loud = BY_NAME["level:+10"].apply(signal, CLIP, sounds, 0)
    assert np.abs(loud).max() == 1 and 0.05 < np.mean(np.abs(loud) == 1) < 0.6


@pytest.mark.parametrize(("name", "rate", "low", "high"), [("mp3:32k", 32, 31, 33), ("opus:12k", 12, 10, 15)])
def test_codecs_have_their_bit_rate(name, rate, low, high, sounds, monkeypatch):
    sizes, write = [], soundfile.write

    def noted(file: io.BytesIO, *arguments, **settings):
        write(file, *arguments, **settings)
        sizes.append(file.tell())

    monkeypatch.setattr(distort.soundfile, "write", noted)
    voice = np.tile(read(EXAMPLES[0]), 4)
    BY_NAME[name].apply(voice, CLIP, sounds, 0)
    assert low < sizes[0] * 8 / (len(voice) / RATE) / 1000 < high, rate


@pytest.mark.parametrize(("name", "low", "high"), [("mulaw:8k", 0, 4000), ("band:300-3400", 300, 3400)])
def test_bands(name, low, high, sounds):
    signal = noise(64000, rms=0.1)
    spectra = [np.abs(np.fft.rfft(one)) ** 2 for one in (signal, BY_NAME[name].apply(signal, CLIP, sounds, 0))]
    frequency = np.fft.rfftfreq(64000, 1 / RATE)
    inside = (frequency > max(1.4 * low, 50)) & (frequency < 0.85 * high)
    outside = (frequency < low / 2) | (frequency > 1.35 * high)
    before, after = spectra
    assert abs(10 * np.log10(after[inside].sum() / before[inside].sum())) < 0.5
    assert 10 * np.log10(after[outside].sum() / before[outside].sum()) < -30


def test_names_and_kinds_choose_in_the_order_of_the_list():
    assert [one.name for one in choose(["cut:2", "white", "fade"])] == [*(f"white:{s}" for s in SNRS), "fade", "cut:2"]
    assert {one.name for one in choose(DAWN)} == set(DAWN) and len(DAWN) == 5
    with pytest.raises(Wav2SmallError, match=r"whit is not a condition. Did you mean white\?"):
        choose(["whit"])


@pytest.mark.parametrize(
    ("name", "words"),
    [("noise:0", "--noise MANIFEST"), ("music:0", "label music"), ("room", "--rooms"), ("babble:0", "other clips")],
)
def test_what_cannot_be_added_is_refused(name, words):
    with pytest.raises(ManifestError, match=words):
        check_available(choose([name]), Sounds(voices=[(CLIP, noise(100))]))
