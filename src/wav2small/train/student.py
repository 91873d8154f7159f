"""Train a student on a teacher's labels, and on nothing else.

The paper does not say how; every choice is ours. Loss: 1 - CCC of the batch, which is the figure that is reported;
and, where the labels have the teacher's embedding, the squared error of a linear guess of it from the student's own,
because three numbers say little about a clip; the guess is dropped after training. The squared error of the labels can
be added, and costs CCC (docs/log.md). AdamW, a short warm-up and a
cosine to zero. Weights that are kept are a moving average of those that are trained, chosen by the CCC of the dev
speakers. Batches hold clips of one length, so nothing is padded by much.
Several processes can train as one (``together``).
Everything random follows from (seed, step): a run that was stopped and resumed equals one that was not.
"""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.errors import ManifestError, Wav2SmallError, WeightsError
from wav2small.files import whole_file
from wav2small.metrics import concordance_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.network.weights import write_safetensors
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train import distributed as together
from wav2small.train import make_folder
from wav2small.train.embedding import from_text
from wav2small.train.heads import ccc_loss
from wav2small.train.interrupt import uninterrupted
from wav2small.train.students import build, description, start_from, to_arrays

Tell = Callable[[float, float], None]
CHECKPOINT, BEST, LOG = "checkpoint.pt", "best.safetensors", "log.jsonl"


@dataclass(frozen=True)
class TrainConfig:
    """How a student is trained.

    Durations are in seconds, ``tilt`` is in dB, and ``start`` is the sha256 of the weights that it begins with.
    """

    student: str = "wav2small"
    start: str = ""
    steps: int = 4000
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: int = 200
    average: float = 0.998
    dropout: float = 0.2
    max_dur: float = 4.0
    bucket_dur: float = 0.5
    tilt: float = 4.0
    concordance: float = 1.0
    squared_error: float = 0.0
    embedding: float = 1.0
    evaluate_every: int = 400
    seed: int = 1
    bf16: bool = False
    compiled: bool = False


class Clips:
    """Labelled clips in memory as int16, in buckets of like length.

    Args:
        segments: each with an emotion, the teacher's
        config: the longest part of a clip that is used, and the width of a bucket
        tell: called with (done, total)
    """

    def __init__(self, segments: Sequence[Segment], config: TrainConfig, tell: Tell) -> None:
        self.labels = np.array([segment.emotion for segment in segments], np.float32)
        self.embeddings = _embeddings(segments)
        self.signals: list[np.ndarray] = []
        for done, segment in enumerate(segments, 1):
            self.signals.append(np.round(np.clip(segment_signal(segment), -1, 1) * 32767).astype(np.int16))
            tell(done, len(segments))
        self.arrange(config)

    def arrange(self, config: TrainConfig) -> None:
        """Into buckets again, for batches of another config."""
        self.config = config
        widths = [min(config.max_dur, len(s) / SAMPLING_RATE) / config.bucket_dur for s in self.signals]
        bucket = np.maximum(1, np.ceil(np.round(widths, 3))).astype(int)
        self.buckets = {int(width): np.flatnonzero(bucket == width) for width in np.unique(bucket)}

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch number ``step``: signals (batch, samples), labels (batch, 3) and embeddings (batch, 0 if none)."""
        rng = np.random.default_rng([self.config.seed, step])
        widths = list(self.buckets)
        sizes = np.array([len(self.buckets[width]) for width in widths])
        width = widths[rng.choice(len(widths), p=sizes / sizes.sum())]
        index = rng.choice(self.buckets[width], self.config.batch_size)
        samples = round(width * self.config.bucket_dur * SAMPLING_RATE)
        batch = np.stack([_placed(self.signals[i], samples, rng) for i in index])
        return torch.from_numpy(batch), torch.from_numpy(self.labels[index]), torch.from_numpy(self.embeddings[index])


def _embeddings(segments: Sequence[Segment]) -> np.ndarray:
    """Embeddings of the teacher, shape=(segments, size); size 0 if a segment has none."""
    texts = [segment.fields.get("embedding", "") for segment in segments]
    if not all(texts):
        return np.zeros((len(segments), 0), np.float32)
    found = [from_text(text, segment.file) for text, segment in zip(texts, segments, strict=True)]
    sizes = sorted({len(embedding) for embedding in found})
    if len(sizes) > 1:
        raise ManifestError(f"embeddings have sizes {sizes[0]} and {sizes[-1]}. Label all clips with one teacher.")
    return np.stack(found)


def _placed(signal: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Cut or zero-pad at a random place, as float32 in [-1, 1]."""
    offset = int(rng.integers(abs(samples - len(signal)) + 1))
    floats = signal.astype(np.float32) / 32768
    if len(signal) >= samples:
        return floats[offset : offset + samples]
    return np.pad(floats, (offset, samples - len(signal) - offset))


