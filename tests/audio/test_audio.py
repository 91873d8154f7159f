"""Audio: any rate, any channels, any format, whole or in blocks, and a sentence for all that cannot be heard."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_length
from wav2small.audio import read as audio
from wav2small.errors import AudioError, Wav2SmallError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("WAV2SMALL_DATA", ROOT.parent / "shared" / "data"))


def tone(frequency: float, sampling_rate: int, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * sampling_rate)) / sampling_rate)).astype(
        "f4"
    )


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype("f4")


def rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


def write(path: Path, signal: np.ndarray, sampling_rate: int = 16000, **options: str) -> Path:
    soundfile.write(path, signal, sampling_rate, **options)
    return path


def with_wav_sizes(content: bytes, riff: int, data: int) -> bytes:
    at = content.index(b"data") + 4
    return content[:4] + struct.pack("<I", riff) + content[8:at] + struct.pack("<I", data) + content[at + 4 :]


def message(source, **options) -> str:
    with pytest.raises(AudioError) as caught:
        audio.read(source, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 250
    return text


@pytest.mark.parametrize("sampling_rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
def test_any_rate_keeps_a_tone_at_its_frequency_and_level(tmp_path, sampling_rate):
    signal = audio.read(write(tmp_path / "a.wav", tone(1000, sampling_rate), sampling_rate, subtype="FLOAT"))
    assert signal.dtype == np.float32 and len(signal) == 16000
    assert np.argmax(np.abs(np.fft.rfft(signal))) == 1000
    assert rms(signal[1000:-1000]) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_a_10_khz_tone_at_48_khz_is_gone_at_16_khz(tmp_path):
    path = write(tmp_path / "a.wav", tone(10000, 48000), 48000, subtype="FLOAT")
    for signal in (audio.read(path), audio.prepare(tone(10000, 48000), 48000)):
        assert rms(signal[1000:-1000]) < 0.5 * 10 ** (-80 / 20)


@pytest.mark.parametrize(
    ("name", "options", "least_db"),
    [
        ("a.wav", {"subtype": "PCM_16"}, 60),
        ("a.wav", {"subtype": "PCM_24"}, 100),
        ("a.wav", {"subtype": "PCM_U8"}, 20),
        ("a.wav", {"subtype": "DOUBLE"}, 100),
        ("a.wav", {"subtype": "ULAW"}, 20),
        ("a.rf64", {"format": "RF64", "subtype": "PCM_16"}, 60),
        ("a.w64", {"format": "W64", "subtype": "PCM_16"}, 60),
        ("a.aiff", {}, 60),
        ("a.au", {}, 60),
        ("a.caf", {}, 60),
        ("a.sph", {"format": "NIST", "subtype": "PCM_16"}, 60),
        ("a.voc", {"format": "VOC", "subtype": "PCM_16"}, 60),
        ("a.flac", {}, 60),
        ("a.ogg", {}, 5),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 5),
        ("a.mp3", {}, 5),
    ],
)
def test_any_format_is_the_signal_that_was_written(tmp_path, name, options, least_db):
    original = tone(440, 48000, seconds=2.0, level=0.3) + noise(96000, level=0.01)
    expected = audio.prepare(original, 48000)
    heard = audio.read(write(tmp_path / name, original, 48000, **options))
    assert abs(len(heard) - len(expected)) <= 800
    length = min(len(heard), len(expected))
    error = rms(heard[:length] - expected[:length])
    assert error < rms(expected) * 10 ** (-least_db / 20)


def test_the_name_of_a_file_changes_nothing(tmp_path):
    content = write(tmp_path / "a.flac", noise(16000)).read_bytes()
    expected = audio.read(tmp_path / "a.flac")
    for name in ("a.wav", "a.raw", "a.mp3", "a", "ä ö.txt"):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(audio.read(tmp_path / name), expected)
        np.testing.assert_array_equal(audio.read(str(tmp_path / name)), expected)
    np.testing.assert_array_equal(audio.read(io.BytesIO(content)), expected)


def test_a_file_object_is_read_from_its_start_and_stays_open(tmp_path):
    with open(write(tmp_path / "a.wav", noise(16000)), "rb") as file:
        file.seek(100)
        np.testing.assert_array_equal(audio.read(file), audio.read(file))
        assert not file.closed


@given(st.integers(1, 5), st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_channels_are_mixed_by_their_mean_or_one_is_taken(channels, channel):
    signal = noise(4000 * channels).reshape(-1, channels)
    buffer = io.BytesIO()
    soundfile.write(buffer, signal, 16000, format="WAV", subtype="FLOAT")
    np.testing.assert_allclose(audio.read(buffer), signal.mean(axis=1), atol=1e-6)
    if channel < channels:
        np.testing.assert_allclose(audio.read(buffer, channel=channel), signal[:, channel], atol=1e-6)
        np.testing.assert_allclose(audio.prepare(signal, 16000, channel), signal[:, channel])
    else:
        assert f"no channel {channel}; it has {channels}" in message(buffer, channel=channel)


def test_eight_channels_at_8_khz_work(tmp_path):
    path = write(tmp_path / "a.wav", np.stack([tone(100 * n, 8000) for n in range(1, 9)], axis=1), 8000)
    assert np.argmax(np.abs(np.fft.rfft(audio.read(path, channel=7)))) == 800
    assert rms(audio.read(path)) == pytest.approx(0.5 / np.sqrt(2 * 8), rel=0.01)


def test_reading_equals_preparing_the_decoded_array(tmp_path):
    for sampling_rate in (16000, 44100):
        path = write(tmp_path / "a.wav", noise(100_000).reshape(-1, 2), sampling_rate)
        decoded, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_allclose(audio.read(path), audio.prepare(decoded, sampling_rate), atol=1e-6)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float64", ">i2", ">f4"]
)
def test_arrays_of_any_type_are_scaled_by_their_full_scale_and_left_alone(dtype):
    signal = np.array([-1.0, -0.5, 0.0, 0.5, 0.99] * 100)
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        full_scale = 2.0 ** (8 * kind.itemsize - 1)
        array = (signal * full_scale + (full_scale if kind.kind == "u" else 0)).astype(kind)
    else:
        array = signal.astype(kind)
    array.flags.writeable = False
    before = array.copy()
    prepared = audio.prepare(array, 16000)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, signal, atol=0.01)
    np.testing.assert_array_equal(array, before)


def test_what_prepare_returns_is_no_view_of_the_callers_array():
    for signal in (noise(1000), noise(1000).reshape(-1, 1)):
        prepared = audio.prepare(signal, 16000, channel=0)
        prepared[:] = 0
        assert rms(signal) > 0


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 16000)), "(2, 16000)"),
        (np.zeros((2, 2, 2)), "(2, 2, 2)"),
        (np.zeros(0), "no samples"),
        (np.float32(1), "()"),
        (np.zeros(100, bool), "bool"),
        (np.zeros(100, np.int64), "int64"),
        (np.zeros(100, complex), "complex128"),
        (np.full(100, np.nan), "nan"),
        (np.full(100, 1e300), "inf"),
        (np.array([0, 0, -np.inf, 0]), "sample 2"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_array_that_is_no_signal_is_refused_with_what_was_seen(array, words):
    with pytest.raises(AudioError, match=words.replace("(", r"\(").replace(")", r"\)")):
        audio.prepare(array, 16000)


def test_an_array_has_256_channels_at_most():
    assert len(audio.prepare(np.zeros((300, 256), "f4"), 16000)) == 300
    with pytest.raises(AudioError, match=r"^an array of shape \(300, 257\) is not a signal"):
        audio.prepare(np.zeros((300, 257), "f4"), 16000)


@pytest.mark.parametrize("shape", [(1, 2), (2, 3), (255, 256)])
def test_an_array_with_its_axes_exchanged_is_refused_and_a_square_one_is_not(shape):
    with pytest.raises(AudioError, match="is not a signal; give"):
        audio.prepare(np.zeros(shape, "f4"), 16000)
    assert len(audio.prepare(np.zeros((shape[1], shape[1]), "f4"), 16000)) == shape[1]
    with pytest.raises(AudioError, match=r"^an array of shape \(0, 2\) holds no samples$"):
        audio.prepare(np.zeros((0, 2), "f4"), 16000)


@pytest.mark.parametrize("sampling_rate", [0, -16000, 1, float("nan")])
def test_an_impossible_sampling_rate_is_refused(sampling_rate):
    with pytest.raises(AudioError, match=r"^sampling rate"):
        audio.prepare(noise(1000), sampling_rate)


def test_an_error_of_an_array_begins_with_what_is_wrong():
    with pytest.raises(AudioError, match=r"^has no channel 3"):
        audio.prepare(noise(1000), 16000, channel=3)
    with pytest.raises(AudioError, match=r"^sample 0 \(at 0.000 s\) is nan"):
        audio.prepare(np.full(9, np.nan), 16000)
    with pytest.raises(AudioError, match=r"^an array of shape \(5, 0\) is not a signal"):
        audio.to_mono(np.zeros((5, 0), "f4"), 16000)


def test_a_missing_file_an_empty_file_a_folder_and_text_are_each_one_sentence(tmp_path):
    assert "no such file" in message(tmp_path / "a.wav")
    assert "null character" in message("a\0.wav")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "empty.wav").touch()
    assert "is empty (0 bytes)" in message(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("hello " * 100)
    assert "cannot be decoded. Readable here: wav, flac" in message(tmp_path / "text.wav")
    assert message(tmp_path / "text.wav").startswith(str(tmp_path / "text.wav") + ": ")
    assert message(io.BytesIO(b"hello")).startswith("cannot be decoded")


def test_a_remote_file_is_read_as_a_local_one_and_its_errors_name_it(tmp_path, monkeypatch):
    upath = pytest.importorskip("upath", reason="needs the extra remote")
    address = "memory://audio/a.wav"
    upath.UPath(address).write_bytes(write(tmp_path / "a.wav", noise(1001)).read_bytes())
    np.testing.assert_array_equal(audio.read(address), audio.read(tmp_path / "a.wav"))
    assert message("memory://audio/gone.wav") == "memory://audio/gone.wav: there is no such file; check the name"
    for failure, kind, words in (
        (PermissionError(13, "Permission denied"), AudioError, "cannot be opened: Permission denied"),
        (IsADirectoryError("a folder"), AudioError, "cannot be opened: a folder"),
        (ConnectionError("no route"), Wav2SmallError, r"cannot be fetched now \(no route\)\. Try again when"),
    ):
        monkeypatch.setattr(type(upath.UPath(address)), "read_bytes", raising(failure))
        with pytest.raises(Wav2SmallError, match=f"^{address}: {words}") as caught:
            audio.read(address)
        assert type(caught.value) is kind


def raising(failure: Exception):
    def read_bytes(path: Path) -> bytes:
        raise failure

    return read_bytes


def test_every_error_of_a_file_begins_with_its_name(tmp_path):
    nan, long = np.full(1000, np.nan, "f4"), tmp_path / ("a" * 300)
    files = {
        "has no channel 1; it has 1, counted from 0": write(tmp_path / "mono.wav", noise(1000)),
        "sampling rate is 999 Hz; at least 1000 Hz is needed": write(tmp_path / "slow.wav", noise(1000), 999),
        "is nan; samples must be finite": write(tmp_path / "nan.wav", nan, subtype="FLOAT"),
        "cannot be opened: File name too long": long,
        "is a folder, not an audio file": tmp_path,
        "there is no such file; check the name": tmp_path / "gone.wav",
    }
    for words, path in files.items():
        with pytest.raises(AudioError) as caught:
            audio.read(path, channel=1 if path.name == "mono.wav" else None)
        said = str(caught.value)
        assert said.startswith(f"{path}: ") and words in said


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC", b"OggS\0", b"FORM\0\0\0\0AIFF"])
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_more_than_raise_our_error(content, head):
    try:
        assert len(audio.read(io.BytesIO(head + content))) > 0
    except AudioError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_a_truncated_file_is_called_truncated(tmp_path, name, share):
    content = write(tmp_path / name, noise(32000)).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    prefix, said = f"{tmp_path / name}: ", message(tmp_path / name)
    too_little = (name, share) == ("a.mp3", 0.02)
    assert said.startswith(prefix)
    assert ("cannot be decoded" if too_little else "truncated") in said.removeprefix(prefix)


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize(("lost", "is_read"), [(0, True), (799, True), (801, False)])
def test_a_wav_may_lack_its_last_twentieth_of_a_second(tmp_path, lost, is_read, endian):
    """In samples of two bytes at 16 kHz; programs that are stopped leave so much unwritten."""
    content = write(tmp_path / "a.wav", noise(16_001), endian=endian).read_bytes()
    assert content[:4] == (b"RIFF" if endian == "LITTLE" else b"RIFX")
    cut = io.BytesIO(content[: len(content) - 2 * lost])
    if is_read:
        assert len(audio.read(cut)) == 16_001 - lost
    else:
        assert message(cut) == "is truncated: its header states 1.00 s, it has 0.95 s; copy it again"


@given(st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_a_wav_cut_within_its_header_is_refused(length):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(16000), 16000, format="WAV")
    message(io.BytesIO(buffer.getvalue()[:length]))


def test_a_damaged_flac_says_where_it_broke(tmp_path):
    content = bytearray(write(tmp_path / "a.flac", noise(160000)).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    (tmp_path / "a.flac").write_bytes(content)
    said = message(tmp_path / "a.flac")
    pattern = r"(.+): is damaged or truncated: decoding stopped after (\d\.\d\d) s \(([^:]+[^.:])\); copy it again"
    name, place, reason = re.fullmatch(pattern, said).groups()
    assert name == str(tmp_path / "a.flac") and 0 < float(place) <= 5.1 and not reason.startswith("Error")


@pytest.mark.parametrize("size", [0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_that_does_not_know_its_length_is_read_whole(tmp_path, size):
    path = write(tmp_path / "a.wav", noise(16000))
    piped = with_wav_sizes(path.read_bytes(), size, size)
    np.testing.assert_array_equal(audio.read(io.BytesIO(piped)), audio.read(path))


def test_a_wav_with_other_chunks_around_its_data_is_read(tmp_path):
    content = write(tmp_path / "a.wav", noise(16000)).read_bytes()
    at = content.index(b"data")
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    content, plain = content[:at] + odd + content[at:] + odd, content
    np.testing.assert_array_equal(audio.read(io.BytesIO(content)), audio.read(io.BytesIO(plain)))
    assert "truncated" in message(io.BytesIO(content[:20000]))


def test_a_flac_that_does_not_state_its_length_is_read_whole(tmp_path):
    content = bytearray(write(tmp_path / "a.flac", noise(50000)).read_bytes())
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 18] = bytes(4)
    assert audio.duration(io.BytesIO(content)) is None
    np.testing.assert_array_equal(audio.read(io.BytesIO(content)), audio.read(tmp_path / "a.flac"))


def test_a_header_without_samples_and_one_sample(tmp_path):
    assert "no samples" in message(write(tmp_path / "none.wav", noise(0)))
    assert "is empty" in message(write(tmp_path / "none.flac", noise(0)))
    assert audio.read(write(tmp_path / "one.wav", np.array([0.5], "f4"), subtype="FLOAT")).tolist() == [0.5]
    assert "too short" in message(write(tmp_path / "one.wav", np.array([0.5], "f4"), 96000))


def test_a_file_is_read_however_much_of_it_the_resampler_keeps_back():
    for samples in range(3, 1000):
        content = io.BytesIO()
        soundfile.write(content, noise(samples), 44100, format="WAV")
        assert abs(len(audio.read(content)) - samples * 16000 / 44100) < 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_not_finite_are_refused_with_their_place(tmp_path, value):
    signal = np.stack([noise(32000), noise(32000, seed=1)], axis=1)
    signal[24000, 1] = value
    path = write(tmp_path / "a.wav", signal, subtype="FLOAT")
    assert "sample 24000 (at 1.500 s)" in message(path)
    np.testing.assert_allclose(audio.read(path, channel=0), signal[:, 0])


def test_the_place_of_a_sample_counts_from_the_start_of_the_file(tmp_path):
    """Of a file that is decoded in several blocks."""
    signal = noise(200_000)
    signal[150_001] = np.nan
    assert "sample 150001 (at 9.375 s) is nan" in message(write(tmp_path / "a.wav", signal, subtype="FLOAT"))


def test_clipped_and_oversized_samples_are_read_as_they_are(tmp_path):
    clipped = np.clip(noise(16000, level=2), -1, 1)
    assert np.abs(audio.read(write(tmp_path / "a.wav", clipped))).max() == pytest.approx(1, abs=1e-3)
    loud = noise(16000, level=3000)
    np.testing.assert_allclose(audio.read(write(tmp_path / "b.wav", loud, subtype="FLOAT")), loud)


def test_a_sampling_rate_of_1_hz_is_refused_rather_than_blown_up(tmp_path):
    assert "sampling rate is 1 Hz" in message(write(tmp_path / "a.wav", noise(100000), 1))


def test_duration_is_that_of_the_signal(tmp_path):
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3"):
        path = write(tmp_path / name, noise(44100 * 3), 44100)
        assert audio.duration(path) == pytest.approx(3, abs=0.05)
        assert audio.duration(path) == pytest.approx(len(audio.read(path)) / 16000, abs=1e-3)
        signal, duration = audio.read_with_duration(path)
        assert duration == audio.duration(path)
        np.testing.assert_array_equal(signal, audio.read(path))


def test_speech_is_heard_down_to_60_db_below_full_scale():
    for level, heard in ((0.0011, True), (0.0009, False), (1.0, True), (0.0, False)):
        assert audio.is_speech(noise(16000, level=level)) is heard
    assert not audio.is_speech(np.zeros(0, "f4"))
    assert not audio.is_speech(np.full(16000, 0.5, "f4")), "a constant offset is no sound"


def test_a_tenth_of_speech_in_silence_is_speech_and_a_click_is_not():
    signal = np.zeros(16000 * 10, "f4")
    signal[80000:96000] = noise(16000, level=0.01)
    assert audio.is_speech(signal)
    click = np.zeros(16000 * 10, "f4")
    click[80000] = 0.1
    assert not audio.is_speech(click)


@given(any_length(1, 2000), st.integers(0, 5))
def test_speech_or_not_is_answered_for_any_length(samples, seed):
    assert audio.is_speech(noise(samples, seed, level=0.0)) is False
    signal = noise(samples, seed, level=0.5)
    before = signal.copy()
    assert isinstance(audio.is_speech(signal), bool)
    np.testing.assert_array_equal(signal, before)


def test_the_examples_are_speech():
    assert all(audio.is_speech(audio.read(path)) for path in (ROOT / "examples").glob("*.flac"))


def test_real_speech_recorded_far_too_quietly_is_speech():
    clips = sorted((DATA / "noncommercial" / "ravdess").glob("**/*.o*"))[::30]
    if not clips:
        pytest.skip(f"no RAVDESS in {DATA}; name the data folder in WAV2SMALL_DATA")
    assert sum(audio.is_speech(audio.read(clip)) for clip in clips) >= 0.98 * len(clips)


def test_folders_are_walked_and_patterns_expanded(tmp_path):
    names = ["b/2.WAV", "b/1.flac", "a.ogg", "notes.txt", "b/manifest.csv", ".hidden.wav", "b/c/3.mp3"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    inside = [str(tmp_path / name) for name in ("a.ogg", "b/1.flac", "b/2.WAV", "b/c/3.mp3")]
    assert audio.find_files([tmp_path]) == inside
    assert audio.find_files([str(tmp_path / "**/*.mp3")]) == inside[3:]
    assert audio.find_files([inside[0], str(tmp_path / "**/*.mp3")]) == [inside[0], inside[3]]
    assert audio.find_files([inside[2], tmp_path, inside[2]]) == [inside[2], *inside[:2], inside[3]]
    assert audio.find_files(["missing.wav", str(tmp_path / "notes.txt")]) == [
        "missing.wav",
        str(tmp_path / "notes.txt"),
    ]


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].wav").touch()
    assert audio.find_files([tmp_path / "a[1].wav"]) == [str(tmp_path / "a[1].wav")]


def test_a_folder_without_audio_and_a_pattern_without_files_are_errors(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AudioError, match=r"no audio in this folder; looked for \.aif \.aifc \.aiff .* \.wav \.wave$"):
        audio.find_files([tmp_path])
    with pytest.raises(AudioError, match="no file matches"):
        audio.find_files([tmp_path / "*.wav"])


@pytest.mark.slow
def test_two_hours_are_read_in_bounded_memory(tmp_path):
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 22050, 2) as file:
        for _ in range(120):
            file.write(noise(22050 * 60 * 2).reshape(-1, 2))
    script = (
        "import resource, sys; from wav2small.audio import read as audio\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(map(len, audio.blocks(sys.argv[1])))\n"
        "print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "long.wav"], capture_output=True, text=True, check=True
    )
    count, grown_mb = map(int, output.stdout.split())
    assert count == 2 * 3600 * 16000
    assert grown_mb < 60
