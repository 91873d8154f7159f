"""Variants of a clip: each factor moves what it names and nothing else; the same seed gives the same bytes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import ManifestError, MissingExtraError
from wav2small.tables.manifest import Segment, read_manifest
from wav2small.train import resynthesise
from wav2small.train.config import VoicesConfig
from wav2small.train.resynthesise import (
    Voice,
    analyse,
    changed_pitch,
    check_extra,
    draw_voice,
    file_name,
    resynthesise_all,
    synthesise,
)

pytest.importorskip("pyworld", reason="needs the extra voices")

RATE = 16000


def vowel(f0: float = 150.0, dur: float = 0.8, formant: float = 1000.0, fall: float = 0.0) -> np.ndarray:
    """A buzz through one resonance; its pitch falls by ``fall`` (natural log) from begin to end around ``f0``."""
    time = np.arange(int(dur * RATE)) / RATE
    pitch = f0 * np.exp(-fall * (time / dur - 0.5))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    harmonics = np.arange(1, int(7000 / pitch.max()))
    gains = 1 / (1 + ((harmonics * f0 - formant) / 300) ** 2) + 0.01
    return (0.05 * (gains[:, None] * np.sin(harmonics[:, None] * phase)).sum(0)).astype(np.float32)


def median_f0(signal: np.ndarray) -> float:
    f0 = analyse(signal).f0
    return float(np.median(f0[f0 > 0]))


def spread_f0(signal: np.ndarray) -> float:
    f0 = analyse(signal).f0
    return float(np.ptp(np.log(np.quantile(f0[f0 > 0], [0.2, 0.8]))))


def peak_of_envelope(signal: np.ndarray) -> float:
    envelope = analyse(signal).envelope.mean(0)
    return float(np.argmax(envelope[:600])) * RATE / 2 / (len(envelope) - 1)


@pytest.mark.parametrize("pitch", [0.7, 1.0, 1.5])
def test_pitch_moves_f0_and_neither_formants_nor_length(pitch):
    signal = vowel()
    made = synthesise(analyse(signal), Voice(pitch=pitch))
    assert median_f0(made) == pytest.approx(150 * pitch, rel=0.02)
    assert peak_of_envelope(made) == pytest.approx(1000, rel=0.12)
    assert abs(len(made) - len(signal)) <= 0.01 * RATE


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_the_range_is_stretched_around_the_same_pitch(factor):
    signal = vowel(fall=0.4)
    made = synthesise(analyse(signal), Voice(pitch_range=factor))
    assert spread_f0(made) == pytest.approx(factor * spread_f0(signal), rel=0.1)
    assert median_f0(made) == pytest.approx(median_f0(signal), rel=0.03)


@pytest.mark.parametrize("factor", [0.84, 1.16])
def test_formants_move_and_pitch_does_not(factor):
    signal = vowel()
    plain, made = (synthesise(analyse(signal), Voice(formants=value)) for value in (1.0, factor))
    assert peak_of_envelope(made) / peak_of_envelope(plain) == pytest.approx(factor, rel=0.08)
    assert median_f0(made) == pytest.approx(150, rel=0.02)


@pytest.mark.parametrize("tempo", [0.75, 1.25])
def test_tempo_moves_the_length_and_not_the_pitch(tempo):
    signal = vowel()
    made = synthesise(analyse(signal), Voice(tempo=tempo))
    assert len(made) / RATE == pytest.approx(0.8 / tempo, abs=0.01)
    assert median_f0(made) == pytest.approx(150, rel=0.02)


def test_a_variant_is_as_loud_as_its_clip_and_within_full_scale():
    signal = vowel()
    made = synthesise(analyse(signal), Voice(pitch=1.4))
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(signal**2)), rel=1e-3)
    loud = np.clip(20 * signal, -1, 1)
    assert np.abs(synthesise(analyse(loud), Voice())).max() <= 0.9901


@pytest.mark.parametrize("samples", [1, 300, 8000])
def test_silence_and_short_clips_are_finite(samples):
    made = synthesise(analyse(np.zeros(samples, np.float32)), Voice(pitch=1.3, formants=0.9))
    assert made.dtype == np.float32 and np.isfinite(made).all()


def test_what_has_no_pitch_keeps_none():
    np.testing.assert_array_equal(changed_pitch(np.zeros(5), 1.4, 0.5), np.zeros(5))
    changed = changed_pitch(np.array([0.0, 100.0, 200.0]), 2.0, 1.0)
    np.testing.assert_allclose(changed, [0, 200, 400])


def test_voices_are_drawn_by_seed_name_and_variant_within_bounds():
    config = VoicesConfig()
    drawn = [draw_voice(name, variant, config) for name in "abcdefgh" for variant in range(40)]
    assert len({*drawn}) == len(drawn) and drawn[41] == draw_voice("b", 1, config)
    assert draw_voice("a", 0, VoicesConfig(seed=2)) != drawn[0]
    bounds = {
        "pitch": np.exp([-0.45, 0.45]),
        "pitch_range": [0.5, 1.7],
        "formants": [0.84, 1.16],
        "tempo": [0.75, 1.25],
    }
    for name, (low, high) in bounds.items():
        values = [getattr(voice, name) for voice in drawn]
        assert low <= min(values) < low + 0.05 and high - 0.05 < max(values) <= high


def corpus(folder: Path, clips: int = 2, **columns: str) -> Path:
    folder.mkdir()
    rows = []
    for number in range(clips):
        soundfile.write(folder / f"{number}.wav", vowel(120 + 30 * number, 0.3), RATE)
        rows.append({"file": f"{number}.wav", "speaker": f"s{number}", "label": "anger", "seconds": "0.3", **columns})
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["resynthesise", *map(str, arguments), "--workers", "1"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_command_writes_variants_and_a_manifest_and_resumes_to_the_same_bytes(tmp_path):
    source = corpus(tmp_path / "acted", gender="f", extra="recognised_pct=90", fold="3", licence="CC0-1.0")
    result = run(source, "-o", tmp_path / "voices", "--variants", 2)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"{tmp_path / 'voices'}: 4 clips\n"
    segments = read_manifest(tmp_path / "voices")
    assert [s.file for s in segments] == ["0-1.flac", "0-2.flac", "1-1.flac", "1-2.flac"]
    assert [(s.speaker, s.label) for s in segments] == [("s0", "anger")] * 2 + [("s1", "anger")] * 2
    kept = {"gender": "f", "extra": "recognised_pct=90", "fold": "3", "licence": "CC0-1.0", "source": "1.wav"}
    assert kept.items() <= segments[3].fields.items() and "seconds" not in segments[3].fields
    first = contents(tmp_path / "voices")
    (tmp_path / "voices" / "0-2.flac").unlink()
    (tmp_path / "voices" / "1-1.flac").write_bytes(b"kept")
    assert run(source, "-o", tmp_path / "voices", "--variants", 2).exit_code == 0
    again = contents(tmp_path / "voices")
    assert again.pop("1-1.flac") == b"kept" and again.items() <= first.items()
    result = run(source, "-o", tmp_path / "voices", "--seed", 2)
    assert (result.exit_code, "contains clips of seed 1, 2 segments" in result.stderr) == (1, True)


@pytest.mark.slow
def test_what_the_order_of_the_rows_is_makes_no_difference(tmp_path):
    segments = read_manifest(corpus(tmp_path / "acted"))
    for name, order in (("one", segments), ("other", segments[::-1])):
        resynthesise_all([order], tmp_path / name, VoicesConfig(variants=1), 1, lambda done, total: None)
    for file in ("0-1.flac", "1-1.flac"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_segments_of_one_file_have_names_of_their_own_and_clashes_are_said(tmp_path):
    whole, cut = Segment("a b/c.wav", tmp_path), Segment("a b/c.wav", tmp_path, 0.5, 1.25)
    assert file_name(whole, 0) == "a_b_c-1.flac" and file_name(cut, 1) == "a_b_c_0_5-1_25-2.flac"
    with pytest.raises(ManifestError, match=r"a b/c\.wav and a b/c\.mp3 would both be written to a_b_c-1\.flac"):
        resynthesise_all(
            [[whole], [Segment("a b/c.mp3", tmp_path)]], tmp_path / "new", VoicesConfig(), 1, lambda done, total: None
        )
    assert not (tmp_path / "new").exists()


def test_nothing_to_do_and_a_missing_package_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ManifestError, match="have no rows to resynthesise"):
        resynthesise_all([[]], tmp_path, VoicesConfig(), 1, lambda done, total: None)
    monkeypatch.setattr(resynthesise, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs pyworld and pkg_resources, .* 'wav2small\[voices\]'"):
        check_extra()
