"""A plug-in student: the code of docs/students.md is installed, trained, exported and run; wrong use is reported."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import PluginError, WeightsError
from wav2small.export import artefacts as export
from wav2small.export.parity import relative
from wav2small.network import weights
from wav2small.network.config import OUTPUTS
from wav2small.network.probes import voice
from wav2small.network.weights import read_safetensors, write_safetensors
from wav2small.runtime.model import load
from wav2small.session import session

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra train")

from wav2small.export import from_torch as export_torch  # noqa: E402
from wav2small.export.from_torch import ALLOWED  # noqa: E402
from wav2small.train.students import build, from_arrays, to_arrays  # noqa: E402

DOCUMENT = Path(__file__).parents[2] / "docs" / "students.md"
OWN = DOCUMENT.read_text(encoding="utf-8").partition("\n## Your own network as code\n")[2]
RATE = 16000


def block(language: str) -> str:
    """The one block of a language in the part about a student of one's own."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", OWN, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The example as pip leaves it: a module, and a folder with the entry point that its pyproject.toml has."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "mine.py").write_text(block("python"), encoding="utf-8")
    section = re.search(r'^(\[project\.entry-points\."wav2small\.students"\])\n(.*)', block("toml"), re.M | re.S)
    about = folder / "mine-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[wav2small.students]\n" + section[2].replace('"', ""))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("mine", None)
    torch.set_num_threads(threads)


def clips(folder: Path, count: int, seed: int) -> Path:
    """A table of labelled clips of noise: A is the level, D the length, V drawn."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "speaker", *OUTPUTS])
        for number in range(count):
            level, length, valence = rng.random(3)
            signal = 0.01 * 20**level * rng.standard_normal(int(1500 + 2500 * length))
            soundfile.write(folder / f"{number}.wav", signal, RATE)
            writer.writerow([f"{number}.wav", f"{folder.name}{number}", level, length, valence])
    return folder / "labels.csv"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return clips(folder / "train", 12, 1), clips(folder / "dev", 6, 2)


@pytest.fixture(scope="module")
def trained(installed, tables, tmp_path_factory) -> Path:
    """The folder of a short run, by the command of the document."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    result = run("train", tables[0], "--dev", tables[1], "-o", folder, "--student", "mine", "--steps", 4)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    result = run("export", trained / "best.safetensors", "-o", folder, "--name", "mine", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["file"], row["bytes"]) for row in rows] == [
        (str(folder / name), (folder / name).stat().st_size) for name in ("mine.onnx", "mine-int8.onnx")
    ]
    for row in rows:
        assert 0 < float(row["emotion error"]) < ALLOWED[row["precision"]].emotion
    return folder


def net(trained: Path) -> torch.nn.Module:
    arrays, _ = read_safetensors(trained / "best.safetensors")
    return from_arrays(arrays, "mine", "best.safetensors")


def test_the_example_is_under_30_lines_and_listed():
    assert len(block("python").splitlines()) < 30
    assert " mine," in run("models").stdout.partition("Students, for train and distil")[2].replace("\n", " ")


def test_training_moved_it_and_its_weights_say_whose_they_are(trained):
    arrays, metadata = read_safetensors(trained / "best.safetensors")
    assert metadata["student"] == "mine" and metadata["step"] == "4"
    torch.manual_seed(1)
    untrained = to_arrays(build("mine", 0.2))
    assert arrays.keys() == untrained.keys()
    still = {name for name in arrays if np.array_equal(arrays[name], untrained[name])}
    assert still == {"window"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("batch", "samples"), [(1, 512), (1, 1000), (3, 9600), (2, 48000)])
def test_what_was_exported_answers_as_torch_does_for_any_batch(trained, exported, precision, batch, samples):
    runner = session((exported / f"mine{export.SUFFIXES[precision]}").read_bytes(), "mine")
    signals = np.stack([voice(np.random.default_rng(seed))[:samples] for seed in range(batch)])
    with torch.no_grad():
        expected = net(trained)(torch.from_numpy(signals))
    found = runner.run(["emotion", "embedding"], {"signal": signals})
    assert found[0].shape == (batch, 3) and found[1].shape == (batch, 64)
    for one, other, allowed in zip(found, expected, (ALLOWED[precision].emotion, 0.03), strict=True):
        assert relative(one, other.numpy()) < allowed
    for row, signal in enumerate(signals):
        np.testing.assert_allclose(runner.run(["emotion"], {"signal": signal[None]})[0][0], found[0][row], atol=1e-5)


