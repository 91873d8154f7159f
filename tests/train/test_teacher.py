"""The teacher: the right encoder or none, states as the library's own, and each clip's answer its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2small.errors import PluginError, Wav2SmallError, WeightsError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.network.weights import read_safetensors, write_safetensors
from wav2small.runtime.windows import parts

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from transformers import WhisperConfig, WhisperModel  # noqa: E402
from transformers.models.whisper.modeling_whisper import WhisperEncoder  # noqa: E402

from pretend_gpu import PretendGpu  # noqa: E402
from wav2small.train import choose_device  # noqa: E402
from wav2small.train.teachers import hub, load_teacher, whisper  # noqa: E402
from wav2small.train.teachers.hub import fingerprint  # noqa: E402
from wav2small.train.teachers.open import Heads, OpenTeacher  # noqa: E402
from wav2small.train.teachers.whisper import Head, WhisperBody, find_encoder  # noqa: E402

MODELS = Path(os.environ.get("WAV2SMALL_MODELS") or Path(__file__).parents[3] / "shared" / "models")
RATE = 16000
SMALL = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
SMALL |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 40}
SMALL |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A Whisper of two narrow layers in place of the real one, and no folder of models."""
    monkeypatch.setattr(whisper, "CONFIG", WhisperConfig(**SMALL))
    monkeypatch.delenv("WAV2SMALL_MODELS", raising=False)


def model(seed: int = 0) -> WhisperModel:
    """Random weights, large enough for the states to differ from layer to layer."""
    torch.manual_seed(seed)
    made = WhisperModel(WhisperConfig(**SMALL)).eval()
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return made


@pytest.fixture
def published(tmp_path) -> Path:
    """A folder in the hub's format."""
    model().save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """The file of the encoder in float16, in the folder that WAV2SMALL_MODELS names."""
    arrays = {name: tensor.numpy().astype(np.float16) for name, tensor in model().encoder.state_dict().items()}
    write_safetensors(tmp_path / whisper.ENCODER_FILE, arrays, {})
    monkeypatch.setenv("WAV2SMALL_MODELS", str(tmp_path))
    return tmp_path / whisper.ENCODER_FILE


PRINT = fingerprint(model().encoder.state_dict())


def body() -> WhisperBody:
    return WhisperBody(model().encoder)


def voice(dur: float, seed: int = 0) -> np.ndarray:
    """Noise whose level wanders."""
    rng = np.random.default_rng(seed)
    samples = round(dur * RATE)
    level = np.interp(np.arange(samples), np.linspace(0, samples, 8), 10 ** rng.uniform(-3, -0.5, 8))
    return (level * rng.standard_normal(samples)).astype(np.float32)


def test_the_encoder_of_a_hub_folder_is_that_of_the_library(published):
    encoder = find_encoder(str(published), PRINT)
    expected = WhisperModel.from_pretrained(published).encoder.state_dict()
    assert not encoder.training and encoder.state_dict().keys() == expected.keys()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_names_of_the_published_file_are_understood(published):
    """openai/whisper-base holds model.encoder.*, a WhisperModel of its own encoder.*."""
    arrays, metadata = read_safetensors(published / "model.safetensors")
    write_safetensors(published / "model.safetensors", {f"model.{n}": a for n, a in arrays.items()}, metadata)
    assert fingerprint(find_encoder(str(published), PRINT).state_dict()) == PRINT


