"""Vanilla fine-tuning of a teacher's body together with its head, with or without the convolutions.

Source: Chen and Rudnicky 2023, arXiv:2110.06309 (V-FT). The loss (that of ``heads``), the distortions and the
layer-wise learning rates are ours: the learning rate of each layer is ``layer_decay`` times that of the next layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from wav2small.files import whole_file
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.tables.manifest import segment_signal
from wav2small.train import Progress
from wav2small.train.annotated import Annotated, divided, example
from wav2small.train.config import FinetuneConfig
from wav2small.train.heads import CorpusScores
from wav2small.train.loop import Loop, Plan, Report, Task, evaluate_every, warm_up_steps
from wav2small.train.loss import annotation_loss, ccc_loss, focal_loss
from wav2small.train.teachers.bodies import Body
from wav2small.train.teachers.tuned import TunedNet

Batch = tuple[list[np.ndarray], np.ndarray, np.ndarray]
"""Signals, truth (batch, 3) and categories (batch,)."""
BEST = "best.pt"


class Steps(Dataset[Batch]):
    """Data set of batches: signals, truth (batch, 3) and categories (batch,). A batch depends only on (seed, step).

    Args:
        corpora: training parts, as :func:`divided` returns them
        config: settings of the batches
    """

    def __init__(self, corpora: Sequence[Annotated], config: FinetuneConfig) -> None:
        self.config = config
        self.segments = [segment for corpus in corpora for segment in corpus.segments]
        self.truth = np.concatenate([corpus.truth for corpus in corpora])
        self.categories = sorted({label for corpus in corpora for label in corpus.labels})
        self.labels = np.array([self.categories.index(label) for corpus in corpora for label in corpus.labels])
        self.balance = (len(self.labels) / np.bincount(self.labels)).astype(np.float32)
        chance = [c.weights / c.weights.sum() * np.sqrt(len(c.segments)) for c in corpora if c.segments]
        self.chance = np.concatenate(chance) / np.concatenate(chance).sum()

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.config.seed, step])
        index = rng.choice(len(self.segments), self.config.batch_size, p=self.chance)
        signals = [self._signal(int(i), rng) for i in index]
        return signals, self.truth[index], self.labels[index]

    def _signal(self, index: int, rng: np.random.Generator) -> np.ndarray:
        distorted = rng.random() < self.config.distorted
        signal = example(self.segments, index, distorted, rng, self.config.silence_dur)
        longest = round(self.config.max_dur * SAMPLING_RATE)
        start = int(rng.integers(max(1, len(signal) - longest + 1)))
        return signal[start : start + longest]


class Finetuning(Task[Batch]):
    """Training of a body and its head on annotations.

    Args:
        body: the body, trained in place
        steps: the batches
        dev: dev corpora, which select the weights
        config: settings of the training
        best: file of the best weights
        workers: number of processes that prefetch audio
    """

    net: TunedNet

    def __init__(
        self, body: Body, steps: Steps, dev: Sequence[Annotated], config: FinetuneConfig, best: Path, workers: int
    ) -> None:
        self.body, self.steps, self.dev, self.config, self.best, self.workers = body, steps, dev, config, best, workers
        torch.manual_seed(config.seed)
        self.net = TunedNet(body, config.pooling, config.hidden, config.dropout, len(steps.categories))

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups with the learning rates of :func:`rates`."""
        return rates(self.net, self.config)

    def batches(self, first: int) -> Iterable[Batch]:
        """Batches from step ``first`` on, prefetched by the workers."""
        return read_ahead(self.steps, first, self.config.steps, self.workers)

    def loss(self, batch: Batch, step: int) -> Tensor:
        """1 - CCC plus the weighted loss of the category, a scalar; with ``config.bf16`` the net runs in bfloat16."""
        signals, truth, category = batch
        device = self.body.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
            emotion, logits = self.net(signals)
        target = torch.from_numpy(truth).to(device), torch.from_numpy(category).to(device)
        if self.config.focal is None:
            return annotation_loss(*target, emotion.float(), logits.float(), self.config.category_weight)
        balance = torch.from_numpy(self.steps.balance).to(device)
        focal = focal_loss(logits.float(), target[1], balance, self.config.focal)
        return ccc_loss(target[0], emotion.float()).mean() + self.config.category_weight * focal

    def evaluate(self) -> dict[str, float]:
        """CCC of each dimension, averaged over the corpora."""
        self.scores = scores(self.net, self.dev, self.config)
        return {name: float(np.mean([score[name] for score in self.scores.values()])) for name in OUTPUTS}

    def keep(self, line: dict[str, float], part: str) -> None:
        """Write the weights and the last CCC of each corpus to the file ``best``."""
        with whole_file(self.best) as temporary:
            torch.save({"net": self.net.state_dict(), "scores": self.scores}, temporary)


