"""Predictions: one row a file or a window, silence without an emotion, failures as rows, the rest done all the same."""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings

import wav2small
from lengths import any_duration
from wav2small.audio import read as audio
from wav2small.errors import AudioError, WeightsError
from wav2small.network.config import Emotion
from wav2small.options import Options, default_window
from wav2small.runtime.predict import COLUMNS, Prediction, predict, predict_files

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.flac"))


def noise(seconds: float, seed: int = 0, level: float = 0.1, sampling_rate: int = 16000) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * sampling_rate))).astype("f4")


def write(path: Path, signal: np.ndarray, sampling_rate: int = 16000, **options: str) -> Path:
    soundfile.write(path, signal, sampling_rate, **options)
    return path


class Ear:
    """A model whose answer shows what it has heard: its level, its length and its first sample."""

    def __init__(self):
        self.heard = []

    def __call__(self, signal: np.ndarray) -> Emotion:
        assert signal.dtype == np.float32 and signal.ndim == 1
        self.heard.append(signal.copy())
        return Emotion(float(np.abs(signal).mean()), len(signal) / 16000 / 100, abs(float(signal[0])))


def emotion(row: Prediction) -> tuple:
    return row.arousal, row.dominance, row.valence


def test_a_file_is_one_row_and_what_the_model_says_of_the_whole_of_it(tmp_path):
    path = write(tmp_path / "a.wav", noise(4, sampling_rate=44100), 44100)
    (row,) = predict(path, model=Ear())
    assert emotion(row) == pytest.approx(Ear()(audio.read(path)))
    assert (row.file, row.start, row.end, row.speech, row.error) == (str(path), 0, 4, True, None)
    heard = ("arousal", "dominance", "valence", "speech", "speech_ratio")
    assert ("file", "start", "end", *heard, "error") == COLUMNS


def test_an_array_a_file_and_a_file_object_get_the_same_answer_and_the_array_stays(tmp_path):
    signal = noise(4).reshape(-1, 2)
    path = write(tmp_path / "a.wav", signal, 8000, subtype="FLOAT")
    before = signal.copy()
    rows = [predict(source, 8000, model=Ear()) for source in (path, io.BytesIO(path.read_bytes()), signal)]
    assert [row.file for (row,) in rows] == [str(path), "-", ""]
    for (row,) in rows:
        np.testing.assert_allclose(astuple(row)[:5], astuple(rows[0][0])[:5], atol=1e-6)
    np.testing.assert_array_equal(signal, before)


def test_the_channel_asked_for_is_the_one_heard(tmp_path):
    signal = np.stack([noise(1, level=0.3), noise(1, level=0.01)], axis=1)
    path = write(tmp_path / "a.wav", signal)
    for channel, level in ((0, 0.3), (1, 0.01)):
        for source in (path, signal):
            (row,) = predict(source, 16000, model=Ear(), channel=channel)
            assert row.arousal == pytest.approx(level * np.sqrt(2 / np.pi), rel=0.05)


@given(any_duration(3200, 320_000), any_duration(1600, 80_000), any_duration(800, 80_000))
@settings(max_examples=30, deadline=None)
def test_with_every_each_row_is_what_the_model_says_of_that_window(seconds, window, every):
    signal, ear, window = noise(seconds), Ear(), max(window, every)
    rows = predict(signal, 16000, model=ear, hop_dur=every, win_dur=window)
    assert len(rows) == len(ear.heard) > 0
    for number, (row, heard) in enumerate(zip(rows, ear.heard, strict=True)):
        start = round(row.start * 16000)
        assert start == round(number * every * 16000)
        assert row.end - row.start == pytest.approx(len(heard) / 16000) and row.end <= seconds + 1e-4
        assert len(heard) <= round(window * 16000)
        np.testing.assert_array_equal(heard, signal[start : start + len(heard)])
        assert emotion(row) == pytest.approx(Ear()(heard))


def test_silence_is_no_speech_without_an_emotion_and_no_failure(tmp_path):
    for signal in (np.zeros(32000, "f4"), noise(2, level=1e-4), np.full(32000, 0.25, "f4")):
        ear = Ear()
        (row,) = predict(write(tmp_path / "a.wav", signal, subtype="FLOAT"), model=ear)
        assert row == Prediction(file=str(tmp_path / "a.wav"), start=0.0, end=2.0, speech=False, speech_ratio=0.0)
        assert ear.heard == []


