"""A folder for the hub is what ``load`` reads: from the disk, and from a stand-in for the hub at a revision."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from click.testing import CliRunner

from random_student import metadata_of, random_arrays
from wav2small.cli import main
from wav2small.errors import MissingExtraError, WeightsError
from wav2small.export.hub import export_hub
from wav2small.network.micro import MICRO
from wav2small.network.probes import voice
from wav2small.network.weights import sha256, write_safetensors
from wav2small.runtime import hub
from wav2small.runtime.calibration import load_calibration
from wav2small.runtime.model import beside, load

pytest.importorskip("onnx", reason="needs the extra train")

COMMIT = "0123456789" * 4
SIGNAL = voice(np.random.default_rng(4), 2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return export_hub("wav2small", tmp_path_factory.mktemp("hub") / "folder").path


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


class Server(ThreadingHTTPServer):
    """What huggingface_hub asks the hub for: one repository, whose branch main and tag v1 are at ``COMMIT``.

    Source: https://huggingface.co/docs/hub/api and huggingface_hub/file_download.py.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        words = self.path.split("/", 5)
        if "resolve" not in words:  # not about a file
            self.send_error(404)
            return
        self.server.asked.append(self.path)
        file = self.server.folder / words[-1]
        known = words[1:4] == ["owner", "name", "resolve"] and words[4] in ("main", "v1", COMMIT) and file.is_file()
        content = file.read_bytes() if known else b""
        self.send_response(200 if known else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha256(file)}"' if known else '""')
        self.send_header("Content-Length", str(len(content)))
        if not known:
            self.send_header("X-Error-Code", "EntryNotFound" if words[4] == COMMIT else "RevisionNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(folder, tmp_path, monkeypatch) -> Iterator[Server]:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    from huggingface_hub import constants

    server = Server(folder)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_folder_is_loaded_with_every_backend_and_its_calibration(made):
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "config.json",
        "model.safetensors",
        "model.calibration.json",
        "onnx/model.onnx",
        "onnx/model.calibration.json",
        "onnx/model_int8.onnx",
    }
    ours, read = load("wav2small", calibration=True), load(made, calibration=True)
    np.testing.assert_array_equal(read(SIGNAL), ours(SIGNAL))
    assert read.calibration.scales == ours.calibration.scales
    read = load(made, backend="numpy", calibration=True)
    np.testing.assert_array_equal(read(SIGNAL), load("wav2small", backend="numpy")(SIGNAL))
    config = json.loads((made / "config.json").read_text())
    assert config["network"] == json.loads(ours.metadata["network"]) and config["licence"] == "Apache-2.0"
    assert config["files"] == {name: sha256(made / name) for name in names - {"README.md", "config.json"}}


def test_integers_are_a_folder_too(tmp_path):
    made = export_hub("micro:int8", tmp_path / "folder").path
    assert {path.name for path in made.rglob("*.*")} >= {"model_int8.safetensors", "model_int8.onnx"}
    for backend in ("onnx", "numpy"):
        np.testing.assert_array_equal(
            load(made, backend, calibration=True)(SIGNAL), load("micro:int8", backend)(SIGNAL)
        )


@pytest.mark.parametrize("revision", ["main", "v1", COMMIT])
def test_a_revision_is_fetched_once_and_loaded_without_the_hub(server, revision):
    name = f"owner/name@{revision}"
    fetched = load(name, calibration=True)
    np.testing.assert_array_equal(fetched(SIGNAL), load("wav2small")(SIGNAL))
    assert {path.split("/", 5)[-1] for path in server.asked} == {
        "config.json",
        "onnx/model.onnx",
        "onnx/model.calibration.json",
    }, "and no other file"
    assert COMMIT in str(hub.from_hub(name, ".onnx"))
    server.asked.clear()
    load(name)
    assert (not server.asked) == (revision == COMMIT)
    server.shutdown()
    server.server_close()
    np.testing.assert_array_equal(load(name, calibration=True)(SIGNAL), fetched(SIGNAL))


