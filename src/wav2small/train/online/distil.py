"""Distil a teacher into several students at once, online.

Each batch is composed, labelled, distorted and learnt.

On a GPU every clip is new: composed, labelled and learnt once. On a processor the teacher is what takes the time, so
workers fill a ring of labelled clips, from which each is learnt ``reuse`` times, distorted anew each time. Loss:
1 - CCC over the batch and within groups of one corpus, and a guess of the teacher's embedding. The figures that choose
weights are those of held-out speakers, within each corpus; corpora that are left out altogether are scored too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wav2small.errors import AudioError, ManifestError
from wav2small.files import relative, whole_file
from wav2small.metrics import concordance_cc, pearson_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Network
from wav2small.network.weights import write_safetensors
from wav2small.tables.manifest import Segment, segment_signal, to_row
from wav2small.train.config import DistilConfig
from wav2small.train.learner import Learner
from wav2small.train.loop import Loop, Plan, Scores, Task
from wav2small.train.loss import borrowed, grouped_ccc_loss
from wav2small.train.online.compose import durations
from wav2small.train.online.distort import Distortion
from wav2small.train.online.draw import Draw
from wav2small.train.online.labels import Labeller
from wav2small.train.online.pool import Pool
from wav2small.train.online.ring import Labelled, labelled
from wav2small.train.students import StudentNet, build, description, start_from, to_arrays

MAX_DEV_DUR = 8.0
"""Seconds of a dev clip that are scored."""


@dataclass(frozen=True)
class Pupil:
    """A student that is to be trained.

    Args:
        name: of the student, and of its file of weights
        network: None for a student that is known by its name
        start: weights to start from
    """

    name: str
    network: Network | None = None
    start: Path | None = None

    def net(self, dropout: float) -> StudentNet:
        """The student before its first step.

        Raises:
            PluginError: if there is no student of that name
            WeightsError: if it cannot start from ``start``
        """
        net = build(self.network or self.name, dropout)
        if self.start:
            start_from(net, self.start)
        return net


@dataclass(frozen=True)
class Dev:
    """Clips of one corpus that nobody learns from, with the teacher's labels; left out: of a corpus nobody learns from.

    ``labels`` has shape (clips, 3), and each of ``signals`` is int16, shape=(samples,).
    """

    name: str
    segments: list[Segment]
    signals: list[np.ndarray]
    labels: np.ndarray
    left_out: bool = False

    def rows(self, folder: Path) -> list[dict[str, object]]:
        """Rows of a table of labels in ``folder``, with a column ``corpus``."""
        return [
            to_row(segment, folder)
            | {"file": relative(segment.path, folder), "root": None, "corpus": self.name}  # one name, also over corpora
            | dict(zip(OUTPUTS, label.tolist(), strict=True))
            for segment, label in zip(self.segments, self.labels, strict=True)
        ]


def load_dev(
    name: str, segments: Sequence[Segment], labeller: Labeller, config: DistilConfig, folder: Path, left_out: bool
) -> Dev:
    """Dev clips of a corpus, evenly chosen if there are more than ``config.dev_clips``, labelled once.

    Raises:
        ManifestError: if none of them can be read
    """
    chosen = [segments[i] for i in np.linspace(0, len(segments) - 1, min(len(segments), config.dev_clips)).astype(int)]
    signals, kept = [], []
    longest = int(MAX_DEV_DUR * SAMPLING_RATE)
    for segment in chosen:
        try:
            signal = segment_signal(segment)
        except AudioError:
            continue
        signals.append(np.round(np.clip(signal[:longest], -1, 1) * 32767).astype(np.int16))
        kept.append(replace(segment, end=segment.start + MAX_DEV_DUR) if len(signal) > longest else segment)
    if not signals:
        raise ManifestError(f"{name}: none of its {len(segments)} dev clips can be read.")
    teacher = labeller.teacher
    who = [name, teacher.name, teacher.version, labeller.probe]
    key = json.dumps([*who, [len(s) for s in signals], int(sum(map(np.sum, signals)))])
    cache = folder / f"dev-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npy"
    if not cache.is_file():
        labels = np.array(teacher.label([s.astype(np.float32) / 32768 for s in signals]), np.float32)
        with whole_file(cache) as temporary:
            np.save(temporary, labels)
    return Dev(name, kept, signals, np.load(cache), left_out)


class Online(Task[Labelled]):
    """Several students that learn from the same batches.

    Args:
        config: how they are trained
        pupils: the students
        draw_batch: labelled clips of a step, as they stand
        distortion: what the students get instead of what the teacher got
        dev: to score them by
        folder: of the weights
        moments: of the teacher's embeddings, as :func:`embedding_moments` gives them
        metadata: written into the weights
        device: of torch
    """

    def __init__(
        self,
        config: DistilConfig,
        pupils: Sequence[Pupil],
        draw_batch: Callable[[int], Labelled],
        distortion: Distortion,
        dev: Sequence[Dev],
        folder: Path,
        moments: tuple[Tensor, float],
        metadata: dict[str, str],
        device: str = "cpu",
    ) -> None:
        self.config, self.pupils, self.draw_batch, self.distortion = config, pupils, draw_batch, distortion
        self.dev, self.folder, self.metadata, self.device = dev, folder, metadata, torch.device(device)
        self.learners = {}
        for pupil in pupils:
            torch.manual_seed(config.seed)
            self.learners[pupil.name] = Learner(
                pupil.net(config.dropout),
                *moments,
                config,
                device,
            )

    def modules(self) -> dict[str, nn.Module]:
        """The modules of every learner, by its name."""
        return {
            name: module for pupil, one in self.learners.items() for name, module in one.modules(f"{pupil}/").items()
        }

    def groups(self) -> list[dict[str, Any]]:
        """One parameter group a student."""
        return [{"params": one.parameters(), "lr": self.config.learning_rate} for one in self.learners.values()]

    def clipped(self) -> list[list[nn.Parameter]]:
        """Each student by itself, so that none depends on which others learn beside it."""
        return [one.parameters() for one in self.learners.values()]

    def mode(self, train: bool) -> None:
        """Put all students in training or in evaluation mode."""
        for one in self.learners.values():
            one.net.train(train)

    def batches(self, first: int) -> Iterator[Labelled]:
        """Batches from step ``first`` on, distorted."""
        for step in range(first, self.config.steps):
            with torch.no_grad():
                batch = self.draw_batch(step)
                signal = self.distortion(batch.signal, Draw((self.config.seed, 3, step), batch.signal.device))
            yield batch._replace(signal=signal)

    def loss(self, batch: Labelled, step: int) -> Tensor:
        """The sum of the students' losses; each has gradients of its own alone."""
        losses = []
        for one in self.learners.values():
            torch.manual_seed(self.config.seed * 1_000_003 + step)
            losses.append(one.loss(batch.signal, batch.label, batch.embedding, self.emotion_loss))
        return torch.stack(losses).sum()

    def emotion_loss(self, label: Tensor, emotion: Tensor) -> Tensor:
        """1 - CCC over the batch and within corpora, and what valence borrows from arousal, a scalar."""
        config = self.config
        loss = grouped_ccc_loss(label, emotion, config.group_size, config.within).mean()
        if config.decorrelation:
            loss = loss + config.decorrelation * borrowed(label, emotion, config.group_size)
        return loss

    def after_step(self, step: int) -> None:
        """Move the averages."""
        for one in self.learners.values():
            one.move_average(step)

    def evaluate(self) -> Scores:
        """CCC and r of each student, dimension and dev corpus, by ``student/corpus/ccc arousal``.

        r is 0 where one of the two is constant, so that the log stays JSON.
        """
        scores = {}
        for name, one in self.learners.items():
            for dev in self.dev:
                answers = one.predict(dev.signals)
                for d, dimension in enumerate(OUTPUTS):
                    truth, own = dev.labels[:, d], answers[:, d]
                    scores[f"{name}/{dev.name}/ccc {dimension}"] = round(concordance_cc(truth, own), 4)
                    scores[f"{name}/{dev.name}/r {dimension}"] = round(float(np.nan_to_num(pearson_cc(truth, own))), 4)
        return scores

    def merits(self, scores: Scores) -> Scores:
        """Mean CCC of held-out speakers within the corpora that are learnt from, for each student."""
        return {name: float(np.mean(list(self.within(scores, name).values()))) for name in self.learners}

    def within(self, scores: Scores, student: str, statistic: str = "ccc", left_out: bool = False) -> Scores:
        """A statistic of a student for each dimension, the mean over the dev corpora."""
        corpora = [dev.name for dev in self.dev if dev.left_out == left_out]
        return {
            dimension: float(np.mean([scores[f"{student}/{corpus}/{statistic} {dimension}"] for corpus in corpora]))
            for dimension in OUTPUTS
            if corpora
        }

    def in_words(self, line: Scores) -> list[str]:
        """A line of the log for people, a sentence a student: mean CCC, and r of each dimension."""
        sentences = []
        for name in self.learners:
            parts = []
            for kind, left_out in (("dev", False), ("left out", True)):
                ccc = self.within(line, name, left_out=left_out)
                r = self.within(line, name, "r", left_out)
                if ccc:
                    figures = ", ".join(f"{dimension} {value:.3f}" for dimension, value in r.items())
                    parts.append(f"{kind} CCC {np.mean(list(ccc.values())):.3f}, r {figures}")
            sentences.append(f"step {line['step']}, {name}: {'; '.join(parts)}")
        return sentences

    def keep(self, line: dict[str, float], part: str) -> None:
        """Write the averaged student of this name."""
        one = self.learners[part]
        scores = {name: round(value, 4) for name, value in self.within(line, part).items()}
        extra = {"recipe": json.dumps(asdict(self.config)), "step": str(line["step"]), "dev_ccc": json.dumps(scores)}
        about = description(one.averaged, part)
        write_safetensors(self.folder / f"{part}.safetensors", to_arrays(one.averaged), self.metadata | extra | about)