def test_silent_windows_are_rows_without_an_emotion_among_the_others():
    signal = np.concatenate([noise(2), np.zeros(32000, "f4"), noise(2)])
    rows = predict(signal, 16000, model=Ear(), hop_dur=1, win_dur=1)
    assert [row.speech for row in rows] == [True, True, False, False, True, True]
    assert [row.arousal is None for row in rows] == [False, False, True, True, False, False]


@pytest.mark.parametrize(("seconds", "parts"), [(29.9, 1), (30, 1), (30.1, 3), (60, 4), (70, 5), (75.3, 6)])
def test_a_long_file_is_answered_from_equal_parts_of_at_most_15_seconds(tmp_path, seconds, parts):
    ear, path = Ear(), write(tmp_path / "a.wav", noise(seconds))
    (row,) = predict(path, model=ear)
    lengths = [len(heard) for heard in ear.heard]
    assert len(lengths) == parts and max(lengths) - min(lengths) <= 2 * parts
    assert parts == 1 or max(lengths) <= 15 * 16000 + 1
    np.testing.assert_array_equal(np.concatenate(ear.heard), audio.read(path))
    assert (row.start, row.end) == (0, pytest.approx(seconds))
    answers = np.array([Ear()(heard) for heard in ear.heard])
    np.testing.assert_allclose(emotion(row), np.average(answers, axis=0, weights=lengths), atol=1e-6)


def test_parts_of_a_long_file_without_speech_do_not_count():
    signal = np.concatenate([noise(20, level=0.2), np.zeros(16000 * 40, "f4")])
    (row,) = predict(signal, 16000, model=lambda heard: Emotion(np.abs(heard).max() > 0, 0.5, len(heard) / 16000 / 100))
    assert emotion(row) == pytest.approx((1, 0.5, 0.15), abs=1e-3)
    assert (row.speech, row.end) == (True, 60)


def test_a_file_that_does_not_state_its_length_is_answered_from_parts(tmp_path):
    content = bytearray(write(tmp_path / "a.flac", noise(40)).read_bytes())
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    ear = Ear()
    (row,) = predict(io.BytesIO(content), model=ear)
    assert [len(heard) / 16000 for heard in ear.heard] == [15, 15, 10]
    assert row.end == 40


def test_unequal_parts_weigh_as_much_as_they_are_long(tmp_path):
    """The last of a file that does not state its length is shorter; each has its own share of speech."""
    signal = noise(40)
    signal[31 * 16000 : 35 * 16000] = 0
    signal[:16000] = 0
    content = bytearray(write(tmp_path / "a.flac", signal).read_bytes())
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    (row,) = predict(io.BytesIO(content), model=lambda part: Emotion(len(part) / 16000 / 100, 0.5, 0.5), vad="energy")
    assert row.arousal == pytest.approx((15 * 0.15 + 15 * 0.15 + 10 * 0.10) / 40)
    assert row.speech_ratio == pytest.approx(35 / 40, abs=2e-3)


def test_a_long_array_is_answered_from_the_parts_of_a_file(tmp_path):
    signal, ears = noise(40), (Ear(), Ear())
    (one,) = predict(write(tmp_path / "a.wav", signal, subtype="FLOAT"), model=ears[0])
    (other,) = predict(signal, 16000, model=ears[1])
    (listed,) = predict_files([tmp_path / "a.wav"], model=Ear())
    assert listed == one
    assert [len(heard) for heard in ears[0].heard] == [len(heard) for heard in ears[1].heard]
    assert emotion(one) == pytest.approx(emotion(other))


def test_a_short_file_needs_a_tenth_of_speech():
    for samples, is_enough in ((15 * 512, False), (16 * 512, True)):
        signal = np.zeros(5 * 16000, "f4")
        signal[1024:][:samples] = noise(1)[:samples]
        (row,) = predict(signal, 16000, model=Ear(), vad="energy")
        assert row.speech is is_enough


def test_with_every_rows_and_errors_name_the_file(tmp_path):
    path = write(tmp_path / "a.wav", noise(1)[:64])
    (row,) = predict(path, model=Ear(), hop_dur=1)
    assert (row.file, row.end) == (str(path), 64 / 16000)
    with pytest.raises(AudioError, match=f"^{path}: too short for an answer: 63 of at least 64"):
        predict(write(path, noise(1)[:63]), model=Ear(), hop_dur=1)


