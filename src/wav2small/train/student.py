"""Train a student on a teacher's labels.

The paper does not describe the training; all choices are ours. The loss is 1 - CCC over the batch or, in part, within
groups of one corpus. If the labels contain the teacher's embedding, the squared error of a linear prediction of it from
the student's embedding is added, because three numbers carry little information about a clip; this map is discarded
after training. The squared error of the labels can be added, but lowers CCC (docs/log.md). The optimiser is AdamW with
a short warm-up and cosine decay to zero. The stored weights are a moving average, selected by CCC on dev speakers
within each corpus. The clips of a batch have similar length, so there is little padding. Several processes can train
together (``distributed``).

Source: arXiv:2408.13920 for teacher labels without human annotations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.metrics import concordance_cc, mean_within
from wav2small.network.config import OUTPUTS, Network
from wav2small.network.licences import joined, of_weights
from wav2small.network.weights import licence_of, write_safetensors
from wav2small.tables.manifest import Segment
from wav2small.train import Bar, distributed, make_folder
from wav2small.train.clips import Batch, Clips
from wav2small.train.config import TrainConfig
from wav2small.train.learner import Learner
from wav2small.train.loop import Loop, Plan, Report, Scores, Task
from wav2small.train.loss import grouped_ccc_loss
from wav2small.train.students import StudentNet, build, description, start_from, to_arrays

BEST = "best.safetensors"


class Distillation(Task[Batch]):
    """Training of a student on labels.

    Args:
        config: settings of the training
        clips: training clips
        dev: dev clips, which select the weights
        best: file of the best weights
        metadata: metadata of that file
        start: initial weights
        device: torch device

    Raises:
        PluginError: if no student has that name
        WeightsError: if ``start`` does not fit the student
    """

    net: StudentNet

    def __init__(
        self,
        config: TrainConfig,
        clips: Clips,
        dev: Clips,
        best: Path,
        metadata: dict[str, str],
        start: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.config, self.clips, self.dev = config, clips, dev
        self.best, self.metadata = best, metadata
        self.variance = torch.from_numpy(clips.labels.var(0)).to(device)
        torch.manual_seed(config.seed)
        embeddings = clips.embeddings
        self.learner = Learner(
            initial(config, start),
            torch.from_numpy(embeddings.mean(0)),
            float(embeddings.var(0).sum()),
            config,
            device,
        )
        self.net = self.learner.net

    def modules(self) -> dict[str, nn.Module]:
        """The student, the map to the teacher's embedding, and the moving average of the student, by name."""
        return self.learner.modules()

    def groups(self) -> list[dict[str, Any]]:
        """One parameter group with the trained weights of the student and of the map to the teacher's embedding."""
        return [{"params": self.learner.parameters(), "lr": self.config.learning_rate}]

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches of clips from step ``first`` to the last, drawn lazily."""
        return map(self.clips.draw, range(first, self.config.steps))

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of a whole batch, a scalar; this process computes its share of the rows."""
        return self.learner.loss(*batch, self.emotion_loss)

    def emotion_loss(self, label: Tensor, emotion: Tensor) -> Tensor:
        """Weighted sum of 1 - CCC and the squared error relative to the variance of the labels, a scalar."""
        error = ((emotion - label).square().mean(0) / self.variance).mean()
        ccc = grouped_ccc_loss(label, emotion, self.config.group_size, self.config.within).mean()
        return self.config.concordance * ccc + self.config.squared_error * error

    def after_step(self, step: int) -> None:
        """Update the moving average."""
        self.learner.move_average(step)

    def evaluate(self) -> Scores:
        """CCC of the averaged student within each dev corpus, averaged over corpora."""
        predictions = self.learner.predict(self.dev.signals)
        scores = partial(mean_within, concordance_cc, groups=self.dev.corpora)
        return {name: scores(self.dev.labels[:, d], predictions[:, d]) for d, name in enumerate(OUTPUTS)}

    def keep(self, line: dict[str, float], part: str) -> None:
        """Write the averaged student."""
        scores = {name: round(line[name], 4) for name in OUTPUTS}
        extra = {"recipe": json.dumps(asdict(self.config)), "step": str(line["step"]), "dev_ccc": json.dumps(scores)}
        about = description(self.learner.averaged, self.config.student)
        write_safetensors(self.best, to_arrays(self.learner.averaged), {**self.metadata, **extra, **about})