def test_a_precision_of_the_hub_is_named_as_one_that_ships(server):
    result = load("owner/name:int8@main")(SIGNAL)
    np.testing.assert_allclose(result, load("wav2small:int8")(SIGNAL), atol=1e-6)
    with pytest.raises(WeightsError, match=r"has no int8 as \.safetensors. It has: model"):
        load("owner/name:int8@main", backend="numpy")


@pytest.mark.parametrize("name", ["owner/name@v2", "owner/other@main"])
def test_a_revision_that_does_not_exist_is_an_error(server, name):
    with pytest.raises(WeightsError, match=r"config\.json is not in the cache and cannot be fetched"):
        load(name)


def test_a_name_without_a_revision_is_refused_without_a_request(server):
    with pytest.raises(WeightsError, match="owner/name@revision"):
        load("owner/name")
    assert not server.asked


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.calibration.json"])
def test_a_damaged_file_is_refused_from_disk_and_hub(server, folder, name):
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(before + b" ")
    for source in (folder, "owner/name@main"):
        with pytest.raises(WeightsError, match=f"sha256 of {name} is ") as found:
            load(source)
    (folder / name).write_bytes(before)
    Path(str(found.value).rpartition("remove ")[2]).unlink()
    load("owner/name@main")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("format"), "not of the format"),
        (lambda config: config.update(format="wav2small 2"), "not of the format"),
        (lambda config: config.update(files={"onnx/model.onnx": "x"}), "not of the format"),
        (lambda config: config.update(files={"onnx/../../model.onnx": "0" * 64}), "has no weights as .onnx"),
        (lambda config: config.update(files={"onnx/model_int8.onnx": "0" * 64}), "sha256 of onnx/model_int8.onnx"),
    ],
)
def test_a_configuration_that_is_not_ours_is_refused(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        load(folder)


def test_a_folder_without_files_is_refused(folder):
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(WeightsError, match=r"has no file onnx/model\.onnx"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"its config\.json cannot be read"):
        load(folder)


def test_without_huggingface_hub_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match="pip install huggingface-hub"):
        load("owner/name@main")


def test_own_weights_keep_their_calibration_and_refuse_another(tmp_path):
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, random_arrays(0, MICRO), metadata_of(MICRO))
    assert not list(export_hub(path, tmp_path / "none").path.rglob("*.calibration.json"))
    shutil.copy(beside(Path(hub.__file__).parents[1] / "data" / "micro.onnx"), tmp_path / "mine.calibration.json")
    with pytest.raises(WeightsError, match=r"is the calibration of micro \d+ fp32"):
        export_hub(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    own = load_calibration(tmp_path / "mine.calibration.json")
    content = json.loads((tmp_path / "mine.calibration.json").read_text()) | {"sha256": sha256(path)}
    (tmp_path / "mine.calibration.json").write_text(json.dumps(content))
    folder = export_hub(path, tmp_path / "folder").path
    for backend in ("onnx", "numpy"):
        assert load(folder, backend, calibration=True).calibration.scales == own.scales


def test_the_report_of_evaluate_gives_the_card_intervals(tmp_path):
    digest = sha256(Path(hub.__file__).parents[1] / "data" / "micro.onnx")
    score = {"predictor": "m", "manifest": "talks", "truth": "people", "statistic": "ccc", "n": 9}
    rows = [score | {"dimension": "arousal", "value": 0.5, "low": 0.4, "high": 0.6}]
    rows += [score | {"dimension": "valence", "value": 0.25, "low": None, "high": None}]
    rows += [score | {"dimension": "arousal", "value": 0.9, "low": 0.9, "high": 0.9, "by": "gender=f"}]
    report = {"predictors": [{"name": "m", "sha256": digest}], "scores": rows}
    (tmp_path / "report.json").write_text(json.dumps(report))
    command = ["export", "micro", "--to", "hub", "-o", str(tmp_path / "folder")]
    result = CliRunner().invoke(main, [*command, "--scores", str(tmp_path / "report.json")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "folder" / "README.md").read_text("utf-8")
    assert "| talks, people | 0.500 [0.400, 0.600] |  | 0.250 |" in text and "RAVDESS" not in text
    assert '"value": 0.5, "args": {"interval_95": [0.4, 0.6]}' in text and "0.9" not in text.split("## Files")[0]