def test_answers_are_clipped_to_0_and_1():
    (row,) = predict(noise(1), 16000, model=lambda signal: Emotion(-0.2, 0.5, 1.3))
    assert emotion(row) == (0, 0.5, 1)
    assert all(type(value) is float for value in emotion(row))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hop_dur": 0}, "every 0 s; allowed: 0.1 s or more, every 0.01 s or more"),
        ({"hop_dur": -1}, "every -1 s"),
        ({"hop_dur": float("nan")}, "every nan s"),
        ({"hop_dur": 1, "win_dur": 0.01}, "window of 0.01 s"),
        ({"hop_dur": 4, "win_dur": 3}, "would skip the audio between them; give a window of 4 s or more"),
        ({"channel": 1}, "has no channel 1"),
        ({"channel": -1}, "has no channel -1"),
    ],
)
def test_impossible_wishes_are_refused_with_what_was_seen(options, words):
    with pytest.raises(AudioError, match=words):
        predict(noise(1), 16000, model=Ear(), **options)


def test_an_array_without_its_sampling_rate_is_refused():
    with pytest.raises(AudioError, match=r"^an array needs its sampling_rate in Hz: predict\(signal, 16000\)$"):
        predict(noise(1), model=Ear())


def test_too_short_for_one_frame_is_refused_and_one_frame_is_answered(tmp_path):
    for samples in (1, 63):
        with pytest.raises(
            AudioError, match=f"^too short for an answer: {samples} of at least 64 samples at 16000 Hz$"
        ):
            predict(noise(1)[:samples], 16000, model=Ear())
    assert predict(noise(1)[:64], 16000, model=Ear())[0].speech is True
    with pytest.raises(AudioError, match=f"^{tmp_path}/a.wav: too short"):
        predict(write(tmp_path / "a.wav", noise(1)[:1]), model=Ear())


def bad_folder(folder: Path) -> dict[str, str]:
    """One file of every kind of failure -> a part of what is said about it; and good ones between them."""
    nan = noise(1)
    nan[5] = np.nan
    write(folder / "b nan.wav", nan, subtype="FLOAT")
    (folder / "d empty.wav").touch()
    (folder / "f text.wav").write_text("no audio")
    (folder / "h cut.wav").write_bytes(write(folder / "h cut.wav", noise(1)).read_bytes()[:9999])
    write(folder / "j one.wav", noise(1)[:1])
    for name in "acegik":
        write(folder / f"{name}.wav", noise(1))
    return {
        "b nan.wav": "sample 5 (at 0.000 s) is nan",
        "d empty.wav": "is empty",
        "f text.wav": "cannot be decoded",
        "h cut.wav": "is truncated",
        "j one.wav": "too short",
    }


def test_failures_are_rows_in_their_place_and_the_rest_are_done(tmp_path):
    failures = bad_folder(tmp_path)
    rows = list(predict_files([tmp_path, tmp_path / "gone.wav", tmp_path / "*.mp3"], model=Ear()))
    names = [os.path.basename(row.file) for row in rows]
    assert names == [
        "a.wav",
        "b nan.wav",
        "c.wav",
        "d empty.wav",
        "e.wav",
        "f text.wav",
        "g.wav",
        "h cut.wav",
        "i.wav",
        "j one.wav",
        "k.wav",
        "gone.wav",
        "*.mp3",
    ]
    errors = dict(zip(names, [row.error for row in rows], strict=True))
    for name, words in (failures | {"gone.wav": "no such file", "*.mp3": "no file matches"}).items():
        assert words in errors[name] and not errors[name].startswith(str(tmp_path))
    for row in rows:
        assert (row.error is None) == (row.speech is True) == (row.arousal is not None) == (row.end is not None)


def test_a_file_damaged_half_way_gives_its_rows_and_then_its_error(tmp_path):
    content = bytearray(write(tmp_path / "a.flac", noise(60)).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 9999] = bytes(9999)
    (tmp_path / "a.flac").write_bytes(content)
    rows = list(predict_files([tmp_path / "a.flac"], model=Ear(), options=Options(1, 1)))
    assert 20 < len(rows) < 40
    assert all(row.speech for row in rows[:-1])
    assert "damaged" in rows[-1].error and rows[-1].start is None