def initial(config: TrainConfig, start: Path | None) -> StudentNet:
    """The student with its initial weights.

    Raises:
        PluginError: if no student has that name
        WeightsError: if the body or ``start`` does not fit the student
    """
    student = Network.from_json(config.network) if config.network else config.student
    net = build(student, config.dropout, config.body)
    if start:
        start_from(net, start)
    return net


def make_loop(folder: Path, task: Distillation) -> Loop[Batch]:
    """The training loop of a student, resumed if the folder contains a checkpoint.

    Raises:
        WeightsError: if the checkpoint is damaged, or has other settings or labels
    """
    config = task.config
    plan = Plan(config.steps, config.warm_up, config.evaluate_every, config.seed, config.weight_decay)
    labels = hashlib.sha256(task.clips.labels.tobytes()).hexdigest()[:8]
    return Loop(folder, task, plan, {**asdict(config), "labels": labels})


def train(
    train_segments: Sequence[Segment],
    dev_segments: Sequence[Segment],
    folder: Path,
    config: TrainConfig,
    metadata: dict[str, str],
    bar: Bar,
    report: Report,
    start: Path | None = None,
    device: str = "cpu",
) -> Distillation:
    """Train a student for ``config.steps``, resuming from the checkpoint in ``folder`` if there is one.

    Args:
        train_segments: training segments, labelled by the teacher
        dev_segments: dev segments, labelled by the teacher, of other speakers
        folder: folder of the checkpoint, the best weights and the log
        config: settings of the training
        metadata: metadata of the weights
        bar: opens progress bars
        report: called with each line of the log
        start: initial weights; ``config.start`` is their sha256
        device: torch device

    Returns:
        the training task, with the trained and the averaged student

    Raises:
        ManifestError: if there are no segments, one has no label, all labels are equal, or a speaker is in both parts
        AudioError: if a segment cannot be read
        WeightsError: if ``folder`` contains another run
        Wav2SmallError: if settings exclude each other
    """
    if config.compiled and distributed.world() > 1:
        raise Wav2SmallError("a compiled network must be trained by one process. Leave out --compile, or torchrun.")
    if config.within and config.batch_size % config.group_size:
        raise Wav2SmallError(
            f"a batch of {config.batch_size} clips is not a multiple of groups of {config.group_size}. "
            "Change one of them."
        )
    check_segments(train_segments, dev_segments)
    initial(config, start)  # an error here is reported before the clips are read
    make_folder(folder)
    with bar("clips") as progress:
        clips, dev = Clips(train_segments, config, progress), Clips(dev_segments, config, progress)
    task = Distillation(config, clips, dev, folder / BEST, metadata, start, device)
    with bar("train") as progress:
        make_loop(folder, task).run(progress, report)
    return task


def describe(segments: Sequence[Segment], data: str, licence: str | None, start: Path | None) -> dict[str, str]:
    """Metadata of a student: teachers, training data and licences.

    Args:
        segments: training segments with labels
        data: names of the corpora
        licence: licence of the weights; None derives it from the licences of the labels and of ``start``
        start: initial weights
    """
    teachers = sorted({f"{s.column('teacher')} {s.column('teacher_version')}".strip() for s in segments})
    licences = [s.column("teacher_licence") for s in segments] + ([licence_of(start)] if start else [])
    return {
        "teacher": ", ".join(teachers),
        "training_data": data,
        "teacher_licence": joined(licences),
        "licence": licence or of_weights(licences),
    }


def check_segments(train_segments: Sequence[Segment], dev_segments: Sequence[Segment]) -> None:
    """Check that a student can be trained on these segments.

    Raises:
        ManifestError: under the conditions of :func:`train`
    """
    for part, segments in (("training", train_segments), ("dev", dev_segments)):
        if not segments:
            raise ManifestError(f"there are no {part} segments: no row has a label. Label a manifest: wav2small label.")
        for segment in segments:
            if segment.emotion is None:
                raise ManifestError(f"{segment.file}: has no label. Label the manifest first: wav2small label.")
    for name in OUTPUTS:
        values = {getattr(segment.emotion, name) for segment in train_segments}
        if len(values) < 2:
            raise ManifestError(f"all training segments have the {name} {values.pop():g}. Add segments with others.")
    shared = {s.speaker for s in train_segments} & {s.speaker for s in dev_segments} - {""}
    if shared:
        raise ManifestError(
            f"speaker {min(shared)} is in the training and in the dev segments. Give each speaker one part."
        )
