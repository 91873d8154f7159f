"""Loading and asking a model: by name, by path, by either backend, from threads, and with every bad signal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wav2small.runtime.model
from lengths import any_length
from random_student import metadata_of, noise, random_arrays
from wav2small.audio import read as audio
from wav2small.errors import AudioError, MissingExtraError, PluginError, WeightsError
from wav2small.export.parity import TOLERANCES, relative
from wav2small.network import reference, weights
from wav2small.network.config import Emotion
from wav2small.network.probes import voice
from wav2small.network.wav2small import WAV2SMALL
from wav2small.network.weights import write_safetensors
from wav2small.runtime.model import BATCH_LENGTH, Model, groups, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Exported random weights, an index of them, and arrays beside."""
    pytest.importorskip("onnx", reason="needs the extra train")
    from wav2small.export import artefacts as export

    path = tmp_path_factory.mktemp("data")
    write_safetensors(path / "best.safetensors", random_arrays(), metadata_of())
    export.ship(path / "best.safetensors", name="random", version="1", folder=path)
    (path / "best.safetensors").unlink()
    export.write_index(path)
    return path


def test_the_index_is_of_the_files_that_ship(tmp_path):
    """``export --ship`` writes it anew, from every file of weights in the folder."""
    pytest.importorskip("onnx", reason="needs the extra train")
    from wav2small.export.artefacts import write_index

    folder = shutil.copytree(weights.DATA, tmp_path / "data")
    (folder / "index.json").unlink()
    write_index(folder)
    assert json.loads((folder / "index.json").read_text()) == json.loads((weights.DATA / "index.json").read_text())


@pytest.fixture(scope="module", params=["onnx", "int8", "numpy"])
def model(request, folder) -> Model:
    file = {"onnx": "random.onnx", "int8": "random-int8.onnx", "numpy": "random.safetensors"}[request.param]
    return load(folder / file, backend="numpy" if request.param == "numpy" else "onnx")


@pytest.fixture
def ships(monkeypatch, folder):
    """The package ships ``random`` in that folder."""
    for name in ("present", "resolve", "shipped_names"):
        right = getattr(weights, name)

        def of_folder(*arguments, right=right):
            return right(*arguments, folder=folder)

        monkeypatch.setattr(wav2small.runtime.model, name, of_folder)


def expected(signal: np.ndarray) -> np.ndarray:
    return np.clip(reference.forward(signal, random_arrays(), WAV2SMALL)[1], 0, 1)


def test_the_answer_is_named_clipped_and_the_references(model):
    signal = noise(20000)
    answer = model(signal)
    assert isinstance(answer, Emotion) and all(type(value) is float and 0 <= value <= 1 for value in answer)
    np.testing.assert_allclose(answer, expected(signal), atol=TOLERANCES["int8"].emotion)


def test_fp32_by_either_backend_is_the_reference_closely(folder):
    signal = voice(np.random.default_rng(3))
    for file, backend in (("random.onnx", "onnx"), ("random.safetensors", "numpy")):
        np.testing.assert_allclose(load(folder / file, backend=backend)(signal), expected(signal), atol=1e-3)


def test_the_embedding_is_the_references(model):
    found, (truth, _) = model.embed(noise(9000)), reference.forward(noise(9000), random_arrays(), WAV2SMALL)
    assert found.shape == (169,) and found.dtype == np.float32
    assert relative(found, truth) < TOLERANCES["int8"].embedding


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.sampled_from([64, 65, 701, 4001, 16001]), max_size=7))
def test_a_batch_is_its_signals_one_by_one_in_order(model, lengths):
    signals = [noise(length, seed=index) for index, length in enumerate(lengths)]
    together, alone = model.batch(signals), [model(signal) for signal in signals]
    assert len(together) == len(signals)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@given(st.lists(any_length(64, 3 * BATCH_LENGTH), max_size=30))