def test_rows_come_as_they_are_done(tmp_path):
    ear = Ear()
    rows = predict_files([write(tmp_path / "a.wav", noise(10))], model=ear, options=Options(1, 1))
    for number in range(1, 5):
        next(rows)
        assert len(ear.heard) == number


def test_progress_rises_to_the_number_of_files(tmp_path):
    bad_folder(tmp_path)
    write(tmp_path / "a.wav", noise(9))
    seen = []
    list(predict_files([tmp_path], model=Ear(), options=Options(0.25, 0.5), progress=lambda *told: seen.append(told)))
    done = [done for done, _ in seen]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 11)
    assert {total for _, total in seen} == {11}
    assert any(0 < part % 1 < 1 for part in done)


def test_progress_is_the_part_of_a_file_that_was_read(tmp_path):
    """As many parts as there are blocks; a file that does not state its length counts when it is done."""
    path, seen = write(tmp_path / "a.flac", noise(20)), []
    again = write(tmp_path / "c.flac", noise(20))
    list(predict_files([path, again], model=Ear(), progress=lambda *told: seen.append(told)))
    ends = np.cumsum([len(block) for block in audio.blocks(path)]) / 320_000
    expected = [0, *ends, 1, *(1 + ends), 2]
    assert len(ends) > 3 and [done for done, _ in seen] == pytest.approx(expected)
    content = bytearray(path.read_bytes())
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    (tmp_path / "b.flac").write_bytes(content)
    seen.clear()
    list(predict_files([tmp_path / "b.flac"], model=Ear(), progress=lambda *told: seen.append(told)))
    assert {done for done, _ in seen[:-1]} == {0} and seen[-1] == (1, 1)


def test_many_files_are_answered_with_the_options_of_one(tmp_path):
    signal = np.stack([noise(4, level=0.3), noise(4, seed=1, level=0.01)], axis=1)
    signal[:40_000, 1] = 0
    path = write(tmp_path / "a.wav", signal, subtype="FLOAT")
    for options in (
        {"hop_dur": 0.5, "win_dur": 1.5},
        {"channel": 1, "min_speech": 0.0},
        {"channel": 1, "min_speech": 6.0, "vad": "energy"},
        {"hop_dur": 1, "min_speech": 6.0},
        {"hop_dur": 3.5},
    ):
        given = dict(options)
        every, window = given.pop("hop_dur", None), given.pop("win_dur", None)
        record = Options(hop_dur=every, win_dur=window or default_window(every), **given)
        rows = list(predict_files([path], model=Ear(), options=record))
        assert rows == predict(path, model=Ear(), **options)
        assert [row.speech for row in rows] == [options.get("min_speech") != 6.0] * len(rows)
    assert [(row.start, row.end) for row in rows] == [(0, 3.5), (3.5, 4)]
    with pytest.raises(WeightsError, match="needs a calibration"):
        list(predict_files([path], model=Ear(), options=Options(min_confidence=0.5)))