def composer(
    pool: Pool, labeller: Labeller, config: DistilConfig, device: torch.device | str
) -> Callable[[int], Labelled]:
    """Batches that are composed and labelled on a device, each step anew."""
    groups = config.batch_size // config.group_size

    def draw_batch(step: int) -> Labelled:
        draw = Draw((config.seed, 1, step), device)
        samples = durations(config)[int(draw.rng.integers(len(config.durations)))]
        return labelled(pool, labeller, samples, groups, draw, config)

    return draw_batch


def embedding_moments(draw_batch: Callable[[int], Labelled], cache: Path) -> tuple[Tensor, float]:
    """Mean of the teacher's embeddings in the first batch, shape=(size,), and the sum of their variances.

    They are kept in a file: a run that is resumed has no clips of its first step any more.
    """
    if not cache.is_file():
        embedding = draw_batch(0).embedding
        found = torch.cat([embedding.mean(0), embedding.var(0, unbiased=False).sum()[None]])
        with whole_file(cache) as temporary:
            np.save(temporary, found.cpu().numpy())
    moments = torch.from_numpy(np.load(cache))
    return moments[:-1], float(moments[-1])


def make_loop(folder: Path, task: Online, key: str) -> Loop[Labelled]:
    """The loop of a run, resumed if the folder has a checkpoint; ``key`` stands for its audio and teacher.

    Raises:
        WeightsError: if the folder holds a run with other settings, or a damaged checkpoint
    """
    config = task.config
    every = config.evaluate_every or max(1, config.steps // 10)
    plan = Plan(config.steps, config.warm_up, every, config.seed, config.weight_decay)
    students = [[pupil.name, str(pupil.start or "")] for pupil in task.pupils]
    distortion = {"noise": task.distortion.noise, "rooms": task.distortion.rooms}
    keys = {"key": key} | {name: pool.key if pool else "" for name, pool in distortion.items()}
    return Loop(folder, task, plan, {**asdict(config), "students": str(students), **keys})
