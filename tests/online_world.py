"""Two corpora of tones, a teacher of random weights and an executor without processes, for tests of ``distil``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import WhisperConfig, WhisperModel

from wav2small.tables.manifest import Segment
from wav2small.train.config import DistilConfig
from wav2small.train.online import ring
from wav2small.train.online.pool import Pool, Source, load_pool
from wav2small.train.teachers.bodies import load_body
from wav2small.train.teachers.open import Heads
from wav2small.train.teachers.whisper import Head

RATE = 16000
TINY = DistilConfig(
    steps=6,
    batch_size=8,
    group_size=4,
    warm_up=2,
    durations=(0.25, 0.4),
    reuse=1.0,
    ring=32,
    evaluate_every=2,
    dev_clips=3,
)
"""Half a shard a step, two shards in the ring."""
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 40}
WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}


def tone(frequency: float, dur: float = 0.5, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(dur * RATE)) / RATE)).astype(np.float32)


def silently(*_: object) -> None:
    pass


def corpus(folder: Path, count: int = 10, seed: int = 0, fold: Callable[[int], object] = lambda n: n % 3) -> Path:
    """A folder with a manifest: tones in noise that swell, each of a speaker of its own."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "speaker", "fold"])
        for number in range(count):
            signal = tone(rng.uniform(200, 3000), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.4))
            signal = signal * np.linspace(0.2, 1, len(signal)) + 0.01 * rng.standard_normal(len(signal))
            soundfile.write(folder / f"{number}.wav", signal, RATE)
            writer.writerow([f"{number}.wav", f"s{number}", fold(number)])
    return folder


def tiny_teacher(folder: Path, seed: int = 1, name: str = "tiny") -> Path:
    """A file of heads, on a Whisper of two narrow layers in the hub's format beside it, both of random weights."""
    body = folder / "whisper"
    torch.manual_seed(seed)
    if not body.is_dir():
        net = WhisperModel(WhisperConfig(**WHISPER)).eval()
        with torch.no_grad():
            for tensor in net.parameters():
                tensor.add_(0.1 * torch.randn_like(tensor))
        net.save_pretrained(body)
    heads = [Head(2, 32, 5) for _ in range(2)]
    for head in heads:
        torch.nn.init.normal_(head.out.weight)
    metadata = {"name": name, "version": "1", "licence": "MIT", "body": str(body), "body_layers": "2"}
    metadata |= {"pooling": "mean+std", "body_fingerprint": load_body(str(body), 2).key}
    statistics = np.zeros((2, 32), np.float32), np.ones((2, 32), np.float32)
    Heads([1, 2], *statistics, heads).save(folder / f"{name}{seed}.safetensors", metadata)
    return folder / f"{name}{seed}.safetensors"


def segments(folder: Path, signals: list[np.ndarray]) -> list[Segment]:
    """Files of these signals."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, signal in enumerate(signals):
        soundfile.write(folder / f"{number}.wav", signal, RATE, subtype="FLOAT")
    return [Segment(f"{number}.wav", folder / f"{number}.wav") for number in range(len(signals))]


def pool_of(folder: Path, shares: dict[str, float | None] | None = None, **corpora: list[np.ndarray]) -> Pool:
    """A pool of these corpora."""
    sources = [
        Source(name, segments(folder / name, found), (shares or {}).get(name)) for name, found in corpora.items()
    ]
    return load_pool(sources, folder / "audio", "cpu", silently)


class Inline:
    """An executor that makes a shard when it is asked for, in this process."""

    def __init__(self, workers: int, context: object, begin: object, arguments: tuple[Any, ...]) -> None:
        recipe = arguments[0]
        ring._work = ring._Work(recipe.open_pool(), recipe.open_labeller(), recipe.shards, recipe.config)

    def submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        pass


def inline(monkeypatch: Any) -> None:
    """Rings without processes, of few shards."""
    monkeypatch.setattr(ring, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(ring, "FIRST_SHARDS", 2)
    monkeypatch.setattr(ring, "AHEAD", 1)
