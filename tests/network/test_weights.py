"""Safetensors there and back, bad files, and the index of what ships."""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from random_student import METADATA, metadata_of, random_arrays
from wav2small.errors import Wav2SmallError, WeightsError
from wav2small.network import reference, weights
from wav2small.network.wav2small import RUNNING, SMALL, WAV2SMALL
from wav2small.network.weights import read_safetensors, write_safetensors

DTYPES = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8])
ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__" and name.isprintable()),
    DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))),
    max_size=5,
)
TEXT = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4)
SAME_FOLDER = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@SAME_FOLDER
@given(ARRAYS, TEXT)
def test_what_is_written_is_read(tmp_path, arrays, metadata):
    write_safetensors(tmp_path / "a", arrays, metadata)
    found, text = read_safetensors(tmp_path / "a")
    assert_same(found, arrays)
    assert text == metadata


@SAME_FOLDER
@given(ARRAYS)
def test_the_safetensors_package_reads_ours(tmp_path, arrays):
    package = pytest.importorskip("safetensors.numpy", reason="needs the extra train")
    write_safetensors(tmp_path / "a", arrays, {"key": "value"})
    assert_same(package.load_file(tmp_path / "a"), arrays)


@SAME_FOLDER
@given(ARRAYS, TEXT)
def test_we_read_the_safetensors_packages(tmp_path, arrays, metadata):
    package = pytest.importorskip("safetensors.numpy", reason="needs the extra train")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    package.save_file(contiguous, tmp_path / "a", metadata or None)
    found, text = read_safetensors(tmp_path / "a")
    assert text == metadata
    assert_same(found, contiguous)


def test_the_same_content_gives_the_same_bytes_in_any_order(tmp_path):
    arrays = dict(random_arrays())
    write_safetensors(tmp_path / "a", arrays, METADATA)
    write_safetensors(tmp_path / "b", dict(reversed(arrays.items())), dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_in_any_memory_layout_are_written_right(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {"turned": array.T, "strided": array[::2, ::3], "big endian": array.astype(">f4")}
    write_safetensors(tmp_path / "a", arrays, {})
    found = read_safetensors(tmp_path / "a")[0]
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected)


def test_arrays_read_are_ones_own(tmp_path):
    write_safetensors(tmp_path / "a", {"x": np.zeros(3, np.float32)}, {})
    found = read_safetensors(tmp_path / "a")[0]["x"]
    found += 1
    np.testing.assert_array_equal(read_safetensors(tmp_path / "a")[0]["x"], np.zeros(3))


@SAME_FOLDER
@given(st.data())
def test_a_file_cut_anywhere_is_refused(tmp_path, data):
    write_safetensors(tmp_path / "whole", {"x": np.ones(5, np.float32), "y": np.ones((2, 3), np.int8)}, {"k": "v"})
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(WeightsError, match="cut: "):
        read_safetensors(tmp_path / "cut")


@SAME_FOLDER
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_but_never_a_crash(tmp_path, position, value):
    write_safetensors(tmp_path / "whole", {"x": np.ones(5, np.float32), "y": np.ones((2, 3), np.int8)}, {"k": "v"})
    content = bytearray((tmp_path / "whole").read_bytes())
    content[position % len(content)] = value
    (tmp_path / "changed").write_bytes(content)
    try:
        arrays, _ = read_safetensors(tmp_path / "changed")
    except WeightsError as error:
        assert "changed: " in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) == 26


def header(tmp_path, entries: object, body: bytes = b"") -> str:
    text = json.dumps(entries).encode()
    path = tmp_path / "made"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return str(path)


