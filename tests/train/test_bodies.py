"""Bodies of the hub: each kind loads strictly, truncated or not, and a clip's statistics are its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import WeightsError
from wav2small.network.weights import read_safetensors, write_safetensors

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from transformers import (  # noqa: E402
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

from pretend_gpu import PretendGpu  # noqa: E402
from tiny_teachers import SMALL, scrambled  # noqa: E402
from wav2small.train.config import FitConfig  # noqa: E402
from wav2small.train.teachers import load_teacher  # noqa: E402
from wav2small.train.teachers.bodies import load_body  # noqa: E402
from wav2small.train.teachers.pooling import FIXED, AttentiveStatistics  # noqa: E402

RATE = 16000
GROUP = SMALL | {"feat_extract_norm": "group", "do_stable_layer_norm": False}
PLAIN = {key: value for key, value in SMALL.items() if key not in ("feat_extract_norm", "do_stable_layer_norm")}
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "vocab_size": 40}
WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "num_mel_bins": 128}
WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
KINDS = {
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config(**SMALL)),
    "wav2vec2-base": (Wav2Vec2Model, Wav2Vec2Config(**GROUP)),
    "hubert": (HubertModel, HubertConfig(**GROUP)),
    "hubert-batch-norm": (HubertModel, HubertConfig(**SMALL, conv_pos_batch_norm=True)),
    "wavlm": (WavLMModel, WavLMConfig(**GROUP)),
    "wavlm-large": (WavLMModel, WavLMConfig(**SMALL)),
    "data2vec": (Data2VecAudioModel, Data2VecAudioConfig(**PLAIN)),
    "whisper": (WhisperModel, WhisperConfig(**WHISPER)),
}
pytestmark = pytest.mark.usefixtures("one_thread")


def published(folder: Path, kind: str, normalise: bool = True) -> Path:
    """A body in a folder of the hub's format, as the library writes it."""
    make, config = KINDS[kind]
    scrambled(make, config, 3).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise}))
    return folder


def voice(dur: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.interp(np.linspace(0, 7, round(dur * RATE)), np.arange(8), 10 ** rng.uniform(-3, -0.5, 8))
    return (0.01 + level * rng.standard_normal(len(level))).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clips_statistics_do_not_depend_on_its_batch(tmp_path, kind):
    body = load_body(str(published(tmp_path, kind)))
    assert (body.layers, body.width) == (3, 16)
    clips = [voice(dur, seed) for seed, dur in enumerate((0.3, 1.5, 0.02, 0.31, 0.3))]
    together = body.statistics(clips)
    assert together.shape == (5, 3, 32) and np.isfinite(together).all()
    np.testing.assert_allclose(together, [body.statistics([clip])[0] for clip in clips], atol=2e-5)
    assert np.abs(together[0] - together[4]).max() > 1e-3, "another clip, other statistics"
    assert np.abs(together[:, 0] - together[:, 2]).max() > 1e-2, "the layers do something"


@pytest.mark.parametrize("pooling", FIXED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_has_the_statistics_of_the_cpu(tmp_path, kind, pooling):
    folder, clips = str(published(tmp_path, kind)), [voice(0.3), voice(1.1, 1)]
    with PretendGpu():
        body = load_body(folder, pooling=pooling, device="cuda")
        found = body.statistics(clips)
        assert {weight.device.type for weight in body.encoder.parameters()} == {"cuda"}
    np.testing.assert_allclose(found, load_body(folder, pooling=pooling).statistics(clips), atol=2e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec"])
@pytest.mark.parametrize("normalise", [True, False])
def test_states_are_those_of_the_library(tmp_path, kind, normalise):
    body, clip = load_body(str(published(tmp_path, kind, normalise)), pooling="mean"), voice(0.7)
    signal = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7) if normalise else clip
    with torch.inference_mode():
        found = KINDS[kind][0].from_pretrained(tmp_path).eval()(torch.from_numpy(signal)[None])
    np.testing.assert_allclose(body.statistics([clip])[0, 2], found.last_hidden_state[0].mean(0), atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_body_is_the_first_layers_of_the_whole(tmp_path, kind):
    folder, clip = str(published(tmp_path, kind)), voice(0.5)
    whole, part = load_body(folder), load_body(folder, layers=1)
    assert part.layers == 2 and part.key != whole.key
    np.testing.assert_allclose(part.statistics([clip])[0, 0], whole.statistics([clip])[0, 0], atol=1e-5)
    if kind not in ("wav2vec2", "hubert-batch-norm", "wavlm-large"):  # these have a norm after their last layer
        np.testing.assert_allclose(part.statistics([clip])[0, 1], whole.statistics([clip])[0, 1], atol=1e-5)
    for layers in (3, 0):
        with pytest.raises(WeightsError, match=f"has 2 layers, asked for {layers}"):
            load_body(folder, layers=layers)


def test_heads_of_other_tasks_are_left_and_anything_else_is_an_error(tmp_path):
    bare = published(tmp_path / "bare", "wav2vec2")
    config = Wav2Vec2Config(**SMALL, num_codevectors_per_group=4, codevector_dim=8, proj_codevector_dim=8)
    model = scrambled(Wav2Vec2ForPreTraining, config, 3)
    model.wav2vec2.load_state_dict(Wav2Vec2Model.from_pretrained(bare).state_dict())
    model.save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "preprocessor_config.json").write_text('{"do_normalize": true}')
    assert load_body(str(tmp_path / "whole")).key == load_body(str(bare)).key
    path = tmp_path / "whole" / "model.safetensors"
    arrays, metadata = read_safetensors(path)
    write_safetensors(path, arrays | {"odd.weight": arrays["project_q.bias"]}, metadata)
    with pytest.raises(WeightsError, match=r"left over: odd\.weight"):
        load_body(str(tmp_path / "whole"))
    name = "wav2vec2.encoder.layers.1.attention.k_proj.bias"
    arrays["wav2vec2.encoder.layers.1.attention.key.bias"] = arrays.pop(name)
    write_safetensors(path, arrays, metadata)
    with pytest.raises(WeightsError, match=r"missing: encoder\.layers\.1\.attention\.k_proj\.bias; left over: enc"):
        load_body(str(tmp_path / "whole"))


def test_a_body_of_another_kind_or_without_normalisation_is_refused(tmp_path):
    folder = published(tmp_path, "hubert")
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="do_normalize is None, needed: true or false"):
        load_body(str(folder))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="model_type is 'bert', supported: wav2vec2, hubert, wavlm, "):
        load_body(str(folder))


