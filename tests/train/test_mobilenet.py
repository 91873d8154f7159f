"""MobileNets: their sizes, their front end and pooling are Wav2Small's, and their export agrees with torch."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from random_student import noise
from wav2small import plugins
from wav2small.errors import MissingExtraError, WeightsError
from wav2small.export import artefacts as export
from wav2small.export.parity import relative
from wav2small.network.frontend import log_mel, normalise
from wav2small.network.probes import voice
from wav2small.network.reference import pool
from wav2small.network.wav2small import WAV2SMALL
from wav2small.network.weights import write_safetensors
from wav2small.runtime.model import load

torch = pytest.importorskip("torch", reason="needs the extra train")

FUNCTIONS = {
    "mobilenetv3-small": "mobilenetv3_small",
    "mobilenetv3-large": "mobilenetv3_large",
    "mobilenetv4-small": "mobilenetv4_small",
    "mobilenetv4-medium": "mobilenetv4_medium",
}
PARAMETERS = {
    "mobilenetv3-small": (1_598_237, 576),
    "mobilenetv3-large": (4_824_749, 960),
    "mobilenetv4-small": (3_114_173, 960),
    "mobilenetv4-medium": (9_055_661, 960),
}
"""Parameters, those of the frozen front end among them, and channels of the trunk."""


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "wav2small.train.students.mobilenet", raising=False)
    where = "wav2small.train.students.mobilenet:mobilenetv4_small"
    entry = EntryPoint("mobilenetv4-small", where, plugins.STUDENTS)
    monkeypatch.setattr(plugins, "_entries", lambda group: {entry.name: entry})
    with pytest.raises(MissingExtraError, match=r"needs timm, not installed: pip install 'wav2small\[mobilenet\]'$"):
        plugins.load(plugins.STUDENTS, "mobilenetv4-small")


def test_each_is_an_entry_point():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for name, function in FUNCTIONS.items():
        assert f'\n{name} = "wav2small.train.students.mobilenet:{function}"\n' in text


@pytest.fixture(scope="module")
def mobilenet():
    pytest.importorskip("timm", reason="needs the extra mobilenet")
    from wav2small.train.students import mobilenet

    return mobilenet


def make(mobilenet, name: str, dropout: float = 0.0):
    """Untrained, its batch norms with the statistics of voices, noise and silence, as trained ones have."""
    torch.manual_seed(0)
    net = getattr(mobilenet, FUNCTIONS[name])(dropout)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    signals = [*(voice(np.random.default_rng(seed), 1.0) for seed in range(3)), noise(16000), noise(16000, 0, 0.0)]
    with torch.no_grad():
        net.train()(torch.from_numpy(np.stack(signals)))
    return net.eval()


@pytest.fixture(scope="module")
def small(mobilenet):
    return make(mobilenet, "mobilenetv4-small")


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_and_the_paper_has_3_million(mobilenet, name):
    net = getattr(mobilenet, FUNCTIONS[name])()
    total, size = PARAMETERS[name]
    assert sum(value.numel() for value in net.parameters()) == total
    assert total - sum(value.numel() for value in net.parameters() if value.requires_grad) == 4224 + 858
    assert net.embedding_size == size == net.lin.in_features


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("samples", "tokens"), [(64, 1), (64 + 32 * 32, 2), (80000, 79)])
def test_tokens_are_16_a_second_from_one_window_on(mobilenet, name, samples, tokens):
    net = getattr(mobilenet, FUNCTIONS[name])().eval()
    assert net.min_length == 64
    with torch.no_grad():
        hidden = net.tokens(net.log_mel(torch.from_numpy(noise(2 * samples).reshape(2, -1))))
        emotion, embedding = net(torch.from_numpy(noise(samples))[None])
    assert hidden.shape == (2, tokens, net.embedding_size)
    assert emotion.shape == (1, 3) and embedding.shape == (1, net.embedding_size)


def test_its_front_end_is_the_papers_and_its_pooling_wav2smalls(small):
    signal = voice(np.random.default_rng(1))
    with torch.no_grad():
        decibel = small.log_mel(torch.from_numpy(signal)[None])
        tokens = small.tokens(decibel)
        emotion, embedding = small.features_to_emotion(decibel)
    np.testing.assert_allclose(decibel[0], log_mel(normalise(signal)), atol=0.02)
    arrays = {name: value.numpy() for name, value in small.state_dict().items()}
    np.testing.assert_allclose(
        embedding[0], pool(tokens[0].numpy(), arrays, replace(WAV2SMALL, pooled=tokens.shape[2])), atol=1e-4
    )
    np.testing.assert_allclose(emotion[0], arrays["out.weight"] @ embedding[0].numpy() + arrays["out.bias"], atol=1e-4)


def test_training_moves_every_trained_parameter_and_dropout_is_for_training_only(mobilenet):
    net = make(mobilenet, "mobilenetv3-small", 0.5)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    signals = torch.from_numpy(noise(2 * 8000).reshape(2, -1))
    assert torch.equal(net(signals)[0], net(signals)[0])
    optimiser = torch.optim.AdamW((value for value in net.parameters() if value.requires_grad), 1e-2)
    emotion, _ = net.train()(signals)
    emotion.square().sum().backward()
    optimiser.step()
    still = {name for name, value in net.named_parameters() if torch.equal(value, before[name])}
    assert still == {"dft_real", "dft_imag", "mel"}


@pytest.fixture(scope="module")
def classifier(mobilenet, tmp_path_factory) -> tuple[Path, dict]:
    """A classifier of pictures as timm stores it, with random weights."""
    import timm

    torch.manual_seed(3)
    state = timm.create_model("mobilenetv4_conv_small").state_dict()
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    write_safetensors(path, {name: value.numpy() for name, value in state.items()}, {})
    return path, state


def test_weights_of_pictures_are_taken_whole_and_nothing_is_downloaded(mobilenet, classifier):
    path, state = classifier
    trunk = mobilenet.MobileNet("mobilenetv4_conv_small", imagenet=path).trunk.state_dict()
    for name, value in trunk.items():
        expected = state[name].sum(1, keepdim=True) if name == "conv_stem.weight" else state[name]
        assert torch.equal(value, expected), name
    assert {name.split(".")[0] for name in state.keys() - trunk.keys()} == {"conv_head", "norm_head", "classifier"}


def test_weights_of_another_trunk_are_refused(mobilenet, classifier):
    with pytest.raises(WeightsError, match=r"model\.safetensors: not the weights of this network; missing: blocks"):
        mobilenet.MobileNet("mobilenetv3_small_100", imagenet=classifier[0])
    with pytest.raises(WeightsError, match="cannot be read"):
        mobilenet.MobileNet("mobilenetv3_small_100", imagenet="nowhere.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3-small", "mobilenetv4-small"])
def test_what_is_exported_agrees_with_torch(mobilenet, tmp_path, monkeypatch, name):
    onnx = pytest.importorskip("onnx", reason="needs the extra train")
    pytest.importorskip("onnxscript", reason="needs the extra train")
    from wav2small.export.from_torch import ALLOWED
    from wav2small.train.students import to_arrays

    entry = EntryPoint(name, f"wav2small.train.students.mobilenet:{FUNCTIONS[name]}", plugins.STUDENTS)
    monkeypatch.setattr(plugins, "_entries", lambda group: {name: entry})
    net = make(mobilenet, name)
    write_safetensors(tmp_path / "best.safetensors", to_arrays(net), {"student": name})
    artefacts = export.export(tmp_path / "best.safetensors", tmp_path, name="mobile")
    assert [artefact.path.name for artefact in artefacts] == ["mobile.onnx", "mobile-int8.onnx"]
    assert artefacts[1].bytes < 0.4 * artefacts[0].bytes < 0.4 * 4.1 * PARAMETERS[name][0]
    for artefact in artefacts:
        model, allowed = load(artefact.path), ALLOWED[artefact.precision]
        assert model.metadata["student"] == name and model.metadata["parameters"] == str(PARAMETERS[name][0])
        assert model.metadata["normalisation"] == "utterance" and model.metadata["min_length"] == "64"
        signal = voice(np.random.default_rng(7), 2.0)
        with torch.no_grad():
            emotion, embedding = net(torch.from_numpy(signal)[None])
        assert relative(model.embed(signal), embedding[0].numpy()) < allowed.embedding
        assert relative(np.array(model(signal)), emotion[0].numpy().clip(0, 1)) < allowed.emotion
        operators = {node.op_type for node in onnx.load(artefact.path).graph.node}
        assert not {"BatchNormalization", "Dropout", "Identity"} & operators
    constants = onnx.load(artefacts[1].path).graph.initializer
    front_end = {tuple(value.dims) for value in constants if value.data_type == onnx.TensorProto.FLOAT}
    assert {(33, 1, 64), (33, 26)} <= front_end
