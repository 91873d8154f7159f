"""DistilHuBERT as a student: its output is that of the library, it learns, and its ONNX files work everywhere."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click import UsageError
from click.testing import CliRunner, Result

import wav2small
from wav2small.cli import main
from wav2small.cli.distil import pupils
from wav2small.metrics import concordance_cc
from wav2small.network.weights import read_safetensors
from wav2small.tables.manifest import read_labelled

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra train")

from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WhisperConfig, WhisperModel  # noqa: E402

from corpora import make_iemocap  # noqa: E402
from miniatures import crema_d  # noqa: E402
from tiny_teachers import SMALL, make_distilhubert, scrambled  # noqa: E402
from wav2small.export import from_torch  # noqa: E402
from wav2small.train.annotated import read_annotated  # noqa: E402
from wav2small.train.config import FinetuneConfig, TrainConfig  # noqa: E402
from wav2small.train.finetune import Finetuning, Steps  # noqa: E402
from wav2small.train.learner import Learner  # noqa: E402
from wav2small.train.student import train  # noqa: E402
from wav2small.train.students import build, described, description, from_arrays, to_arrays  # noqa: E402
from wav2small.train.teachers import load_teacher  # noqa: E402
from wav2small.train.teachers.bodies import load_body  # noqa: E402
from wav2small.train.teachers.tuned import TunedNet  # noqa: E402

RATE = 16000
GROUP = SMALL | {"feat_extract_norm": "group", "do_stable_layer_norm": False}
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def silently(*_: object) -> None:
    pass


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    return result.stderr


def noise(dur: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.interp(np.linspace(0, 7, round(dur * RATE)), np.arange(8), rng.uniform(0.05, 0.5, 8))
    return (level * rng.standard_normal(len(level))).astype(np.float32)


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> Path:
    """A tiny checkpoint in the format of the published one."""
    return make_distilhubert(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Clips by eight speakers, whose arousal and category are how high they are."""
    folder = tmp_path_factory.mktemp("spoken")
    rows: list[Sequence[object]] = [("file", "speaker", "label", "arousal", "dominance", "valence")]
    for n in range(40):
        rng, high = np.random.default_rng(n), (n * 7 % 40) / 40
        time = np.arange(int(rng.integers(5000, 8000))) / RATE
        tone = np.sin(2 * np.pi * (200 + 5000 * high) * time) + 0.1 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{n}.wav", 0.3 * tone, RATE)
        label = ("sadness", "neutral", "anger")[int(3 * high)]
        rows.append((f"{n}.wav", f"s{n % 8}", label, f"{high:.3f}", f"{0.5 * high + 0.2:.3f}", f"{1 - high:.3f}"))
    for name, chosen in {"manifest": rows, "train": rows[:1] + rows[9:], "dev": rows[:9]}.items():
        kept = [row for row in chosen if name != "train" or row[1] not in ("s0", "s1")]
        kept = [row for row in kept if name != "dev" or row[1] in ("speaker", "s0", "s1")]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(kept)
    return folder


@pytest.fixture(scope="module")
def trained(corpus, body, tmp_path_factory) -> Path:
    """A run of training, exported."""
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig("distilhubert", body=str(body), steps=80, warm_up=5, evaluate_every=20, learning_rate=0.01)
    segments, dev = read_labelled([str(corpus / "train.csv")]), read_labelled([str(corpus / "dev.csv")])
    train(segments, dev, folder, config, {"licence": "Apache-2.0"}, lambda title: nullcontext(silently), silently)
    run("export", folder / "best.safetensors", "-o", folder, "--name", "dh")
    return folder


@pytest.mark.parametrize("normalise", [False, True])
def test_a_student_predicts_what_finetune_does(tmp_path, normalise):
    scrambled(HubertModel, HubertConfig(**GROUP), 3).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise}))
    student = build("distilhubert", body=str(tmp_path)).eval()
    tuned = TunedNet(load_body(str(tmp_path)), "mean", student.embedding_size).eval()
    tuned.norm.load_state_dict(student.norm.state_dict())
    tuned.head.load_state_dict(student.head.state_dict())
    clip = noise(0.7)
    with torch.inference_mode():
        emotion, embedding = student(torch.from_numpy(clip)[None])
        np.testing.assert_allclose(emotion, tuned([clip])[0], atol=1e-5)
        np.testing.assert_allclose(embedding, tuned.head.embed(tuned.pooled([clip])), atol=1e-5)
    again = from_arrays(to_arrays(student), described(description(student, "distilhubert"), "x"))
    with torch.inference_mode():
        assert torch.equal(again(torch.from_numpy(clip)[None])[0], emotion)