def finetune_body(
    corpora: Sequence[Annotated],
    body: Body,
    config: FinetuneConfig,
    folder: Path,
    progress: Progress,
    report: Report,
    workers: int = 0,
    settings: Mapping[str, object] | None = None,
) -> tuple[TunedNet, CorpusScores]:
    """Train a body with a head for ``config.steps``, resuming from the checkpoint in ``folder`` if there is one.

    Args:
        corpora: annotated corpora
        body: the body, trained in place
        config: settings of the training
        folder: folder of the checkpoint, the log and the best weights
        progress: called with (steps done, steps)
        report: called with each line of the log
        workers: number of processes that prefetch audio
        settings: further settings that a checkpoint must match

    Returns:
        the network with the best weights, and its CCC on the dev speakers of each corpus

    Raises:
        ManifestError: if there are no training or dev segments, or a speaker is in both
        WeightsError: if the checkpoint is damaged, or has other settings
    """
    train, dev = divided(corpora)
    if config.checkpointing and config.trained != "none":
        compute_twice(body.encoder)
    task = Finetuning(body, Steps(train, config), dev, config, folder / BEST, workers)
    every = config.evaluate_every or evaluate_every(config.steps)
    plan = Plan(config.steps, warm_up_steps(config.warm_up, config.steps), every, config.seed)
    Loop(folder, task, plan, {**asdict(config), **(settings or {})}).run(progress, report)
    state = torch.load(task.best, map_location="cpu", weights_only=True)
    task.net.load_state_dict(state["net"])
    return task.net.eval(), state["scores"]


def compute_twice(encoder: PreTrainedModel) -> None:
    """Enable activation checkpointing; the method's name depends on the version of transformers."""
    newer = getattr(encoder, "activation_checkpointing_enable", None)
    if newer is not None:
        newer()
    else:
        options = {"use_reentrant": False}
        encoder.gradient_checkpointing_enable(options)  # type: ignore[no-untyped-call]


def read_ahead(steps: Dataset[Any], first: int, last: int, workers: int) -> Iterable[Any]:
    """The batches of steps ``first`` to ``last`` - 1 in order, prefetched by ``workers`` processes."""
    return DataLoader(steps, batch_size=None, sampler=range(first, last), num_workers=workers, collate_fn=as_it_is)


def as_it_is(batch: Any) -> Any:
    """Return the batch unchanged: a ``collate_fn`` that can be pickled."""
    return batch


def rates(net: TunedNet, config: FinetuneConfig) -> list[dict[str, Any]]:
    """Parameter groups with learning rates: the head, then each layer of the body; other weights are frozen."""
    encoder = net.encoder
    frozen = {"full": r"$", "no-cnn": r"(feature_extractor|conv\d)\..*", "none": r".*"}[config.trained]
    freeze = getattr(encoder, "freeze_feature_encoder", None)
    if config.trained != "full" and freeze is not None:
        freeze()
    depth = net.body[0].layers - 1
    head = [weight for name, weight in net.named_parameters() if not name.startswith("encoder.")]
    groups: dict[int, list[nn.Parameter]] = {}
    for name, weight in encoder.named_parameters():
        weight.requires_grad_(not re.fullmatch(frozen, name))
        if weight.requires_grad:
            groups.setdefault(below(name, depth), []).append(weight)
    body = [
        {"params": weights, "lr": config.learning_rate * config.layer_decay**level}
        for level, weights in sorted(groups.items())
    ]
    return [{"params": head, "lr": config.head_learning_rate}, *body]


def below(name: str, depth: int) -> int:
    """Number of layers between a parameter and the last layer; ``depth`` for parameters before the first layer."""
    match = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    if match:
        return depth - 1 - int(match[1])
    return 0 if re.fullmatch(r"(encoder\.)?layer_norm\..*", name) else depth


def scores(net: TunedNet, dev: Sequence[Annotated], config: FinetuneConfig) -> CorpusScores:
    """CCC of each dimension on each corpus; clips are cut to 30 s."""
    out = {}
    for corpus in dev:
        predictions = []
        for first in range(0, len(corpus.segments), config.batch_size):
            clips = [
                segment_signal(s)[: 30 * SAMPLING_RATE] for s in corpus.segments[first : first + config.batch_size]
            ]
            with torch.inference_mode():
                predictions.append(net(clips)[0].float().cpu().numpy())
        predicted = np.concatenate(predictions)
        out[corpus.name] = {name: concordance_cc(corpus.truth[:, d], predicted[:, d]) for d, name in enumerate(OUTPUTS)}
    return out
