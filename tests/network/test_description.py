"""Descriptions of networks: JSON round trip, checks of every field, and old weights independent of defaults."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_student import NETWORKS, ROUNDED, noise, random_arrays
from wav2small import Stream, load
from wav2small.errors import NetworkError
from wav2small.network import config, frontend, micro, reference, wav2small
from wav2small.network.config import Frontend, Layer, Network
from wav2small.network.micro import MICRO
from wav2small.network.wav2small import SMALL, WAV2SMALL
from wav2small.network.weights import DATA, NETWORK, read_index, read_safetensors

DATACLASSES = (Frontend, Layer, Network)
SHIPPED = [
    ("wav2small", "fp32", "numpy"),
    ("wav2small", "int8", "numpy"),
    ("wav2small-17k", "fp32", "numpy"),
    ("wav2small-running", "fp32", "onnx"),
    ("micro", "int8", "onnx"),
    ("micro", "fp32", "numpy"),
    ("micro", "int8", "numpy"),
]


@pytest.mark.parametrize("network", [*NETWORKS.values(), *ROUNDED.values()], ids=lambda network: network.name)
def test_json_gives_the_same_network_back(network):
    assert Network.from_json(network.to_json()) == network == Network.from_json(network.to_json(indent=2))
    assert len(network.to_json()) < 2500


@settings(deadline=None)
@given(
    channels=st.integers(1, 70),
    pooled=st.integers(1, 90),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    dilations=st.lists(st.integers(1, 9), max_size=5),
)
def test_a_micro_of_any_size_survives_json_and_has_arrays_of_its_shapes(channels, pooled, kernel, stride, dilations):
    network = micro.micro("any", channels, pooled, kernel, stride, dilations)
    assert Network.from_json(network.to_json()) == network and network.is_causal
    shapes = network.shapes()
    assert shapes["conv.weight"] == (channels, 40, kernel) and shapes["out.weight"] == (3, pooled)
    assert network.frames_a_token == stride and network.streams()[0] == ("hidden" if dilations else "inner1")


def test_every_weights_file_that_ships_describes_its_network():
    for row in read_index():
        if row["name"] in ("open", "mobilenetv3-small", "mobilenetv4-small"):
            assert row["network"] is None
            continue
        model = load(DATA / row["file"], backend="numpy" if row["file"].endswith(".safetensors") else "onnx")
        assert model.network == Network.from_json(json.dumps(row["network"]))
    metadata = read_safetensors(DATA / "micro.safetensors")[1]
    assert Network.from_json(metadata[NETWORK]) == MICRO


def answers() -> list[np.ndarray]:
    """Of shipped weights, by ONNX and by the reference, and of a stream."""
    signal = noise(5001, 3)
    models = [load(f"{name}:{precision}", backend) for name, precision, backend in SHIPPED]
    events = [event for event in Stream(load("micro"), 0.1, 0.2, vad="energy").run([signal])]
    return [np.array(model(signal)) for model in models] + [np.array([event.arousal for event in events])]


def other(value: object) -> object:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 1 if isinstance(value, int) else value / 2 or 0.5
    return tuple(part + 2 for part in value) if isinstance(value, tuple) else f"{value}x"


def with_default(kind: type, name: str) -> tuple:
    """The defaults of a dataclass, that of one field changed."""
    defaulted = [field for field in fields(kind) if field.default is not field.default_factory]
    return tuple(other(field.default) if field.name == name else field.default for field in defaulted)


DEFAULTS = [
    (kind, field.name) for kind in DATACLASSES for field in fields(kind) if field.default is not field.default_factory
]


@pytest.mark.parametrize(("kind", "name"), DEFAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_shipped_weights_answer_as_before_whatever_a_default_becomes(monkeypatch, kind, name):
    """Also where the networks that new training begins with are others."""
    before = answers()
    changed = Frontend(n_fft=128, win_length=128, hop_length=40, amin=1e-7, variance_floor=1e-3)
    small = micro.micro(stride=1, dilations=(3,))
    monkeypatch.setattr(kind.__init__, "__defaults__", with_default(kind, name))
    for module in (config, frontend):
        monkeypatch.setattr(module, "FRONTEND", changed)
    monkeypatch.setattr(micro, "MICRO", small)
    monkeypatch.setattr(wav2small, "WAV2SMALL", small)
    for one, two in zip(before, answers(), strict=True):
        np.testing.assert_array_equal(one, two)


def edited(change) -> str:
    content = json.loads(MICRO.to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the description of the network is not JSON"),
        ("[]", "not a description of a network of format 1"),
        (edited(lambda c: c.update(format=2)), "not a description of a network of format 1"),
        (edited(lambda c: c.pop("pooled")), "missing pooled"),
        (edited(lambda c: c.update(poling="gram")), "unknown field 'poling'. Did you mean 'pooling'"),
        (edited(lambda c: c.update(pooled=1.5)), "pooled: expected int, got 1.5"),
        (edited(lambda c: c.update(integers=1)), "integers: expected bool, got 1"),
        (edited(lambda c: c.update(normalisation="none")), "normalisation must be one of utterance, running"),
        (edited(lambda c: c.update(name="a/b")), "name must be text without spaces or slashes"),
        (edited(lambda c: c.update(layers=[])), "layers must contain at least one layer"),
        (edited(lambda c: c.update(layers=[3])), r"layers\[0\]: expected an object with name, outputs"),
        (edited(lambda c: c["frontend"].update(hop_length=0)), "frontend: hop_length must be 1 or more"),
        (edited(lambda c: c["frontend"].update(sampling_rate=8000, fmax=4000)), "sampling_rate of its frontend must"),
        (edited(lambda c: c["layers"][1].update(outputs=48)), "'depth1' is depthwise: outputs must be 64"),
        (edited(lambda c: c["layers"][0].update(stride=0)), "stride and dilation must be 1 or more"),
        (edited(lambda c: c["layers"][0].update(kernel=[5, 3])), "'conv' must have one mel in its kernel"),
        (edited(lambda c: c["layers"][0].update(kernel=[5])), r"layers\[0\].kernel: expected"),
        (edited(lambda c: c["layers"][0].update(norm="")), "a convolution needs norm"),
        (edited(lambda c: c["layers"][0].update(adds=True)), "'conv' has adds: the input of the previous layer"),
        (edited(lambda c: c["layers"][0].update(name="point1")), "the name 'point1' is already used"),
        (edited(lambda c: c["layers"][0].update(name="lin")), "the name 'lin' is already used"),
        (edited(lambda c: c["layers"][0].update(causal=False, kernel=[4, 1])), "a centred kernel needs an even"),
        (edited(lambda c: c.update(mels_are_channels=False)), "trained_int8 needs mels_are_channels"),
        (edited(lambda c: c.update(pooling="gram", integers=True)), "integers need pooling tokens"),
    ],
)
def test_a_wrong_description_is_refused_with_the_reason(text, said):
    with pytest.raises(NetworkError, match=f"^mine.json: .*{said}"):
        Network.from_json(text, "mine.json")


FRONTEND_RULES = {
    "win_length must be from 2 to n_fft": [{"win_length": 1}, {"win_length": 65}],
    "hop_length must be 1 or more": [{"hop_length": 0}],
    "n_mels must be 2 or more": [{"n_mels": 1}],
    "fmin and fmax must satisfy 0 <= fmin < fmax <= 8000 Hz": [
        {"fmin": -0.5},
        {"fmin": 500, "fmax": 500},
        {"fmax": 8000.5},
    ],
    "amin and variance_floor must be above 0": [{"amin": 0.0}, {"variance_floor": 0.0}],
}
LAYER_RULES = {
    "a name must contain only a-z, 0-9 and _ and start with a letter": [{"name": "1a"}, {"name": "A"}, {"name": ""}],
    "outputs, kernel, stride and dilation must be 1 or more": [
        *({field: 0} for field in ("outputs", "stride", "dilation")),
        *({"kernel": kernel} for kernel in ((0, 1), (1, 0))),
    ],
    "a centred kernel needs an even (frames - 1) x dilation": [{"kernel": (2, 1)}, {"kernel": (4, 1), "dilation": 3}],
    "a kernel needs an odd number of mels": [{"kernel": (1, 2)}],
    "a convolution needs norm, a name of a-z, 0-9 and _": [{"norm": ""}, {"norm": "no.dots"}],
}
NETWORK_RULES = {
    "name must be text without spaces or slashes": [{"name": name} for name in ("", "a b", "a/b", "a\\b")],
    "normalisation must be one of utterance, running": [{"normalisation": "none"}],
    "level_dur must be at least one hop": [{"level_dur": 0.004}, {"level_dur": -1.0}],
    "pooling must be one of tokens, gram": [{"pooling": "mean"}],
    "layers must contain at least one layer": [{"layers": ()}],
    "pooled and batch_norm_eps must be above 0": [{"pooled": 0}, {"batch_norm_eps": 0.0}],
    "trained_int8 needs mels_are_channels": [{"mels_are_channels": False}],
    "integers need pooling tokens": [{"pooling": "gram", "integers": True}],
}
RULES = [
    *(
        (Frontend(), change, f"frontend: {rule}; got ")
        for rule, changes in FRONTEND_RULES.items()
        for change in changes
    ),
    *((Layer("a", 1, norm="n"), change, f": {rule}; got ") for rule in LAYER_RULES for change in LAYER_RULES[rule]),
    *((MICRO, change, f": {rule}") for rule in NETWORK_RULES for change in NETWORK_RULES[rule]),
]


@pytest.mark.parametrize(("right", "change", "said"), RULES, ids=lambda value: str(value)[:40])
def test_a_number_out_of_its_range_is_refused_with_the_rule(right, change, said):
    with pytest.raises(NetworkError, match=re.escape(said)):
        replace(right, **change)


def test_the_ends_of_a_range_are_allowed():
    for change in ({"win_length": 2}, {"hop_length": 1}, {"n_mels": 2}, {"amin": 1e-30}, {"variance_floor": 1e-30}):
        replace(Frontend(), **change)
    replace(Layer("a_1", 1, norm="n"), kernel=(2, 1), causal=True)
    replace(Layer("a", 1, norm="n"), kernel=(2, 1), dilation=2)
    assert replace(MICRO, level_dur=MICRO.frontend.hop_length / 16000).level_frames == 1
    assert replace(MICRO, pooled=1).embedding_size == 1


def test_a_gram_is_of_the_channels_of_a_token():
    last = replace(SMALL.layers[-1], outputs=5)
    assert replace(SMALL, layers=(*SMALL.layers[:-1], last), pooled=5).embedding_size == 5 * 13 + 25
    for pooled in (4, 13):
        with pytest.raises(NetworkError, match="with pooling gram, pooled must equal the channels of a token"):
            replace(SMALL, layers=(*SMALL.layers[:-1], last), pooled=pooled)


def test_a_layer_adds_the_output_of_a_layer_and_not_the_log_mel():
    first, second, third = (Layer(name, 40, causal=True, norm=f"n{name}") for name in "abc")
    adding = replace(third, adds=True)
    for layers in (
        (replace(first, adds=True),),
        (first, replace(second, adds=True)),
        (first, second, replace(adding, stride=2)),
        (first, replace(second, stride=2), adding),
        (replace(first, outputs=9), second, adding),
    ):
        with pytest.raises(NetworkError, match=f"layer '{layers[-1].name}' has adds: the input of the previous layer"):
            replace(MICRO, layers=layers)
    assert replace(MICRO, layers=(first, second, adding)).streams() == ["hidden", "inner1"]


def test_training_changes_all_parameters_but_a_stored_front_end():
    assert MICRO.num_trained() == MICRO.num_parameters() == 53_267
    stored = 2 * 33 * 64 + 26 * 33
    assert WAV2SMALL.num_parameters() - WAV2SMALL.num_trained() == stored


def test_a_pool_is_of_one_kind():
    layers = list(WAV2SMALL.layers)
    layers[3] = replace(layers[3], stride=3)
    with pytest.raises(NetworkError, match=r"'pool' is a pool: it must have kernel \[3, 3\], stride 2 and 13 outputs"):
        replace(WAV2SMALL, layers=tuple(layers))


def test_the_reference_answers_for_layers_that_no_shipped_network_has():
    """A dilated convolution of all channels, one with a stride behind it, an image with a causal kernel."""
    layers = (
        Layer("first", 6, (3, 1), dilation=3, causal=True, norm="n1"),
        Layer("second", 5, (4, 1), stride=2, causal=True, norm="n2"),
    )
    columns = replace(MICRO, name="other", layers=layers, pooled=7)
    image = replace(WAV2SMALL, name="image", layers=(Layer("one", 4, (3, 5), causal=True, norm="n"),), pooled=9)
    for network in (columns, image):
        arrays = random_arrays(1, network)
        embedding, emotion = reference.forward(noise(8001), arrays, network)
        assert embedding.shape == (network.embedding_size,) and np.isfinite(emotion).all()
        first = reference.features(noise(8001), network)
        outputs = next(reference.activations(first, arrays, network))
        later, half = first.copy(), len(first) // 2
        later[half:] += 1
        changed = next(reference.activations(later, arrays, network))
        assert np.array_equal(changed[:half], outputs[:half]) and not np.array_equal(changed[half:], outputs[half:])
