"""Published teachers: the right network or none, answers as an independent forward pass, each clip's its own."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from wav2small.errors import PluginError, WeightsError
from wav2small.network.config import Emotion
from wav2small.network.weights import read_safetensors, write_safetensors
from wav2small.runtime.windows import parts

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from torch.nn import functional  # noqa: E402
from transformers import Wav2Vec2ForSequenceClassification, WavLMConfig, WavLMModel  # noqa: E402

from pretend_gpu import PretendGpu  # noqa: E402
from tiny_teachers import DAWN, ODYSSEY, SMALL, make_dawn, make_odyssey, scrambled  # noqa: E402
from wav2small.train.teachers import hub, load_teacher  # noqa: E402
from wav2small.train.teachers.dawn import Dawn, DawnNet  # noqa: E402
from wav2small.train.teachers.odyssey import WAVLM_LARGE, Odyssey, OdysseyNet  # noqa: E402
from wav2small.train.teachers.speech import batches  # noqa: E402

RATE = 16000
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """Both checkpoints, small and random, in the folder WAV2SMALL_MODELS."""
    make_odyssey(tmp_path)
    make_dawn(tmp_path)
    monkeypatch.setenv("WAV2SMALL_MODELS", str(tmp_path))
    return tmp_path


def voice(dur: float, seed: int = 0) -> np.ndarray:
    """Noise with a level that wanders and a mean that is not zero."""
    rng = np.random.default_rng(seed)
    level = np.interp(np.linspace(0, 7, round(dur * RATE)), np.arange(8), 10 ** rng.uniform(-3, -0.5, 8))
    return (0.01 + level * rng.standard_normal(len(level))).astype(np.float32)


def hub_arrays(folder: Path) -> dict[str, torch.Tensor]:
    """As the file has them, read by nobody of ours."""
    if (folder / "pytorch_model.bin").is_file():
        return torch.load(folder / "pytorch_model.bin", weights_only=True)
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def wav2vec2(state: dict[str, torch.Tensor], signal: torch.Tensor) -> torch.Tensor:
    """wav2vec2 with layer norms first, written out from the papers: (samples,) to (tokens, width)."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * state[f"{name}.weight"] + state[f"{name}.bias"]

    hidden = signal[None, None]
    for layer, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        name = f"feature_extractor.conv_layers.{layer}"
        hidden = functional.conv1d(hidden, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], stride)
        hidden = functional.gelu(norm(hidden.transpose(1, 2), f"{name}.layer_norm")).transpose(1, 2)
    hidden = linear(norm(hidden[0].T, "feature_projection.layer_norm"), "feature_projection.projection")
    g, v = (state[f"encoder.pos_conv_embed.conv.weight_{half}"] for half in "gv")
    kernel = g * v / v.square().sum((0, 1), keepdim=True).sqrt()
    place = functional.conv1d(hidden.T[None], kernel, state["encoder.pos_conv_embed.conv.bias"], padding=4, groups=2)
    hidden = hidden + functional.gelu(place[0, :, :-1]).T
    for layer in range(2):
        name = f"encoder.layers.{layer}"
        x = norm(hidden, f"{name}.layer_norm")
        parts = [linear(x, f"{name}.attention.{part}_proj").reshape(len(x), 2, 8).transpose(0, 1) for part in "qkv"]
        weight = (parts[0] @ parts[1].transpose(1, 2) / 8**0.5).softmax(2)
        mixed = (weight @ parts[2]).transpose(0, 1).reshape(len(x), 16)
        hidden = hidden + linear(mixed, f"{name}.attention.out_proj")
        x = norm(hidden, f"{name}.final_layer_norm")
        x = functional.gelu(linear(x, f"{name}.feed_forward.intermediate_dense"))
        hidden = hidden + linear(x, f"{name}.feed_forward.output_dense")
    return norm(hidden, "encoder.layer_norm")


def test_dawn_is_its_model_card_written_out(models):
    state = hub_arrays(models / DAWN)
    body = {name.removeprefix("wav2vec2."): tensor for name, tensor in state.items()}
    clips = [voice(0.5), voice(1.3, 1)]
    emotions, embeddings = load_teacher("dawn").label_and_embed(clips)
    for clip, emotion, embedding in zip(clips, emotions, embeddings, strict=True):
        signal = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
        pooled = wav2vec2(body, torch.from_numpy(signal)).mean(0)
        hidden = torch.tanh(state["classifier.dense.weight"] @ pooled + state["classifier.dense.bias"])
        expected = state["classifier.out_proj.weight"] @ hidden + state["classifier.out_proj.bias"]
        np.testing.assert_allclose(embedding, hidden, atol=2e-5)
        np.testing.assert_allclose(emotion, expected, atol=2e-5)
    assert np.std(embeddings, axis=0).max() > 1e-3, "another clip, another answer"


