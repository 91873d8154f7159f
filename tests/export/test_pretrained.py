"""Torch students with the hub's methods: what they save is what export writes, and trains as a module does."""

from __future__ import annotations

import filecmp
import json

import numpy as np
import pytest

from random_student import metadata_of, random_arrays
from wav2small.errors import WeightsError
from wav2small.export.hub import export_hub
from wav2small.network.micro import MICRO
from wav2small.network.probes import voice
from wav2small.network.weights import read_safetensors, write_safetensors
from wav2small.runtime.model import load

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra train")
pytest.importorskip("huggingface_hub", reason="needs the extra train")

SIGNAL = voice(np.random.default_rng(5), 1.0)
SAME = ["model.safetensors", "onnx/model.onnx"]


@pytest.fixture
def student():
    from wav2small.export.pretrained import PretrainedStudent

    return PretrainedStudent.from_pretrained("micro")


def trained(student):
    """One step of any torch optimiser."""
    emotion, _ = student.train()(torch.from_numpy(SIGNAL)[None].repeat(2, 1))
    emotion.sum().backward()
    torch.optim.SGD(student.parameters(), 1e-3).step()
    return student.eval()


@pytest.mark.parametrize("name", ["micro", "wav2small"])
def test_what_is_loaded_and_saved_is_what_export_writes(tmp_path, name):
    from wav2small.export.pretrained import PretrainedStudent

    exported = export_hub(name, tmp_path / "exported").path
    student = PretrainedStudent.from_pretrained(exported)
    assert not student.training
    emotion, embedding = student(torch.from_numpy(SIGNAL)[None])
    difference = np.abs(emotion.detach().clip(0, 1)[0].numpy() - load(exported)(SIGNAL)).max()
    print(f"\nPretrainedStudent, {name}: largest difference from Python {difference:.1e}")
    assert difference < 1e-5
    np.testing.assert_allclose(embedding.detach()[0], load(exported).embed(SIGNAL), atol=1e-4)
    assert student.save_pretrained(tmp_path / "saved") is None
    assert filecmp.cmpfiles(exported, tmp_path / "saved", SAME, shallow=False) == (SAME, [], [])
    configs = [json.loads((folder / "config.json").read_text()) for folder in (exported, tmp_path / "saved")]
    files = [config.pop("files") for config in configs]
    assert configs[0] == configs[1] and files[1].items() <= files[0].items()


def test_trained_weights_are_loaded_again_without_the_scores_of_the_old_ones(tmp_path, student):
    before = load("micro")(SIGNAL)
    trained(student).metadata |= {"name": "mine", "training_data": "Talks"}
    student.save_pretrained(tmp_path / "mine")
    emotion = student(torch.from_numpy(SIGNAL)[None])[0].detach().numpy()[0]
    assert np.abs(emotion - before).max() > 1e-3, "trained"
    np.testing.assert_allclose(load(tmp_path / "mine")(SIGNAL), emotion.clip(0, 1), atol=1e-5)
    _, metadata = read_safetensors(tmp_path / "mine" / "model.safetensors")
    assert metadata["licence"] == "Apache-2.0" and metadata["training_data"] == "Talks"
    assert metadata["ccc"] == "{}" and not metadata["version"] and not {"dev_ccc", "recipe"} & metadata.keys()
    assert "RAVDESS" not in (tmp_path / "mine" / "README.md").read_text("utf-8")


def test_a_refused_save_leaves_the_folder_as_it_was(tmp_path, student):
    student.save_pretrained(tmp_path / "mine")
    before = {path: path.read_bytes() for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    with torch.no_grad():
        student.net.out.bias[0] = float("nan")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.json").write_text("{}")
    for place, options, message in (
        ("mine", {}, "NaN"),
        ("mine", {"config": {"a": 1}}, "takes neither config"),
        ("mine", {"model_card_kwargs": {}}, "takes neither config"),
    ):
        with pytest.raises(WeightsError, match=message):
            student.save_pretrained(tmp_path / place, **options)
    assert {path: path.read_bytes() for path in before} == before
    with torch.no_grad():
        student.net.out.bias[0] = 0.0
    with pytest.raises(WeightsError, match="other content"):
        student.save_pretrained(tmp_path / "home")
    assert (tmp_path / "home" / "config.json").read_text() == "{}"


def test_push_to_hub_uploads_the_folder_of_export(monkeypatch, student):
    from huggingface_hub import HfApi

    pushed = {}

    def upload(self, *, repo_id, folder_path, **options):
        pushed[repo_id] = sorted(path.name for path in folder_path.rglob("*.*"))
        return "https://the.hub/commit"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **options: type("Url", (), {"repo_id": repo_id}))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert student.push_to_hub("owner/mine") == "https://the.hub/commit"
    assert pushed == {"owner/mine": ["README.md", "config.json", "model.onnx", "model.safetensors"]}


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from wav2small.export.pretrained import PretrainedStudent

    for name in ("micro:int8", export_hub("micro:int8", tmp_path / "integers").path):
        with pytest.raises(WeightsError, match="are integers, which torch does not train"):
            PretrainedStudent.from_pretrained(name)
    arrays = dict(random_arrays(0, MICRO))
    arrays["more"] = arrays.pop("out.bias")
    write_safetensors(tmp_path / "mine.safetensors", arrays, metadata_of(MICRO))
    with pytest.raises(WeightsError, match=r"missing: out\.bias; left over: more"):
        PretrainedStudent.from_pretrained(tmp_path / "mine.safetensors")
    with pytest.raises(WeightsError, match="owner/name@revision"):
        PretrainedStudent.from_pretrained("owner/name")