def test_the_folder_of_models_goes_before_the_hub(models, monkeypatch):
    monkeypatch.setattr(hub, "_from_hub", lambda *_: pytest.fail("the hub was asked"))
    encoder = find_encoder(expected=PRINT)
    assert fingerprint(encoder.state_dict()) == PRINT
    assert {tensor.dtype for tensor in encoder.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("where", ["file", "hub"])
def test_another_encoder_is_refused(where, models, published, monkeypatch):
    if where == "hub":
        monkeypatch.delenv("WAV2SMALL_MODELS")
    path = models if where == "file" else published / "model.safetensors"
    with pytest.raises(WeightsError) as caught:
        find_encoder(str(published))
    assert str(caught.value).startswith(f"{path}: not the Whisper encoder that the head was fitted on. Needed: ")


@pytest.mark.parametrize("where", ["file", "hub"])
@pytest.mark.parametrize("change", ["renamed", "missing", "left over", "misshapen", "nan"])
def test_a_key_that_is_not_as_it_should_be_is_named(where, change, models, published, monkeypatch):
    if where == "hub":
        monkeypatch.delenv("WAV2SMALL_MODELS")
    path = models if where == "file" else published / "model.safetensors"
    arrays, metadata = read_safetensors(path)
    key = ("" if where == "file" else "encoder.") + "layers.1.fc1.bias"
    prefix = key.removesuffix("layers.1.fc1.bias")
    bias = arrays.pop(key)
    if change != "missing":
        changed = {"renamed": {f"{prefix}layers.1.fc9.bias": bias}, "misshapen": {key: bias[:3]}}
        changed |= {"left over": {key: bias, f"{prefix}layers.7.odd": bias}, "nan": {key: bias * np.float16("nan")}}
        arrays |= changed[change]
    write_safetensors(path, arrays, metadata)
    expected = {
        "renamed": "missing: layers.1.fc1.bias; left over: layers.1.fc9.bias.",
        "missing": "missing: layers.1.fc1.bias.",
        "left over": "left over: layers.7.odd.",
        "misshapen": "layers.1.fc1.bias is float32 (3,), this network has float32 (32,).",
        "nan": "layers.1.fc1.bias contains NaN",
    }
    with pytest.raises(WeightsError) as caught:
        find_encoder(str(published), PRINT)
    assert expected[change] in str(caught.value) and str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("folder", ["", "none"])
def test_without_encoder_and_network_there_is_a_sentence_at_once(folder, tmp_path, monkeypatch):
    asked = []

    def unreachable(url: str, timeout: float) -> None:
        asked.append((url, timeout))
        raise RuntimeError("[Errno -2] Name or service not known\nand more")

    def not_cached(name: str, local_files_only: bool = False, **_: object) -> str:
        assert local_files_only, "a download is tried only where the hub answers"
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(hub, "snapshot_download", not_cached)
    monkeypatch.setenv("WAV2SMALL_MODELS", folder and str(tmp_path / folder))
    with pytest.raises(WeightsError) as caught:
        find_encoder()
    where = f"is not in {tmp_path / folder}" if folder else "WAV2SMALL_MODELS is not set"
    assert str(caught.value) == (
        f"openai/whisper-base: {where}, and it cannot be fetched ([Errno -2] Name or service not known). "
        "Put its files into FOLDER/openai/whisper-base and set WAV2SMALL_MODELS to FOLDER."
    )
    assert len(asked) == 1 and f"openai/whisper-base/resolve/{whisper.REVISION}" in asked[0][0] and asked[0][1] <= 10


def test_what_the_hub_has_is_fetched_once_and_then_taken_from_its_cache(published, monkeypatch):
    cache = []

    def download(name: str, revision: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only and not cache:
            raise FileNotFoundError("not in the cache")
        cache.append((name, revision, local_files_only))
        return str(published)

    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert fingerprint(find_encoder(expected=PRINT).state_dict()) == PRINT
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: pytest.fail("the network was asked"))
    assert fingerprint(find_encoder(expected=PRINT).state_dict()) == PRINT
    assert cache == [("openai/whisper-base", whisper.REVISION, is_cached) for is_cached in (False, True)]


def test_a_checkpoint_in_the_folder_of_models_goes_before_the_hub(published, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "_from_hub", lambda *_: pytest.fail("the hub was asked"))
    (tmp_path / "models" / "openai").mkdir(parents=True)
    published.rename(tmp_path / "models" / "openai" / "whisper-base")
    monkeypatch.setenv("WAV2SMALL_MODELS", str(tmp_path / "models"))
    assert fingerprint(find_encoder(expected=PRINT).state_dict()) == PRINT


@pytest.mark.skipif(not (MODELS / whisper.ENCODER_FILE).is_file(), reason="no encoder: set WAV2SMALL_MODELS")
def test_the_real_encoder_has_the_fingerprint(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("WAV2SMALL_MODELS", str(MODELS))
    encoder = find_encoder()
    assert (len(encoder.layers), encoder.config.d_model) == (6, 512)
    statistics = WhisperBody(encoder).statistics([voice(0.5)])
    assert statistics.shape == (1, 7, 1024) and np.isfinite(statistics).all() and statistics[0, 6].std() > 0.1


def test_the_first_layers_alone_give_the_same_statistics(models):
    whole, cut = (WhisperBody(find_encoder(expected=PRINT, layers=layers)) for layers in (None, 1))
    assert (whole.layers, cut.layers, len(cut.encoder.layers)) == (3, 2, 1)
    np.testing.assert_array_equal(cut.statistics([voice(0.5)]), whole.statistics([voice(0.5)])[:, :2])


def test_states_of_30_seconds_are_those_of_the_library():
    ours = body()
    mel = ours.features(voice(30.0), sampling_rate=RATE, return_tensors="pt").input_features
    with torch.inference_mode():
        states, real = ours.states(mel, torch.tensor([mel.shape[2]]))
        library = WhisperEncoder.forward(ours.encoder, mel, output_hidden_states=True)
        last = ours.encoder.layer_norm(states[-1])
    assert real.all() and len(states) == ours.layers == 3
    np.testing.assert_allclose(last, library.last_hidden_state, atol=2e-5)
    for ours_, theirs in zip(states[:-1], library.hidden_states, strict=False):
        np.testing.assert_allclose(ours_, theirs, atol=2e-5)
    assert float((states[0] - states[-1]).abs().mean()) > 0.1, "the layers do something"


def test_statistics_are_mean_and_spread_over_time():
    ours, signal = body(), voice(1.0)
    mel = ours.features(signal, sampling_rate=RATE, padding="do_not_pad", return_tensors="pt").input_features
    with torch.inference_mode():
        states, _ = ours.states(mel, torch.tensor([mel.shape[2]]))
    expected = np.stack([np.concatenate([s[0].mean(0), s[0].numpy().std(0)]) for s in states])
    np.testing.assert_allclose(ours.statistics([signal])[0], expected, atol=1e-5)


def test_a_clips_statistics_do_not_depend_on_its_batch():
    clips = [voice(dur, seed) for seed, dur in enumerate((0.3, 2.0, 0.1, 0.31, 1.0, 0.305))]
    together = body().statistics(clips)
    np.testing.assert_allclose(together, [body().statistics([clip])[0] for clip in clips], atol=1e-5)
    np.testing.assert_allclose(together, body().statistics(clips, batch_size=2), atol=1e-5)
    np.testing.assert_allclose(together[::-1], body().statistics(clips[::-1], batch_size=4), atol=1e-5)
    assert np.abs(together[0] - together[3]).max() > 0.01


def test_padding_changes_nothing():
    ours, signal = body(), voice(0.7)
    mel = ours.features(signal, sampling_rate=RATE, padding="do_not_pad", return_tensors="pt").input_features
    for frames in (mel.shape[2], mel.shape[2] - 1):
        padded = torch.nn.functional.pad(mel[:, :, :frames], (0, 301))
        with torch.inference_mode():
            short, _ = ours.states(mel[:, :, :frames], torch.tensor([frames]))
            long, real = ours.states(padded, torch.tensor([frames]))
        tokens = short[0].shape[1]
        assert int(real.sum()) == tokens == (frames + 1) // 2
        for one, other in zip(short, long, strict=True):
            np.testing.assert_allclose(one, other[:, :tokens], atol=1e-5)


@pytest.mark.parametrize("signal", [np.zeros(RATE, np.float32), np.ones(1, np.float32), np.zeros(0, np.float32)])
def test_silence_and_a_sample_have_finite_statistics(signal):
    assert np.isfinite(body().statistics([signal, voice(0.5)])).all()


def test_bfloat16_moves_the_statistics_little():
    exact, fast = body().statistics([voice(1.0)]), WhisperBody(model().encoder, bf16=True).statistics([voice(1.0)])
    assert 0 < np.abs(exact - fast).max() < 0.1 * np.abs(exact).max()


def heads(count: int = 3, layers: tuple[int, ...] = (1, 2), scale: float = 1.0) -> Heads:
    torch.manual_seed(1)
    made = [Head(len(layers), 32, 8, dropout=0.5, categories=4) for _ in range(count)]
    with torch.no_grad():
        for head in made:
            head.mix.add_(torch.randn(len(layers)))
            head.out.weight.mul_(10 * scale)
    rng = np.random.default_rng(0)
    mean, spread = rng.standard_normal((len(layers), 32)), rng.uniform(0.5, 2, (len(layers), 32))
    return Heads(list(layers), mean.astype(np.float32), spread.astype(np.float32), made)


ABOUT = {"name": "mine", "version": "7", "licence": "MIT"}


def test_heads_are_read_as_they_were_written(tmp_path):
    before = heads()
    before.save(tmp_path / "a.safetensors", {**ABOUT, "note": "é"})
    after, metadata = Heads.load(tmp_path / "a.safetensors")
    assert metadata == {**ABOUT, "note": "é", "layers": "1,2"}
    statistics = np.random.default_rng(2).standard_normal((5, 3, 32)).astype(np.float32)
    np.testing.assert_allclose(after(statistics), before(statistics), atol=2e-3)
    assert np.std(after(statistics), axis=0).min() > 0.02
    each = after.each(statistics)
    assert np.std(each, axis=0).min() > 0.01
    np.testing.assert_allclose(after(statistics), (each[0] + each[1] + each[2]) / 3, atol=1e-6)
    after.save(tmp_path / "b.safetensors", metadata)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    arrays, _ = read_safetensors(tmp_path / "a.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert not [name for name in arrays if "category" in name]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a.pop("1.out.bias"), "missing: 1.out.bias"),
        (lambda a: a.pop("spread"), "missing: spread"),
        (lambda a: a.pop("0.hidden.weight"), "heads of a teacher: missing layers with 0.hidden.weight"),
        (lambda a: a.update({"3.out.bias": a["1.out.bias"]}), "left over: 3.out.bias"),
        (lambda a: a.update({"odd": a["mean"]}), "left over: odd"),
        (lambda a: a.update({"2.mixed": a.pop("2.mix")}), "left over: 2.hidden.bias, 2.hidden.weight, 2.mixed"),
        (lambda a: a.update({"mean": a["mean"][:1]}), "mean is float32 (1, 32), this network has float32 (2, 32)"),
        (lambda a: a.update({"mean": a["mean"] * np.float16("inf")}), "mean contains NaN or infinite values"),
    ],
)
def test_heads_with_an_array_missing_or_left_over_are_refused(tmp_path, change, sentence):
    path = tmp_path / "heads.safetensors"
    heads().save(path, ABOUT)
    arrays, metadata = read_safetensors(path)
    change(arrays)
    write_safetensors(path, arrays, metadata)
    with pytest.raises(WeightsError) as caught:
        Heads.load(path)
    assert str(caught.value).startswith(f"{path}: ") and sentence in str(caught.value)


@pytest.mark.parametrize("key", ["name", "version", "licence", "layers"])
def test_heads_that_do_not_say_what_they_are_are_refused(tmp_path, key):
    path = tmp_path / "heads.safetensors"
    heads().save(path, ABOUT)
    arrays, metadata = read_safetensors(path)
    write_safetensors(path, arrays, {name: text for name, text in metadata.items() if name != key})
    with pytest.raises(WeightsError, match=f"not heads of a teacher: missing {key}"):
        Heads.load(path)


@pytest.fixture
def teacher(tmp_path, monkeypatch) -> OpenTeacher:
    heads().save(tmp_path / "heads.safetensors", ABOUT)
    monkeypatch.setattr("wav2small.train.teachers.open.find_encoder", lambda layers: model().encoder)
    made = load_teacher(str(tmp_path / "heads.safetensors"))
    assert isinstance(made, OpenTeacher)
    return made


def test_a_teacher_says_who_it_is_and_answers_from_0_to_1(teacher):
    assert (teacher.name, teacher.version, teacher.licence) == ("mine", "7", "MIT")
    clips = [voice(dur, seed) for seed, dur in enumerate((0.4, 0.2, 1.0, 0.1))]
    answers = teacher.label(clips)
    raw = teacher.heads(teacher.body.statistics(clips))
    np.testing.assert_allclose(answers, np.clip(raw, 0, 1), atol=1e-5)
    assert all(isinstance(answer, Emotion) for answer in answers) and answers[0]._fields == OUTPUTS
    assert teacher.label([]) == []


def test_the_emotion_is_read_from_the_embedding(teacher):
    clips = [voice(40.0), voice(0.5, 1)]
    emotions, embeddings = teacher.label_and_embed(clips)
    assert emotions == teacher.label(clips)
    size, n = teacher.heads.heads[0].out.in_features, len(teacher.heads.heads)
    assert embeddings.shape == (2, size * n)
    parts = np.split(embeddings, n, axis=1)
    with torch.no_grad():
        answers = [
            0.5 + 0.1 * head.out(torch.from_numpy(p)) for head, p in zip(teacher.heads.heads, parts, strict=True)
        ]
    np.testing.assert_allclose(np.clip(np.mean([a.numpy() for a in answers], 0), 0, 1), emotions, atol=1e-5)
    assert [len(found) for found in teacher.label_and_embed([])] == [0, 0]


def test_a_batch_of_one_length_is_answered_as_its_clips_are(teacher):
    clips = [voice(0.5, seed) for seed in range(11)]
    emotions, embeddings = teacher.label_and_embed(clips)
    emotion, embedding = teacher.label_batch(torch.from_numpy(np.stack(clips)))
    assert emotion.shape == (11, 3) and embedding.shape == embeddings.shape
    np.testing.assert_allclose(emotion, emotions, atol=1e-4)
    np.testing.assert_allclose(embedding, embeddings, atol=1e-4)
    assert np.std(emotions, axis=0).min() > 1e-3, "the clips differ"
    teacher.heads = heads(scale=1000.0)
    assert set(teacher.label_batch(torch.from_numpy(np.stack(clips)))[0].unique().tolist()) <= {0.0, 1.0}


def test_a_batch_in_bfloat16_is_close(teacher):
    clips = torch.from_numpy(np.stack([voice(0.5, seed) for seed in range(3)]))
    exact = teacher.label_batch(clips)[1]
    teacher.body.bf16 = True
    assert 0 < float((teacher.label_batch(clips)[1] - exact).abs().max()) < 0.2


@pytest.mark.parametrize("samples", [1600, 8000, 8050, 48000])
def test_the_log_mel_of_a_batch_is_the_librarys(samples):
    ours = body()
    clips = [voice(samples / RATE, 1), 0.001 * voice(samples / RATE, 2), np.zeros(samples, np.float32)]
    expected, _ = ours.prepare(clips)
    found = ours.log_mel(torch.from_numpy(np.stack(clips)))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(
        ours.batch_statistics(torch.from_numpy(np.stack(clips))), ours.statistics(clips), atol=2e-4
    )


def test_a_teacher_that_labelled_a_batch_on_a_gpu_labels_clips_afterwards(tmp_path, monkeypatch):
    """The batch takes the heads to the GPU, where the statistics of clips follow them."""
    monkeypatch.setattr("wav2small.train.teachers.open.find_encoder", lambda layers: model().encoder)
    heads().save(tmp_path / "heads.safetensors", ABOUT)
    clips = [voice(0.5, seed) for seed in range(3)]
    here = load_teacher(str(tmp_path / "heads.safetensors")).label(clips)
    with PretendGpu():
        there = load_teacher(str(tmp_path / "heads.safetensors"), False, "cuda")
        emotion, _ = there.label_batch(torch.from_numpy(np.stack(clips)).to("cuda"))
        np.testing.assert_allclose(emotion.cpu().numpy(), here, atol=1e-4)
        np.testing.assert_allclose(there.label(clips), here, atol=1e-4)
        there.heads.save(tmp_path / "again.safetensors", ABOUT)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "heads.safetensors").read_bytes()


