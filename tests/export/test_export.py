"""Export: every artefact agrees with the reference at three depths, has metadata, and is written atomically."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from random_student import METADATA, NETWORKS, metadata_of, noise, random_arrays, random_trained
from wav2small.audio import read as audio
from wav2small.cli import main
from wav2small.errors import MissingExtraError, WeightsError
from wav2small.export import artefacts as export
from wav2small.export import parity
from wav2small.export.parity import TOLERANCES, difference, relative, run_depths, with_log_mel
from wav2small.network import fixed_point, probes, reference, weights
from wav2small.network.frontend import log_mel, normalise
from wav2small.network.micro import MICRO, MICRO_INT8
from wav2small.network.wav2small import WAV2SMALL
from wav2small.network.weights import NETWORK, write_safetensors
from wav2small.runtime.model import load

onnx = pytest.importorskip("onnx", reason="needs the extra train")

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("WAV2SMALL_DATA", ROOT.parent / "shared" / "data"))
LEFTOVERS = {"BatchNormalization", "Constant", "Dropout", "Identity", "Shape", "Transpose"}


@pytest.fixture
def best(tmp_path) -> Path:
    """Weights as training writes them."""
    path = tmp_path / "best.safetensors"
    write_safetensors(path, random_arrays(), metadata_of())
    return path


@pytest.fixture(scope="module")
def runners():
    """Sessions that answer log-mel, embedding and emotion, by precision and seed."""
    return {
        (precision, seed): parity.session(with_log_mel(model).SerializeToString(), precision)
        for seed in range(3)
        for precision, model in export.graphs(random_arrays(seed), WAV2SMALL).items()
    }


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(64, 12000), seed=st.integers(0, 2), level=st.sampled_from([1e-3, 0.1, 1.0]))
def test_fp32_agrees_with_the_reference_at_three_depths(runners, samples, seed, level):
    signal, allowed = noise(samples, seed, level), TOLERANCES["fp32"]
    decibel, embedding, emotion = run_depths(runners["fp32", seed], signal)
    expected_embedding, expected_emotion = reference.forward(signal, random_arrays(seed), WAV2SMALL)
    assert difference(decibel, log_mel(normalise(signal))) < allowed.log_mel
    assert relative(embedding, expected_embedding) < allowed.embedding
    assert relative(emotion, expected_emotion) < allowed.emotion


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("label", [label for label, _ in probes.probes()])
def test_int8_agrees_with_the_reference_on_its_probes(runners, label, seed):
    signal, allowed = dict(probes.probes())[label], TOLERANCES["int8"]
    decibel, embedding, emotion = run_depths(runners["int8", seed], signal)
    expected_embedding, expected_emotion = reference.forward(signal, random_arrays(seed), WAV2SMALL)
    assert difference(decibel, log_mel(normalise(signal))) < allowed.log_mel
    assert relative(embedding, expected_embedding) < allowed.embedding
    assert relative(emotion, expected_emotion) < allowed.emotion


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(64, 12000), seed=st.integers(0, 2))
def test_int8_is_exactly_the_graph_of_the_rounded_weights(runners, samples, seed):
    from wav2small.export import onnx_graph

    model = onnx_graph.build(random_arrays(seed), WAV2SMALL)
    for constant in model.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        if constant.name in onnx_graph.INT8:
            integers, scale = onnx_graph.quantise_rows(array)
            constant.CopyFrom(onnx.numpy_helper.from_array(integers * scale, constant.name))
        elif constant.name.endswith(".weight"):
            constant.CopyFrom(onnx.numpy_helper.from_array(array.astype("f2").astype("f4"), constant.name))
    expected = parity.session(model.SerializeToString(), "rounded").run(None, {"signal": noise(samples)[None]})
    found = runners["int8", seed].run(["emotion", "embedding"], {"signal": noise(samples)[None]})
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_every_student_is_exported_and_agrees(tmp_path, config):
    arrays = random_arrays(1, config)
    trained = random_trained(1, config) if config.name == "micro-int8" else arrays
    write_safetensors(tmp_path / "best.safetensors", trained, metadata_of(config))
    artefacts = export.export(tmp_path / "best.safetensors", tmp_path)
    expected = {"micro": ["fp32"], "micro-int8": ["int8"]}.get(config.name, ["fp32", "int8"])
    assert [artefact.precision for artefact in artefacts] == expected
    for artefact in artefacts:
        model = load(artefact.path)
        assert model.metadata["student"] == config.name and model.metadata["normalisation"] == config.normalisation
        allowed = TOLERANCES[artefact.precision]
        if config.name == "micro-int8":
            arrays, config = fixed_point.to_floats(arrays, config)[0], MICRO
        for signal in (noise(400), noise(9000, 2), probes.voice(np.random.default_rng(5), 5.0)):
            embedding, emotion = reference.forward(signal, arrays, config)
            assert relative(model.embed(signal), embedding) < allowed.embedding
            assert relative(np.array(model(signal)), np.clip(emotion, 0, 1)) < allowed.emotion


def test_the_integers_are_written_beside_and_run(tmp_path):
    config = MICRO_INT8
    write_safetensors(tmp_path / "best.safetensors", random_trained(2, config), metadata_of(config))
    export.export(tmp_path / "best.safetensors", tmp_path, name="small")
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.safetensors",
        "small-int8.onnx",
        "small-int8.safetensors",
    }
    arrays, metadata, _ = reference.load_student(tmp_path / "small-int8.safetensors")
    assert arrays["conv.weight"].dtype == np.int8 and metadata["precision"] == "int8"
    signal = probes.voice(np.random.default_rng(5))
    emotion = load(tmp_path / "small-int8.safetensors", backend="numpy")(signal)
    np.testing.assert_array_equal(emotion, np.clip(reference.forward(signal, arrays, config)[1], 0, 1))
    np.testing.assert_allclose(emotion, load(tmp_path / "small-int8.onnx")(signal), atol=0.1)
    stored = onnx.load(tmp_path / "small-int8.onnx")
    eight = {c.name: onnx.numpy_helper.to_array(c) for c in stored.graph.initializer if c.name.endswith(".int8")}
    assert len(eight) == 14
    for name, array in eight.items():
        np.testing.assert_array_equal(array, arrays[name.removesuffix(".int8")])


@pytest.mark.parametrize("change", ["missing", "left over", "dtype", "shape"])
def test_integers_that_are_not_as_they_should_be_are_named(tmp_path, change):
    arrays = dict(random_arrays(2, MICRO_INT8))
    if change == "missing":
        del arrays["sof.shift"]
    elif change == "left over":
        arrays["sof.bias"] = arrays["lin.bias"]
    else:
        arrays["lin.weight"] = arrays["lin.weight"].astype("f4") if change == "dtype" else arrays["lin.weight"][:5]
    write_safetensors(tmp_path / "a.safetensors", arrays, metadata_of(MICRO_INT8))
    with pytest.raises(WeightsError, match=r"(sof|lin)\.(shift|bias|weight) is .*expected "):
        reference.load_student(tmp_path / "a.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("batch", "samples"), [(1, 64), (2, 95), (3, 16000), (7, 4321)])
def test_batch_and_samples_are_free_and_rows_do_not_mix(runners, precision, batch, samples):
    signals = np.stack([noise(samples, seed=row, level=10.0 ** (-row % 4)) for row in range(batch)])
    emotion, embedding = runners[precision, 0].run(["emotion", "embedding"], {"signal": signals})
    assert emotion.shape == (batch, 3) and embedding.shape == (batch, WAV2SMALL.embedding_size)
    for row, signal in enumerate(signals):
        alone = runners[precision, 0].run(["emotion", "embedding"], {"signal": signal[None]})
        np.testing.assert_allclose(emotion[row], alone[0][0], atol=2e-5)
        np.testing.assert_allclose(embedding[row], alone[1][0], atol=1e-4)


@pytest.fixture(scope="module")
def micro():
    """Runs micro with its log-mel, whose windows are cut, and whose DFT takes two steps."""
    model = export.graphs(random_arrays(0, MICRO), MICRO)["fp32"]
    return parity.session(with_log_mel(model).SerializeToString(), "fp32")


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(400, 1800), seed=st.integers(0, 99))
def test_the_windows_of_micro_are_those_of_its_front_end(micro, samples, seed):
    signals = np.stack([noise(samples, seed=seed, level=10.0**-row) for row in range(2)])
    (found,) = micro.run(["log_mel"], {"signal": signals})
    for signal, decibel in zip(signals, found, strict=True):
        expected = reference.features(signal, MICRO)
        assert decibel.T.shape == expected.shape
        assert difference(decibel.T, expected) < TOLERANCES["fp32"].log_mel


@pytest.mark.parametrize("frequency", [60, 100, 1000, 4000, 7800])
def test_a_tone_is_in_its_bins_and_nowhere_else(micro, frequency):
    """A bin that is missing or used twice would change a band by 3 dB or more."""
    signal = np.sin(2 * np.pi * frequency * np.arange(16000) / 16000).astype(np.float32)
    (found,) = micro.run(["log_mel"], {"signal": signal[None]})
    expected = np.maximum(reference.features(signal, MICRO), -60)  # below is what float32 rounds
    np.testing.assert_allclose(np.maximum(found[0].T, -60), expected, atol=TOLERANCES["fp32"].log_mel)


def test_a_signal_shorter_than_a_window_is_no_answer(micro):
    with pytest.raises(Exception, match="AveragePool"):
        micro.run(["log_mel"], {"signal": np.zeros((1, 399), np.float32)})


def test_real_speech_agrees_at_three_depths(runners):
    signal = audio.read(ROOT / "examples" / "08a05Fe.flac")
    decibel, embedding, emotion = run_depths(runners["fp32", 0], signal)
    expected_embedding, expected_emotion = reference.forward(signal, random_arrays(), WAV2SMALL)
    assert difference(decibel, log_mel(normalise(signal))) < TOLERANCES["fp32"].log_mel
    assert relative(embedding, expected_embedding) < TOLERANCES["fp32"].embedding
    assert relative(emotion, expected_emotion) < TOLERANCES["fp32"].emotion


def test_rounding_is_within_half_a_step_and_keeps_what_is_zero():
    from wav2small.export import onnx_graph

    weight = random_arrays()["lin.weight"].copy()
    weight[3] = 0
    integers, scale = onnx_graph.quantise_rows(weight)
    assert integers.dtype == np.int8 and np.abs(integers).max(axis=1).tolist() == [127] * 3 + [0] + [127] * 165
    assert (np.abs(integers * scale - weight) <= scale / 2 * 1.0001).all()


def test_the_graph_is_clean(best, tmp_path):
    for artefact in export.export(best, tmp_path):
        model = onnx.load(artefact.path)
        assert not LEFTOVERS & {node.op_type for node in model.graph.node}
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        assert {node.name for node in model.graph.node}.isdisjoint({""})
        axes = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
        assert (model.graph.input[0].name, axes) == ("signal", ["batch", "samples"])
        assert [output.name for output in model.graph.output] == ["emotion", "embedding"]


def test_int8_holds_the_trained_weights_small_and_the_front_end_as_float(best, tmp_path):
    constants = {value.name: value for value in onnx.load(export.export(best, tmp_path)[1].path).graph.initializer}
    of_type = {
        dtype: {name for name, value in constants.items() if value.data_type == getattr(onnx.TensorProto, dtype)}
        for dtype in ("INT8", "FLOAT16", "FLOAT")
    }
    assert of_type["INT8"] == {"lin.weight.int8", "sof.weight.int8"}
    assert of_type["FLOAT16"] == {f"{name}.weight.float16" for name in [f"conv{i}" for i in range(1, 8)] + ["out"]}
    assert {"dft", "mel"} < of_type["FLOAT"] and not [name for name in of_type["FLOAT"] if name.endswith(".weight")]


def test_files_sizes_and_errors_are_as_reported(best, tmp_path):
    fp32, int8 = export.export(best, tmp_path / "new" / "folder", name="mine", version="2")
    assert [fp32.path.name, int8.path.name] == ["mine.onnx", "mine-int8.onnx"]
    for artefact in (fp32, int8):
        assert artefact.path.stat().st_size == artefact.bytes and weights.sha256(artefact.path) == artefact.sha256
        for depth, error in asdict(artefact.errors).items():
            assert 0 < error < asdict(TOLERANCES[artefact.precision])[depth]
    assert int8.bytes < 120_000 < fp32.bytes < 300_000


def test_export_repeats_to_the_byte(best, tmp_path):
    first, second = export.export(best, tmp_path / "a"), export.export(best, tmp_path / "b")
    assert [artefact.sha256 for artefact in first] == [artefact.sha256 for artefact in second]


def test_metadata_is_inside_and_arguments_come_before_what_is_stored(best, tmp_path):
    artefacts = export.export(best, tmp_path, name="mine", version="2", extra={"licence": "MIT", "loss": "ccc"})
    for artefact in artefacts:
        found = {entry.key: entry.value for entry in onnx.load(artefact.path).metadata_props}
        assert found == metadata_of(WAV2SMALL) | {
            "name": "mine",
            "version": "2",
            "licence": "MIT",
            "loss": "ccc",
            "precision": artefact.precision,
            "sampling_rate": "16000",
            "outputs": "arousal,dominance,valence",
            "normalisation": "utterance",
            "min_length": "64",
            "student": "wav2small",
            "parameters": "72477",
            "trained_parameters": "67395",
        }


def test_without_a_name_the_file_gives_it(tmp_path):
    write_safetensors(tmp_path / "bare.safetensors", random_arrays(), {NETWORK: WAV2SMALL.to_json()})
    assert [artefact.path.name for artefact in export.export(tmp_path / "bare.safetensors", tmp_path)] == [
        "bare.onnx",
        "bare-int8.onnx",
    ]


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"name": "../up"}, "it becomes a file name"),
        ({"name": ".hidden"}, "it becomes a file name"),
        ({"extra": {"ccc": "high"}}, "'high', which is not JSON"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(best, tmp_path, keywords, said):
    with pytest.raises(WeightsError, match=said):
        export.export(best, tmp_path / "out", **keywords)
    assert not (tmp_path / "out").exists()


def spoil(name: str, factor: float):
    """A builder of graphs in which one constant is wrong."""
    from wav2small.export import onnx_graph

    right = onnx_graph.build

    def build(arrays, network):
        model = right(arrays, network)
        constant = next(value for value in model.graph.initializer if value.name == name)
        constant.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(constant) * factor, name))
        return model

    return build


@pytest.mark.parametrize(
    ("name", "factor", "depth"),
    [
        ("mel", np.float32(1.01), "log_mel"),
        ("decibel", np.float32(0.99), "log_mel"),
        ("conv5.bias", np.float32(1.05), "embedding"),
        ("sof.weight", np.float32(1.05), "embedding"),
        ("out.bias", np.float32(1.01), "emotion"),
    ],
)
def test_a_wrong_graph_is_refused_and_nothing_is_written(best, tmp_path, monkeypatch, name, factor, depth):
    monkeypatch.setattr("wav2small.export.onnx_graph.build", spoil(name, factor))
    with pytest.raises(WeightsError, match=rf"fp32 ONNX: {depth} differs by .* nothing was written"):
        export.export(best, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_int8_graph_leaves_not_even_the_fp32_file(best, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "wav2small.export.onnx_graph.quantise_rows",
        lambda weight, scale: (np.zeros(weight.shape, "i1"), np.ones(1, "f4")),
    )
    with pytest.raises(WeightsError, match="int8 ONNX: embedding differs"):
        export.export(best, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(best, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be created"):
        export.export(best, tmp_path / "file" / "folder")


def test_without_onnx_the_extra_is_named(best, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "wav2small.export.onnx_graph", raising=False)
    monkeypatch.delattr("wav2small.export.onnx_graph", raising=False)
    with pytest.raises(MissingExtraError, match=r"export needs onnx, not installed: pip install 'wav2small\[train\]'"):
        export.export(best, tmp_path / "out")


def test_ship_writes_arrays_both_graphs_and_an_index_that_resolves(best, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    head = {"w": np.ones((4, 2), np.float32)}
    write_safetensors(folder / "open.safetensors", head, METADATA | {"name": "open"})
    export.ship(best, name="small", version="1.0", folder=folder)
    rows = weights.read_index(folder)
    assert [(row["name"], row["precision"], row["file"], row["parameters"]) for row in rows] == [
        ("open", "fp32", "open.safetensors", 8),
        ("small", "int8", "small-int8.onnx", 72477),
        ("small", "fp32", "small.onnx", 72477),
        ("small", "fp32", "small.safetensors", 72477),
    ]
    for row in rows:
        path = folder / row["file"]
        assert weights.resolve(f"{row['name']}:{row['precision']}", path.suffix, folder) == path
        assert row["bytes"] == path.stat().st_size and row["licence"] == "CC0-1.0"
        assert row["ccc"] == {"emodb": {"arousal": 0.5}} and row["teacher"] == "nobody"
    arrays, metadata, _ = reference.load_student(folder / "small.safetensors")
    assert metadata["version"] == "1.0" and metadata["outputs"] == "arousal,dominance,valence"
    np.testing.assert_array_equal(arrays["lin.weight"], random_arrays()["lin.weight"])


def test_shipping_again_changes_nothing(best, tmp_path):
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}

    (tmp_path / "data").mkdir()
    export.ship(best, name="small", version="1.0", folder=tmp_path / "data")
    before = content()
    export.ship(tmp_path / "data" / "small.safetensors", folder=tmp_path / "data")
    assert content() == before and len(before) == 4


def test_what_is_too_large_does_not_ship(best, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_SHIPPED_BYTES", 200_000)
    folder = tmp_path / "data"
    (small,) = export.ship(best, name="small", version="1.0", folder=folder)
    assert small.path.name == "small-int8.onnx"
    assert {path.name for path in folder.iterdir()} == {"small-int8.onnx", "index.json"}
    with pytest.raises(WeightsError, match=r"small:fp32: does not ship as \.onnx\. These ship: small:int8 \.onnx"):
        weights.resolve("small:fp32", folder=folder)
    monkeypatch.setattr(export, "MAX_SHIPPED_BYTES", 20_000)
    with pytest.raises(WeightsError, match="every artefact is larger than 20000 bytes; give a folder with -o"):
        export.ship(best, name="other", version="1.0", folder=folder)
    assert [row["name"] for row in weights.read_index(folder)] == ["small"]


def test_what_ships_must_say_whose_it_is(tmp_path):
    write_safetensors(tmp_path / "bare.safetensors", random_arrays(), {"name": "bare", NETWORK: WAV2SMALL.to_json()})
    with pytest.raises(
        WeightsError, match="metadata are missing: version, licence, teacher, training_data, ccc; add --metadata"
    ):
        export.ship(tmp_path / "bare.safetensors", folder=tmp_path)


def test_command_writes_files_and_shows_their_errors(best, tmp_path):
    arguments = ["export", str(best), "-o", str(tmp_path / "out"), "--version", "7", "--metadata", "licence=a=b"]
    result = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)
    assert [row["bytes"] for row in rows] == [Path(row["file"]).stat().st_size for row in rows]
    assert [row["precision"] for row in rows] == ["fp32", "int8"]
    assert all(float(row["emotion error"]) < TOLERANCES["int8"].emotion for row in rows)
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "random.onnx").metadata_props}
    assert (found["version"], found["licence"]) == ("7", "a=b")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.safetensors", "-o", "out"], 1, "wav2small: nowhere.safetensors: no such file"),
        (["nowhere.safetensors"], 2, "Give one of -o FOLDER and --ship"),
        (["nowhere.safetensors", "-o", "out", "--ship"], 2, "Give one of -o FOLDER and --ship"),
        (["nowhere.safetensors", "-o", "out", "--metadata", "licence"], 2, "Give key=value"),
    ],
)
def test_command_says_what_is_wrong(arguments, code, said):
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == code and said in result.output


shipped = pytest.mark.skipif("wav2small" not in weights.shipped_names(), reason="weights have not shipped yet")


@shipped
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_ships_is_what_export_makes_of_the_arrays_that_ship(precision):
    arrays, metadata, config = reference.load_student(weights.resolve("wav2small", suffix=".safetensors"))
    model = export.graphs(arrays, config)[precision]
    export.describe(model, metadata | {"precision": precision})
    ships = onnx.load(weights.resolve(f"wav2small:{precision}"))
    assert {value.name: value for value in ships.graph.initializer}.keys() == {
        value.name for value in model.graph.initializer
    }
    for one, other in zip(ships.graph.initializer, model.graph.initializer, strict=True):
        np.testing.assert_allclose(onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other), atol=1e-6)
    props = {entry.key: entry.value for entry in ships.metadata_props}
    assert props == {entry.key: entry.value for entry in model.metadata_props}


@shipped
@settings(max_examples=15, deadline=None)
@given(samples=st.integers(64, 12000), seed=st.integers(0, 99))
def test_shipped_torch_numpy_and_fp32_agree_at_three_depths(samples, seed):
    torch = pytest.importorskip("torch", reason="needs the extra train")
    from wav2small.train.students import from_arrays

    arrays = reference.load_student(weights.resolve("wav2small", suffix=".safetensors"))[0]
    signal, allowed = noise(samples, seed), TOLERANCES["fp32"]
    expected_embedding, expected_emotion = reference.forward(signal, arrays, WAV2SMALL)
    runner = parity.session(with_log_mel(onnx.load(weights.resolve("wav2small"))).SerializeToString(), "shipped")
    net = from_arrays(arrays, WAV2SMALL)
    with torch.no_grad():
        row = torch.from_numpy(signal)[None]
        by_torch = [net.log_mel(row)[0].numpy(), net(row)[1][0].numpy(), net(row)[0][0].numpy()]
    for decibel, embedding, emotion in (run_depths(runner, signal), by_torch):
        assert difference(decibel, log_mel(normalise(signal))) < allowed.log_mel
        assert relative(embedding, expected_embedding) < allowed.embedding
        assert relative(emotion, expected_emotion) < allowed.emotion


@shipped
@pytest.mark.skipif(not (DATA / "open" / "emodb").is_dir(), reason=f"no speech in {DATA}; set WAV2SMALL_DATA")
def test_shipped_int8_agrees_on_real_speech():
    arrays = reference.load_student(weights.resolve("wav2small", suffix=".safetensors"))[0]
    model = onnx.load(weights.resolve("wav2small:int8"))
    runner = parity.session(with_log_mel(model).SerializeToString(), "shipped")
    files = audio.find_files([DATA / "open" / "emodb"])[::40]
    assert len(files) >= 10
    for file in files:
        signal = audio.read(file)
        decibel, embedding, emotion = run_depths(runner, signal)
        expected_embedding, expected_emotion = reference.forward(signal, arrays, WAV2SMALL)
        assert difference(decibel, log_mel(normalise(signal))) < TOLERANCES["int8"].log_mel
        assert relative(embedding, expected_embedding) < TOLERANCES["int8"].embedding
        assert relative(emotion, expected_emotion) < TOLERANCES["int8"].emotion


@shipped
@pytest.mark.parametrize("clip", sorted((ROOT / "examples").glob("*.flac")), ids=lambda clip: clip.stem)
def test_shipped_micro_is_one_network_in_all_its_forms(clip):
    """torch has no part here: NumPy, ONNX, integers, and the ONNX file of the integers, on speech."""
    signal = audio.read(clip)
    forms = {(p, b): load(f"micro:{p}", b) for p in ("fp32", "int8") for b in ("numpy", "onnx")}
    answers = {form: np.array(model(signal)) for form, model in forms.items()}
    np.testing.assert_allclose(answers["fp32", "onnx"], answers["fp32", "numpy"], atol=1e-3)
    np.testing.assert_allclose(answers["int8", "onnx"], answers["int8", "numpy"], atol=0.06)
    arrays, _, config = reference.load_student(weights.resolve("micro:int8", ".safetensors"))
    embedding = reference.forward(signal, arrays, config)[0]
    found = forms["int8", "onnx"].embed(signal)
    assert np.corrcoef(found, embedding)[0, 1] > 0.98
