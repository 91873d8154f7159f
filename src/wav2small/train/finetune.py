"""Train a teacher's body and head together: vanilla fine-tuning, with or without its convolutions.

Source: Chen and Rudnicky 2023, arXiv:2110.06309 (V-FT); ours are the loss, which is that of ``fit``, the distortions,
and layer-wise learning rates: each layer learns ``layer_decay`` times as fast as the one above it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from wav2small.errors import ManifestError
from wav2small.files import whole_file
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.tables.manifest import segment_signal
from wav2small.train.heads import Annotated, ccc_loss, example
from wav2small.train.loop import Phase
from wav2small.train.teachers.bodies import Body
from wav2small.train.teachers.tuned import TunedNet

Tell = Callable[[float, float], None]
Batch = tuple[list[np.ndarray], np.ndarray, np.ndarray]
PARTS = ("none", "no-cnn", "full")
"""Of the body that are trained: nothing, all but the convolutions, everything."""


@dataclass(frozen=True)
class TuneConfig:
    """How a body is trained; durations in seconds, ``distorted`` a share of the clips."""

    fine_tune: str = "no-cnn"
    pooling: str = "mean"
    steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 3e-5
    head_learning_rate: float = 1e-3
    layer_decay: float = 1.0
    hidden: int = 256
    dropout: float = 0.2
    max_dur: float = 8.0
    silence_dur: float = 0.6
    distorted: float = 0.5
    category_weight: float = 0.3
    evaluate_every: int = 300
    seed: int = 1
    bf16: bool = False
    checkpointing: bool = False


class Steps(Dataset[Batch]):
    """Batch by step: signals, truth (batch, 3) and categories (batch,), drawn from (seed, step) alone.

    Args:
        corpora: with the speakers that are trained on, as ``train_part`` gives them
        config: how
    """

    def __init__(self, corpora: Sequence[Annotated], config: TuneConfig) -> None:
        self.config = config
        self.segments = [segment for corpus in corpora for segment in corpus.segments]
        self.truth = np.concatenate([corpus.truth for corpus in corpora])
        self.categories = sorted({label for corpus in corpora for label in corpus.labels})
        self.labels = np.array([self.categories.index(label) for corpus in corpora for label in corpus.labels])
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


def is_dev(corpus: Annotated) -> np.ndarray:
    """Which segments choose the weights: the split ``dev`` if there is one, else fold 0."""
    splits = np.array([segment.split for segment in corpus.segments])
    return splits == "dev" if (splits == "dev").any() else corpus.folds == 0


def part(corpus: Annotated, chosen: np.ndarray) -> Annotated:
    """The chosen segments of a corpus."""
    index = np.flatnonzero(chosen)
    return Annotated(
        corpus.name,
        [corpus.segments[i] for i in index],
        corpus.truth[index],
        [corpus.labels[i] for i in index],
        corpus.weights[index],
        corpus.folds[index],
    )


def divided(corpora: Sequence[Annotated]) -> tuple[list[Annotated], list[Annotated]]:
    """Training and dev part of each corpus.

    Raises:
        ManifestError: if one of them is empty, or a speaker is in both
    """
    train = [part(corpus, ~is_dev(corpus)) for corpus in corpora]
    dev = [part(corpus, is_dev(corpus)) for corpus in corpora]
    for name, parts in (("train on", train), ("choose by", dev)):
        if not any(corpus.segments for corpus in parts):
            raise ManifestError(f"there are no clips to {name}: all are of one speaker, split or fold. Needed: two.")
    for one, other in zip(train, dev, strict=True):
        shared = {s.speaker for s in one.segments} & {s.speaker for s in other.segments} - {""}
        if shared:
            raise ManifestError(f"{one.name}: speaker {min(shared)} is in train and in dev. Give each speaker one.")
    return [corpus for corpus in train if corpus.segments], [corpus for corpus in dev if corpus.segments]


def tune(
    corpora: Sequence[Annotated],
    body: Body,
    config: TuneConfig,
    folder: Path,
    tell: Tell,
    report: Callable[[dict[str, Any]], None],
    workers: int = 0,
    stamp: str = "",
) -> tuple[TunedNet, dict[str, dict[str, float]]]:
    """Train a body with a head until ``config.steps``, from the checkpoint in ``folder`` if there is one.

    Args:
        corpora: annotated
        body: trained in place
        config: how
        folder: for the checkpoint and the best weights
        tell: called with (steps done, steps)
        report: called with step and CCC of the dev speakers
        workers: processes that read audio ahead
        stamp: what else the checkpoint must have been begun with

    Returns:
        the net with the weights of the best evaluation, and its CCC of each corpus's dev speakers
    """
    train, dev = divided(corpora)
    steps = Steps(train, config)
    torch.manual_seed(config.seed)
    net = TunedNet(body, config.pooling, config.hidden, config.dropout, len(steps.categories))
    groups = rates(net, config)
    if config.checkpointing and config.fine_tune != "none":
        compute_twice(body.encoder)
    phase = Phase(folder / "tune.pt", net, groups, config.steps, stamp + json.dumps(asdict(config)), config.seed)
    best = folder / "best.pt"

    def loss(batch: Batch) -> Tensor:
        signals, truth, label = batch
        with torch.autocast(body.device.type, torch.bfloat16, enabled=config.bf16):
            emotion, logits = net(signals)
        error = ccc_loss(torch.from_numpy(truth).to(body.device), emotion.float()).mean()
        category = functional.cross_entropy(
            logits.float(), torch.from_numpy(label).to(body.device), label_smoothing=0.1
        )
        return error + config.category_weight * category

    def evaluate() -> None:
        found = scores(net, dev, config)
        mean = float(np.mean([list(score.values()) for score in found.values()]))
        report({"step": phase.step, **{name: float(np.mean([s[name] for s in found.values()])) for name in OUTPUTS}})
        if mean > phase.best:
            phase.best = mean
            with whole_file(best) as temporary:
                torch.save({"net": net.state_dict(), "scores": found}, temporary)

    phase.run(read_ahead(steps, phase.step, config.steps, workers), loss, tell, config.evaluate_every, evaluate)
    state = torch.load(best, map_location="cpu", weights_only=True)
    net.load_state_dict(state["net"])
    return net.eval(), state["scores"]


def compute_twice(encoder: nn.Module) -> None:
    """Forget activations and compute them again on the way back, which transformers has two names for."""
    if hasattr(encoder, "activation_checkpointing_enable"):
        encoder.activation_checkpointing_enable()
    else:
        encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def read_ahead(steps: Dataset[Any], first: int, last: int, workers: int) -> Iterable[Any]:
    """The batches of some steps, in order, read by other processes meanwhile if there are any."""
    return DataLoader(steps, batch_size=None, sampler=range(first, last), num_workers=workers, collate_fn=as_it_is)


def as_it_is(batch: Any) -> Any:
    return batch


def rates(net: TunedNet, config: TuneConfig) -> list[dict[str, Any]]:
    """What is trained, and how fast: the head, then each layer of the body; what is not, stays still."""
    encoder = net.encoder
    frozen = {"full": r"$", "no-cnn": r"(feature_extractor|conv\d)\..*", "none": r".*"}[config.fine_tune]
    if config.fine_tune != "full" and hasattr(encoder, "freeze_feature_encoder"):
        encoder.freeze_feature_encoder()
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
    """How many layers a parameter is below the last one; what comes before the first is ``depth`` below."""
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    if found:
        return depth - 1 - int(found[1])
    return 0 if re.fullmatch(r"(encoder\.)?layer_norm\..*", name) else depth


def scores(net: TunedNet, dev: Sequence[Annotated], config: TuneConfig) -> dict[str, dict[str, float]]:
    """CCC of each dimension on each corpus, whole clips of at most 30 s."""
    out = {}
    for corpus in dev:
        answers = []
        for first in range(0, len(corpus.segments), config.batch_size):
            clips = [
                segment_signal(s)[: 30 * SAMPLING_RATE] for s in corpus.segments[first : first + config.batch_size]
            ]
            with torch.inference_mode():
                answers.append(net(clips)[0].float().cpu().numpy())
        found = np.concatenate(answers)
        out[corpus.name] = {name: concordance_cc(corpus.truth[:, d], found[:, d]) for d, name in enumerate(OUTPUTS)}
    return out
