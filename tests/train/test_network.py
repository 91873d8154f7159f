"""``train --network``: a network that is only a JSON file is trained, exported and run; wrong use is one sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from test_train import data, table  # noqa: E402, F401

from wav2small import Stream, load  # noqa: E402
from wav2small.cli import main  # noqa: E402
from wav2small.network.config import Network, read_network  # noqa: E402
from wav2small.network.micro import MICRO, micro  # noqa: E402
from wav2small.network.probes import voice  # noqa: E402
from wav2small.network.reference import load_student  # noqa: E402
from wav2small.runtime.compiler import COMPILERS  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:  # noqa: F811
    """micro with 48 channels: the printed network of micro, one number changed wherever it stands."""
    folder = tmp_path_factory.mktemp("48")
    text = run("models", "--network", "micro").stdout.replace('"outputs": 64', '"outputs": 48')
    (folder / "48.json").write_text(text.replace('"name": "micro"', '"name": "micro48"'))
    labels, dev = table(folder / "train.csv", data[0]), table(folder / "dev.csv", data[1])
    result = run("train", labels, "--dev", dev, "-o", folder / "run", "--network", folder / "48.json", "--steps", 8)
    assert result.exit_code == 0, result.output
    assert "micro48: 36,259 parameters, 1.7 MMAC a second of audio after the log-mel" in result.stderr
    return folder


def test_the_weights_describe_the_network_that_the_file_did(trained):
    arrays, metadata, network = load_student(trained / "run" / "best.safetensors")
    assert network == read_network(trained / "48.json") == replace(micro(channels=48), name="micro48")
    assert metadata["student"] == "micro48" and arrays["point5.weight"].shape == (48, 48, 1)
    recipe = json.loads(metadata["recipe"])
    assert Network.from_json(recipe["network"]) == network and recipe["student"] == "micro48"


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler")
def test_what_was_trained_runs_everywhere_with_one_answer(trained, tmp_path):
    best, signal = trained / "run" / "best.safetensors", voice(np.random.default_rng(3), 3.0)
    assert run("export", best, "-o", tmp_path, "--name", "mine").exit_code == 0
    expected = np.array(load(best, backend="numpy")(signal))
    for model in (load(tmp_path / "mine.onnx"), load(best, backend="c"), load(best, backend="torch")):
        np.testing.assert_allclose(model(signal), expected, atol=1e-4)
    (event,) = Stream(load(tmp_path / "mine.onnx"), 3.0, 3.0, vad="energy").run([signal])
    np.testing.assert_allclose([event.arousal, event.dominance, event.valence], expected, atol=1e-4)


def test_its_integers_can_be_trained_too(trained, data, tmp_path):  # noqa: F811
    network = read_network(trained / "48.json")
    (tmp_path / "int8.json").write_text(replace(network, name="micro48-int8", integers=True).to_json())
    labels, dev = table(tmp_path / "train.csv", data[0]), table(tmp_path / "dev.csv", data[1])
    given = ["--network", tmp_path / "int8.json", "--from", trained / "run" / "best.safetensors", "--steps", 2]
    result = run("train", labels, "--dev", dev, "-o", tmp_path / "run", *given)
    assert result.exit_code == 0, result.output
    assert load_student(tmp_path / "run" / "best.safetensors")[2].integers
    assert run("export", tmp_path / "run" / "best.safetensors", "-o", tmp_path, "--name", "mine").exit_code == 0
    assert {path.name for path in tmp_path.glob("mine*")} == {"mine-int8.onnx", "mine-int8.safetensors"}


def test_a_printed_network_is_checked_and_printed_as_it_is(trained, tmp_path):
    best = run("models", "--network", trained / "run" / "best.safetensors").stdout
    (tmp_path / "a.json").write_text(best)
    assert run("models", "--network", tmp_path / "a.json").stdout == best
    (tmp_path / "a.json").write_text(best.replace('"stride": 2', '"stride": 0'))
    result = run("models", "--network", tmp_path / "a.json")
    assert result.exit_code == 1 and "stride and dilation must be 1 or more" in result.stderr


def test_another_network_does_not_resume_the_run(trained, tmp_path):
    (tmp_path / "other.json").write_text(replace(micro(channels=48, pooled=64), name="micro48").to_json())
    given = [trained / "train.csv", "--dev", trained / "dev.csv", "-o", trained / "run", "--steps", 8]
    result = run("train", *given, "--network", tmp_path / "other.json")
    assert result.exit_code == 1 and "contains a run with" in result.stderr


@pytest.mark.parametrize(
    ("text", "options", "code", "said"),
    [
        (None, [], 1, "a.json: cannot be read (No such file or directory)"),
        ("{", [], 1, "a.json: the description of the network is not JSON"),
        (
            MICRO.to_json().replace('"pooled":128', '"pooled":"many"'),
            [],
            1,
            "a.json: network.pooled: expected int, got 'many'",
        ),
        (MICRO.to_json(), ["--student", "micro"], 2, "leave out --student"),
    ],
)
def test_wrong_use_is_one_sentence(trained, tmp_path, text, options, code, said):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    given = [trained / "train.csv", "--dev", trained / "dev.csv", "-o", tmp_path / "run"]
    result = run("train", *given, "--network", tmp_path / "a.json", *options)
    assert result.exit_code == code and said in result.stderr and not (tmp_path / "run").exists()
