"""Static int8 and the CCC that an artefact must keep: real quantisation of small runs, and every refusal."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from random_student import metadata_of, random_arrays
from wav2small import load
from wav2small.cli import main
from wav2small.errors import ManifestError, WeightsError
from wav2small.export import artefacts as export
from wav2small.export.static_int8 import MAX_WEIGHT, static_int8
from wav2small.network import reference
from wav2small.network.config import OUTPUTS
from wav2small.network.micro import MICRO, MICRO_INT8
from wav2small.network.probes import voice
from wav2small.network.wav2small import SMALL, WAV2SMALL
from wav2small.network.weights import DATA, read_safetensors, write_safetensors
from wav2small.runtime.backends import open_onnx_bytes
from wav2small.runtime.model import Model
from wav2small.tables.manifest import read_manifest

onnx = pytest.importorskip("onnx", reason="needs the extra train")
quantization = pytest.importorskip("onnxruntime.quantization", reason="needs the extra train")

pytestmark = pytest.mark.slow


def weights(path: Path, config=WAV2SMALL, dev_ccc: float | None = 0.99) -> Path:
    """An untrained student whose answers to voices are spread around .5, as those of a trained one are."""
    stored = metadata_of(config)
    if dev_ccc is not None:
        stored["dev_ccc"] = json.dumps(dict.fromkeys(OUTPUTS, dev_ccc))
    values = dict(random_arrays(0, config))
    if not (config.integers):
        answers = np.stack([reference.forward(clip, values, config)[1] for clip in voices()])
        gain = 0.15 / answers.std(0)
        values["out.weight"] = (values["out.weight"] * gain[:, None]).astype(np.float32)
        values["out.bias"] = ((values["out.bias"] - answers.mean(0)) * gain + 0.5).astype(np.float32)
    write_safetensors(path, values, stored)
    return path


def trained(path: Path, config, dev_ccc: float) -> Path:
    """The weights that ship, which seven bits change less than they change untrained ones."""
    arrays, stored = read_safetensors(DATA / f"{config.name}.safetensors")
    write_safetensors(path, arrays, stored | {"dev_ccc": json.dumps(dict.fromkeys(OUTPUTS, dev_ccc))})
    return path


def voices() -> list[np.ndarray]:
    """Of several levels and lengths."""
    rngs = map(np.random.default_rng, range(8))
    return [np.clip(voice(rng, rng.uniform(0.5, 1.5)) * rng.uniform(0.2, 2), -1, 1) for rng in rngs]


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """The voices, and a clip that is shorter than a window."""
    folder = tmp_path_factory.mktemp("speech")
    for number, signal in enumerate(voices()):
        soundfile.write(folder / f"{number}.wav", signal, 16000)
    soundfile.write(folder / "short.wav", 0.1 * np.ones(30), 16000)
    return folder


def labels(path: Path, speech: Path, model: Path) -> Path:
    """Labels of the speech by the network itself, so that its CCC is 1."""
    answers = load(model, backend="numpy")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *OUTPUTS])
        for clip in sorted(speech.glob("[0-9].wav")):
            writer.writerow([clip, *answers(soundfile.read(clip)[0])])
    return path


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


original_answers = export.predict
NETWORKS = pytest.mark.parametrize("config", [WAV2SMALL, SMALL, MICRO], ids=lambda config: config.name)


@NETWORKS
def test_the_static_form_rounds_everything_but_front_end_and_pooling(speech, tmp_path, config):
    best = trained(tmp_path / "best.safetensors", config, dev_ccc=0.8)
    dev = read_manifest(labels(tmp_path / "dev.csv", speech, best))
    artefacts = export.export(best, tmp_path / "out", dev=dev, calibration=read_manifest(speech))
    fp32, int8 = (onnx.load(artefact.path) for artefact in artefacts)
    assert [artefact.precision for artefact in artefacts] == ["fp32", "int8"]
    made_by = {node.output[0]: node for node in int8.graph.node}
    read_from = {node.name: {made_by[i].op_type for i in node.input if i in made_by} for node in int8.graph.node}
    for node in fp32.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            in_the_middle = node.name in ("value", "score") or node.name.startswith(("conv", "point", "depth", "lin"))
            assert ("DequantizeLinear" in read_from[node.name]) == in_the_middle, node.name
    assert Counter(node.op_type for node in int8.graph.node)["QuantizeLinear"] > 5
    assert artefacts[1].errors.log_mel == 0 < artefacts[1].errors.embedding
    assert artefacts[1].ccc is not None and min(artefacts[1].ccc) > 0.78
    assert artefacts[0].ccc is not None and min(artefacts[0].ccc) > 0.999


def pair_sums(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``vpmaddubsw``: sums of each two adjacent products of uint8 and int8, saturated at 16 bits."""
    assert activations.dtype == np.uint8 and weights.dtype == np.int8
    return np.clip(exact_sums(activations, weights), -(2**15), 2**15 - 1)


