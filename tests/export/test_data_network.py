"""Networks that are only data run everywhere with the same answers, or are refused with a reason."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from random_student import metadata_of, random_arrays
from wav2small import Stream, load
from wav2small.cli import main
from wav2small.errors import WeightsError
from wav2small.evaluation.macs import count_macs, layer_macs, measured
from wav2small.export.c_folder import export_c
from wav2small.network.config import Layer, Network
from wav2small.network.micro import MICRO, micro
from wav2small.network.probes import voice
from wav2small.network.wav2small import SMALL, WAV2SMALL
from wav2small.network.weights import write_safetensors
from wav2small.runtime.c_header import header
from wav2small.runtime.compiler import COMPILERS

pytest.importorskip("onnx", reason="needs the extra train")
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler")

DILATED = replace(
    micro("dilated", channels=20, pooled=37, dilations=(3,)),
    layers=(
        Layer("wide", 20, (3, 1), stride=2, dilation=2, causal=True, norm="n1"),
        Layer("taps", 20, (4, 1), dilation=5, causal=True, depthwise=True, norm="n2"),
        Layer("mix", 20, causal=True, norm="n3", adds=True),
        Layer("half", 11, (3, 1), stride=3, causal=True, norm="n4"),
    ),
)
IMAGE = replace(
    WAV2SMALL,
    name="image",
    layers=(
        Layer("first", 6, (5, 3), norm="n1"),
        Layer("pool1", 6, (3, 3), stride=2, pool=True),
        Layer("second", 7, (3, 5), dilation=2, norm="n2"),
        Layer("pool2", 7, (3, 3), stride=2, pool=True),
    ),
    pooled=24,
    stores_frontend=False,
)
FORMS = [micro("micro48", channels=48), DILATED, IMAGE]


@pytest.fixture(scope="module", params=FORMS, ids=lambda network: network.name)
def weights(request, tmp_path_factory) -> tuple[Network, Path]:
    """A network from its JSON, and a file of untrained weights of it."""
    network = Network.from_json(request.param.to_json())
    path = tmp_path_factory.mktemp(network.name) / "best.safetensors"
    write_safetensors(path, random_arrays(2, network), metadata_of(network))
    return network, path


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for seed in range(3):
        soundfile.write(folder / f"{seed}.wav", voice(np.random.default_rng(seed)), 16000)
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


SIGNAL = voice(np.random.default_rng(9), 4.1)


@needs_compiler
def test_it_answers_alike_in_numpy_onnx_c_and_as_a_stream(weights, tmp_path):
    network, path = weights
    run("export", path, "-o", tmp_path, "--name", "mine")
    expected = np.array(load(path, backend="numpy")(SIGNAL))
    models = [load(tmp_path / "mine.onnx"), load(path, backend="c")]
    for model in models:
        np.testing.assert_allclose(model(SIGNAL), expected, atol=1e-4)
    assert export_c(path, tmp_path / "c").error < 1e-4
    streams = [[event for event in Stream(model, 1.0, 2.0, vad="energy").run([SIGNAL])] for model in models]
    for one, two in zip(*streams, strict=True):
        np.testing.assert_allclose([one.arousal, one.valence], [two.arousal, two.valence], atol=1e-3)
    assert (models[0].causal() is not None) == network.is_causal
    if network.is_causal:
        whole = [event for event in Stream(models[0], 4.1, 4.1, vad="energy").run([SIGNAL])]
        np.testing.assert_allclose([whole[0].arousal, whole[0].valence], expected[[0, 2]], atol=1e-4)


@needs_compiler
def test_its_integers_are_the_same_in_numpy_and_in_c_to_the_bit(weights, speech, tmp_path):
    network, path = weights
    run("export", path, "-o", tmp_path, "--to", "integers", "--calibrate", speech, "--name", "mine")
    integers = tmp_path / "mine-int8.safetensors"
    reference, native = load(integers, backend="numpy"), load(integers, backend="c")
    assert reference(SIGNAL) == native(SIGNAL) and export_c(integers, tmp_path / "c").error == 0
    np.testing.assert_allclose(reference(SIGNAL), load(path, backend="numpy")(SIGNAL), atol=0.1)
    if network.trained_int8:  # its integers keep what ONNX needs
        run("export", integers, "-o", tmp_path / "onnx", "--name", "mine")
        np.testing.assert_allclose(load(tmp_path / "onnx" / "mine-int8.onnx")(SIGNAL), reference(SIGNAL), atol=0.1)


def test_the_macs_of_its_layers_are_those_of_its_graph(weights, tmp_path):
    """The graph has those of the front end too, which are the same without the layers."""
    network, path = weights
    run("export", path, "-o", tmp_path, "--name", "mine")
    single = replace(network, layers=network.layers[:1], pooled=5)
    write_safetensors(tmp_path / "one.safetensors", random_arrays(2, single), metadata_of(single))
    run("export", tmp_path / "one.safetensors", "-o", tmp_path, "--name", "one")
    whole, less = (count_macs(measured((tmp_path / f"{name}.onnx").read_bytes())) for name in ("mine", "one"))
    assert whole - less == layer_macs(network) - layer_macs(single)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (SMALL, "pools channels; C pools tokens"),
        (micro("large", channels=300), "has a layer with the number 300; C's table goes to 255"),
        (micro("odd", frontend=replace(MICRO.frontend, n_fft=480)), "has an FFT of 480; C has powers of two"),
        (
            replace(
                MICRO, name="strided", layers=(*MICRO.layers, replace(MICRO.layers[1], name="d", norm="e", stride=2))
            ),
            "has depthwise layers with bands or stride",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_c_cannot_run_is_refused_with_the_reason(tmp_path, network, reason):
    write_safetensors(tmp_path / "a.safetensors", random_arrays(0, network), metadata_of(network))
    with pytest.raises(WeightsError, match=f"C cannot run this network, which .*{reason}"):
        header(tmp_path / "a.safetensors")