def test_odyssey_is_its_model_card_written_out(models):
    state = {name: tensor.double() for name, tensor in hub_arrays(models / ODYSSEY).items()}
    wavlm = scrambled(WavLMModel, WavLMConfig(**SMALL, conv_bias=False), 1)
    clips = [voice(0.5), voice(1.3, 1)]
    emotions, embeddings = load_teacher("odyssey").label_and_embed(clips)
    for clip, emotion, embedding in zip(clips, emotions, embeddings, strict=True):
        signal = torch.from_numpy((clip - 8.278621631819787e-05) / 0.08485510250851999).float()
        with torch.inference_mode():
            hidden = wavlm(signal[None]).last_hidden_state[0].double()
        score = torch.tanh(hidden @ state["pool_model.sap_linear.weight"].T + state["pool_model.sap_linear.bias"])
        weight = torch.softmax((score @ state["pool_model.attention"])[:, 0], 0)
        mean = weight @ hidden
        spread = (weight @ hidden**2 - mean**2).clamp(min=1e-5).sqrt()
        dense = state["ser_model.fc.0.0.weight"] @ torch.cat([mean, spread]) + state["ser_model.fc.0.0.bias"]
        dense = (dense - dense.mean()) / (dense.var(unbiased=False) + 1e-5).sqrt()
        dense = torch.relu(dense * state["ser_model.fc.0.1.weight"] + state["ser_model.fc.0.1.bias"])
        expected = state["ser_model.out.0.weight"] @ dense + state["ser_model.out.0.bias"]
        np.testing.assert_allclose(embedding, dense, atol=1e-4)
        np.testing.assert_allclose(emotion, expected, atol=1e-4)
    assert np.std(embeddings, axis=0).max() > 1e-3, "another clip, another answer"


def test_the_input_of_each_is_normalised_as_published(models):
    signal = np.array([0.5, -0.25, 0.0, 0.125], np.float32)
    golden = [5.8914294, -2.947167, -0.00097562, 1.4721256]
    odyssey, dawn = load_teacher("odyssey"), load_teacher("dawn")
    np.testing.assert_allclose(odyssey.normalise(signal), golden, rtol=1e-5)
    np.testing.assert_allclose(dawn.normalise(signal), [1.5011107, -1.2701706, -0.3464102, 0.1154701], rtol=1e-5)
    assert (odyssey.mean, odyssey.std) == (-8.278621631819787e-05, 0.08485510250851999)
    assert abs(dawn.normalise(voice(1.0)).mean()) < 1e-5 and abs(dawn.normalise(voice(1.0)).std() - 1) < 1e-4
    assert signal.tolist() == [0.5, -0.25, 0.0, 0.125], "the caller's array stays"


def rewrite(path: Path, **changes: object) -> None:
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))


def arrays_of(folder: Path) -> tuple[dict[str, np.ndarray], object]:
    """Arrays of either format, and what writes them again."""
    if (folder / "model.safetensors").is_file():
        arrays, metadata = read_safetensors(folder / "model.safetensors")
        return arrays, lambda: write_safetensors(folder / "model.safetensors", arrays, metadata)
    arrays = {name: tensor.numpy() for name, tensor in torch.load(folder / "pytorch_model.bin").items()}

    def write() -> None:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "pytorch_model.bin")

    return arrays, write


OUT = {ODYSSEY: "ser_model.out.0", DAWN: "classifier.out_proj"}
KIND = {ODYSSEY: Odyssey, DAWN: Dawn}


