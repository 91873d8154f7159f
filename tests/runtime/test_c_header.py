"""The C header holds the numbers of the network, in arrays of the sizes that the C runtime reads."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_student import METADATA, ROUNDED, metadata_of, random_arrays
from wav2small.errors import WeightsError
from wav2small.network import fixed_frontend, fixed_point, layers
from wav2small.network.config import Layer, Network
from wav2small.network.frontend import hann, mel_filterbank
from wav2small.network.micro import MICRO, MICRO_INT8, micro
from wav2small.network.wav2small import RUNNING, WAV2SMALL
from wav2small.network.weights import identity, write_safetensors
from wav2small.runtime.c_header import LARGEST_TILE, about, check_runnable, header, hexadecimal, quoted

FLOATS, INTEGERS = (WAV2SMALL, RUNNING, MICRO), (*ROUNDED.values(), MICRO_INT8)
ARRAY = re.compile(r"^static const \w+ w2s_(\w+)\[(\d+)\](?:\[2\])? = \{\n(.*?)^\};$", re.M | re.S)
"""Name, size and numbers of an array."""
TABLE = "layers"
CHANGED = replace(MICRO.frontend, n_fft=256, win_length=200, hop_length=100, n_mels=20)
OTHER = replace(MICRO, name="other", frontend=CHANGED, pooled=37)
"""No size of it is another's."""


@pytest.fixture(scope="module", params=[*FLOATS, *INTEGERS, OTHER], ids=lambda network: network.name)
def made(request, tmp_path_factory):
    """A network, its arrays, and what its header defines and holds."""
    network, path = request.param, tmp_path_factory.mktemp("header") / "a.safetensors"
    write_safetensors(path, random_arrays(1, network), metadata_of(network))
    text = header(path)
    defines = dict(re.findall(r"^#define W2S_(\w+) (.*)$", text, re.M))
    found = {}
    for name, size, body in ARRAY.findall(text):
        if name == TABLE:
            found[name] = [row.strip(" {},").split(", ") for row in body.splitlines()]
        else:
            words = re.findall(r"-?0x[0-9a-f.]+p[+-]\d+f|-?\d+", body)
            found[name] = np.array([float.fromhex(word[:-1]) if word.endswith("f") else int(word) for word in words])
        assert len(found[name]) == int(size) * (2 if name == "mel_weight" else 1)
    assert defines["SHA256"] == f'"{identity(path)}"' and defines["ID"] == f"0x{identity(path)[:8]}u"
    return network, random_arrays(1, network), defines, found


def test_its_front_end_is_that_of_the_network(made):
    network, _, defines, found = made
    frontend = network.frontend
    for name in ("win_length", "hop_length", "n_fft", "n_mels", "sampling_rate"):
        assert int(defines[name.upper()]) == getattr(frontend, name)
    level = network.level_frames if network.normalisation == "running" else 0
    assert int(defines["LEVEL_FRAMES"]) == level and int(defines["INTEGERS"]) == network.integers
    filters = np.zeros((frontend.n_bins - 1, frontend.n_mels))
    for row, band, pair in zip(filters, found["mel_band"].astype(int), found["mel_weight"].reshape(-1, 2), strict=True):
        row[band : band + 2] = pair
    half, turns = frontend.win_length // 2 + 1, np.arange(frontend.n_fft // 2 + 1)
    if network.integers:
        table = fixed_frontend.tables(network)
        for name, expected in {"hann": table.hann, "cosine": table.cosine, "log2": table.log2}.items():
            np.testing.assert_array_equal(found[name], expected)
        np.testing.assert_array_equal(filters, table.mel[:-1])
        np.testing.assert_array_equal(found["powers"], fixed_point.POWERS)
        numbers = {"WINDOW_SHIFT": table.window_shift, "POWER_SHIFT": table.power_shift, "DECIBEL": table.decibel}
        numbers |= {"LEVEL_FLOOR": table.level_floor, "LOG2_UNIT": table.log2_unit, "LOWEST": -100 * 64}
        assert {name: int(defines[name]) for name in numbers} == numbers
    else:
        np.testing.assert_array_equal(found["hann"], hann(frontend)[:half].astype(np.float32))
        cosine = np.cos(2 * np.pi * turns / frontend.n_fft).astype(np.float32)
        np.testing.assert_array_equal(found["cosine"], cosine)
        np.testing.assert_allclose(filters, mel_filterbank(frontend)[:-1] / 4, rtol=1e-7)
        assert float.fromhex(defines["LOWEST"][:-1]) == -100
        assert float.fromhex(defines["VARIANCE_FLOOR"][:-1]) == np.float32(frontend.variance_floor)
    assert len(found["hann"]) == half and len(found["cosine"]) == len(turns)