def test_standard_input_is_a_file_named_minus(tmp_path, monkeypatch):
    content = write(tmp_path / "a.wav", noise(2)).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    (row,) = predict_files(["-", "-"], model=Ear())
    assert (row.file, row.end) == ("-", 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    (row,) = predict_files(["-"], model=Ear())
    assert row.error.startswith("the file is empty")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode here")
def test_a_name_that_is_no_unicode_can_be_written(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(name)).write_bytes(write(tmp_path / "a.wav", noise(1)).read_bytes())
    rows = list(predict_files([tmp_path, os.fsdecode(name) + "gone"], model=Ear()))
    assert [os.path.basename(row.file) for row in rows] == ["a.wav", "caf\ufffd.wav", "caf\ufffd.wavgone"]
    assert [row.error for row in rows] == [None, None, "there is no such file; check the name"]


def test_a_model_of_any_backend_answers_and_is_loaded_once_for_many_files(tmp_path):
    seen = []

    def backend(signals):
        seen.append(signals.shape)
        return np.tile(np.float32([1.5, 0.5, -0.5]), (len(signals), 1)), np.zeros((len(signals), 169), np.float32)

    paths = [write(tmp_path / f"{n}.wav", noise(n)) for n in (1, 2)]
    rows = list(predict_files(paths, model=wav2small.Model(backend, {})))
    assert [emotion(row) for row in rows] == [(1, 0.5, 0)] * 2
    assert seen == [(1, 16000), (1, 32000)]


def test_a_list_a_folder_a_pattern_and_a_table_are_rows_of_all_files(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{n}.wav", noise(n)) for n in (1, 2)]
    (tmp_path / "3.wav").touch()
    (tmp_path / "m.csv").write_text("file\n1.wav\n2.wav\n3.wav\n")
    expected = [(str(tmp_path / f"{n}.wav"), end) for n, end in ((1, 1.0), (2, 2.0), (3, None))]
    sources = ([*map(str, paths), tmp_path / "3.wav"], tmp_path, str(tmp_path / "*.wav"), tmp_path / "m.csv")
    for source in sources:
        rows = predict(source, model=Ear())
        assert [(row.file, row.end) for row in rows] == expected
        assert rows[2].error.startswith("the file is empty") and rows[0].error is None
    assert len(predict(paths, model=Ear(), hop_dur=0.5, win_dur=0.5)) == 2 + 4
    with pytest.raises(AudioError, match=r"a list must have paths of files; give a signal as an array"):
        predict([0.1, 0.2], 16000, model=Ear())


def test_rows_events_models_and_emotions_show_what_they_have(tmp_path):
    emotion = wav2small.Emotion(np.float32(1 / 3), 0.5, 1)
    assert repr(emotion) == "Emotion(arousal=0.3333, dominance=0.5, valence=1.0)"
    (row,) = predict(write(tmp_path / "a.wav", noise(1)), model=lambda signal: emotion)
    shown = "arousal=0.3333, dominance=0.5, valence=1.0, speech=True, speech_ratio=1.0)"
    assert repr(row) == f"Prediction(file={str(tmp_path / 'a.wav')!r}, start=0.0, end=1.0, {shown}"
    assert repr(wav2small.Event(0.0, 3.0, speech=False)) == "Event(start=0.0, end=3.0, speech=False)"
    model = wav2small.load("micro")
    assert re.fullmatch(r"Model\('micro', version \d+, 53267 parameters\)", repr(model)), repr(model)
    stream = wav2small.Stream(model, 0.5, 2.0)
    stream.push(np.zeros(32000, np.float32))
    assert repr(stream) == f"Stream({model!r}, hop_dur=0.5, win_dur=2) at 2.00 s"


def test_a_model_takes_the_path_of_a_file():
    model = wav2small.load("micro")
    assert model(EXAMPLES[0]) == model(str(EXAMPLES[0])) == model(audio.read(EXAMPLES[0]))
    with pytest.raises(AudioError, match=r"gone.wav: there is no such file"):
        model("gone.wav")


def test_unknown_weights_are_refused_at_once():
    with pytest.raises(WeightsError):
        predict(noise(1), 16000, model="no-such-weights")
    with pytest.raises(WeightsError):
        next(predict_files(EXAMPLES, model="no-such-weights"))


def test_the_shipped_model_answers_every_example_as_when_called_directly():
    model = wav2small.load()
    for row in predict_files(EXAMPLES):
        assert all(0 <= value <= 1 for value in emotion(row)) and row.speech is True
        np.testing.assert_allclose(emotion(row), model(audio.read(row.file)), atol=1e-6)
        assert wav2small.predict(row.file) == [row]


def test_the_shipped_model_hears_anger_as_more_aroused_than_sadness():
    rows = {Path(row.file).stem[5]: row for row in predict_files(EXAMPLES)}
    anger, happiness, neutral, sadness = (rows[letter].arousal for letter in "WFNT")
    assert min(anger, happiness) > neutral > sadness


@pytest.mark.parametrize(("name", "tolerance"), [("wav2small", 0.01), ("micro", 0.04)])
def test_the_shipped_model_does_not_depend_on_level_or_channels(name, tolerance):
    """``wav2small`` is normalised by the level of the whole clip, ``micro`` by that of the audio so far."""
    signal, model = audio.read(EXAMPLES[0]), wav2small.load(name)

    def answer(signal: np.ndarray) -> list[float]:
        return emotion(predict(signal, 16000, model=model)[0])

    expected = answer(signal)
    np.testing.assert_allclose(answer(0.05 * signal), expected, atol=tolerance)
    np.testing.assert_allclose(answer(np.stack([signal] * 2, axis=1)), expected, atol=1e-4)
    louder = np.clip(signal / np.abs(signal).max() * 32767, -32768, 32767).astype(np.int16)
    np.testing.assert_allclose(answer(louder), expected, atol=0.02)
