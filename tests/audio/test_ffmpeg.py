"""What libsndfile cannot read: decoded by ffmpeg, or skipped with a warning; and a silent standard error."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2small.audio import ffmpeg as decoder
from wav2small.audio import read as audio
from wav2small.audio.quiet import quiet
from wav2small.errors import AudioError

EXAMPLE = Path(__file__).parents[2] / "examples" / "08a05Fe.flac"


@pytest.fixture
def pretended(request, tmp_path, monkeypatch):
    """Puts a program in the place of ffmpeg, which runs this Python code."""

    def pretend(code: str) -> Path:
        path = tmp_path / "ffmpeg"
        path.write_text(f"#!{sys.executable}\nimport sys\n{code}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(decoder, "program", lambda: str(path))
        return tmp_path

    if sys.platform == "win32":
        pytest.skip("a script is no program here")
    return pretend


AU = "import struct; out = sys.stdout.buffer; out.write(struct.pack('>4s5I8x', b'.snd', 32, 0xffffffff, 6, 8000, 2))\n"
"""Writes the header of an AU file with 8 bytes of annotation."""


def other(folder: Path, name: str = "a.m4a") -> Path:
    path = folder / name
    path.write_bytes(b"not for libsndfile")
    return path


def message(source: object) -> str:
    with pytest.raises(AudioError) as caught:
        audio.read(source)
    return str(caught.value)


def test_samples_channels_and_rate_are_those_that_ffmpeg_gives(pretended):
    folder = pretended(AU + "out.write(struct.pack('>8f', *[0.1, 0.3] * 4) * 20000)")
    found = audio.read(other(folder))
    assert len(found) == 160_000
    np.testing.assert_allclose(found[1000:-1000], 0.2, atol=1e-3)
    np.testing.assert_allclose(audio.read(other(folder), channel=1)[1000:-1000], 0.3, atol=1e-3)
    assert audio.duration(other(folder)) is None


def test_ffmpeg_reads_the_file_itself_or_a_copy_of_what_has_no_name(pretended):
    code = "name = sys.argv[sys.argv.index('-i') + 1].removeprefix('file:')\n"
    code += "assert open(name, 'rb').read() == b'not for libsndfile'\n" + AU + "out.write(bytes(8) * 8000)"
    folder = pretended(code)
    assert len(audio.read(other(folder, "-a%d.m4a"))) == 16000
    assert len(audio.read(io.BytesIO(b"not for libsndfile"))) == 16000


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "sys.exit('x.m4a: Invalid data found')",
            "cannot be decoded, neither by libsndfile nor by ffmpeg (Invalid data",
        ),
        (AU + "sys.exit(0)", "holds no samples, only a header"),
        (AU + "out.write(bytes(8) * 8000); sys.exit('[aac @ 0x1] broken.')", "decoding stopped after 1.00 s (broken);"),
        (
            AU + "out.write(bytes(8) * 8000); print('File ended prematurely', file=sys.stderr)",
            "is damaged or truncated",
        ),
    ],
)
def test_what_ffmpeg_cannot_decode_is_one_sentence_with_its_reason(pretended, code, words):
    path = other(pretended(code))
    assert message(path).startswith(f"{path}: ") and words in message(path)


@pytest.mark.parametrize("content", [b"RIFF0000WAVEfmt 00000000data0000", b"fLaC damaged"])
def test_a_damaged_wav_or_flac_is_not_given_to_ffmpeg_which_can_hang_on_it(content, tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "program", lambda: pytest.fail("ffmpeg was asked for"))
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav: .*copy or record it again"):
        audio.read(tmp_path / "a.wav")


def test_a_reader_that_stops_early_leaves_no_process(pretended):
    folder = pretended(AU + "while True: out.write(bytes(1 << 16))")
    blocks = audio.blocks(other(folder))
    next(blocks)
    blocks.close()
    children = subprocess.run(["ps", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    assert str(folder / "ffmpeg") not in children


def test_a_folder_has_what_ffmpeg_can_decode_or_a_warning(pretended, caplog, tmp_path):
    folder = pretended("") / "folder"
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.zeros(100), 16000)
    other(folder, "B.M4A"), other(folder, "c.webm"), other(folder, "notes.txt"), other(folder, ".hidden.m4a")
    with caplog.at_level(logging.WARNING):
        assert [Path(file).name for file in audio.find_files([folder])] == ["B.M4A", "a.wav", "c.webm"]
        assert caplog.messages == []
    decoder.program = lambda: None  # undone with what the fixture has set
    assert [Path(file).name for file in audio.find_files([folder])] == ["a.wav"]
    assert caplog.messages == [f"wav2small: {folder}: 2 files skipped: .m4a, .webm need ffmpeg on the PATH"]
    (folder / "c.webm").unlink(), (folder / "a.wav").unlink()
    with pytest.raises(AudioError, match="no audio in this folder"):
        audio.find_files([folder])
    assert caplog.messages[1] == f"wav2small: {folder}: 1 file skipped: .m4a needs ffmpeg on the PATH"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "webm", "wma"])
def test_the_real_ffmpeg_gives_the_audio_and_names_what_is_cut_off(ffmpeg, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    subprocess.run([ffmpeg, "-v", "error", "-i", EXAMPLE, path], check=True)
    found, expected = audio.read(path), audio.read(EXAMPLE)
    assert len(found) == pytest.approx(len(expected), abs=1600)
    level, expected_level = (np.sqrt(np.mean(signal**2)) for signal in (found, expected))
    assert level == pytest.approx(expected_level, rel=0.05)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert message(path).startswith(f"{path}: ")


@pytest.mark.slow
def test_an_mp3_with_junk_prints_nothing_on_standard_error(tmp_path, capfd):
    soundfile.write(tmp_path / "a.mp3", 0.1 * np.random.default_rng(0).standard_normal(160_000), 16000)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[:4000] + os.urandom(3000) + content[4000:])
    with contextlib.suppress(AudioError):
        audio.read(tmp_path / "a.mp3")
    assert capfd.readouterr().err == ""


def test_quiet_silences_c_and_ends_when_the_last_thread_leaves(capfd):
    entered, left = threading.Event(), threading.Event()

    def stay() -> None:
        with quiet():
            entered.set()
            left.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait()
    with quiet():
        os.write(2, b"one ")
    os.write(2, b"two ")
    left.set()
    thread.join()
    os.write(2, b"three")
    assert capfd.readouterr().err == "three"