@pytest.mark.parametrize("hub_name", [ODYSSEY, DAWN])
def test_outputs_are_arousal_dominance_valence_in_whatever_order_the_file_has_them(models, hub_name):
    arrays, write = arrays_of(models / hub_name)
    arrays[f"{OUT[hub_name]}.weight"][:] = 0
    arrays[f"{OUT[hub_name]}.bias"][:] = [0.1, 0.2, 0.3]
    write()
    make = KIND[hub_name]
    np.testing.assert_allclose(make(models / hub_name).label([voice(0.3)]), [Emotion(0.1, 0.2, 0.3)], atol=1e-6)
    turned = {"0": "valence", "1": "arousal", "2": "Dominance"}
    rewrite(models / hub_name / "config.json", id2label=turned)
    np.testing.assert_allclose(make(models / hub_name).label([voice(0.3)]), [Emotion(0.2, 0.3, 0.1)], atol=1e-6)
    rewrite(models / hub_name / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    with pytest.raises(WeightsError, match="id2label names label_0, label_1, label_2, needed: arousal, dominance, val"):
        make(models / hub_name)


@pytest.mark.parametrize("hub_name", [ODYSSEY, DAWN])
def test_one_key_renamed_is_an_error_that_names_both(models, hub_name):
    arrays, write = arrays_of(models / hub_name)
    name = f"{OUT[hub_name]}.weight"
    arrays[f"{OUT[hub_name]}.wieght"] = arrays.pop(name)
    write()
    with pytest.raises(WeightsError) as caught:
        KIND[hub_name](models / hub_name)
    assert str(caught.value) == (
        f"{models / hub_name}: not the weights of this network; missing: {name}; left over: {OUT[hub_name]}.wieght."
    )


@pytest.mark.parametrize(
    ("hub_name", "changes", "sentence"),
    [
        (ODYSSEY, {"model_type": "wavlm"}, "model_type is 'wavlm', needed: 'ser'"),
        (ODYSSEY, {"num_classes": 8}, "num_classes is 8, needed: 3"),
        (ODYSSEY, {"classifier_hidden_layers": 2}, "missing: ser_model.fc.1.0.bias, "),
        (ODYSSEY, {"hidden_size": 32}, "pool_model.attention is float32 (16, 1), this network has float32 (32, 1)"),
        (ODYSSEY, {"ssl_type": "microsoft/wavlm-large"}, "left over"),
        (DAWN, {"model_type": "hubert"}, "model_type is 'hubert', needed: 'wav2vec2'"),
        (DAWN, {"pooling_mode": "max"}, "pooling_mode is 'max', needed: 'mean'"),
        (DAWN, {"num_hidden_layers": 1}, "left over: wav2vec2.encoder.layers.1.attention.k_proj.bias, "),
        (DAWN, {"num_hidden_layers": 3}, "missing: wav2vec2.encoder.layers.2.attention.k_proj.bias, "),
    ],
)
def test_another_architecture_is_refused(models, hub_name, changes, sentence, monkeypatch):
    if "ssl_type" in changes:  # the true sizes of a large network take seconds
        monkeypatch.setattr("wav2small.train.teachers.odyssey.WAVLM_LARGE", SMALL | {"num_hidden_layers": 1})
    rewrite(models / hub_name / "config.json", **changes)
    with pytest.raises(WeightsError) as caught:
        KIND[hub_name](models / hub_name)
    assert sentence in str(caught.value) and str(models / hub_name) in str(caught.value)


def test_the_stock_class_answers_from_a_random_head_and_ours_does_not(models):
    """transformers loads the body with a random head and raises no error."""
    folder, clip = models / DAWN, torch.from_numpy(voice(0.5))[None]
    with torch.inference_mode():
        stock = [Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()(clip).logits for _ in range(2)]
    assert not torch.allclose(*stock), "a random head each time"
    assert Dawn(folder).label([voice(0.5)]) == Dawn(folder).label([voice(0.5)])
    arrays, write = arrays_of(folder)
    for name in [name for name in arrays if name.startswith("classifier")]:
        del arrays[name]
    write()
    with pytest.raises(WeightsError, match=r"missing: classifier\.dense\.bias, classifier\.dense\.weight, classif"):
        Dawn(folder)


def test_what_only_training_needs_may_be_missing_or_left_over(models):
    before = Dawn(models / DAWN)
    arrays, write = arrays_of(models / DAWN)
    del arrays["wav2vec2.masked_spec_embed"]
    write()
    after = Dawn(models / DAWN)
    assert after.label([voice(0.5)]) == before.label([voice(0.5)]) and after.version == before.version
    rewrite(models / DAWN / "config.json", mask_time_prob=0.0, mask_feature_prob=0.0)
    arrays["wav2vec2.masked_spec_embed"] = np.zeros(16, np.float32)
    write()
    assert Dawn(models / DAWN).label([voice(0.5)]) == before.label([voice(0.5)])


def test_both_formats_and_names_of_today_are_read_alike(models):
    before = Dawn(models / DAWN)
    arrays, _ = arrays_of(models / DAWN)
    norm = "wav2vec2.encoder.pos_conv_embed.conv."
    for half, today in (("g", "original0"), ("v", "original1")):
        arrays[f"{norm}parametrizations.weight.{today}"] = arrays.pop(f"{norm}weight_{half}")
    (models / DAWN / "pytorch_model.bin").unlink()
    write_safetensors(models / DAWN / "model.safetensors", arrays, {})
    assert Dawn(models / DAWN).version == before.version
    assert Dawn(models / DAWN).label([voice(0.5)]) == before.label([voice(0.5)])


class Evil:
    """What a pickle can do, and weights cannot."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (sys.exit, ("remote code was run",))


@pytest.mark.parametrize("content", [b"", b"no file of torch", pickle.dumps({"a": Evil()})], ids=["0", "text", "evil"])
def test_a_file_with_anything_but_arrays_is_refused_unread(models, content):
    (models / DAWN / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: not a file of arrays only"):
        Dawn(models / DAWN)


def test_a_folder_without_weights_or_with_damaged_configuration_is_said(models):
    (models / DAWN / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        Dawn(models / DAWN)
    (models / DAWN / "preprocessor_config.json").write_text('{"do_normalize": false}')
    with pytest.raises(WeightsError, match="do_normalize is False, needed: True"):
        Dawn(models / DAWN)
    for text in ("{", "[]"):
        (models / DAWN / "config.json").write_text(text)
        with pytest.raises(
            WeightsError, match=r"config\.json: (cannot be read as JSON|does not contain a JSON object)"
        ):
            Dawn(models / DAWN)


@pytest.mark.parametrize("name", ["odyssey", "dawn"])
def test_a_clips_answer_does_not_depend_on_its_batch(models, name):
    teacher = load_teacher(name)
    clips = [voice(dur, seed) for seed, dur in enumerate((0.3, 2.0, 0.02, 0.31, 1.0, 0.305))]
    together, embeddings = teacher.label_and_embed(clips)
    np.testing.assert_allclose(together, [teacher.label([clip])[0] for clip in clips], atol=1e-5)
    np.testing.assert_allclose(teacher.label(clips[::-1])[::-1], together, atol=1e-5)
    assert np.abs(embeddings[0] - embeddings[3]).max() > 1e-3
    assert teacher.label([]) == []
    for silent in (np.zeros(RATE, np.float32), np.zeros(0, np.float32)):
        assert np.isfinite(teacher.label([silent, clips[0]])).all()


def test_a_long_clip_gets_the_mean_of_its_parts(models):
    teacher, long = load_teacher("dawn"), voice(31.0)
    expected = np.mean(teacher.label(list(parts([long], 31.0))), axis=0)
    np.testing.assert_allclose(teacher.label([long])[0], expected, atol=1e-5)


def test_bfloat16_moves_the_answer_little(models):
    exact, fast = (load_teacher("paper", bf16=bf16).label([voice(1.0)])[0] for bf16 in (False, True))
    assert 0 < np.abs(np.subtract(exact, fast)).max() < 0.02


@pytest.mark.parametrize("name", ["odyssey", "dawn", "paper"])
def test_a_gpu_answers_as_the_cpu(models, name):
    clips = [voice(0.5), voice(1.2, 1), voice(31.0, 2)]
    with PretendGpu():
        teacher = load_teacher(name, device="cuda")
        found = teacher.label_and_embed(clips) if name != "paper" else (teacher.label(clips), None)
        for one in teacher.teachers if name == "paper" else [teacher]:
            assert {weight.device.type for weight in one.net.parameters()} == {"cuda"}
    assert found[0] == load_teacher(name).label(clips)
    assert teacher.version == load_teacher(name).version


def test_batches_have_a_budget_of_audio_with_its_padding():
    lengths = [RATE * seconds for seconds in (30, 1, 30, 29, 30, 30, 2, 1)]
    found = list(batches(lengths))
    assert sorted(index for batch in found for index in batch) == list(range(8))
    assert max(len(batch) * max(lengths[i] for i in batch) for batch in found) <= 120 * RATE
    assert [len(batch) for batch in batches(lengths, same_length=True)] == [2, 1, 1, 4]
    assert list(batches([10**9])) == [[0]] and list(batches([])) == []


def test_the_published_sizes_are_those_of_the_real_networks():
    """WavLM-large has 315.5 million parameters, and Dawn's twelve layers 165.3 with its head."""
    config = {"hidden_size": 1024, "num_classes": 3, "classifier_hidden_layers": 1, "classifier_dropout_prob": 0.5}
    from transformers import Wav2Vec2Config

    large = {key: WAVLM_LARGE[key] for key in ("hidden_size", "num_attention_heads", "intermediate_size")}
    layered = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    with torch.device("meta"):
        odyssey = OdysseyNet(config, [0, 1, 2], WavLMConfig(**WAVLM_LARGE))
        dawn = DawnNet(Wav2Vec2Config(**large, **layered, num_hidden_layers=12), [0, 1, 2])
    assert sum(p.numel() for p in odyssey.ssl_model.parameters()) == 315_453_120
    assert round(sum(p.numel() for p in dawn.parameters()) / 1e6, 1) == 165.3


def test_paper_is_the_mean_of_both_and_an_ensemble_any_weighted_mean(models):
    clips = [voice(0.5), voice(0.4, 1)]
    (one, first), (two, second) = (load_teacher(name).label_and_embed(clips) for name in ("odyssey", "dawn"))
    paper = load_teacher("paper")
    answers, embeddings = paper.label_and_embed(clips)
    np.testing.assert_allclose(answers, np.mean([one, two], axis=0), atol=1e-6)
    np.testing.assert_array_equal(embeddings, np.concatenate([first, second], axis=1))
    assert (paper.name, paper.licence) == ("paper", "MIT AND CC-BY-NC-SA-4.0")
    assert paper.version == f"{load_teacher('odyssey').version}+{load_teacher('dawn').version}"
    weighted = load_teacher("ensemble:odyssey=3, dawn")
    np.testing.assert_allclose(weighted.label(clips), 0.75 * np.array(one) + 0.25 * np.array(two), atol=1e-6)
    assert weighted.name == "ensemble:odyssey=3, dawn" and isinstance(weighted.label(clips)[0], Emotion)


@pytest.mark.parametrize("name", ["ensemble:", "ensemble:dawn", "ensemble:dawn,dawn", "ensemble:dawn,", "ensemble:a=1"])
def test_an_ensemble_has_two_members_each_once(name):
    with pytest.raises(WeightsError, match="an ensemble needs two or more different members"):
        load_teacher(name)


@pytest.mark.parametrize("weight", ["0", "-1", "x", "nan", "1e3"])
def test_a_weight_is_a_number_above_0(weight):
    with pytest.raises(WeightsError, match=f"the weight '{weight}' is not a number above 0"):
        load_teacher(f"ensemble:odyssey,dawn={weight}")


def test_an_unknown_member_is_said_with_the_closest():
    with pytest.raises(PluginError, match=r"unknown teacher 'dawm'\. Did you mean 'dawn'\? Known: dawn, odyssey, "):
        load_teacher("ensemble:dawm,odyssey")


def test_the_hub_is_asked_once_for_a_pinned_revision(models, monkeypatch):
    asked = []

    def snapshot(name: str, revision: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        asked.append((name, revision, allow_patterns))
        return str(models / DAWN)

    monkeypatch.delenv("WAV2SMALL_MODELS")
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: asked.append((url, timeout)))
    assert load_teacher("dawn").label([voice(0.3)])
    (url, timeout), *downloads = asked
    assert DAWN in url and len(url.split("/")[-2]) == 40 and timeout <= 10
    assert {(name, revision) for name, revision, _ in downloads} == {(DAWN, url.split("/")[-2])}
    assert not [pattern for _, _, patterns in downloads for pattern in patterns if ".py" in pattern or "*" in pattern]


def test_without_folder_and_network_there_is_a_sentence_at_once(tmp_path, monkeypatch):
    def unreachable(url: str, timeout: float) -> None:
        raise RuntimeError("[Errno -2] Name or service not known\nand more")

    monkeypatch.setattr(hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("no")))
    monkeypatch.setenv("WAV2SMALL_MODELS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_teacher("odyssey")
    assert str(caught.value) == (
        f"{ODYSSEY}: is not in {tmp_path}, and it cannot be fetched ([Errno -2] Name or service not known). "
        f"Put its files into FOLDER/{ODYSSEY} and set WAV2SMALL_MODELS to FOLDER."
    )
    for name in (str(tmp_path), "no such/owner/name"):
        with pytest.raises(WeightsError, match=r"is neither a folder with a config\.json nor owner/name of the hub"):
            hub.find_folder(name)
