"""Compare forms of the teacher's head on held-out speakers, and on a held-out corpus and language.

    WAV2SMALL_MODELS=models python benchmarks/teacher_forms.py open/emodb open/emogator --cache build/statistics

Uses the statistics that `wav2small fit --bf16` with the same cache computed. The first corpus contains speech: the
column "held-out corpus" is a head fitted on the second corpus only and scored on the first. No test corpus is used.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.metrics import concordance_cc, pearson_cc
from wav2small.network.config import OUTPUTS
from wav2small.train.config import FitConfig
from wav2small.train.heads import Corpus, fit_heads, load_corpora
from wav2small.train.teachers.whisper import WhisperBody, find_encoder

FORMS: dict[str, dict[str, Any]] = {
    "ships: hidden 88, dropout .4, 30 passes": {},
    "hidden 88, dropout .3, 20 passes": {"dropout": 0.3, "epochs": 20.0},
    "hidden 256, dropout .3, 20 passes": {"hidden": 256, "dropout": 0.3, "epochs": 20.0},
    "hidden 64, dropout .5, 12 passes": {"hidden": 64, "dropout": 0.5, "epochs": 12.0},
    "layers 3-5": {"layers": (3, 4, 5)},
    "no category loss": {"category_weight": 0.0},
    "no distorted copies": {"copies": 0},
}


def ridge(corpora: list[Corpus], layers: list[int], penalty: float = 3000.0) -> np.ndarray:
    """Answers for each fold's speakers by a ridge regression on the others, undistorted clips, as in the floor."""
    answers = [np.zeros_like(corpus.truth) for corpus in corpora]
    for fold in range(5):
        kept = [corpus.folds != fold for corpus in corpora]
        x = np.concatenate([flat(c, layers)[k] for c, k in zip(corpora, kept, strict=True)])
        y = np.concatenate([c.truth[k] for c, k in zip(corpora, kept, strict=True)])
        predict = solve(x, y, penalty)
        for corpus, k, answer in zip(corpora, kept, answers, strict=True):
            answer[~k] = predict(flat(corpus, layers)[~k])
    return answers


def flat(corpus: Corpus, layers: list[int]) -> np.ndarray:
    return corpus.statistics[0][:, layers].reshape(len(corpus.truth), -1)


def solve(x: np.ndarray, y: np.ndarray, penalty: float):
    mean, spread = x.mean(0), x.std(0) + 1e-4
    z = (x - mean) / spread
    weights = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    return lambda new: (new - mean) / spread @ weights + y.mean(0)


def figures(truth: np.ndarray, answer: np.ndarray, statistic=concordance_cc) -> str:
    return " / ".join(f"{statistic(truth[:, d], answer[:, d]):.3f}" for d in range(len(OUTPUTS)))


def row(*cells: str) -> None:
    print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs=2)
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    body = WhisperBody(find_encoder(), bf16=True)
    config = FitConfig()
    corpora = [
        corpus
        for m in arguments.manifests
        for corpus in load_corpora(m, body, config, arguments.cache, lambda *_: None)
    ]
    speech, bursts = corpora
    row("form", f"CCC, held-out speakers, {speech.name}", f"the same, {bursts.name}", f"r, {speech.name} held out")
    row("---", "---", "---", "---")
    for layers in ([3, 4, 5], [2, 3, 4]):
        answers = ridge(corpora, layers)
        alone = solve(flat(bursts, layers), bursts.truth, 3000.0)(flat(speech, layers))
        scores = [figures(c.truth, a) for c, a in zip(corpora, answers, strict=True)]
        row(f"ridge, layers {layers[0]}-{layers[-1]}", *scores, figures(speech.truth, alone, pearson_cc))
    for name, changes in FORMS.items():
        form = replace(config, **changes)
        copies = [replace(c, statistics=c.statistics[: form.copies + 1]) for c in corpora]
        _, scores = fit_heads(copies, form, lambda *_: None)
        alone, _ = fit_heads(copies[1:], form, lambda *_: None)
        cells = [" / ".join(f"{score[d]:.3f}" for d in OUTPUTS) for score in scores.values()]
        row(name, *cells, figures(speech.truth, alone(speech.statistics[0]), pearson_cc))


if __name__ == "__main__":
    main()
