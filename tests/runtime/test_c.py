"""The C runtime is its reference: integers to the bit, floats to 1e-4, in any cutting of any signal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lengths import any_length
from random_student import NETWORKS, ROUNDED, metadata_of, noise, random_arrays
from wav2small.cli import main
from wav2small.errors import NativeError, WeightsError
from wav2small.export.c_folder import export_c
from wav2small.export.rounding import fractional_bits
from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.config import OUTPUTS
from wav2small.network.frontend import running_log_mel
from wav2small.network.micro import MICRO, MICRO_INT8, micro
from wav2small.network.probes import probes, voice
from wav2small.network.wav2small import SMALL, WAV2SMALL
from wav2small.network.weights import DATA, write_safetensors
from wav2small.options import Options
from wav2small.runtime import compiler, native
from wav2small.runtime.c_header import header
from wav2small.runtime.model import load
from wav2small.runtime.predict import predict_files

pytestmark = pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="needs a C compiler")
ROOT = Path(__file__).parents[2]
SHIPPED = ("micro-int8", "micro", "wav2small-int8", "wav2small")
INTEGERS = MICRO_INT8
SQUARE = ROUNDED["wav2small-int8"]


@pytest.fixture(scope="module")
def libraries():
    return {name: native.library(DATA / f"{name}.safetensors") for name in SHIPPED}


@pytest.fixture(scope="module")
def students():
    return {name: reference.load_student(DATA / f"{name}.safetensors")[::2] for name in SHIPPED}


def voices(seed: int = 0, dur: float = 3.0) -> np.ndarray:
    return voice(np.random.default_rng(seed), dur)


def answered(library: native.Library, pieces: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    stream = library.stream()
    for piece in pieces:
        stream.push(piece)
    stream.finish()
    return stream.read()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_probe_has_the_answer_of_the_reference(name, libraries, students):
    arrays, config = students[name]
    for label, signal in probes(config.frontend.win_length):
        found, expected = libraries[name].answer(signal)[1], reference.forward(signal, arrays, config)[1]
        np.testing.assert_allclose(found, expected, atol=0 if name.endswith("int8") else 1e-5, rtol=0, err_msg=label)


@pytest.mark.parametrize(
    "name, precision", [(name, precision) for name in ("micro", "wav2small") for precision in ("int8", "fp32")]
)
def test_the_backend_c_is_the_reference_for_every_kind_of_file(tmp_path, name, precision):
    """Resampled, stereo, short and silent ones; integers to the bit."""
    time = np.arange(44100 * 2) / 44100
    tone = 0.1 * np.sin(2 * np.pi * 220 * time) * np.sin(2 * np.pi * 3 * time)
    soundfile.write(tmp_path / "a.wav", tone, 44100)
    soundfile.write(tmp_path / "b.flac", np.stack([voices(1), 0.5 * voices(2)], axis=1), 16000)
    soundfile.write(tmp_path / "c.wav", voices(3)[9000:9200], 16000)
    soundfile.write(tmp_path / "d.wav", np.zeros(20000), 16000)
    options = Options(hop_dur=None, min_speech=0, vad="energy")
    found, expected = (
        predict_files([tmp_path], model=load(f"{name}:{precision}", backend), options=options)
        for backend in ("c", "numpy")
    )
    for one, other in zip(found, expected, strict=True):
        assert (one.file, one.start, one.end, one.speech) == (other.file, other.start, other.end, other.speech)
        assert one.speech == (Path(one.file).name != "d.wav")
        for dimension in OUTPUTS if one.speech else ():
            tolerance = 0 if precision == "int8" else 1e-4
            assert abs(getattr(one, dimension) - getattr(other, dimension)) <= tolerance, one.file


def test_the_backend_c_embeds_and_answers_batches_from_many_threads():
    model, expected = load("micro", backend="c"), load("micro")
    signals = [voices(seed, 1 + seed / 4) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(model.batch, [signals] * 4):
            np.testing.assert_allclose(found, expected.batch(signals), atol=1e-4)
    np.testing.assert_allclose(model.embed(signals[0]), expected.embed(signals[0]), atol=1e-3)
    np.testing.assert_allclose(model.causal().push(signals[0]), expected.causal().push(signals[0]), atol=1e-4)


@pytest.mark.slow
def test_two_processes_compile_at_once_and_leave_one_library(tmp_path):
    script = (
        "import wav2small.runtime.model as m, numpy as np; print(m.load('micro', backend='c')(np.ones(9000, 'f4')))"
    )
    command = [sys.executable, "-c", script]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1] and said[0].startswith("Emotion")
    (library,) = (tmp_path / "wav2small").iterdir()
    library.chmod(0o500)
    before = library.stat().st_mtime_ns
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == said[0]
    assert library.stat().st_mtime_ns == before, "compiled once"


def test_one_library_serves_all_windows_of_up_to_eight_parts_and_a_larger_one_answers_the_same(libraries):
    weights = DATA / "micro-int8.safetensors"
    assert {native.library(weights, parts).path for parts in (0, 1, 8)} == {libraries["micro-int8"].path}
    larger = native.library(weights, 9)
    assert larger.path != libraries["micro-int8"].path
    answers = []
    for library in (libraries["micro-int8"], larger):
        stream = library.stream()
        for piece in np.split(voices(), 12):
            stream.mark()
            stream.push(piece)
        answers.append(np.concatenate([*stream.read(8), *stream.read()]))
    np.testing.assert_array_equal(*answers)


def test_a_library_of_other_weights_is_refused(monkeypatch, libraries):
    monkeypatch.setattr(native.prebuilt, "find", lambda digest: libraries["micro-int8"].path)
    assert native.library(DATA / "micro-int8.safetensors").path == libraries["micro-int8"].path
    with pytest.raises(NativeError, match=r"\.so: was compiled from weights with the sha256 \w{12}\.\.\., expected"):
        native.library(DATA / "micro.safetensors")


@settings(max_examples=40, deadline=None)
@given(
    any_length(400, 30000),
    st.lists(st.just(0) | any_length(1, 3000), max_size=12),
    st.floats(1e-5, 2),
    st.integers(0, 99),
)
def test_integers_are_equal_to_the_bit_in_any_cutting(libraries, students, samples, sizes, level, seed):
    signal = fixed_frontend.to_samples(noise(samples, seed, level))
    embedding, emotion = fixed_frontend.forward(signal, *students["micro-int8"])
    found = answered(libraries["micro-int8"], np.split(signal, np.minimum(np.cumsum(sizes or [0]), samples)))
    np.testing.assert_array_equal(found[1] * 2**15, emotion)
    unit = 2.0 ** -(int(students["micro-int8"][0]["value.bits"]) + 8)
    np.testing.assert_array_equal(found[0] / np.float32(unit), embedding)


@settings(max_examples=15, deadline=None)
@given(
    any_length(64, 20000),
    st.lists(st.just(0) | any_length(1, 3000), max_size=12),
    st.floats(1e-5, 2),
    st.integers(0, 99),
)
def test_integers_of_wav2small_are_equal_to_the_bit_too(libraries, students, samples, sizes, level, seed):
    """With the level of the utterance, and with that of what was heard so far."""
    signal = fixed_frontend.to_samples(noise(samples, seed, level) + np.float32(level * (seed - 50) / 50))
    arrays, config = students["wav2small-int8"]
    pieces = np.split(signal, np.minimum(np.cumsum(sizes or [0]), samples))
    heard = fixed_frontend.forward(signal, arrays, config, fixed_frontend.level_so_far(signal, config))[1]
    np.testing.assert_array_equal(answered(libraries["wav2small-int8"], pieces)[1] * 2**15, heard)
    stream = libraries["wav2small-int8"].stream()
    stream.level(*map(float, fixed_frontend.mean_and_variance(signal)))
    for piece in pieces:
        stream.push(piece)
    stream.finish()
    embedding, emotion = fixed_point.to_numbers(fixed_frontend.forward(signal, arrays, config), arrays)
    for found, expected in zip(stream.read(), (embedding, emotion), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["micro", "wav2small"])
@settings(max_examples=15, deadline=None)
@given(any_length(64, 30000), st.lists(st.just(0) | any_length(1, 3000), max_size=12))
def test_floats_do_not_depend_on_the_cutting(libraries, name, samples, sizes):
    signal = noise(samples, samples)
    whole = answered(libraries[name], [signal])
    pieces = answered(libraries[name], np.split(signal, np.minimum(np.cumsum(sizes or [0]), samples)))
    np.testing.assert_allclose(pieces[0], whole[0], atol=2e-5)
    np.testing.assert_allclose(pieces[1], whole[1], atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("student", ["micro", "micro-int8", "wav2small", "wav2small-running", *ROUNDED])
def test_another_student_of_the_same_operators_needs_no_c(tmp_path, student):
    config = (NETWORKS | ROUNDED)[student]
    write_safetensors(tmp_path / "mine.safetensors", random_arrays(3, config), metadata_of(config))
    made = export_c(tmp_path / "mine.safetensors", tmp_path / "mine")
    assert made.error is not None and made.error <= (0 if config.integers else 1e-4)
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.slow
@pytest.mark.parametrize("student", ["micro-int8", *ROUNDED])
def test_shifts_to_the_left_and_by_more_than_a_word_are_those_of_the_reference(tmp_path, student):
    """As weights have them that are nearly zero, or too large."""
    config = (NETWORKS | ROUNDED)[student]
    arrays = dict(random_arrays(3, config))
    for name in [name for name in arrays if name.endswith(".shift") and name not in ("input.shift", "out.shift")]:
        shift = arrays[name].copy()
        shift[:4] = -3, 0, 35, 30
        arrays[name] = shift
    write_safetensors(tmp_path / "mine.safetensors", arrays, metadata_of(config))
    assert export_c(tmp_path / "mine.safetensors", tmp_path / "mine").error == 0


def test_weights_scaled_by_a_million_keep_their_digits(tmp_path):
    arrays = {**random_arrays(0, MICRO)}
    arrays["conv.weight"] = arrays["conv.weight"] * np.float32(1e-6)
    arrays["norm.running_var"] = arrays["norm.running_var"] * np.float32(1e-12)
    arrays["norm.running_mean"] = arrays["norm.running_mean"] * np.float32(1e-6)
    write_safetensors(tmp_path / "small.safetensors", arrays, metadata_of(MICRO))
    library = native.library(tmp_path / "small.safetensors")
    expected = reference.forward(voices(), arrays, MICRO)[1]
    np.testing.assert_allclose(library.answer(voices())[1], expected, atol=1e-4)


def test_the_same_after_reset_bit_for_bit(libraries):
    for library in libraries.values():
        stream = library.stream()
        answers = []
        for before in (noise(20000, 1, 0.9), np.zeros(100, np.float32)):
            stream.push(before)
            stream.reset()
            stream.push(voices())
            stream.finish()
            answers.append(np.concatenate(stream.read()))
            stream.reset()
        np.testing.assert_array_equal(*answers)
        np.testing.assert_array_equal(answers[0], np.concatenate(answered(library, [voices()])))


@pytest.mark.parametrize("name", ["wav2small-int8", "wav2small"])
@pytest.mark.parametrize("mean, variance", [(np.nan, 0.1), (np.inf, 0.1), (0, np.nan), (0, np.inf), (0, -1e-9)])
def test_a_level_that_is_no_number_is_refused_and_changes_nothing(libraries, name, mean, variance):
    stream = libraries[name].stream()
    with pytest.raises(NativeError, match="takes its level before the first sample"):
        stream.level(mean, variance)
    stream.push(voices())
    stream.finish()
    np.testing.assert_array_equal(stream.read()[1], answered(libraries[name], [voices()])[1])


def test_wrong_use_is_said(libraries):
    library = libraries["micro"]
    stream = library.stream()
    with pytest.raises(NativeError, match="less than one window"):
        stream.read()
    assert stream.push(np.zeros(0, np.float32)) == 0
    with pytest.raises(NativeError, match="length"):
        native.checked(library._calls.w2s_push_int16(stream._stream, None, -1))
    with pytest.raises(NativeError, match="level"):
        stream.level(0.0, 1.0)
    with pytest.raises(NativeError, match="another library"):
        native.checked(library._calls.w2s_init_checked(stream._stream, 8, 0))
    assert stream.push(np.zeros(200, np.float32)) == 0
    assert stream.finish() == 1, "less than one window is padded"
    with pytest.raises(NativeError, match="ended"):
        stream.push(np.zeros(9, np.float32))
    stream._memory[:] = bytes(len(stream._memory))
    with pytest.raises(NativeError, match="not begun"):
        stream.push(np.zeros(9, np.float32))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_no_number_counts_as_zero(libraries, name):
    bad = voices()
    bad[1000:1010] = [np.nan, np.inf, -np.inf, 1e30, -1e30, np.nan, np.nan, np.inf, np.nan, np.nan]
    good = np.where(np.abs(bad) < 1e5, bad, 0).astype(np.float32)
    if name.endswith("int8"):  # which cuts what is too large
        good = np.where(np.isnan(bad), 0, np.clip(bad, -1, 1)).astype(np.float32)
    np.testing.assert_array_equal(answered(libraries[name], [bad])[1], answered(libraries[name], [good])[1])


def test_integer_log_mel_is_near_that_in_floats():
    """0.05 dB down to where samples have a few steps; where most are 0, what is left of a band is rounding."""
    for level, tolerance in ((0.3, 0.02), (0.01, 0.05), (1e-3, 0.1), (2e-4, 1.0)):
        samples = fixed_frontend.to_samples(level * voices(5) / 0.1 + noise(48000, 1, level / 10))
        expected = running_log_mel(samples / 32768.0, INTEGERS.level_frames, INTEGERS.frontend)
        np.testing.assert_allclose(fixed_frontend.log_mel(samples, INTEGERS) / 64, expected, atol=tolerance)


@pytest.mark.parametrize("gain", [0.3, 0.01, 1e-3])
def test_integer_log_mel_over_the_utterance_is_near_that_in_floats(gain):
    """Beside a mean, which is gone; above 80 dB below full scale, where a band has a step or two."""
    samples = fixed_frontend.to_samples(gain * (voices(5) / 0.1 + noise(48000, 1)) + np.float32(0.1))
    found = np.maximum(fixed_frontend.log_mel(samples, SQUARE) / 64, -80)
    expected = np.maximum(reference.features(samples / 32768.0, WAV2SMALL), -80)
    np.testing.assert_allclose(found, expected, atol=1e-4 / gain + 0.02)


def test_the_level_of_what_was_heard_ends_as_that_of_the_whole():
    samples = fixed_frontend.to_samples(noise(64 + 32 * 500, 3) + np.float32(0.2))
    (mean, variance), whole = fixed_frontend.level_so_far(samples, SQUARE), fixed_frontend.whole_level(samples)
    assert abs(int(mean[-1]) - int(whole.mean)) <= 1 + 2**27 * 1e-7
    assert abs(int(variance[-1]) / int(whole.variance) - 1) < 1e-6


def test_rounding_micro_chooses_scales_between_rounding_and_saturation(tmp_path):
    arrays, _, network = reference.load_student(DATA / "micro.safetensors")
    target = replace(network, name="micro-int8", integers=True)
    signals = [soundfile.read(file, dtype="float32")[0][:16000] for file in sorted(ROOT.glob("examples/*.flac"))[:2]]
    answers = [reference.forward(signal, arrays, network)[1] for signal in signals]

    def distance(bits: dict) -> float:
        integers = fixed_point.quantise(arrays, bits, target)
        return sum(
            np.abs(reference.forward(signal, integers, target)[1] - answer).max()
            for signal, answer in zip(signals, answers, strict=True)
        )

    chosen = fractional_bits(arrays, network, target, signals)
    assert distance(chosen) < 0.06
    for change in (-4, 2):
        assert distance({name: bits + change for name, bits in chosen.items()}) > 3 * distance(chosen)


@pytest.mark.slow
def test_rounding_wav2small_keeps_its_answers(tmp_path):
    speech = tmp_path / "speech"
    speech.mkdir()
    for seed in range(3):
        soundfile.write(speech / f"{seed}.wav", voices(seed), 16000)
    command = ["export", str(DATA / "wav2small.safetensors"), "-o", str(tmp_path), "--to", "integers"]
    result = CliRunner().invoke(main, [*command, "--calibrate", str(speech), "--name", "mine"])
    assert result.exit_code == 0 and "mine-int8.safetensors" in result.output, result.output
    exact, path = load("wav2small", backend="c"), tmp_path / "mine-int8.safetensors"
    found = load(path, backend="c")
    assert found.metadata["precision"] == "int8" and "dev_ccc" not in found.metadata
    for file in sorted(ROOT.glob("examples/*.flac")):
        signal = soundfile.read(file, dtype="float32")[0]
        np.testing.assert_allclose(found(signal), exact(signal), atol=0.03)
        assert found(signal) == load(path, backend="numpy")(signal)
    assert export_c(path, tmp_path / "c").error == 0
    for wrong, said in (
        (command, "needs --calibrate SPEECH"),
        ([*command[:1], "micro.safetensors", *command[2:], "--calibrate", str(speech)], "no such file"),
        ([*command[:1], str(path), *command[2:], "--calibrate", str(speech)], "is an integer network already"),
        (
            [*command[:1], str(DATA / "wav2small-17k.safetensors"), *command[2:], "--calibrate", str(speech)],
            "no integer form",
        ),
        (["export", str(path), "-o", str(tmp_path / "x")], "wav2small-int8 has no ONNX form"),
    ):
        result = CliRunner().invoke(main, wrong)
        assert result.exit_code != 0 and said in result.stderr, result.stderr
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def with_parts():
    """Libraries whose streams remember four parts."""
    made = {}
    for name in ("micro-int8", "micro"):
        flags = (*compiler.FLAGS, *compiler.SIZES["integers"], "-DW2S_PARTS=4")
        made[name] = native.Library(compiler.compiled(header(DATA / f"{name}.safetensors"), flags), False)
    return made


@pytest.mark.parametrize("name", ["micro-int8", "micro"])
@settings(max_examples=20, deadline=None)
@given(st.lists(st.just(0) | any_length(1, 6000), min_size=1, max_size=9), st.integers(1, 4), st.integers(0, 99))
def test_a_window_is_the_pooling_of_the_tokens_of_its_parts(with_parts, students, name, sizes, parts, seed):
    """Integers to the bit: the parts are merged in the order in which they were heard."""
    stream, (arrays, config) = with_parts[name].stream(), students[name]
    samples = fixed_frontend.to_samples(noise(sum(sizes), seed))
    ends = [stream.push(piece) for piece in np.split(samples, np.cumsum(sizes)[:-1]) if marked(stream)]
    found = np.zeros(3, np.float32)
    result = stream._calls.w2s_read_window(stream._stream, parts, found.ctypes, None)
    heard = [tokens for tokens in ends[-parts:] if tokens]
    if not heard:
        assert result == -4
        return
    assert result == 0
    if name == "micro":
        tokens = reference.tokens(reference.features(samples / 32768.0, config), arrays, config)
        pooled = reference.pool(tokens[-sum(heard) :], arrays, config)
        expected = arrays["out.weight"] @ pooled + arrays["out.bias"]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        return
    tokens = fixed_point.tokens(fixed_frontend.log_mel(samples, config), arrays, config)
    cut = np.split(tokens[-sum(heard) :], np.cumsum(heard)[:-1])
    state = reduce(fixed_point.merge, [fixed_point.pool(part, arrays) for part in cut])
    np.testing.assert_array_equal(found * 2**15, fixed_point.read_pool(state, arrays)[1])


def marked(stream: native.NativeStream) -> bool:
    """Begin a new part."""
    return stream._calls.w2s_mark(stream._stream) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro-int8", "wav2small-int8"])
def test_nothing_overflows_at_full_scale(libraries, students, name):
    """A square wave is the loudest that there is; its spectrum and powers still fit."""
    arrays, config = students[name]
    for hertz in (65, 130, 250, 1000, 3800, 7999):
        square = np.where(np.sin(2 * np.pi * hertz * np.arange(20000) / 16000 + 0.1) > 0, 32767, -32768).astype(
            np.int16
        )
        table = fixed_frontend.tables(config)
        assert 0 <= fixed_frontend.mel_power(square, table, config).sum(1).max() < 2**62.9
        expected = reference.features(square / 32768.0, replace(config, integers=False))
        found = fixed_frontend.log_mel(square, config) / 64
        np.testing.assert_allclose(np.maximum(found, -60), np.maximum(expected, -60), atol=0.1)
        _, emotion = reference.forward(square / 32768.0, arrays, config)
        np.testing.assert_array_equal(libraries[name].answer(square / np.float32(32768))[1], emotion)


@settings(deadline=None)
@given(st.integers(1, 2**62))
def test_log2_of_integers(value):
    found = fixed_frontend.log2_of(np.array([value]), fixed_frontend.tables(INTEGERS))[0]
    assert abs(found / 2**16 - np.log2(float(value))) < 1e-4


def test_export_writes_a_folder_or_nothing(tmp_path):
    result = CliRunner().invoke(main, ["export", "micro:int8", "--to", "c", "-o", str(tmp_path / "w2s")])
    assert result.exit_code == 0, result.output
    names = {str(path.relative_to(tmp_path / "w2s")) for path in (tmp_path / "w2s").rglob("*") if path.is_file()}
    assert {"src/w2s.c", "src/w2s_model.h", "library.json", "library.properties", "zephyr/module.yml"} <= names
    assert "$" not in (tmp_path / "w2s" / "library.properties").read_text()
    assert export_c("micro:int8", tmp_path / "w2s").error == 0, "written again"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match="other content"):
        export_c("micro:int8", tmp_path / "home")
    assert (tmp_path / "home" / "thesis.tex").is_file()
    result = CliRunner().invoke(
        main, ["export", str(tmp_path / "none.safetensors"), "--to", "c", "-o", str(tmp_path / "x")]
    )
    assert result.exit_code == 1 and "no such file" in result.stderr and not (tmp_path / "x").exists()


def test_pooling_of_channels_is_refused(tmp_path):
    config = SMALL
    write_safetensors(tmp_path / "17k.safetensors", random_arrays(0, config), metadata_of(config))
    with pytest.raises(WeightsError, match="pools channels"):
        export_c(tmp_path / "17k.safetensors", tmp_path / "c")


def test_without_a_compiler_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "COMPILERS", ("no-such-compiler",))
    monkeypatch.delenv("CC", raising=False)
    for say in (lambda: native.library(DATA / "micro.safetensors"), lambda: load("micro", backend="c")):
        with pytest.raises(NativeError, match="needs a C compiler once"):
            say()
    result = CliRunner().invoke(main, ["predict", "--backend", "c", "--model", "micro", "examples/10b10Wa.flac"])
    assert result.exit_code == 1 and "or use the backend 'onnx'" in result.stderr
    assert export_c("micro:int8", tmp_path / "c").error is None


def test_a_compiler_that_fails_or_a_cache_that_cannot_be_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler -O9")
    with pytest.raises(NativeError, match="no-such-compiler cannot compile the C runtime: No such file"):
        native.library(DATA / "micro.safetensors")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NativeError, match="false cannot compile the C runtime: exit code 1"):
        native.library(DATA / "micro.safetensors")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NativeError, match="XDG_CACHE_HOME"):
        native.library(DATA / "micro.safetensors")


@pytest.mark.slow
def test_a_front_end_of_another_size_exports(tmp_path, monkeypatch):
    frontend = replace(MICRO.frontend, n_fft=256, win_length=256, hop_length=128, n_mels=20)
    config = micro("small", channels=24, pooled=40, stride=3, dilations=(1, 3), frontend=frontend)
    write_safetensors(tmp_path / "small.safetensors", random_arrays(1, config), metadata_of(config))
    assert export_c(tmp_path / "small.safetensors", tmp_path / "c").error < 1e-4