def test_what_is_shorter_than_its_window_is_padded(exported):
    model = load(exported / "mine.onnx")
    short = voice(np.random.default_rng(0))[8000:8100]
    np.testing.assert_array_equal(model.embed(short), model.embed(np.pad(short, (0, 412))))


def test_the_file_says_what_ours_say_and_no_file_of_this_machine(exported, trained):
    for precision, suffix in export.SUFFIXES.items():
        content = (exported / f"mine{suffix}").read_bytes()
        model = onnx.load_from_string(content)
        found = {entry.key: entry.value for entry in model.metadata_props}
        assert found.keys() >= {*export.SHIPPED, "recipe", "step"}
        assert {key: found[key] for key in ("name", "student", "min_length", "outputs", "precision")} == {
            "name": "mine",
            "student": "mine",
            "min_length": "512",
            "outputs": "arousal,dominance,valence",
            "precision": precision,
        }
        assert int(found["parameters"]) == sum(value.numel() for value in net(trained).parameters())
        assert found["sampling_rate"] == "16000" and found["normalisation"] == "unknown"
        axes = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
        assert (model.graph.input[0].name, axes) == ("signal", ["batch", "samples"])
        assert [output.name for output in model.graph.output] == ["emotion", "embedding"]
        assert not {"Dropout", "Identity"} & {node.op_type for node in model.graph.node}
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
        assert b".py" not in content and str(Path(__file__).parents[2]).encode() not in content


def test_int8_rounds_the_trained_weights_and_leaves_the_window(exported):
    constants = {value.name: value for value in onnx.load(exported / "mine-int8.onnx").graph.initializer}
    types = {onnx.TensorProto.DataType.Name(value.data_type) for value in constants.values()}
    assert types >= {"INT8", "FLOAT16", "FLOAT"}
    (eight,) = (value for value in constants.values() if value.data_type == onnx.TensorProto.INT8)
    assert list(eight.dims) == [64, 257, 5]
    window = [onnx.numpy_helper.to_array(value) for value in constants.values() if list(value.dims) == [512]]
    np.testing.assert_allclose(window[0], torch.hann_window(512))


