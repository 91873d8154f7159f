"""Small random checkpoints in the hub's own format, with the keys of the published ones: a folder of models.

    python recipes/rehearsal/tiny_teachers.py FOLDER

With ``WAV2SMALL_MODELS=FOLDER`` the teachers odyssey, dawn and paper then answer, from random weights, and
``ntu-spml/distilhubert`` is a body.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from wav2small.network.weights import write_safetensors

ODYSSEY = "3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes"
DAWN = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
DISTILHUBERT = "ntu-spml/distilhubert"
WIDTH = 16
SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8, 8, 8, 8, 8, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
LABELS = {"0": "arousal", "1": "dominance", "2": "valence"}


def scrambled(kind: Callable[[PretrainedConfig], torch.nn.Module], config: PretrainedConfig, seed: int) -> Any:
    """A net with random weights large enough for each of its parts to matter, ready to answer."""
    torch.manual_seed(seed)
    net = kind(config)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return net.eval()


def old_names(state: dict[str, torch.Tensor], prefix: str) -> dict[str, np.ndarray]:
    """As files of before torch 2.1 have them, which the published ones are."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    out = {}
    for name, tensor in state.items():
        for new, old in names.items():
            name = name.replace(new, old)
        out[prefix + name] = tensor.numpy()
    return out


def random_arrays(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def moderate(arrays: dict[str, np.ndarray], out: str) -> None:
    """Answers around .5, which differ from dimension to dimension and from clip to clip."""
    arrays[f"{out}.weight"] *= 0.1
    arrays[f"{out}.bias"] = np.array([0.4, 0.5, 0.6], np.float32)


def make_odyssey(models: Path) -> Path:
    """WavLM, ``pool_model`` and ``ser_model``, safetensors; its WavLM's configuration is a folder beside."""
    folder, body = models / ODYSSEY, models / "tiny" / "wavlm"
    config = WavLMConfig(**SMALL, conv_bias=False)
    config.save_pretrained(body)
    head = {
        "pool_model.sap_linear.weight": (WIDTH, WIDTH),
        "pool_model.sap_linear.bias": (WIDTH,),
        "pool_model.attention": (WIDTH, 1),
        "ser_model.fc.0.0.weight": (WIDTH, 2 * WIDTH),
        "ser_model.fc.0.0.bias": (WIDTH,),
        "ser_model.fc.0.1.weight": (WIDTH,),
        "ser_model.fc.0.1.bias": (WIDTH,),
        "ser_model.out.0.weight": (3, WIDTH),
        "ser_model.out.0.bias": (3,),
    }
    arrays = old_names(scrambled(WavLMModel, config, 1).state_dict(), "ssl_model.") | random_arrays(head, 1)
    moderate(arrays, "ser_model.out.0")
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})
    written = {
        "architectures": ["SERModel"],
        "model_type": "ser",
        "auto_map": {"AutoModelForAudioClassification": "pipeline_utils.SERModel"},
        "ssl_type": "tiny/wavlm",
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_classes": 3,
        "classifier_hidden_layers": 1,
        "classifier_dropout_prob": 0.5,
        "sampling_rate": 16000,
        "maxlen": 192000,
        "mean": -8.278621631819787e-05,
        "std": 0.08485510250851999,
        "id2label": LABELS,
    }
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "pipeline_utils.py").write_text("raise SystemExit('remote code was run')\n")
    return folder


def make_dawn(models: Path) -> Path:
    """wav2vec2 and ``classifier``, ``pytorch_model.bin``."""
    folder = models / DAWN
    config = Wav2Vec2Config(**SMALL, conv_bias=True, mask_time_prob=0.05, vocab_size=32)
    head = {
        "classifier.dense.weight": (WIDTH, WIDTH),
        "classifier.dense.bias": (WIDTH,),
        "classifier.out_proj.weight": (3, WIDTH),
        "classifier.out_proj.bias": (3,),
    }
    arrays = old_names(scrambled(Wav2Vec2Model, config, 2).state_dict(), "wav2vec2.") | random_arrays(head, 2)
    moderate(arrays, "classifier.out_proj")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "pytorch_model.bin")
    written = config.to_dict() | {
        "architectures": ["Wav2Vec2ForSpeechClassification"],
        "finetuning_task": "wav2vec2_reg",
        "pooling_mode": "mean",
        "problem_type": "regression",
        "id2label": LABELS,
        "vocab_size": None,
    }
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000})
    )
    return folder


def make_distilhubert(models: Path) -> Path:
    """HuBERT with two layers, ``pytorch_model.bin`` with the array names of before torch 2.1."""
    folder = models / DISTILHUBERT
    group = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "feat_proj_layer_norm": False}
    config = HubertConfig(**(SMALL | group))
    config.save_pretrained(folder)
    arrays = old_names(scrambled(HubertModel, config, 3).state_dict(), "")
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "pytorch_model.bin")
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "sampling_rate": 16000}))
    return folder


if __name__ == "__main__":
    for make in (make_odyssey, make_dawn, make_distilhubert):
        print(make(Path(sys.argv[1])))
