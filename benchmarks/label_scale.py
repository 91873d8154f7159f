"""What a million clips and AudioSet cost a teacher: counted operations, and what label_cost.py measured, scaled.

    python benchmarks/label_scale.py --host 8.1 --encoder 121

`--encoder` and `--host` are CPU seconds for an hour of audio, on one core, as label_cost.py prints them: of the encoder
of `open` alone, and of everything else (label less encoder). Operations are counted by torch on networks without
weights, for `DUR` seconds. A GPU is assumed to do `--tera` operations a second, which nothing here has measured; what
the host does for it scales with its cores alone.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

DUR = 5.0
LARGE = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
LOADS = {"a million clips": (1_000_000, 1500.0), "AudioSet": (2_084_320, 2_084_320 * 10 / 3600)}
"""Clips, and hours of audio; those of AudioSet are of ten seconds (Gemmeke et al. 2017)."""


def whisper_base() -> float:
    """Operations, a multiplication and an addition each one, for a second of audio."""
    config = WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048)
    config.max_source_positions = int(DUR * 50)  # the body computes no more positions than a clip has
    return counted(lambda: WhisperEncoder(config), torch.zeros(1, 80, int(DUR * 100), device="meta"))


def odyssey() -> float:
    config = WavLMConfig(num_hidden_layers=24, **LARGE)
    return counted(lambda: WavLMModel(config), torch.zeros(1, int(DUR * 16000), device="meta"))


def dawn() -> float:
    config = Wav2Vec2Config(num_hidden_layers=12, **LARGE)
    return counted(lambda: Wav2Vec2Model(config), torch.zeros(1, int(DUR * 16000), device="meta"))


def counted(make, signal: torch.Tensor) -> float:
    with torch.device("meta"):
        net = make().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(signal)
    return counter.get_total_flops() / DUR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=float, required=True)
    parser.add_argument("--host", type=float, required=True)
    parser.add_argument("--tera", type=float, default=60.0, help="10^12 operations a second that a GPU sustains")
    parser.add_argument("--cores", type=int, default=16, help="of the machine that has the GPU")
    arguments = parser.parse_args()
    base = whisper_base()
    teachers = {"open": base, "odyssey": odyssey(), "dawn": dawn()}
    teachers["paper"] = teachers["odyssey"] + teachers["dawn"]
    print("| teacher | 10^9 operations a second of audio | audio | hours | core hours | GPU alone, h | GPU, h |")
    print("|---|---|---|---|---|---|---|")
    for name, operations in teachers.items():
        for load, (_, hours) in LOADS.items():
            cores = hours * (arguments.encoder * operations / base + arguments.host) / 3600
            arithmetic = hours * operations / arguments.tera / 1e12
            host = hours * arguments.host / 3600 / arguments.cores
            cells = [f"{operations / 1e9:.1f}", load, f"{hours:,.0f}", f"{cores:,.0f}"]
            print("|", " | ".join([name, *cells, f"{arithmetic:.2f}", f"{max(arithmetic, host):.2f}"]), "|")


if __name__ == "__main__":
    main()