def test_its_weights_are_those_of_the_network(made):
    """Floats in tiles of outputs, with a row of zeros for what they do not divide."""
    network, arrays, defines, found = made
    tile = int(defines["TILE"])

    def untiled(name: str, rows: int) -> np.ndarray:
        flat = found[name].reshape(-1, found[name].size // (-(-rows // tile) * tile), tile).swapaxes(1, 2)
        whole = flat.reshape(-1, flat.shape[2])
        assert not whole[rows:].any()
        return whole[:rows]

    for place in network.convolutions():
        layer, name = place.layer, place.layer.name
        if network.integers:
            weight = arrays[f"{name}.weight"]
            for part in ("bias", "shift"):
                np.testing.assert_array_equal(found[f"{name}_{part}"], arrays[f"{name}.{part}"])
        else:
            weight, bias = layers.folded(arrays, layer, network.batch_norm_eps)
            np.testing.assert_array_equal(found[f"{name}_bias"], bias)
        flat = (weight.swapaxes(2, 3) if weight.ndim == 4 else weight).reshape(layer.outputs, -1)
        is_tiled = not network.integers and not layer.depthwise
        values = untiled(f"{name}_weight", layer.outputs) if is_tiled else found[f"{name}_weight"].reshape(flat.shape)
        np.testing.assert_array_equal(values, flat)
    for name in ("lin", "sof", "out"):
        weight = arrays[f"{name}.weight"]
        is_tiled = not network.integers and name != "out"
        values = untiled(f"{name}_weight", len(weight)) if is_tiled else found[f"{name}_weight"].reshape(weight.shape)
        factor = np.float32(1 / np.log(2)) if name == "sof" and not network.integers else 1
        np.testing.assert_array_equal(values, weight * factor)
    lin_bias = found["lin_bias"] if network.integers else untiled("lin_bias", network.pooled).ravel()
    np.testing.assert_array_equal(lin_bias, arrays["lin.bias"])
    np.testing.assert_array_equal(found["out_bias"], arrays["out.bias"])


def test_its_table_of_layers_says_what_reaches_each(made):
    network, _, defines, found = made
    assert int(defines["N_LAYERS"]) == len(network.layers) == len(found[TABLE]) - 1
    for place, row in zip(network.places(), found[TABLE], strict=False):
        layer = place.layer
        assert row[0] == ("W2S_MAX_POOL" if layer.pool else "W2S_DEPTHWISE" if layer.depthwise else "W2S_CONVOLUTION")
        shape = (layer.adds, place.inputs, layer.outputs, place.mels, layer.kernel[1] // 2)
        steps = (layer.kernel[1], layer.stride if layer.pool else 1, layer.kernel[0], layer.stride, layer.dilation)
        expected = (*shape, *steps, *layer.padding, place.frames, layer.reach + layer.stride - 1)
        assert tuple(map(int, row[1:15])) == expected
        parts = [] if layer.pool else ["weight", "bias", *(["shift"] if network.integers else [])]
        assert row[15:] == [
            f"w2s_{layer.name}_{part}" if part in parts else "0" for part in ("weight", "bias", "shift")
        ]
    channels = network.layers[-1].outputs
    pooling = (0, channels, 0, network.token_size // channels, 0, *[1] * 5, 0, 0, network.frames_a_token, 0, 0, 0, 0)
    assert found[TABLE][-1] == ["W2S_CONVOLUTION", *map(str, pooling)], "what the pooling reads: no kernel, no arrays"


@pytest.mark.parametrize(
    ("outputs", "pooled", "tile"),
    [
        ((13, 13), 169, 13),
        ((64, 64), 128, 8),
        ((26, 26), 26, 13),
        ((24, 12), 36, 12),
        ((24, 10), 120, 8),
        ((3, 6), 9, 8),
    ],
)
def test_a_tile_divides_the_outputs_of_all_convolutions_if_it_is_worth_it(tmp_path, outputs, pooled, tile):
    """Depthwise layers have none."""
    first, second = outputs
    alone = Layer("b", first, (3, 1), causal=True, depthwise=True, norm="nb")
    made = (Layer("a", first, causal=True, norm="na"), alone, Layer("c", second, causal=True, norm="nc"))
    network = replace(MICRO, name="tiles", layers=made, pooled=pooled)
    write_safetensors(tmp_path / "a", random_arrays(0, network), metadata_of(network))
    assert f"#define W2S_TILE {tile}\n" in header(tmp_path / "a") and tile <= LARGEST_TILE


def test_the_numbers_of_a_layer_fit_into_a_byte():
    def wide(channels: int) -> Network:
        return micro("wide", channels=channels)

    check_runnable(wide(255), "a")
    with pytest.raises(WeightsError, match="a: C cannot run this network, which has a layer with the number 256"):
        check_runnable(wide(256), "a")


def test_it_says_whose_weights_it_holds_and_nothing_where_that_is_not_known():
    facts = {"W2S_MODEL_VERSION": "version", "W2S_LICENCE": "licence", "W2S_TEACHER": "teacher"}
    facts |= {"W2S_TRAINING_DATA": "training_data"}
    for metadata in (METADATA, {"name": "bare"}):
        lines = about(metadata, "0123456789abcdef", MICRO)
        for define, key in {**facts, "W2S_NAME": "name"}.items():
            assert f'#define {define} "{metadata.get(key, "")}"' in lines
        assert "#define W2S_ID 0x01234567u" in lines and '#define W2S_PRECISION "fp32"' in lines


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_a_quoted_text_is_ascii_and_read_as_the_same_utf_8(text):
    """Python reads octal escapes as C does; a question mark is escaped, as two of them begin a trigraph."""
    said = quoted(text)
    assert said.isascii() and said.isprintable() and "?" not in said
    assert ast.literal_eval(f"b{said}") == text.encode()


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_in_hexadecimal_is_the_same_float(value):
    said = hexadecimal(value)
    assert said.endswith("f") and float.fromhex(said[:-1]) == value