def exact_sums(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    products = activations.astype(int) * weights.astype(int)
    return products[..., 0::2] + products[..., 1::2]


def saturates(weights: np.ndarray) -> bool:
    """Whether any sum of two products does, with activations that make it largest or smallest."""
    even = weights.ravel()[: weights.size // 2 * 2]
    worst = [np.where(even * sign > 0, 255, 0).astype(np.uint8) for sign in (1.0, -1.0)]
    return any((pair_sums(activations, even) != exact_sums(activations, even)).any() for activations in worst)


@given(arrays(np.int8, 16, elements=st.integers(-64, 64)), arrays(np.uint8, 16))
def test_no_two_products_of_seven_bit_weights_saturate(weights, activations):
    assert (pair_sums(activations, weights) == exact_sums(activations, weights)).all()
    assert not saturates(weights)


def test_64_is_the_largest_weight_that_cannot_saturate():
    assert MAX_WEIGHT == 64
    for sign in (1, -1):
        assert not saturates(np.array([64, 64], np.int8) * np.int8(sign))
    assert saturates(np.array([65, 64], np.int8))


def float_graph(config) -> Any:
    return export.graphs(random_arrays(0, config), config)["fp32"]


def full_range(monkeypatch) -> None:
    """Let ONNX Runtime's quantiser use eight bits for weights."""
    quantise = quantization.quantize_static
    monkeypatch.setattr(quantization, "quantize_static", lambda *a, **k: quantise(*a, **k | {"reduce_range": False}))


@NETWORKS
def test_no_weight_of_a_static_file_saturates_whatever_its_order(speech, monkeypatch, config):
    """Kernels pack weights in orders of their own, so the law holds for any order, here for the worst."""
    model, clips = float_graph(config), read_manifest(speech)
    quantised = static_int8(model, clips, config.frontend.win_length)
    weights = int8_constants(quantised)
    assert len(weights) > 5 and not any(saturates(np.sort(weight.ravel())[::-1]) for weight in weights)
    assert not any(saturates(np.sort(weight.ravel())) for weight in weights)
    full_range(monkeypatch)
    monkeypatch.setattr("wav2small.export.static_int8.check_no_saturation", lambda model, source: None)
    broken = static_int8(model, clips, config.frontend.win_length)
    assert any(saturates(np.sort(weight.ravel())[::-1]) for weight in int8_constants(broken))


def int8_constants(model: Any) -> list[np.ndarray]:
    found = map(onnx.numpy_helper.to_array, model.graph.initializer)
    return [array for array in found if array.dtype == np.int8 and array.size > 1]


def test_full_range_weights_are_refused_and_nothing_is_written(speech, tmp_path, monkeypatch):
    full_range(monkeypatch)
    best = weights(tmp_path / "best.safetensors", MICRO)
    dev = labels(tmp_path / "dev.csv", speech, best)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--calibrate", speech)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "has a value of magnitude 127, allowed 64: larger products saturate" in result.stderr


def test_signed_activations_are_refused(speech, monkeypatch):
    quantise, signed = quantization.quantize_static, {"activation_type": quantization.QuantType.QInt8}
    monkeypatch.setattr(quantization, "quantize_static", lambda *a, **k: quantise(*a, **k | signed))
    with pytest.raises(WeightsError, match=r"here: activation image is int8, allowed is uint8"):
        static_int8(float_graph(WAV2SMALL), read_manifest(speech), 64, "here")


@pytest.mark.parametrize(("optimised", "shift"), [(True, 0.02), (False, 0.02), (True, np.nan), (False, np.nan)])
def test_answers_that_depend_on_optimisations_are_refused(speech, tmp_path, monkeypatch, optimised, shift):
    """As on a CPU whose integer kernels saturate, or whose float kernels are wrong."""
    monkeypatch.setattr(export, "predict", shifted(shift, {optimised}))
    result = exported(tmp_path, speech, dev_ccc=0.1)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "int8: predictions differ by " in result.stderr, result.output
    assert "with ONNX Runtime's optimisations and without, allowed 0.01; nothing was written" in result.stderr


def test_both_answers_must_keep_the_ccc(speech, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "predict", shifted(0.5, {True, False}))
    result = exported(tmp_path, speech, dev_ccc=0.9)
    assert result.exit_code == 1 and "int8: CCC of arousal on the dev segments is " in result.stderr
    monkeypatch.setattr(export, "MAX_APART", 1)
    monkeypatch.setattr(export, "predict", shifted(0.5, {False}))
    result = exported(tmp_path, speech, dev_ccc=0.6)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "int8 without optimisations: CCC of arousal on the dev segments is " in result.stderr


def exported(folder: Path, speech: Path, dev_ccc: float) -> Result:
    best = weights(folder / "best.safetensors", MICRO, dev_ccc)
    dev = labels(folder / "dev.csv", speech, best)
    return command(best, "-o", folder / "out", "--dev", dev, "--calibrate", speech)


def shifted(shift: float, optimised: set[bool]) -> Callable[[Any, Any], np.ndarray]:
    """The answers of a static file, off by ``shift`` where its session is, or is not, optimised."""
    right, flags = original_answers, iter([None, True, False])  # sessions in order: fp32, then int8 twice
    return lambda model, dev: right(model, dev) + (shift if next(flags) in optimised else 0)


def test_integer_kernels_run_only_with_optimisations(speech):
    """So the two sessions that export compares are two computations."""
    model = float_graph(WAV2SMALL)
    describe = {"sampling_rate": "16000", "outputs": ",".join(OUTPUTS), "min_length": "64"}
    quantised = static_int8(model, read_manifest(speech), 64)
    export.describe(quantised, describe)
    content = quantised.SerializeToString()
    clip = voices()[0]
    answers = [Model(*open_onnx_bytes(content, "int8", flag)).embed(clip) for flag in (True, False)]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.05


def test_what_loses_ccc_is_refused_and_nothing_is_written(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", dev_ccc=0.99)
    dev = labels(tmp_path / "dev.csv", speech, best)
    rows = list(csv.reader(dev.open()))
    rows[1][3], rows[2][3] = rows[2][3], rows[1][3]
    with dev.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    result = command(best, "-o", tmp_path / "out", "--dev", dev)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "fp32: CCC of valence on the dev segments is " in result.stderr
    assert "and was 0.990 in training; the largest allowed loss is 0.02; nothing was written" in result.stderr


def test_an_int8_file_that_loses_too_much_is_refused(speech, tmp_path, monkeypatch):
    """Scales that were set by a tone a thousandth as loud as speech clip everything."""
    best = weights(tmp_path / "best.safetensors", MICRO)
    dev = labels(tmp_path / "dev.csv", speech, best)
    monkeypatch.setattr("wav2small.export.static_int8.is_speech", lambda signal: True)
    (tmp_path / "quiet").mkdir()
    soundfile.write(tmp_path / "quiet" / "hum.wav", 1e-3 * np.sin(np.arange(16000) / 50), 16000)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--calibrate", tmp_path / "quiet")
    assert result.exit_code == 1 and "int8: CCC of " in result.stderr and not (tmp_path / "out").exists()


def test_silence_calibrates_nothing(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors")
    (tmp_path / "silence").mkdir()
    soundfile.write(tmp_path / "silence" / "0.wav", np.zeros(16000), 16000)
    dev = labels(tmp_path / "dev.csv", speech, best)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--calibrate", tmp_path / "silence")
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert "calibration: no speech in 1 clips, so no scale can be set. Give speech." in result.stderr


def test_the_command_shows_the_ccc(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", dev_ccc=0.95)
    dev = labels(tmp_path / "dev.csv", speech, best)
    result = command(best, "-o", tmp_path / "out", "--dev", dev, "--format", "json")
    assert result.exit_code == 0, result.output
    fp32, int8 = ([float(row[f"dev CCC {name}"]) for name in OUTPUTS] for row in json.loads(result.stdout))
    assert fp32 == [1.0, 1.0, 1.0] and min(int8) > 0.93


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--calibrate", "SPEECH"], 2, "--calibrate needs --dev"),
        (["--ship", "--dev", "DEV"], 2, "Give one of -o FOLDER and --ship"),
        (["--dev", "SPEECH"], 1, "has no label. Label it first: wav2small label."),
        (["--dev", "nowhere.csv"], 1, "nowhere.csv: cannot be opened"),
    ],
)
def test_wrong_use_is_one_sentence(speech, tmp_path, options, code, sentence):
    best = weights(tmp_path / "best.safetensors")
    places = {"SPEECH": speech, "DEV": tmp_path / "dev.csv"}
    labels(places["DEV"], speech, best)
    result = command(best, "-o", tmp_path / "out", *[places.get(option, option) for option in options])
    assert result.exit_code == code and sentence in result.stderr, result.output
    assert not (tmp_path / "out").exists()


def test_weights_without_a_dev_ccc_have_none_to_keep(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", dev_ccc=None)
    dev = read_manifest(labels(tmp_path / "dev.csv", speech, best))
    with pytest.raises(WeightsError, match="the metadata have no dev_ccc to compare with"):
        export.export(best, tmp_path / "out", dev=dev)
    with pytest.raises(WeightsError, match="a static int8 form is checked by its CCC; give labels"):
        export.export(best, tmp_path / "out", calibration=dev)
    gone = [*dev, type(dev[0])("gone.wav", speech / "gone.wav", emotion=dev[0].emotion)]
    with pytest.raises(ManifestError, match=r"gone\.wav: there is no such file"):
        export.export(weights(best), tmp_path / "out", dev=gone)


def test_integers_by_training_are_not_calibrated_again(speech, tmp_path):
    best = weights(tmp_path / "best.safetensors", MICRO_INT8)
    segments = read_manifest(speech)
    with pytest.raises(WeightsError, match="the weights are integers already and need no calibration; leave it out"):
        export.export(best, tmp_path / "out", dev=segments, calibration=segments)
