"""Training a body: frozen weights do not change, an easy task reaches a high CCC, resume equals uninterrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from wav2small.cli import main
from wav2small.errors import ManifestError, WeightsError
from wav2small.network.weights import read_safetensors, write_safetensors

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from transformers import (  # noqa: E402
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

from pretend_gpu import PretendGpu  # noqa: E402
from tiny_teachers import SMALL, scrambled  # noqa: E402
from wav2small.train import adapt  # noqa: E402
from wav2small.train.annotated import Annotated, divided, read_annotated  # noqa: E402
from wav2small.train.config import AdaptConfig, FinetuneConfig  # noqa: E402
from wav2small.train.finetune import finetune_body, rates  # noqa: E402
from wav2small.train.loop import CHECKPOINT, Loop  # noqa: E402
from wav2small.train.teachers import load_teacher  # noqa: E402
from wav2small.train.teachers.bodies import Body, load_body  # noqa: E402
from wav2small.train.teachers.tuned import TunedNet  # noqa: E402

RATE = 16000
TINY = FinetuneConfig(steps=4, batch_size=4, evaluate_every=2, hidden=8, silence_dur=0.05, max_dur=0.4, distorted=0.0)
TAPT = AdaptConfig("tapt", 3)
pytestmark = pytest.mark.usefixtures("one_thread")


def silently(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Clips by eight speakers whose arousal is how high they are, and valence how low."""
    folder = tmp_path_factory.mktemp("corpus") / "spoken"
    folder.mkdir()
    lines = ["file,speaker,arousal,dominance,valence"]
    for n in range(40):
        rng = np.random.default_rng(n)
        high, time = (n * 7 % 40) / 40, np.arange(int(rng.integers(4000, 6000))) / RATE
        tone = np.sin(2 * np.pi * (200 + 5000 * high) * time) + 0.1 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{n}.wav", 0.3 * tone, RATE)
        lines.append(f"{n}.wav,s{n % 8},{high:.3f},{0.5 * high + 0.2:.3f},{1 - high:.3f}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def bodies(tmp_path_factory) -> Path:
    """One body of each kind that matters here, in the hub's format."""
    root = tmp_path_factory.mktemp("bodies")
    quantiser = {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8, "num_negatives": 5}
    whisper = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    whisper |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 40}
    whisper |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    group = SMALL | {"feat_extract_norm": "group", "do_stable_layer_norm": False}
    kinds = {
        "wav2vec2": (Wav2Vec2ForPreTraining, Wav2Vec2Config(**SMALL, **quantiser)),
        "wavlm": (WavLMModel, WavLMConfig(**SMALL)),
        "hubert": (HubertModel, HubertConfig(**group)),
        "whisper": (WhisperModel, WhisperConfig(**whisper)),
    }
    for name, (make, config) in kinds.items():
        scrambled(make, config, 3).save_pretrained(root / name)
        (root / name / "preprocessor_config.json").write_text('{"do_normalize": true}')
    return root


def annotated(corpus: Path) -> list[Annotated]:
    return [read_annotated(str(corpus), 4)]


def state(body: Body) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in body.encoder.state_dict().items()}