def test_a_fine_tuned_speech_recogniser_is_a_body(tmp_path):
    scrambled(HubertForCTC, HubertConfig(**GROUP), 1).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    assert load_body(str(tmp_path)).layers == 3


@pytest.mark.parametrize("name", FIXED)
def test_pooling_is_over_the_real_tokens_alone(name):
    pool, times = FIXED[name]
    state = torch.randn(2, 7, 5)
    real = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    short = state[1, :4].numpy()
    expected = {
        "mean": [short.mean(0)],
        "mean+std": [short.mean(0), short.std(0)],
        "quantile": np.quantile(short, (0, 0.25, 0.5, 0.75, 1), axis=0),
        "max": [short.max(0)],
        "first": [short[0]],
        "first+cls": [short[0]],
        "last": [short[3]],
        "middle": [short[2]],
        "random": [short[int(np.random.default_rng(4).integers(4))]],
    }
    found = pool(state, real)
    assert found.shape == (2, 5 * times)
    np.testing.assert_allclose(found[1], np.concatenate(expected[name]), atol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_first_cls_is_the_state_of_a_token_of_ones_before_the_others(tmp_path, kind):
    body, clip = load_body(str(published(tmp_path, kind)), pooling="first+cls"), voice(0.5)
    with torch.inference_mode():
        batch, lengths = body.prepare([clip])
        if kind == "whisper":
            hidden, real = body.tokens(batch, lengths)
            ones = torch.cat([torch.ones(1, 1, body.width), hidden], 1)
            expected = body.encode(ones, torch.ones(1, real.shape[1] + 1, dtype=torch.bool))[-1][0, 0]
        else:
            projected, _ = body.encoder.feature_projection(body.encoder.feature_extractor(batch).transpose(1, 2))
            ones = torch.cat([torch.ones(1, 1, body.width), projected], 1)
            expected = body.encoder.encoder(ones).last_hidden_state[0, 0]
    np.testing.assert_allclose(body.statistics([clip])[0, -1], expected, atol=2e-5)
    assert np.abs(body.statistics([voice(0.5, 1)])[0, -1] - expected.numpy()).max() > 1e-3, "it attends to the clip"


def test_attention_of_equal_scores_is_mean_and_spread():
    pool, state = AttentiveStatistics(5), torch.randn(2, 7, 5)
    real = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    with torch.no_grad():
        pool.attention.zero_()
        np.testing.assert_allclose(pool(state, real), FIXED["mean+std"][0](state, real), atol=1e-4)


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Twelve clips by six speakers; arousal is their level."""
    folder = tmp_path / "spoken"
    folder.mkdir()
    lines = ["file,speaker,split,arousal,dominance,valence"]
    for n in range(12):
        level = 0.05 + 0.9 * (n * 5 % 12) / 12
        soundfile.write(folder / f"{n}.wav", 0.3 * level * np.random.default_rng(n).standard_normal(6000), RATE)
        lines.append(f"{n}.wav,s{n % 6},{'test' if n == 11 else ''},{level},{1 - level},{level / 2}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def fit(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fit", *map(str, arguments)])


@pytest.mark.parametrize(("kind", "pooling"), [("wavlm", "quantile"), ("whisper", "max"), ("hubert", "mean")])
def test_the_command_fits_any_body_and_label_knows_what_it_wrote(corpus, tmp_path, monkeypatch, kind, pooling):
    published(tmp_path / "models" / "some" / "body", kind)
    monkeypatch.setenv("WAV2SMALL_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("wav2small.cli.fit.FitConfig", lambda **given: FitConfig(**given, epochs=1.0, folds=2))
    options = ("--body", "some/body", "--pooling", pooling, "--licence", "CC-BY-NC-4.0", "--layers", 1, "--copies", 0)
    where = ("-o", tmp_path / "mine.safetensors", "--cache", tmp_path / "cache", "--name", "mine")
    result = fit(corpus, *where, *options)
    assert result.exit_code == 0, result.output
    teacher = load_teacher(str(tmp_path / "mine.safetensors"))
    assert (teacher.name, teacher.licence, teacher.body.layers) == ("mine", "CC-BY-NC-4.0", 2)
    assert teacher.body.pooling == pooling and np.isfinite(teacher.label([voice(0.4)])).all()
    assert np.load(next((tmp_path / "cache").rglob("*.npy"))).shape[0] == 11, "the split test is left out"
    published(tmp_path / "models" / "some" / "body", "hubert" if kind == "wavlm" else "wavlm")
    with pytest.raises(WeightsError, match="was fitted on a different version of some/body"):
        load_teacher(str(tmp_path / "mine.safetensors"))


def test_what_does_not_go_together_is_said(corpus, tmp_path):
    out = ("-o", tmp_path / "mine.safetensors")
    assert "--body needs --licence: that of the body" in fit(corpus, *out, "--body", "x/y").output
    assert "need --body" in fit(corpus, *out, "--layers", 3).output