@example([BATCH_LENGTH] * 2)
@example([BATCH_LENGTH // 3] * 7)
def test_groups_hold_every_signal_once_and_never_more_than_fits(lengths):
    found = groups(lengths)
    assert sorted(index for group in found for index in group) == list(range(len(lengths)))
    for group in found:
        assert len({lengths[index] for index in group}) == 1
        assert len(group) == 1 or len(group) * lengths[group[0]] <= BATCH_LENGTH


@pytest.mark.parametrize("samples", [1, 10, 63])
def test_a_signal_without_a_window_is_an_error_that_says_how_long(model, samples):
    with pytest.raises(AudioError, match=f"has {samples} samples at 16000 Hz, at least 64 are needed"):
        model(np.zeros(samples, np.float32))
    with pytest.raises(AudioError, match="no samples"):
        model(np.zeros(0, np.float32))


def test_one_window_is_enough(model):
    np.testing.assert_allclose(model(noise(64)), expected(noise(64)), atol=TOLERANCES["int8"].emotion)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_signal_that_is_not_finite_is_an_error(model, value):
    signal = noise(1000)
    signal[500] = value
    with pytest.raises(AudioError, match="sample 500"):
        model(signal)


def test_one_bad_signal_fails_its_batch(model):
    with pytest.raises(AudioError, match="at least 64"):
        model.batch([noise(1000), noise(3)])


@pytest.mark.parametrize("signal", [np.zeros(16000, np.float32), np.full(16000, 0.5, np.float32)])
def test_silence_is_answered_with_finite_numbers(model, signal):
    assert all(0 <= value <= 1 for value in model(signal))
    assert np.isfinite(model.embed(signal)).all()


def test_the_loudest_and_the_quietest_signals_are_answered(model):
    for level in (1e-30, 1e-6, 1e6):
        assert all(0 <= value <= 1 for value in model(noise(3000, level=level)))


def test_the_signal_is_left_alone(model):
    signal = noise(5000) + np.float32(0.2)
    original = signal.copy()
    signal.flags.writeable = False
    model(signal), model.embed(signal), model.batch([signal, signal])
    np.testing.assert_array_equal(signal, original)


def test_integers_channels_and_other_rates_are_prepared(model):
    signal = voice(np.random.default_rng(4), 1.0)
    scaled = np.rint(signal * 32767).astype(np.int16)
    np.testing.assert_allclose(model(scaled), model(scaled / np.float32(32768)), atol=1e-5)
    stereo = np.stack([signal, np.zeros_like(signal)], axis=1)
    np.testing.assert_allclose(model(stereo), model(signal), atol=5e-3)
    for sampling_rate in (8000, 44100):
        prepared = audio.prepare(signal, sampling_rate)
        np.testing.assert_allclose(model(signal, sampling_rate), model(prepared), atol=1e-6)


def test_many_threads_get_the_answers_of_one(model):
    signals = [noise(3000 + 500 * (index % 5), seed=index) for index in range(40)]
    alone = [model(signal) for signal in signals]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(model, signals))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_same_signal_gives_the_same_bits(model):
    assert model(noise(7000)) == model(noise(7000))


def test_metadata_says_what_was_loaded(model):
    assert (model.metadata["name"], model.metadata["version"], model.metadata["licence"]) == ("random", "1", "CC0-1.0")
    assert model.metadata["outputs"] == "arousal,dominance,valence"
    assert json.loads(model.metadata["ccc"]) == {"emodb": {"arousal": 0.5}}


def test_by_name_and_precision(ships, folder):
    signal = noise(4000)
    assert load("random")(signal) == load(folder / "random.onnx")(signal)
    assert load("random:int8")(signal) == load(folder / "random-int8.onnx")(signal)
    assert load("random", backend="numpy")(signal) == load(folder / "random.safetensors", backend="numpy")(signal)


def test_models_lists_what_ships(ships, folder):
    rows = wav2small.runtime.model.models()
    assert [row["precision"] for row in rows] == ["int8", "fp32", "fp32"]
    for row in rows:
        assert row["name"] == "random" and row["parameters"] == 72477
        assert row["bytes"] == (folder / row["file"]).stat().st_size
        assert row["sha256"] == weights.sha256(folder / row["file"])


def test_a_file_called_like_shipped_weights_changes_nothing(ships, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("random").write_text("not a network")
    np.testing.assert_allclose(load("random")(noise(4000)), expected(noise(4000)), atol=1e-3)


def test_the_name_of_a_file_says_nothing(folder, tmp_path):
    shutil.copy(folder / "random.onnx", tmp_path / "a.safetensors")
    shutil.copy(folder / "random.safetensors", tmp_path / "b")
    np.testing.assert_allclose(load(tmp_path / "a.safetensors")(noise(900)), expected(noise(900)), atol=1e-3)
    np.testing.assert_allclose(load(tmp_path / "b", backend="numpy")(noise(900)), expected(noise(900)), atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name_or_path": "randon"}, r"'randon': no such weights\. Did you mean 'random'\? Known: random"),
        ({"name_or_path": "nowhere/x.onnx"}, r"nowhere/x\.onnx: no such file"),
        ({"name_or_path": "x.onnx"}, r"x\.onnx: no such file"),
        ({"name_or_path": "random:int4"}, "'int4', known: fp32, int8"),
        ({"name_or_path": "random:int8", "backend": "numpy"}, r"random:int8: does not ship as \.safetensors"),
    ],
)
def test_what_cannot_be_loaded_is_said(ships, arguments, said):
    with pytest.raises(WeightsError, match=said):
        load(**arguments)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_backend_whose_package_is_missing_is_one_sentence(monkeypatch, backend):
    monkeypatch.setattr("wav2small.evaluation.backends.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=f"the backend '{backend}' needs {backend}, not installed: pip"):
        load("micro", backend=backend)


def test_a_backend_that_is_unknown_is_said_with_those_that_are():
    with pytest.raises(PluginError, match="backend is 'tensorflow', known: onnx, numpy, c, openvino, torch"):
        load("wav2small", backend="tensorflow")


def test_a_file_for_the_other_backend_says_which(folder):
    with pytest.raises(WeightsError, match="load it with the backend 'numpy' or 'c', or run: wav2small export"):
        load(folder / "random.safetensors", backend="onnx")
    with pytest.raises(WeightsError, match="not safetensors, which the backend"):
        load(folder / "random.onnx", backend="numpy")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08" + b"\xff" * 60])
def test_a_file_that_is_no_network_is_one_sentence(tmp_path, content):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"x\.onnx: ONNX Runtime cannot load it .*; export or fetch it again"
    ) as error:
        load(tmp_path / "x.onnx")
    assert "\n" not in str(error.value)


def test_an_onnx_file_of_another_kind_is_refused(folder, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra train")
    other = onnx.load(folder / "random.onnx")
    onnx.helper.set_model_props(other, {"sampling_rate": "16000", "outputs": "valence,arousal,dominance"})
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="its outputs is 'valence,arousal,dominance', needed here: 'arousal,dom"):
        load(tmp_path / "other.onnx")


def test_any_backend_is_a_function_of_a_batch():
    def loudness(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = np.abs(signals).max(1, keepdims=True)
        return level * [1, 2, -1], np.repeat(level, WAV2SMALL.embedding_size, axis=1)

    made = Model(loudness, {})
    assert made.batch([np.full(100, 0.75, np.float32), np.full(90, 0.25, np.float32)]) == [
        Emotion(0.75, 1.0, 0.0),
        Emotion(0.25, 0.5, 0.0),
    ]
    np.testing.assert_array_equal(made.embed(np.full(100, 0.5, np.float32)), np.full(169, 0.5))


@pytest.mark.slow
def test_loading_and_asking_changes_no_global_of_torch_or_numpy(folder):
    script = (
        "import sys, os, threading, numpy as np, torch\n"
        "def state(): return (torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled(),"
        " torch.get_default_dtype(), torch.initial_seed(), np.geterr(), np.random.get_state()[1].tolist(),"
        " dict(os.environ), threading.active_count())\n"
        "before = state()\n"
        "import wav2small; from wav2small.runtime.model import load\n"
        f"load({str(folder / 'random.onnx')!r})(np.ones(1000, 'f4'))\n"
        "print(state() == before)"
    )
    pytest.importorskip("torch", reason="needs the extra train")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "True\n"


def test_a_model_adds_no_thread(folder):
    script = (
        "import os, numpy as np, onnxruntime; from wav2small.runtime.model import load\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        f"before = count(); model = load({str(folder / 'random.onnx')!r}); model(np.ones(16000, 'f4'))\n"
        "print(count() - before)"
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to count threads")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "0\n"


shipped = pytest.mark.skipif("wav2small" not in weights.shipped_names(), reason="weights have not shipped yet")
has_golden = pytest.mark.skipif(
    not (weights.DATA / "wav2small.golden.npz").is_file(), reason="recipes/make_golden.py has not run yet"
)


@shipped
@pytest.mark.parametrize(("precision", "backend"), [("fp32", "onnx"), ("int8", "onnx"), ("fp32", "numpy")])
def test_shipped_forms_agree(precision, backend):
    signal = voice(np.random.default_rng(5))
    found = load(f"wav2small:{precision}", backend)(signal)
    np.testing.assert_allclose(found, load("wav2small", "numpy")(signal), atol=TOLERANCES[precision].emotion)


@shipped
@has_golden
@pytest.mark.parametrize(("precision", "backend"), [("fp32", "onnx"), ("int8", "onnx"), ("fp32", "numpy")])
def test_shipped_forms_give_the_golden_answer(precision, backend):
    golden = np.load(weights.DATA / "wav2small.golden.npz")
    signal = golden["signal"] / np.float32(32768)
    made = load(f"wav2small:{precision}", backend)
    allowed = TOLERANCES[precision]
    assert relative(made.embed(signal), golden["embedding"]) < allowed.embedding
    np.testing.assert_allclose(made(signal), np.clip(golden["emotion"], 0, 1), atol=allowed.emotion)


@shipped
@has_golden
def test_golden_is_what_its_script_makes_of_the_shipped_weights():
    from make_golden import golden

    stored, made = np.load(weights.DATA / "wav2small.golden.npz"), golden()
    assert stored["weights_sha256"] == made["weights_sha256"]
    for name in ("signal", "log_mel", "embedding", "emotion"):
        np.testing.assert_allclose(stored[name], made[name], atol=1e-4, err_msg=name)
