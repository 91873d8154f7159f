"""Online distillation of a teacher into several students.

Each batch is composed, labelled, distorted and used for training.

On a GPU every clip is used once. On a CPU the teacher is the bottleneck, so workers fill a ring buffer of labelled
clips; each clip is used ``reuse`` times on average, with a new distortion each time. The loss is 1 - CCC over the batch
and within groups of one corpus, plus the error of the predicted teacher embedding. The scores that select weights are
those of held-out speakers within each corpus; held-out corpora are scored in addition.
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
"""Largest duration of a dev clip, in seconds."""


@dataclass(frozen=True)
class Pupil:
    """A student to train.

    Args:
        name: name of the student and of its weights file
        network: the network; None for a registered student
        start: initial weights
        body: checkpoint that ``distilhubert`` starts from
    """

    name: str
    network: Network | None = None
    start: Path | None = None
    body: str = ""

    def net(self, dropout: float) -> StudentNet:
        """The student with its initial weights.

        Raises:
            PluginError: if no student has that name
            WeightsError: if the body or ``start`` does not fit the student
        """
        net = build(self.network or self.name, dropout, self.body)
        if self.start:
            start_from(net, self.start)
        return net


@dataclass(frozen=True)
class Dev:
    """Dev clips of a corpus with the teacher's labels.

    Attributes:
        name: name of the corpus
        segments: the segments
        signals: audio at 16 kHz, int16, shape=(samples,) each
        labels: the teacher's A/D/V, shape=(clips, 3)
        left_out: whether the whole corpus is held out
    """

    name: str
    segments: list[Segment]
    signals: list[np.ndarray]
    labels: np.ndarray
    left_out: bool = False

    def rows(self, folder: Path) -> list[dict[str, object]]:
        """Rows of a table of labels in ``folder``, with the column ``corpus``."""
        return [
            to_row(segment, folder)
            | {"file": relative(segment.path, folder), "root": None, "corpus": self.name}  # one name, also over corpora
            | dict(zip(OUTPUTS, label.tolist(), strict=True))
            for segment, label in zip(self.segments, self.labels, strict=True)
        ]


def load_dev(
    name: str, segments: Sequence[Segment], labeller: Labeller, config: DistilConfig, folder: Path, left_out: bool
) -> Dev:
    """Load up to ``config.dev_clips`` evenly spaced dev clips of a corpus with the teacher's labels, which are cached.

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
    """Training of several students on the same batches.

    Args:
        config: settings of the training
        pupils: the students
        draw_batch: returns the labelled, undistorted clips of a step
        distortion: distortion of the students' input
        dev: dev clips
        folder: folder of the weights
        moments: moments of the teacher's embeddings, from :func:`embedding_moments`
        metadata: metadata of the weights
        device: torch device
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
        """Modules of all learners, by name."""
        return {
            name: module for pupil, one in self.learners.items() for name, module in one.modules(f"{pupil}/").items()
        }

    def groups(self) -> list[dict[str, Any]]:
        """One parameter group per student."""
        return [{"params": one.parameters(), "lr": self.config.learning_rate} for one in self.learners.values()]

    def clipped(self) -> list[list[nn.Parameter]]:
        """One list per student, so that a student does not depend on the other students of the run."""
        return [one.parameters() for one in self.learners.values()]

    def mode(self, train: bool) -> None:
        """Switch all students to training or evaluation mode."""
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
        """Sum of the students' losses, a scalar; each parameter has the gradient of its own student's loss."""
        losses = []
        for one in self.learners.values():
            torch.manual_seed(self.config.seed * 1_000_003 + step)
            losses.append(one.loss(batch.signal, batch.label, batch.embedding, self.emotion_loss))
        return torch.stack(losses).sum()

    def emotion_loss(self, label: Tensor, emotion: Tensor) -> Tensor:
        """1 - CCC over the batch and within corpora, plus the correlation of valence error and arousal, a scalar."""
        config = self.config
        loss = grouped_ccc_loss(label, emotion, config.group_size, config.within).mean()
        if config.decorrelation:
            loss = loss + config.decorrelation * borrowed(label, emotion, config.group_size)
        return loss

    def after_step(self, step: int) -> None:
        """Update the moving averages."""
        for one in self.learners.values():
            one.move_average(step)

    def evaluate(self) -> Scores:
        """CCC and Pearson's r of each student, dimension and dev corpus, such as ``student/corpus/ccc arousal``.

        r is 0 if the labels or the predictions are constant, because JSON has no NaN.
        """
        scores = {}
        for name, one in self.learners.items():
            for dev in self.dev:
                predictions = one.predict(dev.signals)
                for d, dimension in enumerate(OUTPUTS):
                    truth, own = dev.labels[:, d], predictions[:, d]
                    scores[f"{name}/{dev.name}/ccc {dimension}"] = round(concordance_cc(truth, own), 4)
                    scores[f"{name}/{dev.name}/r {dimension}"] = round(float(np.nan_to_num(pearson_cc(truth, own))), 4)
        return scores

    def merits(self, scores: Scores) -> Scores:
        """Mean CCC of held-out speakers within the training corpora, for each student."""
        return {name: float(np.mean(list(self.within(scores, name).values()))) for name in self.learners}

    def within(self, scores: Scores, student: str, statistic: str = "ccc", left_out: bool = False) -> Scores:
        """A statistic of a student for each dimension, averaged over the dev corpora."""
        corpora = [dev.name for dev in self.dev if dev.left_out == left_out]
        return {
            dimension: float(np.mean([scores[f"{student}/{corpus}/{statistic} {dimension}"] for corpus in corpora]))
            for dimension in OUTPUTS
            if corpora
        }

    def in_words(self, line: Scores) -> list[str]:
        """A line of the log as text, one sentence per student: mean CCC, and r of each dimension."""
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
        """Write the averaged student ``part``."""
        one = self.learners[part]
        scores = {name: round(value, 4) for name, value in self.within(line, part).items()}
        extra = {"recipe": json.dumps(asdict(self.config)), "step": str(line["step"]), "dev_ccc": json.dumps(scores)}
        about = description(one.averaged, part)
        write_safetensors(self.folder / f"{part}.safetensors", to_arrays(one.averaged), self.metadata | extra | about)


def composer(
    pool: Pool, labeller: Labeller, config: DistilConfig, device: torch.device | str
) -> Callable[[int], Labelled]:
    """Function that composes and labels the batch of a step on a device."""
    groups = config.batch_size // config.group_size

    def draw_batch(step: int) -> Labelled:
        draw = Draw((config.seed, 1, step), device)
        samples = durations(config)[int(draw.rng.integers(len(config.durations)))]
        return labelled(pool, labeller, samples, groups, draw, config)

    return draw_batch


def embedding_moments(draw_batch: Callable[[int], Labelled], cache: Path) -> tuple[Tensor, float]:
    """Mean of the teacher's embeddings in the first batch, shape=(size,), and the sum of their variances.

    They are stored in a file, because a resumed run no longer has the clips of its first step.
    """
    if not cache.is_file():
        embedding = draw_batch(0).embedding
        values = torch.cat([embedding.mean(0), embedding.var(0, unbiased=False).sum()[None]])
        with whole_file(cache) as temporary:
            np.save(temporary, values.cpu().numpy())
    moments = torch.from_numpy(np.load(cache))
    return moments[:-1], float(moments[-1])


def make_loop(folder: Path, task: Online, key: str) -> Loop[Labelled]:
    """The training loop of a run, resumed if the folder contains a checkpoint.

    Args:
        folder: folder of the checkpoint and the log
        task: the students
        key: identifies audio and teacher

    Raises:
        WeightsError: if the checkpoint is damaged, or has other settings
    """
    config = task.config
    every = config.evaluate_every or max(1, config.steps // 10)
    plan = Plan(config.steps, config.warm_up, every, config.seed, config.weight_decay)
    students = [[pupil.name, str(pupil.start or pupil.body)] for pupil in task.pupils]
    distortion = {"noise": task.distortion.noise, "rooms": task.distortion.rooms}
    keys = {"key": key} | {name: pool.key if pool else "" for name, pool in distortion.items()}
    return Loop(folder, task, plan, {**asdict(config), "students": str(students), **keys})
