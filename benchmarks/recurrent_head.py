"""A recurrent head on a frozen student, for annotation over time: trained, and its rows beside those of the student.

    python benchmarks/recurrent_head.py TRUTH AUDIO OUTPUT [--model micro] [--delay 2]

TRUTH is annotation over time (file, split, time, A/D/V) of the recordings in AUDIO. A GRU of 32 units reads the
embedding of each window of the student, and adds a correction to its A/D/V. It is trained on the split train by 1 - CCC
over the concatenation of all recordings; the epoch is chosen on dev. A layer without memory is trained likewise, to see
what memory adds. Written to OUTPUT are tables of rows for ``wav2small series``: of the student, and of both heads for
three seeds. The GRU only looks back, so it can run on a stream: the script checks that one window at a time gives the
same answers as the whole recording. Needs torch.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wav2small import load
from wav2small.audio.read import read
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.runtime.model import Model
from wav2small.tables.series import Series, read_series
from wav2small.tables.table import write_table
from wav2small.train.loss import ccc_loss

HIDDEN, EPOCHS, PATIENCE = 32, 200, 30
WIN_DUR, HOP_DUR = 3.0, 0.25
SEEDS = range(3)


class Recording(NamedTuple):
    """Windows of one recording, and the annotation at their centres."""

    series: Series
    start: np.ndarray
    embedding: Tensor
    """shape=(windows, size)"""
    emotion: Tensor
    """Of the student, shape=(windows, 3)."""
    truth: Tensor
    """shape=(windows, 3)"""


class RecurrentHead(nn.Module):
    """Embeddings and A/D/V of consecutive windows to A/D/V."""

    def __init__(self, size: int, has_memory: bool) -> None:
        super().__init__()
        self.has_memory = has_memory
        self.norm = nn.BatchNorm1d(size)
        self.dense = nn.Linear(size, HIDDEN)
        self.gru = nn.GRU(size, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, len(OUTPUTS))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, embedding: Tensor, emotion: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Answers, shape=(windows, 3), and the state after them; state is that of the windows before."""
        if not self.has_memory:
            return emotion + self.out(torch.tanh(self.dense(self.norm(embedding)))), state
        hidden, state = self.gru(self.norm(embedding)[None], state)
        return emotion + self.out(hidden[0]), state


def read_recording(model: Model, one: Series, folder: Path, delay: float) -> Recording:
    signal = read(folder / one.file)
    start = np.arange(0, max(HOP_DUR, len(signal) / SAMPLING_RATE - WIN_DUR), HOP_DUR)
    windows = [signal[round(s * SAMPLING_RATE) : round((s + WIN_DUR) * SAMPLING_RATE)] for s in start]
    emotions, embeddings = zip(*(model.answer(window) for window in windows), strict=True)
    truth = [np.interp(start + WIN_DUR / 2 + delay, one.time, one.values[name]) for name in OUTPUTS]
    arrays = np.stack(embeddings), np.array(emotions), np.stack(truth, axis=1)
    return Recording(one, start, *(torch.tensor(array, dtype=torch.float32) for array in arrays))


def train(recordings: list[Recording], dev: list[Recording], has_memory: bool, seed: int) -> RecurrentHead:
    torch.manual_seed(seed)
    head = RecurrentHead(recordings[0].embedding.shape[1], has_memory)
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=1e-2)
    best, kept, waited = mean_ccc(head, dev), copy.deepcopy(head), 0
    for _ in range(EPOCHS):
        head.train()
        answers = torch.cat([head(one.embedding, one.emotion)[0] for one in recordings])
        loss = ccc_loss(torch.cat([one.truth for one in recordings]), answers).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        score = mean_ccc(head, dev)
        best, kept, waited = (score, copy.deepcopy(head), 0) if score > best else (best, kept, waited + 1)
        if waited == PATIENCE:
            break
    return kept.eval()


@torch.no_grad()
def mean_ccc(head: RecurrentHead, recordings: list[Recording]) -> float:
    head.eval()
    answers = torch.cat([head(one.embedding, one.emotion)[0] for one in recordings]).numpy()
    truth = torch.cat([one.truth for one in recordings]).numpy()
    return float(np.mean([concordance_cc(truth[:, d], answers[:, d]) for d in range(len(OUTPUTS))]))


@torch.no_grad()
def streamed(head: RecurrentHead, one: Recording) -> Tensor:
    """The answers one window at a time, shape=(windows, 3)."""
    answers, state = [], None
    for embedding, emotion in zip(one.embedding, one.emotion, strict=True):
        answer, state = head(embedding[None], emotion[None], state)
        answers.append(answer)
    return torch.cat(answers)


def rows(one: Recording, answers: Tensor) -> list[dict[str, object]]:
    return [
        {
            "file": one.series.file,
            "start": float(s),
            "end": float(s) + WIN_DUR,
            **dict(zip(OUTPUTS, answer, strict=True)),
        }
        for s, answer in zip(one.start, answers.tolist(), strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("truth", "audio", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--delay", type=float, default=2.0)
    options = parser.parse_args()
    model = load(options.model)
    recordings = [read_recording(model, one, options.audio, options.delay) for one in read_series(options.truth)]
    by_split = {name: [one for one in recordings if one.series.split == name] for name in ("train", "dev")}
    options.output.mkdir(parents=True, exist_ok=True)
    write_table([row for one in recordings for row in rows(one, one.emotion)], options.output / "student.csv")
    for name, has_memory in (("dense", False), ("gru", True)):
        for seed in SEEDS:
            head = train(by_split["train"], by_split["dev"], has_memory, seed)
            with torch.no_grad():
                answers = [head(one.embedding, one.emotion)[0] for one in recordings]
            for one, whole in zip(recordings, answers, strict=True):
                np.testing.assert_allclose(streamed(head, one), whole, atol=1e-5)
            table = [row for one, own in zip(recordings, answers, strict=True) for row in rows(one, own)]
            write_table(table, options.output / f"{name}-{seed}.csv")


if __name__ == "__main__":
    main()