@pytest.mark.parametrize("normalise", [False, True])
def test_padding_is_not_part_of_the_mean_in_training(body, normalise):
    student = build("distilhubert", body=str(body)).train()
    student.normalise = normalise
    signal = torch.from_numpy(np.pad(noise(0.5), (3200, 8000)) + np.float32(0.0))[None]
    tokens = torch.arange(59.0)[None, :, None].expand(1, 59, 16)
    found = student._mean(tokens, student.log_mel(signal)[..., 0])
    first, last = (3200 - 400) // 320 + 1, (3200 + 8000 - 1) // 320
    torch.testing.assert_close(found, torch.full((1, 16), (first + last) / 2))
    assert student.eval()._mean(tokens, student.log_mel(signal)[..., 0])[0, 0] == 29


def test_the_signal_has_no_bands_to_equalise_and_the_convolutions_stay(body):
    student = build("distilhubert", body=str(body))
    before = to_arrays(student)
    learner = Learner(student, torch.zeros(2), 1.0, TrainConfig(student="distilhubert"))
    signal = torch.from_numpy(np.stack([noise(0.5), noise(0.5, 1)]))
    assert torch.equal(learner.log_mel(signal)[..., 0], signal)
    optimiser = torch.optim.SGD(learner.parameters(), 1.0)
    learner.loss(
        signal, torch.rand(2, 3), torch.zeros(2, 2), lambda truth, own: (truth - own).square().sum()
    ).backward()
    optimiser.step()
    moved = {name for name, array in to_arrays(student).items() if not np.array_equal(array, before[name])}
    assert {"head.out.weight", "norm.weight", "encoder.encoder.layers.0.attention.q_proj.weight"} < moved
    assert not any(".feature_extractor." in name for name in moved)


@pytest.mark.slow
def test_training_lowers_the_loss_and_its_files_are_a_model(trained, corpus, tmp_path):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60, 80]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"] and lines[-1]["arousal"] > 0.2, "on held-out speakers"
    _, metadata = read_safetensors(trained / "best.safetensors")
    assert metadata["student"] == "distilhubert" and json.loads(metadata["encoder"])["num_hidden_layers"] == 2
    clips, files = [noise(0.05), noise(1.3, 1)], [trained / "dh.onnx", trained / "dh-int8.onnx"]
    reference, *models = (
        wav2small.load(path, backend)
        for path, backend in zip([trained / "best.safetensors", *files], ["torch", "onnx", "onnx"], strict=True)
    )
    for clip in clips:
        np.testing.assert_allclose(models[0](clip), reference(clip), atol=1e-4)
        np.testing.assert_allclose(models[1](clip), reference(clip), atol=0.02)
        assert models[0].embed(clip).shape == (256,)
    assert run("predict", ROOT / "examples", "--model", files[1], "--format", "csv").stdout.count("\n") == 5
    assert "arousal" in run("evaluate", files[0], "--on", corpus / "dev.csv").stdout
    run("robustness", files[1], "--on", corpus / "dev.csv", "--conditions", "white:20", "-o", tmp_path / "r.csv")
    assert "white:20" in (tmp_path / "r.csv").read_text()
    rows = json.loads(run("bench", files[1], "--runs", 1, "--format", "json").stdout)
    assert rows[0]["bytes"] == files[1].stat().st_size and rows[0]["tokens_per_second"] == pytest.approx(50, abs=0.5)


@pytest.mark.slow
def test_a_run_starts_from_another(trained, body, corpus, tmp_path):
    options = ("--student", "distilhubert", "--body", body, "--steps", 1, "--learning-rate", 1e-9, "-o", tmp_path)
    start = trained / "best.safetensors"
    run("train", corpus / "train.csv", "--dev", corpus / "dev.csv", *options, "--from", start)
    arrays, before = (read_safetensors(path)[0] for path in (tmp_path / "best.safetensors", start))
    np.testing.assert_allclose(arrays["head.out.weight"], before["head.out.weight"], atol=1e-6)


def test_focal_loss_of_a_batch_is_that_of_the_formula(corpus, body, tmp_path):
    config = FinetuneConfig(steps=1, batch_size=12, focal=2.0, dropout=0.0, category_weight=1.0)
    steps = Steps([read_annotated(str(corpus), 4)], config)
    task = Finetuning(load_body(str(body)), steps, [], config, tmp_path / "best.pt", 0)
    task.net.eval()
    batch = steps[0]
    with torch.inference_mode():
        emotion, logits = (output.numpy() for output in task.net(batch[0]))
    truth, p = batch[1], np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p, weight = p[range(12), batch[2]], 40 / np.bincount(steps.labels)[batch[2]]
    focal = (weight * -((1 - p) ** 2) * np.log(p)).sum() / weight.sum()
    ccc = np.mean([concordance_cc(truth[:, d], emotion[:, d]) for d in range(3)])
    assert task.loss(batch, 0).item() == pytest.approx(1 - ccc + focal, abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="experiment reads TOML from Python 3.11 on")
