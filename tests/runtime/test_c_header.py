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
from wav2small.runtime.c_header import LARGEST_TILE, about, check_runnable, header, hexadecimal, quoted, with_half

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
    half, turns = frontend.win_length // 2 + 1, np.arange(frontend.n_fft // 2 + 1)
    assert len(found["hann"]) == half
    if network.integers:
        table, quarter = fixed_frontend.tables(network), frontend.n_fft // 4 + 1
        for name, expected in {"hann": table.hann, "powers": fixed_point.POWERS}.items():
            np.testing.assert_array_equal(found[name], expected)
        assert len(found["cosine"]) == quarter and found["cosine"][0] == 2**31 - 1, "1 is not used"
        np.testing.assert_array_equal(found["cosine"][1:], 2 * table.cosine[1:quarter])
        np.testing.assert_array_equal(table.cosine, -table.cosine[::-1])
        np.testing.assert_array_equal(found["log2"][:-1], table.log2[:-1])
        assert found["log2"][-1] == 0 and table.log2[-1] == 2**16
        np.testing.assert_array_equal(filters_of(found, frontend.n_bins), table.mel)
        numbers = {"WINDOW_SHIFT": table.window_shift, "POWER_SHIFT": table.power_shift, "DECIBEL": table.decibel}
        numbers |= {"LEVEL_FLOOR": table.level_floor, "LOG2_UNIT": table.log2_unit, "LOWEST": -100 * 64}
        assert {name: int(defines[name]) for name in numbers} == numbers
    else:
        filters = np.zeros((frontend.n_bins - 1, frontend.n_mels))
        pairs = found["mel_weight"].reshape(-1, 2)
        for row, band, pair in zip(filters, found["mel_band"].astype(int), pairs, strict=True):
            row[band : band + 2] = pair
        np.testing.assert_array_equal(found["hann"], hann(frontend)[:half].astype(np.float32))
        cosine = np.cos(2 * np.pi * turns / frontend.n_fft).astype(np.float32)
        np.testing.assert_array_equal(found["cosine"], cosine)
        np.testing.assert_allclose(filters, mel_filterbank(frontend)[:-1] / 4, rtol=1e-7)
        assert float.fromhex(defines["LOWEST"][:-1]) == -100
        assert float.fromhex(defines["VARIANCE_FLOOR"][:-1]) == np.float32(frontend.variance_floor)


def filters_of(found: dict[str, np.ndarray], n_bins: int) -> np.ndarray:
    """The mel filterbank from the arrays of an integer model, shape=(n_bins, n_mels)."""
    filters, weights = np.zeros((n_bins, len(found["mel_first"]))), iter(found["mel_filters"])
    for band, (first, bins) in enumerate(zip(found["mel_first"], found["mel_bins"], strict=True)):
        filters[first : first + bins, band] = [next(weights) for _ in range(bins)]
    assert not list(weights)
    return filters


def test_its_weights_are_those_of_the_network(made):
    """Floats in tiles of outputs, with a row of zeros for what they do not divide. Integers in whole words."""
    network, arrays, defines, found = made
    if network.integers:
        check_integer_weights(network, arrays, found)
        return
    tile = int(defines["TILE"])

    def untiled(name: str, rows: int) -> np.ndarray:
        flat = found[name].reshape(-1, found[name].size // (-(-rows // tile) * tile), tile).swapaxes(1, 2)
        whole = flat.reshape(-1, flat.shape[2])
        assert not whole[rows:].any()
        return whole[:rows]

    for place in network.convolutions():
        layer, name = place.layer, place.layer.name
        weight, bias = layers.folded(arrays, layer, network.batch_norm_eps)
        np.testing.assert_array_equal(found[f"{name}_bias"], bias)
        flat = (weight.swapaxes(2, 3) if weight.ndim == 4 else weight).reshape(layer.outputs, -1)
        whole = found[f"{name}_weight"]
        np.testing.assert_array_equal(
            whole.reshape(flat.shape) if layer.depthwise else untiled(f"{name}_weight", layer.outputs), flat
        )
    for name, factor in {"lin": 1, "sof": np.float32(1 / np.log(2))}.items():
        weight = arrays[f"{name}.weight"]
        np.testing.assert_array_equal(untiled(f"{name}_weight", len(weight)), weight * factor)
    np.testing.assert_array_equal(untiled("lin_bias", network.pooled).ravel(), arrays["lin.bias"])
    np.testing.assert_array_equal(found["out_weight"], arrays["out.weight"].ravel())
    np.testing.assert_array_equal(found["out_bias"], arrays["out.bias"])


def check_integer_weights(network: Network, arrays: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Channels are innermost, and each bias contains one half of the last place."""
    weights = {}
    for place in network.convolutions():
        weight = arrays[f"{place.layer.name}.weight"]
        weights[place.layer.name] = weight[:, 0].T if place.layer.depthwise else in_words(np.moveaxis(weight, 1, -1))
    for name in ("lin", "sof"):
        weight = arrays[f"{name}.weight"].reshape(network.pooled, network.layers[-1].outputs, -1)
        weights[name] = in_words(weight.swapaxes(1, 2))
    for name, weight in weights.items():
        np.testing.assert_array_equal(found[f"{name}_weight"], weight.ravel())
        shift = arrays[f"{name}.shift"].astype(int)
        np.testing.assert_array_equal(found[f"{name}_shift"], shift)
        if name != "sof":
            np.testing.assert_array_equal(found[f"{name}_bias"] - 2.0 ** (shift - 1), arrays[f"{name}.bias"])
    assert "sof_bias" not in found
    for part in ("weight", "bias", "shift"):
        np.testing.assert_array_equal(found[f"out_{part}"], arrays[f"out.{part}"].ravel())


def in_words(weight: np.ndarray) -> np.ndarray:
    """A row for each output, with zeros up to a multiple of four values."""
    flat = weight.reshape(len(weight), -1)
    return np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4)))


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
        parts = ("weight", "shift", "bias") if network.integers else ("weight", "bias")
        assert row[-len(parts) :] == ["0" if layer.pool else f"w2s_{layer.name}_{part}" for part in parts]
        if network.integers and not layer.pool:
            is_narrow = np.abs(found[f"{layer.name}_bias"]).max() < 2**15
            assert row[15] == ("2" if is_narrow else "4")
    channels = network.layers[-1].outputs
    bands, arrays = network.token_size // channels, 4 if network.integers else 2
    pooling = (0, channels, 0, bands, 0, bands, *[1] * 4, 0, 0, network.frames_a_token, 0, *[0] * arrays)
    assert found[TABLE][-1] == ["W2S_CONVOLUTION", *map(str, pooling)], "what the pooling reads: no kernel, no arrays"


def test_shifts_that_c_cannot_do_are_refused_and_those_that_leave_nothing_are_rows_of_zeros():
    arrays = dict(random_arrays(1, MICRO_INT8))
    shift = arrays["lin.shift"].copy()
    shift[:3] = 46, 32, 30
    weight, bias, shifts = with_half(arrays | {"lin.shift": shift}, "lin", "mine")
    assert not weight[:2].any() and not bias[:2].any() and shifts[:3].tolist() == [0, 0, 30]
    np.testing.assert_array_equal(weight[2:], arrays["lin.weight"][2:])
    assert bias[2] == int(arrays["lin.bias"][2]) + 2**29
    for wrong in (31, 47, -32):
        shift[0] = wrong
        with pytest.raises(WeightsError, match="a shift of lin is not from -31 to 30 or 32 to 46"):
            with_half(arrays | {"lin.shift": shift}, "lin", "mine")


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