class Run:
    """A training run in a folder: its student, optimiser, moving average and step, all kept in one checkpoint.

    ``losses`` are those since the last evaluation, and ``due`` says that one is outstanding at this step.

    Args:
        folder: of the run; a checkpoint in it is resumed
        config: how
        clips: what it learns from
        start: weights to begin with
        device: of torch

    Raises:
        WeightsError: if ``start`` are not weights that the student can begin with, or the folder holds a run with other
            settings or labels, or a damaged checkpoint
    """

    def __init__(
        self, folder: Path, config: TrainConfig, clips: Clips, start: Path | None = None, device: str = "cpu"
    ) -> None:
        self.folder, self.config, self.device = folder, config, torch.device(device)
        self.variance = torch.from_numpy(clips.labels.var(0))
        self.embedding_variance = float(clips.embeddings.var(0).sum())
        torch.manual_seed(config.seed)
        self.net = begun(config, start).to(self.device)
        self.averaged = copy.deepcopy(self.net).eval()
        together.see_whole_batches(self.net)
        size = clips.embeddings.shape[1]
        mean = torch.from_numpy(clips.embeddings.mean(0))
        guess = {"weight": torch.zeros(size, self.net.embedding_size), "bias": mean}
        self.guess = nn.ParameterDict(guess).to(self.device)
        self.trained = [p for p in (*self.net.parameters(), *self.guess.parameters()) if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, config.learning_rate, weight_decay=config.weight_decay)
        self.step, self.best, self.due = 0, -1.0, False
        self.losses: list[float] = []
        forward = self.net.features_to_emotion
        self.forward = torch.compile(forward, dynamic=False) if config.compiled else forward
        if (folder / CHECKPOINT).is_file():
            self._resume()

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._check_same(state["config"], state["variance"])
            self.net.load_state_dict(state["net"])
            self.guess.load_state_dict(state["guess"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.best = state["step"], state["best"]
            self.due, self.losses = state["due"], state["losses"]
        except (EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
            raise WeightsError(f"{path}: is no checkpoint, or damaged. Remove it to begin again.") from None

    def _check_same(self, found: dict[str, object], variance: Tensor) -> None:
        asked = asdict(self.config)
        other = [f"{key} {found.get(key)}, asked for {asked[key]}" for key in asked if found.get(key) != asked[key]]
        if not torch.equal(variance, self.variance):
            other.append("other labels")
        if other:
            raise WeightsError(
                f"{self.folder}: holds a run with {'; '.join(other)}. Give the same to resume it, or another folder."
            )

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "config": asdict(self.config),
            "variance": self.variance,
            "net": self.net.state_dict(),
            "guess": self.guess.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "due": self.due,
            "losses": self.losses,
        }
        with whole_file(self.folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def advance(self, clips: Clips) -> float:
        """One step; returns its loss."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(self.step, config)
        self.net.train()
        loss = self.loss(*clips.draw(self.step))
        self.optimiser.zero_grad()
        loss.backward()
        together.sum_gradients(self.trained)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.step += 1
        self._average()
        self.losses.append(loss.item())
        self.due = self.step % config.evaluate_every == 0 or self.step == config.steps
        return self.losses[-1]

    def loss(self, signal: Tensor, label: Tensor, embedding: Tensor) -> Tensor:
        """Of a whole batch as it was drawn, of which this process computes its share; a scalar."""
        config, share = self.config, together.share(len(signal))
        label, embedding = label.to(self.device), embedding.to(self.device)
        with torch.no_grad():
            log_mel = self.net.log_mel(signal[share].to(self.device))
            log_mel += _tilt(len(signal), log_mel.shape[2], config.tilt)[share].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            emotion, own = self.forward(log_mel)
        emotion = together.gathered(emotion)
        error = ((emotion - label).square().mean(0) / self.variance.to(self.device)).mean()
        loss = config.concordance * ccc_loss(label, emotion).mean() + config.squared_error * error
        if self.embedding_variance:
            guessed = together.gathered(functional.linear(own, self.guess["weight"], self.guess["bias"]))
            missed = (guessed - embedding).square().sum(1).mean() / self.embedding_variance
            loss = loss + config.embedding * missed
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.config.average, self.step / (self.step + 10))
        pairs = zip(self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True)
        for slow, fast in pairs:
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - keep)
            else:
                slow.copy_(fast)

    def predict(self, signals: Sequence[np.ndarray]) -> np.ndarray:
        """Answers of the averaged student for whole clips in int16, shape=(clips, 3)."""
        padded = (np.pad(signal, (0, max(0, self.net.min_length - len(signal)))) for signal in signals)
        with torch.inference_mode():
            signals = (torch.from_numpy(s.astype(np.float32) / 32768)[None].to(self.device) for s in padded)
            answers = [self.averaged(signal)[0] for signal in signals]
        return torch.cat(answers).cpu().numpy()

    def record(self, line: dict[str, float], metadata: dict[str, str]) -> None:
        """End an evaluation: write the weights if the mean CCC is the best so far, the log, and the checkpoint."""
        scores = {name: round(line[name], 4) for name in OUTPUTS}
        mean = float(np.mean([line[name] for name in OUTPUTS]))
        if mean > self.best:
            self.best = mean
            extra = {"recipe": json.dumps(asdict(self.config)), "step": str(self.step), "dev_ccc": json.dumps(scores)}
            write_safetensors(
                self.folder / BEST,
                to_arrays(self.averaged),
                metadata | extra | description(self.averaged, self.config.student),
            )
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.due, self.losses = False, []
        self.save()


def begun(config: TrainConfig, start: Path | None) -> nn.Module:
    """The student before its first step.

    Raises:
        PluginError: if there is none of that name
        WeightsError: if ``start`` are not weights that it can begin with
    """
    net = build(config.student, config.dropout)
    if start:
        start_from(net, start)
    return net


def _schedule(step: int, config: TrainConfig) -> float:
    """Share of the learning rate: up linearly, then down by a cosine."""
    if step < config.warm_up:
        return (step + 1) / config.warm_up
    progress = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return float(0.5 * (1 + np.cos(np.pi * min(1.0, progress))))


def _tilt(batch: int, n_mels: int, depth: float) -> Tensor:
    """A smooth random equaliser of up to ``depth`` dB, one a clip, shape=(batch, 1, n_mels)."""
    knots = (torch.rand(batch, 1, 5) * 2 - 1) * depth
    return functional.interpolate(knots, n_mels, mode="linear", align_corners=True)


def train(
    train_segments: Sequence[Segment],
    dev_segments: Sequence[Segment],
    folder: Path,
    config: TrainConfig,
    metadata: dict[str, str],
    tell: Tell,
    report: Callable[[dict[str, float]], None],
    start: Path | None = None,
    device: str = "cpu",
) -> Run:
    """Train until ``config.steps``, from the checkpoint in ``folder`` if there is one.

    Args:
        train_segments: labelled by the teacher
        dev_segments: likewise, of speakers that are not in ``train_segments``
        folder: for the checkpoint, the best weights and the log
        config: how
        metadata: written into the weights
        tell: called with (steps done, steps)
        report: called with each line of the log
        start: weights to begin with; ``config.start`` is their sha256
        device: of torch

    Raises:
        ManifestError: if there are no segments, one has no label, all have the same, or a speaker is in both
        AudioError: if a segment cannot be read
        WeightsError: if ``folder`` holds another run
    """
    if config.compiled and together.world() > 1:
        raise Wav2SmallError("a network that is compiled is trained by one process. Leave out --compile, or torchrun.")
    _check(train_segments, dev_segments)
    begun(config, start)  # what is wrong with it is said before the clips are read
    make_folder(folder)
    clips, dev = Clips(train_segments, config, tell), Clips(dev_segments, config, tell)
    run = Run(folder, config, clips, start, device)
    try:
        _loop(run, clips, dev, metadata, tell, report)
    except KeyboardInterrupt:
        if together.rank() == 0:
            run.save()
        raise
    return run


def _loop(
    run: Run, clips: Clips, dev: Clips, metadata: dict[str, str], tell: Tell, report: Callable[[dict[str, float]], None]
) -> None:
    start = time.monotonic()
    while run.due or run.step < run.config.steps:
        if not run.due:
            with uninterrupted():
                run.advance(clips)
            tell(run.step, run.config.steps)
            continue
        if together.rank():
            run.due, run.losses = False, []
            continue
        answers = run.predict(dev.signals)
        line = {"step": run.step, "loss": float(np.mean(run.losses)), "seconds": round(time.monotonic() - start, 1)}
        line |= {name: concordance_cc(dev.labels[:, d], answers[:, d]) for d, name in enumerate(OUTPUTS)}
        with uninterrupted():
            run.record(line, metadata)
        report(line)


def _check(train_segments: Sequence[Segment], dev_segments: Sequence[Segment]) -> None:
    for part, segments in (("training", train_segments), ("dev", dev_segments)):
        if not segments:
            raise ManifestError(f"there are no {part} segments: no row has a label. Label a manifest: wav2small label.")
        for segment in segments:
            if segment.emotion is None:
                raise ManifestError(f"{segment.file}: has no label. Label the manifest first: wav2small label.")
    for name in OUTPUTS:
        values = {getattr(segment.emotion, name) for segment in train_segments}
        if len(values) < 2:
            raise ManifestError(f"all training segments have the {name} {values.pop():g}. Add others.")
    shared = {s.speaker for s in train_segments} & {s.speaker for s in dev_segments} - {""}
    if shared:
        raise ManifestError(
            f"speaker {min(shared)} is in the training and in the dev segments. Give each speaker one of them."
        )