def test_the_commands_of_the_page_run_on_miniatures(body, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "related" / "distilhubert.md").read_text(encoding="utf-8").partition("## IEMOCAP")[2]
    commands, toml = (re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)[0] for language in ("sh", "toml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAV2SMALL_MODELS", str(body.parents[1]))
    make_iemocap(tmp_path / "IEMOCAP_full_release", np.random.default_rng(1))
    crema_d(tmp_path / "CREMA-D")
    Path("sessions.toml").write_text(toml.replace("epochs = 10", "epochs = 1"))
    for line in commands.splitlines():
        name, *arguments = line.replace("--steps 3000", "--steps 4 --batch-size 4 --learning-rate 0.003").split()
        assert name == "wav2small"
        told = run(*arguments)
        if arguments[0] == "experiment":
            for model in ("focal", "fine-tuned"):
                assert re.search(rf"^{model} +iemocap\+crema-d +iemocap +fold ", told.stdout, re.M), told.stdout
    assert json.loads(read_safetensors("dh.safetensors")[1]["recipe"])["focal"] == 2
    teacher, clips = load_teacher("dh.safetensors"), [noise(0.05), noise(1.3, 1)]
    for file, apart in (("dh.onnx", 1e-4), ("dh-int8.onnx", 0.02)):
        model = wav2small.load(f"models/{file}")
        for clip, expected in zip(clips, teacher.label(clips), strict=True):
            np.testing.assert_allclose(model(clip), expected, atol=apart)
    assert model.metadata["student"] == "distilhubert" and model.metadata["licence"] == "Apache-2.0"


@pytest.mark.slow
def test_the_published_size_in_int8_is_below_25_mb(tmp_path):
    HubertModel(HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    net = from_torch.plain(build("distilhubert", body=str(tmp_path)).eval())
    assert sum(weight.numel() for weight in net.encoder.parameters()) == pytest.approx(23.49e6, abs=1e4)
    small, errors = from_torch.quantise(from_torch.to_onnx(net, "distilhubert"), net)
    assert small.ByteSize() <= 25e6 and errors.emotion < 0.01


def test_wrong_use_is_one_sentence(body, corpus, tmp_path):
    command = ("train", corpus / "train.csv", "--dev", corpus / "dev.csv", "-o", tmp_path / "run", "--student")
    needed = "in the format of ntu-spml/distilhubert. Give --body FOLDER, or from in an experiment.\n"
    assert refused(*command, "distilhubert") == f"wav2small: distilhubert: starts from a checkpoint {needed}"
    assert "micro: takes no body" in refused(*command, "micro", "--body", body)
    assert "is neither a folder with a config.json nor owner/name" in refused(
        *command, "distilhubert", "--body", tmp_path
    )
    whisper = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    whisper |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 40}
    whisper |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    for kind, make, config in (
        ("wav2vec2", Wav2Vec2Model, Wav2Vec2Config(**GROUP)),
        ("whisper", WhisperModel, WhisperConfig(**whisper)),
    ):
        make(config).save_pretrained(tmp_path / kind)
        (tmp_path / kind / "preprocessor_config.json").write_text('{"do_normalize": true}')
        told = refused(*command, "distilhubert", "--body", tmp_path / kind)
        assert f"model_type is '{kind}', needed: 'hubert', as in ntu-spml/distilhubert.\n" in told
    damaged = tmp_path / "damaged"
    shutil.copytree(body, damaged)
    weights = damaged / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-900])
    assert "not a file of arrays only" in refused(*command, "distilhubert", "--body", damaged)
    (damaged / "config.json").write_text(json.dumps({"model_type": "hubert", "num_hidden_layers": 3, **SMALL}))
    weights.write_bytes((body / "pytorch_model.bin").read_bytes())
    assert "not the weights of this network; missing: " in refused(*command, "distilhubert", "--body", damaged)
    assert not (tmp_path / "run").exists()


def test_other_encoders_of_finetune_are_refused_by_export(corpus, body, tmp_path):
    net = TunedNet(load_body(str(body)), "max", 8)
    net.save(tmp_path / "max.safetensors", {"name": "x", "version": "1", "licence": "MIT"})
    assert "max.safetensors: pooling is 'max', needed: 'mean'" in refused(
        "export", tmp_path / "max.safetensors", "-o", tmp_path
    )


def test_a_checkpoint_of_other_layers_is_a_student(tmp_path):
    config = HubertConfig(**(GROUP | {"num_hidden_layers": 3, "hidden_size": 24}))
    HubertModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    net = build("distilhubert", body=str(tmp_path)).eval()
    assert len(net.encoder.encoder.layers) == 3 and net(torch.zeros(2, 3200))[0].shape == (2, 3)


def test_distil_gives_each_student_its_body(body):
    found = pupils(["micro", "distilhubert"], [], [f"distilhubert={body}"], [])
    assert [pupil.body for pupil in found] == ["", str(body)]
    assert found[1].net(0.0).embedding_size == 256
    with pytest.raises(UsageError, match="--body wav2small: there are micro"):
        pupils(["micro"], [], ["wav2small=x"], [])