def test_what_is_out_of_bounds_is_clipped(teacher):
    teacher.heads = heads(scale=1000.0)
    answers = np.array(teacher.label([voice(0.3, seed) for seed in range(6)]))
    assert set(np.unique(answers)) == {0.0, 1.0}


def test_a_clip_longer_than_the_encoder_gets_the_mean_of_its_parts(teacher):
    long, short = voice(40.0), voice(0.5, 1)
    pieces = list(parts([long], 40.0))
    first, answer, last = teacher.label([short, long, short])
    raw = teacher.heads(teacher.body.statistics(pieces))
    np.testing.assert_allclose(answer, np.clip(raw.mean(0), 0, 1), atol=1e-5)
    np.testing.assert_allclose(first, last, atol=1e-5)
    np.testing.assert_allclose(first, teacher.label([short])[0], atol=1e-5)


def test_an_unknown_teacher_is_named_with_those_there_are():
    with pytest.raises(PluginError, match=r"unknown teacher 'nobody'\. Known: dawn, odyssey, open, paper"):
        load_teacher("nobody")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
@pytest.mark.parametrize("command", ["label", "fit", "train"])
def test_without_the_extra_a_command_says_what_to_install(tmp_path, command, missing):
    (tmp_path / "manifest.csv").write_text("file,arousal,dominance,valence\na.wav,.1,.2,.3\n")
    arguments = {"label": "label . -o out.csv", "fit": "fit . -o out.safetensors", "train": "train . --dev . -o run"}
    script = f"import sys; sys.modules[{missing!r}] = None; from wav2small.cli import main; main(sys.argv[1:])"
    program = [sys.executable, "-c", script, *arguments[command].split()]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"wav2small: this needs {missing}, not installed: pip install 'wav2small[train]'\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.csv"]


@pytest.mark.parametrize("command", ["augment", "distil"])
def test_what_composes_clips_names_the_extra_that_it_needs(tmp_path, command):
    soundfile.write(tmp_path / "a.wav", np.ones(800) / 2, RATE)
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "sys.modules.update(torch=None, transformers=None)\n"
        "from wav2small.cli import main\n"
        "if __name__ == '__main__':\n"
        f"    main(['{command}', '.', '-o', 'out'])\n"
    )
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "wav2small: this needs torch and transformers, not installed: pip install 'wav2small[train]'"
    ]


def test_a_device_is_one_that_torch_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert (choose_device(), choose_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(Wav2SmallError, match=r"^torch has no device 'cuda' here\. Available: cpu; or give auto\.$"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (choose_device(), choose_device("cuda:1")) == ("cuda", "cuda:1")
    with pytest.raises(Wav2SmallError, match=r"Available: cpu, cuda, cuda:0, cuda:1; or give auto"):
        choose_device("cuda:2")