def test_predict_runs_it(exported, tables):
    result = run("predict", tables[1].parent / "0.wav", "--model", exported / "mine.onnx", "--format", "json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert all(0 <= row[name] <= 1 for name in OUTPUTS)


@pytest.mark.slow
def test_export_repeats_to_the_byte(trained, exported, tmp_path):
    for artefact in export.export(trained / "best.safetensors", tmp_path, name="mine"):
        assert artefact.path.read_bytes() == (exported / artefact.path.name).read_bytes()


@pytest.mark.slow
def test_it_can_ship(trained, tmp_path):
    about = {"version": "1", "training_data": "noise", "teacher": "nobody", "ccc": '{"noise": 0.5}'}
    export.ship(trained / "best.safetensors", name="mine", extra=about, folder=tmp_path)
    rows = weights.read_index(tmp_path)
    assert [row["file"] for row in rows] == ["mine-int8.onnx", "mine.onnx", "mine.safetensors"]
    assert len({row["parameters"] for row in rows}) == 1


@pytest.mark.parametrize("command", ["train", "export"])
def test_an_unknown_student_is_told_with_the_closest(trained, tables, tmp_path, command):
    if command == "train":
        result = run("train", tables[0], "--dev", tables[1], "-o", tmp_path, "--student", "mini")
    else:
        arrays, metadata = read_safetensors(trained / "best.safetensors")
        write_safetensors(tmp_path / "a.safetensors", arrays, metadata | {"student": "mini"})
        result = run("export", tmp_path / "a.safetensors", "-o", tmp_path / "out")
        assert not (tmp_path / "out").exists() and f"{tmp_path}/a.safetensors: " in result.stderr
    assert result.exit_code == 1
    assert "unknown student 'mini'. Did you mean 'mine'? Known: " in result.stderr


def test_weights_of_another_student_are_refused_by_name(trained, tmp_path):
    arrays, metadata = read_safetensors(trained / "best.safetensors")
    other = to_arrays(build("wav2small"))
    write_safetensors(tmp_path / "a.safetensors", other, metadata)
    with pytest.raises(
        WeightsError, match=r"a\.safetensors, student mine: .* missing: conv\.bias, .*; left over: conv1"
    ):
        export.export(tmp_path / "a.safetensors", tmp_path / "out")
    write_safetensors(tmp_path / "b.safetensors", arrays | {"conv.weight": arrays["conv.weight"][:, :5]}, metadata)
    with pytest.raises(WeightsError, match=r"conv\.weight is float32 \(64, 5, 5\), this network has .* \(64, 257, 5\)"):
        export.export(tmp_path / "b.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_student_is_not_resumed(trained, tables, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    result = run("train", tables[0], "--dev", tables[1], "-o", tmp_path / "run", "--student", "micro", "--steps", 4)
    assert result.exit_code == 1
    assert "contains a run with student mine, given micro." in result.stderr


@pytest.mark.parametrize("damage", ["cut", "not finite", "a checkpoint"])
def test_damaged_weights_are_one_sentence(trained, tmp_path, damage):
    path = tmp_path / "a.safetensors"
    if damage == "cut":
        path.write_bytes((trained / "best.safetensors").read_bytes()[:-7])
    elif damage == "a checkpoint":
        shutil.copy(trained / "checkpoint.pt", path)
    else:
        arrays, metadata = read_safetensors(trained / "best.safetensors")
        arrays["out.bias"][1] = np.nan
        write_safetensors(path, arrays, metadata)
    said = {
        "cut": "truncated or damaged",
        "not finite": "out.bias contains NaN",
        "a checkpoint": "not a safetensors file",
    }
    result = run("export", path, "-o", tmp_path / "out")
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert result.stderr.startswith(f"wav2small: {path}") and said[damage] in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_graph_that_differs_from_torch_is_refused(trained, tmp_path, monkeypatch):
    right = export_torch.to_onnx

    def wrong(*arguments):
        model = right(*arguments)
        bias = next(value for value in model.graph.initializer if list(value.dims) == [3])
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
        return model

    monkeypatch.setattr(export_torch, "to_onnx", wrong)
    with pytest.raises(WeightsError, match=r"fp32 ONNX: emotion differs by 0\.01 from torch on .* nothing was written"):
        export.export(trained / "best.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_int8_falls_back_to_sixteen_bits_and_is_refused_if_those_differ_too(trained, monkeypatch):
    student, tried = net(trained), []
    model, right = export_torch.to_onnx(student, "mine"), export_torch.compare

    def strict(small, *arguments):
        tried.append([value.data_type for value in small.graph.initializer].count(onnx.TensorProto.INT8))
        if tried[-1]:
            raise WeightsError("too far")
        return right(small, *arguments)

    monkeypatch.setattr(export_torch, "compare", strict)
    small, errors = export_torch.quantise(model, student)
    assert tried == [1, 1, 0] and errors.emotion < 1e-3
    assert onnx.TensorProto.FLOAT16 in {value.data_type for value in small.graph.initializer}
    monkeypatch.setattr(export_torch, "with_quantised_weights", lambda *_: model)
    monkeypatch.setattr(export_torch, "compare", lambda *_: right(model, build("mine").eval(), "int8"))
    with pytest.raises(WeightsError, match=r"int8 ONNX: .* differs"):
        export_torch.quantise(model, student)


def test_what_torch_cannot_write_is_one_sentence(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operator\nand a page more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(WeightsError) as caught:
        export.export(trained / "best.safetensors", tmp_path / "out")
    assert str(caught.value) == (
        "mine: torch cannot export this student to ONNX (no such operator). Use operations that ONNX supports."
    )


def test_a_student_whose_module_fails_is_told(installed, monkeypatch):
    (installed / "mine.py").rename(installed / "away.py")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    importlib.invalidate_caches()
    try:
        with pytest.raises(PluginError, match=r"mine: mine:Mine cannot be imported \(No module named 'mine'\)"):
            build("mine")
    finally:
        (installed / "away.py").rename(installed / "mine.py")
        importlib.invalidate_caches()