@pytest.mark.parametrize(
    ("entries", "body", "said"),
    [
        ({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), "'x' is BF16, supported: F64"),
        ({"x": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "supported"),
        ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), "has 4 bytes"),
        ({"x": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}, b"", "has 0 bytes"),
        ({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4), "has the shape"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8), "expected from 0"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, -4]}}, bytes(4), "truncated or damaged"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(5), "1 bytes after"),
        ({"x": {"dtype": "F32", "shape": [1]}}, bytes(4), "no data_offsets"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, float("inf")]}}, bytes(4), "no data_offsets"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4.5]}}, bytes(4), "no data_offsets"),
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}}, bytes(4), "no data_offsets"),
        ({"x": "data_offsets"}, b"", "no data_offsets"),
        ({"__metadata__": {"k": 1}}, b"", "not text by key"),
        ([1, 2], b"", "not a safetensors file"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_reason(tmp_path, entries, body, said):
    with pytest.raises(WeightsError, match=said):
        read_safetensors(header(tmp_path, entries, body))


@pytest.mark.parametrize("content", [b"", b"abc", b"not safetensors at all", struct.pack("<Q", 2**60) + b"{}"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(WeightsError, match="other: not a safetensors file"):
        read_safetensors(tmp_path / "other")


def test_a_header_that_is_not_json_is_refused(tmp_path):
    for text in (b'{"x": ', b"{\xff}", b'{"x":' + b"[" * 100_000):
        (tmp_path / "other").write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(WeightsError, match="its header is not JSON"):
            read_safetensors(tmp_path / "other")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: cannot be read"):
        read_safetensors(tmp_path / "nowhere.safetensors")


def test_a_dtype_without_a_name_is_refused_and_the_old_file_stays(tmp_path):
    write_safetensors(tmp_path / "a", {"x": np.ones(1, np.float32)}, {})
    with pytest.raises(WeightsError, match="'x' is complex128"):
        write_safetensors(tmp_path / "a", {"x": np.ones(1, complex)}, {})
    np.testing.assert_array_equal(read_safetensors(tmp_path / "a")[0]["x"], [1])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(Wav2SmallError, match="cannot be written"):
        write_safetensors(tmp_path / "no" / "a", {}, {})


def test_load_student_takes_exactly_a_students_arrays(tmp_path):
    write_safetensors(tmp_path / "a", random_arrays(), metadata_of(WAV2SMALL))
    arrays, metadata, network = reference.load_student(tmp_path / "a")
    assert_same(arrays, dict(random_arrays()))
    assert metadata == metadata_of(WAV2SMALL) and network == WAV2SMALL


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.pop("sof.bias"), "this network; missing: sof.bias"),
        (lambda arrays: arrays.update({"norm1.num_batches_tracked": np.array(3)}), "; left over: norm1.num_batches_"),
        (lambda arrays: arrays.update({"out.bias": np.zeros(4, np.float32)}), r"out.bias is float32 \(4,\)"),
        (lambda arrays: arrays.update({"out.bias": np.zeros(3)}), r"out.bias is float64 \(3,\), .* float32 \(3,\)"),
        (lambda arrays: arrays.update({"out.bias": np.float32([0, np.nan, 0])}), "out.bias contains NaN"),
        (
            lambda arrays: arrays.update({"mel": arrays["mel"][::-1].copy()}),
            "mel differs from this version's front end by",
        ),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path, change, said):
    arrays = dict(random_arrays())
    change(arrays)
    write_safetensors(tmp_path / "a", arrays, metadata_of(WAV2SMALL))
    with pytest.raises(WeightsError, match=f"a: .*{said}"):
        reference.load_student(tmp_path / "a")


def test_weights_that_describe_no_network_are_refused(tmp_path):
    write_safetensors(tmp_path / "a", random_arrays(), METADATA | {"student": "wav2small"})
    with pytest.raises(WeightsError, match="a: its metadata do not contain a network; it was written by another"):
        reference.load_student(tmp_path / "a")


def test_the_weights_of_another_network_are_refused(tmp_path):
    write_safetensors(tmp_path / "a", random_arrays(), metadata_of(SMALL) | {"student": "wav2small"})
    with pytest.raises(WeightsError, match=r"lin.weight is float32 \(169, 169\), this network has float32 \(13, 13\)"):
        reference.load_student(tmp_path / "a")


def test_the_description_decides_and_not_the_name(tmp_path):
    write_safetensors(tmp_path / "a", random_arrays(), metadata_of(RUNNING) | {"student": "wav2small", "name": "micro"})
    assert reference.load_student(tmp_path / "a")[2] == RUNNING


def test_the_identity_is_of_the_numbers_and_not_of_how_the_network_is_described(tmp_path):
    for name, metadata in {"bare": METADATA, "a": metadata_of(WAV2SMALL) | {"student": "none"}}.items():
        metadata = {key: value for key, value in metadata.items() if key != "student"}
        write_safetensors(tmp_path / name, random_arrays(), metadata)
    assert weights.identity(tmp_path / "a") == weights.identity(tmp_path / "bare") == weights.sha256(tmp_path / "bare")
    write_safetensors(tmp_path / "b", random_arrays(1), METADATA)
    assert weights.identity(tmp_path / "b") != weights.identity(tmp_path / "a")


def test_the_licence_of_weights_is_that_of_their_teachers_and_their_own(tmp_path):
    for metadata, expected in (
        ({"teacher_licence": "MIT AND CC-BY-4.0", "licence": "Apache-2.0 AND MIT"}, "MIT AND CC-BY-4.0 AND Apache-2.0"),
        ({"licence": "Apache-2.0"}, "Apache-2.0"),
        ({"teacher_licence": "MIT"}, "MIT"),
        ({"name": "silent"}, ""),
    ):
        write_safetensors(tmp_path / "a", {}, metadata)
        assert weights.licence_of(tmp_path / "a") == expected


def test_what_was_made_for_other_weights_is_refused_also_if_these_have_no_sha256():
    weights.check_made_for("the head", "mine 1", "abc", {"sha256": "abc"})
    for metadata, said in (({"sha256": "def"}, "def"), ({}, "")):
        with pytest.raises(
            WeightsError, match=rf"^the head is of mine 1 \(sha256 abc\.\.\.\), .* \(sha256 {said}\.\.\.\)$"
        ):
            weights.check_made_for("the head", "mine 1", "abc", metadata)


@pytest.fixture
def shelf(tmp_path):
    """A folder with an index of two files, one of them damaged after it was indexed."""
    rows = []
    for name, precision, file in (("small", "fp32", "small.onnx"), ("small", "int8", "small-int8.onnx")):
        (tmp_path / file).write_bytes(file.encode())
        row = {"name": name, "precision": precision, "file": file}
        rows.append(row | {"sha256": hashlib.sha256(file.encode()).hexdigest()})
    (tmp_path / "index.json").write_text(json.dumps(rows))
    (tmp_path / "small-int8.onnx").write_bytes(b"damaged")
    return tmp_path


def test_resolve_gives_the_path_of_an_intact_file(shelf):
    assert weights.resolve("small", folder=shelf) == shelf / "small.onnx"
    assert weights.shipped_names(shelf) == ["small"]


def test_resolve_refuses_damage(shelf):
    with pytest.raises(WeightsError, match=r"sha256 is .* expected .* damaged"):
        weights.resolve("small:int8", folder=shelf)


def test_resolve_names_the_closest_and_all(shelf):
    with pytest.raises(WeightsError, match=r"'smal': no such weights\. Did you mean 'small'\? Known: small"):
        weights.resolve("smal", folder=shelf)


@pytest.mark.parametrize(("precisions", "expected"), [(("int8", "fp32"), "fp32"), (("int8",), "int8")])
def test_without_a_precision_fp32_is_meant_or_the_only_one(tmp_path, precisions, expected):
    rows = [{"name": "a", "precision": p, "file": f"{p}.onnx"} for p in precisions]
    for row in rows:
        (tmp_path / row["file"]).write_bytes(b"")
        row["sha256"] = hashlib.sha256(b"").hexdigest()
    (tmp_path / "index.json").write_text(json.dumps(rows))
    assert weights.resolve("a", folder=tmp_path) == tmp_path / f"{expected}.onnx"
    with pytest.raises(WeightsError, match=r"'a:int4': the precision is 'int4', known: fp32, int8"):
        weights.resolve("a:int4", folder=tmp_path)


def test_resolve_says_what_there_is_instead(shelf):
    with pytest.raises(
        WeightsError, match=r"small: does not ship as \.safetensors\. These ship: small \.onnx, small:int8 \.onnx"
    ):
        weights.resolve("small", ".safetensors", shelf)


def test_without_an_index_nothing_ships(tmp_path):
    assert weights.shipped_names(tmp_path) == []
    with pytest.raises(WeightsError, match="no weights are installed"):
        weights.resolve("small", folder=tmp_path)