def changed(before: dict[str, torch.Tensor], body: Body) -> set[str]:
    return {name for name, tensor in body.encoder.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
@pytest.mark.parametrize("trained", ["none", "no-cnn", "full"])
def test_what_is_frozen_stays_and_the_rest_is_trained(corpus, bodies, tmp_path, kind, trained):
    body = load_body(str(bodies / kind))
    before = state(body)
    net, scores = finetune_body(annotated(corpus), body, replace(TINY, trained=trained), tmp_path, silently, silently)
    moved = changed(before, body)
    convolutions = {name for name in before if name.startswith(("feature_extractor", "conv1", "conv2"))}
    assert bool(moved) == (trained != "none") and bool(moved & convolutions) == (trained == "full")
    assert any("layers.0." in name for name in moved) == (trained != "none")
    assert scores.keys() == {"spoken"} and not net.training


@pytest.mark.slow
def test_an_easy_task_is_learnt(corpus, bodies, tmp_path):
    config = replace(TINY, trained="full", pooling="attentive", steps=80, batch_size=16, evaluate_every=40)
    config = replace(config, learning_rate=1e-2, head_learning_rate=1e-2, dropout=0.0, hidden=16)
    lines: list[dict[str, float]] = []
    body = load_body(str(bodies / "wavlm"))
    _, scores = finetune_body(annotated(corpus), body, config, tmp_path, silently, lines.append)
    assert min(scores["spoken"].values()) > 0.6, "on held-out speakers"
    assert [line["step"] for line in lines] == [40, 80]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_is_uninterrupted(corpus, bodies, tmp_path, stop):
    def tell(done: float, total: float, note: str = "") -> None:
        if done == stop:
            raise KeyboardInterrupt

    def run(folder: str, told=silently):
        (tmp_path / folder).mkdir(exist_ok=True)
        config = replace(TINY, trained="full", pooling="attentive")
        return finetune_body(
            annotated(corpus), load_body(str(bodies / "wavlm")), config, tmp_path / folder, told, silently
        )

    whole, scores = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", tell)
    parts, again = run("parts")
    assert scores == again
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_the_learning_rates_are_highest_when_the_warm_up_ends(corpus, bodies, tmp_path, monkeypatch):
    rates, advance = [], Loop.advance

    def watched(self: Loop, batch: object) -> float:
        loss = advance(self, batch)
        rates.append([group["lr"] for group in self.optimiser.param_groups])
        return loss

    monkeypatch.setattr(Loop, "advance", watched)
    config = replace(TINY, warm_up=0.5, learning_rate=0.01, head_learning_rate=0.1)
    finetune_body(annotated(corpus), load_body(str(bodies / "wavlm")), config, tmp_path, silently, silently)
    head, body = [row[0] for row in rates], [row[-1] for row in rates]
    assert head == pytest.approx([0.05, 0.1, 0.1, 0.05]) and body == pytest.approx([0.005, 0.01, 0.01, 0.005])


def test_each_layer_learns_slower_than_the_one_above_it(bodies):
    body = load_body(str(bodies / "wavlm"))
    net = TunedNet(body, "mean", 8)
    config = replace(TINY, trained="full", learning_rate=1.0, layer_decay=0.5)
    rate = {id(weight): group["lr"] for group in rates(net, config) for weight in group["params"]}
    assert len(rate) == len(list(net.parameters())), "each parameter once"
    of = {name: rate[id(weight)] for name, weight in net.named_parameters()}
    assert of["head.out.weight"] == of["norm.weight"] == TINY.head_learning_rate
    assert of["encoder.encoder.layer_norm.weight"] == of["encoder.encoder.layers.1.layer_norm.weight"] == 1.0
    assert of["encoder.encoder.layers.0.layer_norm.weight"] == 0.5
    assert of["encoder.feature_projection.projection.weight"] == 0.25
    assert of["encoder.feature_extractor.conv_layers.0.conv.weight"] == 0.25


def test_activations_computed_twice_give_the_same_training(corpus, bodies, tmp_path):
    nets = []
    for checkpointing in (False, True):
        (tmp_path / str(checkpointing)).mkdir()
        config = replace(TINY, trained="no-cnn", checkpointing=checkpointing)
        body = load_body(str(bodies / "wavlm"))
        nets.append(
            finetune_body(annotated(corpus), body, config, tmp_path / str(checkpointing), silently, silently)[0]
        )
    for one, other in zip(*(net.state_dict().values() for net in nets), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_whole_teacher_is_one_file_that_is_read_strictly(corpus, bodies, tmp_path):
    clips = [np.random.default_rng(n).standard_normal(4000 + 700 * n).astype(np.float32) for n in range(3)]
    for kind in ("hubert", "whisper"):
        config = replace(TINY, trained="full", pooling="quantile", bf16=kind == "whisper")
        (tmp_path / kind).mkdir()
        body = load_body(str(bodies / kind), layers=1)
        net, _ = finetune_body(annotated(corpus), body, config, tmp_path / kind, silently, silently)
        path = tmp_path / f"{kind}.safetensors"
        net.save(path, {"name": "mine", "version": "2", "licence": "MIT"})
        teacher = load_teacher(str(path))
        assert (teacher.name, teacher.version, teacher.licence) == ("mine", "2", "MIT")
        with torch.inference_mode():
            np.testing.assert_allclose(teacher.label(clips), net(clips)[0].clamp(0, 1), atol=5e-3)
        assert np.isfinite(load_teacher(str(path), bf16=True).label(clips)).all()
        alone = [teacher.label([clip])[0] for clip in clips]
        np.testing.assert_allclose(teacher.label(clips), alone, atol=1e-5)
        arrays, metadata = read_safetensors(path)
        assert not [name for name in arrays if "category" in name]
        arrays["head.outer.bias"] = arrays.pop("head.out.bias")
        write_safetensors(path, arrays, metadata)
        with pytest.raises(WeightsError, match=r"missing: head\.out\.bias; left over: head\.outer\.bias\."):
            load_teacher(str(path))
        write_safetensors(path, arrays, {key: text for key, text in metadata.items() if key != "licence"})
        with pytest.raises(WeightsError, match="not a teacher: missing licence"):
            load_teacher(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "whisper"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_gpu_trains_a_body_and_answers_as_the_cpu(corpus, bodies, tmp_path, kind, checkpointing):
    config = replace(TINY, trained="full", pooling="attentive", checkpointing=checkpointing)
    made, path = [], tmp_path / "mine.safetensors"
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        with PretendGpu():
            body = load_body(str(bodies / kind), device=device)
            made.append(finetune_body(annotated(corpus), body, config, tmp_path / device, silently, silently))
            assert {weight.device.type for weight in made[-1][0].parameters()} == {device}
            made[-1][0].save(path, {"name": "mine", "version": "2", "licence": "MIT"})
    assert made[0][1] == made[1][1]
    clips = [np.random.default_rng(n).standard_normal(4000 + 700 * n).astype(np.float32) for n in range(3)]
    with PretendGpu():
        assert load_teacher(str(path), device="cuda").label(clips) == load_teacher(str(path)).label(clips)


def test_a_gpu_goes_on_with_pretraining_as_the_cpu(corpus, bodies, tmp_path):
    name, found = str(bodies / "wav2vec2"), []
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        with PretendGpu():
            taught, body = (load_body(name, layers=1, device=device) for _ in range(2))
            adapt.tapt(annotated(corpus), name, taught, TINY, AdaptConfig("tapt", 2), tmp_path / device / "1", silently)
            adapt.p_tapt(
                annotated(corpus),
                taught,
                body,
                TINY,
                AdaptConfig("p-tapt", 2, (3, 5)),
                tmp_path / device / "2",
                silently,
            )
            assert {weight.device.type for one in (taught, body) for weight in one.encoder.parameters()} == {device}
            found.append({key: value.cpu() for key, value in (state(taught) | state(body)).items()})
    for key, value in found[0].items():
        np.testing.assert_allclose(value, found[1][key], atol=1e-5, err_msg=key)


def test_speakers_of_the_split_dev_choose_else_those_of_fold_0(corpus):
    (whole,) = annotated(corpus)
    train, dev = divided([whole])
    assert {s.speaker for s in dev[0].segments} == {"s0", "s4"} and len(train[0].segments) == 30
    splits = [replace(s, split="dev" if s.speaker == "s5" else "train") for s in whole.segments]
    train, dev = divided([replace(whole, segments=splits)])
    assert {s.speaker for s in dev[0].segments} == {"s5"} and len(train[0].segments) == 35
    mixed = [replace(s, split="dev" if n == 5 else "train") for n, s in enumerate(whole.segments)]
    with pytest.raises(ManifestError, match="spoken: speaker s5 is in train and in dev"):
        divided([replace(whole, segments=mixed)])
    with pytest.raises(ManifestError, match="there are no clips to train on"):
        divided([replace(whole, folds=np.zeros(40))])


def test_masks_are_spans_of_real_tokens_and_negatives_are_other_masked_tokens_of_the_clip():
    rng = np.random.default_rng(0)
    real = np.arange(60)[None] < np.array([60, 25, 3, 1])[:, None]
    masked = np.array([adapt.spans(real, rng) for _ in range(50)])
    assert masked.any(2).all() and not masked[:, ~real].any()
    assert 0.3 < masked[:, 0].mean() < 0.65 and masked[:, 2].sum() < masked[:, 0].sum()
    few = np.array([adapt.spans(real, rng, 15, 0.06, 2) for _ in range(50)])
    assert few.any(2).all() and not few[:, ~real].any() and 16 <= few[:, 0].sum(1).mean() <= 30, "two masks of 15"
    found = adapt.negatives(masked[0], 7, rng)
    for clip, token in zip(*np.nonzero(masked[0]), strict=True):
        clips, tokens = np.divmod(found[clip, token], 60)
        assert (clips == clip).all() and masked[0, clip, tokens].all()
        assert (tokens != token).all() or masked[0, clip].sum() == 1


def test_tapt_goes_on_with_the_contrastive_task(corpus, bodies, tmp_path):
    body = load_body(str(bodies / "wav2vec2"), layers=1)
    before, name = state(body), str(bodies / "wav2vec2")
    adapt.tapt(annotated(corpus), name, body, TINY, TAPT, tmp_path, silently)
    moved = changed(before, body)
    assert any("layers.0." in name for name in moved) and any("feature_extractor" in name for name in moved)
    again = load_body(name, layers=1)
    adapt.tapt(annotated(corpus), name, again, TINY, TAPT, tmp_path, lambda *_: pytest.fail("it was done"))
    assert not changed(state(body), again), "the phase is done and is taken from its checkpoint"


def test_tapt_that_was_stopped_ends_as_one_that_was_not(corpus, bodies, tmp_path):
    name, data = str(bodies / "wav2vec2"), annotated(corpus)
    whole, stopped = (load_body(name, layers=1) for _ in range(2))
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    adapt.tapt(data, name, whole, TINY, TAPT, tmp_path / "whole", silently)

    def stop(done: float, total: float, note: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt.tapt(data, name, stopped, TINY, TAPT, tmp_path / "stopped", stop)
    adapt.tapt(data, name, stopped, TINY, TAPT, tmp_path / "stopped", silently)
    assert not changed(state(whole), stopped)


def test_tapt_needs_the_quantiser_of_a_pretrained_wav2vec2(corpus, bodies, tmp_path):
    with pytest.raises(WeightsError, match="TAPT needs a wav2vec2 model, but this is wavlm"):
        adapt.tapt(
            annotated(corpus), str(bodies / "wavlm"), load_body(str(bodies / "wavlm")), TINY, TAPT, tmp_path, silently
        )
    body = load_body(str(bodies / "wav2vec2"))
    folder = tmp_path / "bare"
    body.encoder.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    with pytest.raises(WeightsError, match="has no quantiser, which TAPT needs"):
        adapt.tapt(annotated(corpus), str(folder), body, TINY, TAPT, tmp_path, silently)


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_p_tapt_learns_the_clusters_of_a_fine_tuned_body(corpus, bodies, tmp_path, kind, monkeypatch):
    losses: list[float] = []
    advance = Loop.advance
    monkeypatch.setattr(Loop, "advance", lambda self, batch: losses.append(advance(self, batch)))
    taught, body = load_body(str(bodies / kind)), load_body(str(bodies / kind))
    before = state(body)
    adapt.p_tapt(
        annotated(corpus), taught, body, TINY, AdaptConfig("p-tapt", 30, (3, 5), learning_rate=1e-2), tmp_path, silently
    )
    assert changed(before, body) and not changed(before, taught)
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.05, losses
    centres = adapt.find_clusters(annotated(corpus), taught, (3, 5), TINY, tmp_path / "clusters.npz")
    assert [tuple(centre.shape) for centre in centres] == [(3, 16), (5, 16)]


def finetune(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["finetune", *map(str, arguments)])


def test_the_command_adapts_and_tunes_and_goes_on(corpus, bodies, tmp_path):
    options = ("--body", bodies / "hubert", "--licence", "CC-BY-NC-4.0", "--trained", "no-cnn", "--adapt", "p-tapt")
    options += ("--steps", 2, "--adapt-steps", 2, "--batch-size", 4, "--clusters", "3,4", "--layer-decay", 0.9)
    where = ("-o", tmp_path / "mine.safetensors", "--cache", tmp_path / "cache", "--name", "mine")
    result = finetune(corpus, *where, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("spoken: CCC on held-out speakers: arousal ")
    assert "step 2: loss " in result.stderr and ", dev CCC arousal " in result.stderr
    teacher = load_teacher(str(tmp_path / "mine.safetensors"))
    assert (teacher.name, teacher.licence) == ("mine", "CC-BY-NC-4.0")
    _, metadata = read_safetensors(tmp_path / "mine.safetensors")
    assert json.loads(metadata["recipe"])["layer_decay"] == 0.9 and metadata["training_data"] == "spoken"
    again = finetune(corpus, *where, *options)
    assert (again.exit_code, again.stdout) == (0, result.stdout) and "step" not in again.stderr, "all of it was done"
    folders = {str(path.parent.relative_to(tmp_path / "cache")) for path in tmp_path.rglob(CHECKPOINT)}
    assert folders == {"mine", "mine/before", "mine/p-tapt"}
    other = finetune(corpus, *where, *options, "--seed", 2)
    assert (
        other.exit_code == 1 and "contains a run with seed 1, given 2. Give the same settings to resume" in other.stderr
    )


def test_the_command_stops_at_ctrl_c_and_continues(corpus, bodies, tmp_path, monkeypatch):
    options = ("--body", bodies / "wav2vec2", "--licence", "MIT", "--adapt", "tapt", "--adapt-steps", 2, "--steps", 2)
    where = ("-o", tmp_path / "mine.safetensors", "--cache", tmp_path / "cache", "--name", "mine", "--batch-size", 4)
    advance, steps = Loop.advance, []

    def interrupted(self: Loop, batch: object) -> float:
        steps.append(self.folder.name)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return advance(self, batch)

    monkeypatch.setattr(Loop, "advance", interrupted)
    result = finetune(corpus, *where, *options)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "interrupted; the same command resumes from step 1\n" in result.stderr
    assert finetune(corpus, *where, *options).exit_code == 0
    assert steps == ["tapt", "tapt", "mine", "mine", "mine"], "no step is repeated but the one that was stopped"


def test_what_does_not_go_together_is_said(corpus, tmp_path):
    out = (corpus, "-o", tmp_path / "mine.safetensors", "--name", "mine")
    assert "Missing option '--body'" in finetune(*out, "--licence", "x").output
    assert "Missing option '--licence'" in finetune(*out, "--body", "a/b").output
    for text in ("x", "64,", "1", "-3"):
        result = finetune(*out, "--body", "a/b", "--licence", "x", "--clusters", text)
        assert "Give whole numbers above 1" in result.output
