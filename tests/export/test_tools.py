"""Folders for audonnx and transformers.js: these packages load them, and compute the numbers of ``load``."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from random_student import metadata_of, random_arrays
from wav2small.cli import main
from wav2small.errors import ManifestError, WeightsError
from wav2small.export import tools
from wav2small.export.card import read_scores
from wav2small.export.tools import export_audonnx, export_transformers_js
from wav2small.network.micro import MICRO
from wav2small.network.probes import voice
from wav2small.network.weights import write_safetensors
from wav2small.runtime.model import load

onnx = pytest.importorskip("onnx", reason="needs the extra train")

TRANSFORMERS_JS = "@huggingface/transformers@4.3.2"
SCRIPT = """
import { AutoModelForAudioClassification, AutoProcessor, env } from "@huggingface/transformers";
import { readFileSync } from "node:fs";
env.allowRemoteModels = false;
env.localModelPath = "./";
const bytes = readFileSync("samples");
const samples = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const processor = await AutoProcessor.from_pretrained("folder");
const found = { labels: null };
for (const dtype of ["fp32", "int8"]) {
  const model = await AutoModelForAudioClassification.from_pretrained("folder", { dtype });
  const { logits } = await model(await processor(samples));
  found[dtype] = [...logits.data];
  found.labels = model.config.id2label;
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    return voice(np.random.default_rng(3), 3.0)


@pytest.mark.parametrize("name", ["micro", "micro:int8"])
def test_audonnx_computes_our_numbers(tmp_path, signal, name):
    audonnx = pytest.importorskip("audonnx", reason="needs audonnx")
    audinterface = pytest.importorskip("audinterface", reason="needs audinterface")
    made = export_audonnx(name, tmp_path / "folder")
    assert {path.name for path in made.path.iterdir()} == {"model.onnx", "model.yaml", "README.md"}
    model, ours = audonnx.load(str(made.path)), load(name)
    assert list(model.outputs) == ["hidden_states", "logits"]
    assert model.labels("logits") == ["arousal", "dominance", "valence"]
    found = model(signal, 16000)
    difference = np.abs(found["logits"].clip(0, 1) - ours(signal)).max()
    print(f"\naudonnx, {name}: largest difference from Python {difference:.1e}")
    np.testing.assert_allclose(found["logits"].clip(0, 1), [ours(signal)], atol=1e-6)
    np.testing.assert_allclose(found["hidden_states"], [ours.embed(signal)], atol=1e-5)
    interface = audinterface.Feature(
        model.labels("logits"),
        process_func=model,
        process_func_args={"outputs": "logits"},
        sampling_rate=16000,
        win_dur=1,
        hop_dur=0.5,
    )
    rows = interface.process_signal(signal, 16000)
    windows = [signal[start : start + 16000] for start in range(0, len(signal) - 15999, 8000)]
    np.testing.assert_allclose(rows.to_numpy().clip(0, 1), [ours(window) for window in windows], atol=1e-6)
    assert len(windows) == 5


@pytest.mark.slow  # npm's registry
@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
def test_transformers_js_computes_our_numbers(tmp_path, signal):
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", TRANSFORMERS_JS]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=900).returncode:
        pytest.skip("needs npm's registry")
    export_transformers_js("wav2small", tmp_path / "folder")
    signal.tofile(tmp_path / "samples")
    (tmp_path / "use.js").write_text(SCRIPT)
    done = subprocess.run(["node", "use.js"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["labels"] == {"0": "arousal", "1": "dominance", "2": "valence"}
    for dtype, name in {"fp32": "wav2small", "int8": "wav2small:int8"}.items():
        difference = np.abs(np.clip(found[dtype], 0, 1) - load(name)(signal)).max()
        print(f"\ntransformers.js in node, {name}: largest difference from Python {difference:.1e}")
        np.testing.assert_allclose(np.clip(found[dtype], 0, 1), load(name)(signal), atol=1e-4)


def test_the_card_has_licence_ccc_and_the_sha256_of_every_file(tmp_path):
    yaml = pytest.importorskip("yaml")
    made = export_transformers_js("micro", tmp_path / "folder")
    text = (made.path / "README.md").read_text("utf-8")
    fields = yaml.safe_load(text.split("---\n")[1])
    assert fields["license"] == "apache-2.0" and fields["library_name"] == "transformers.js"
    assert fields["datasets"][0] == "EmoDB" and {"arousal", "dominance", "valence"} <= set(fields["tags"])
    (norms, *_) = fields["model-index"][0]["results"]
    assert norms["dataset"]["name"] == "RAVDESS norms"
    assert {one["name"]: one["value"] for one in norms["metrics"]} == {
        f"CCC {name}": value for name, value in json.loads(load("micro").metadata["ccc"])["RAVDESS norms"].items()
    }
    files = [path for path in made.path.rglob("*") if path.is_file() and path.name != "README.md"]
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert len(re.findall(r"\| `[0-9a-f]{64}` \|", text)) == len(files) == 3
    assert made.bytes == sum(path.stat().st_size for path in made.path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("licence", "expected"), [("CC-BY-NC-4.0", "cc-by-nc-4.0"), ("MIT AND CC-BY-NC-4.0", "other"), ("", "unknown")]
)
def test_the_licence_of_own_weights_is_that_of_the_card(tmp_path, licence, expected):
    metadata = metadata_of(MICRO) | {"licence": licence}
    write_safetensors(tmp_path / "mine.safetensors", random_arrays(0, MICRO), metadata)
    command = ["export", str(tmp_path / "mine.safetensors"), "--to", "audonnx", "-o", str(tmp_path / "folder")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert ("not for commercial use" in result.stderr) == ("NC" in licence)
    text = (tmp_path / "folder" / "README.md").read_text()
    assert f'license: "{expected}"' in text
    assert ('license_name: "mit-and-cc-by-nc-4.0"' in text) == (expected == "other")


def test_a_graph_that_differs_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    renamed = tools.renamed

    def wrong(model, names, batch=None):
        copy = renamed(model, names, batch)
        bias = next(constant for constant in copy.graph.initializer if constant.name == "out.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), "out.bias"))
        return copy

    monkeypatch.setattr(tools, "renamed", wrong)
    with pytest.raises(WeightsError, match=r"outputs differ by 0\.001 on one window of noise"):
        export_audonnx("micro", tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_inner_values_with_a_new_name_stay_apart():
    node = onnx.helper.make_node
    infos = [onnx.helper.make_tensor_value_info(name, 1, ["batch", "n"]) for name in ("signal", "emotion", "embedding")]
    nodes = [node("Neg", ["signal"], ["logits"]), node("Abs", ["logits"], ["embedding"])]
    graph = onnx.helper.make_graph([*nodes, node("Neg", ["embedding"], ["emotion"])], "g", infos[:1], infos[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    made = tools.renamed(model, tools.AUDONNX_NAMES, batch=1)
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.output] == ["hidden_states", "logits"]
    assert made.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 1
    run = tools.session(made.SerializeToString(), "made").run(
        ["hidden_states", "logits"], {"signal": np.eye(1, 3, dtype="f4")}
    )
    np.testing.assert_array_equal(run, [[[1, 0, 0]], [[-1, 0, 0]]])
    assert model.graph.output[0].name == "emotion", "the argument is unchanged"


def test_a_folder_with_other_content_is_left_alone(tmp_path):
    export_audonnx("micro", tmp_path / "folder")
    export_audonnx("micro:int8", tmp_path / "folder")
    assert (tmp_path / "folder" / "model.onnx").stat().st_size < 100_000, "replaced"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "README.md").write_text("years of work")
    for export in (export_audonnx, export_transformers_js):
        with pytest.raises(WeightsError, match="other content"):
            export("micro", tmp_path / "home")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["README.md"] * 2 + [
        "folder",
        "home",
        "model.onnx",
        "model.yaml",
    ]


def test_the_renamed_file_is_refused_by_load(tmp_path):
    folder = export_audonnx("micro", tmp_path / "folder").path
    with pytest.raises(WeightsError, match="its outputs is None"):
        load(folder / "model.onnx")


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"predictors": [], "scores": []}'])
def test_a_report_that_is_not_of_these_weights_is_refused(tmp_path, content):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ManifestError, match=r"report\.json: (cannot be read|is not a report|has no CCC)"):
        read_scores(path, {"0" * 64})


def test_options_of_other_forms_are_refused(tmp_path):
    base = ["export", "micro", "-o", str(tmp_path / "folder")]
    for more in (["--to", "audonnx", "--name", "a"], ["--to", "audonnx", "--scores", "a.json"], ["--scores", "a.json"]):
        result = CliRunner().invoke(main, [*base, *more])
        assert result.exit_code == 2 and "--" in result.stderr, result.output
    assert not Path(tmp_path / "folder").exists()
