"""Train a whole student on annotations of people: arousal, dominance, valence and categories of clips.

The loss is that of heads on frozen features (``dense``). The optimiser is AdamW with a linear warm-up and cosine decay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wav2small import plugins
from wav2small.network.config import SAMPLING_RATE
from wav2small.runtime.windows import mean, parts
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.train import Progress
from wav2small.train.annotated import distort
from wav2small.train.config import NetworkConfig
from wav2small.train.examples import Answers, Examples
from wav2small.train.loop import MAX_NORM, schedule, warm_up_steps
from wav2small.train.loss import supervised_loss
from wav2small.train.students import StudentNet, build, start_from

POOL = 8
"""Batches whose clips are sorted by length together, so that there is little padding."""
WARM_UP = 0.1
"""Share of the steps with linear warm-up."""


class Classifier(nn.Module):
    """A student with a further linear layer, from its embedding to categories.

    Args:
        net: the student
        categories: number of categories
        dropout: dropout before the layer
        centre: added to A/D/V; the outputs of random weights are around 0
    """

    def __init__(self, net: StudentNet, categories: int, dropout: float, centre: float) -> None:
        super().__init__()
        self.net, self.dropout, self.centre = net, nn.Dropout(dropout), centre
        self.category = nn.Linear(net.embedding_size, max(categories, 1))

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, samples) -> A/D/V (batch, 3), category logits (batch, categories), embedding (batch, size)."""
        emotion, embedding = self.net(signal)
        return self.centre + emotion, self.category(self.dropout(embedding)), embedding

    def answers(self, inputs: np.ndarray) -> Answers:
        """Predictions for segments; those of a segment above 30 s are the mean over its parts.

        Args:
            inputs: segments, shape=(clips,)

        Raises:
            AudioError: if a segment cannot be read
        """
        self.eval()
        rows = [self._answer(segment_signal(segment)) for segment in inputs]
        emotion, probability, hidden = (np.stack(column) for column in zip(*rows, strict=True))
        return Answers(emotion.clip(0, 1), probability, hidden)

    @torch.inference_mode()
    def _answer(self, signal: np.ndarray) -> Sequence[np.ndarray]:
        clips = list(parts([signal], len(signal) / SAMPLING_RATE))
        found = []
        for clip in clips:
            emotion, logits, hidden = self(torch.from_numpy(placed([clip], max(len(clip), self.net.min_length))))
            found.append([emotion[0].numpy(), logits.softmax(1)[0].numpy(), hidden[0].numpy()])
        lengths = [len(clip) for clip in clips]
        return [mean(np.stack(values), lengths) for values in zip(*found, strict=True)]


def initial(student: str, dropout: float, start: Path | None) -> StudentNet:
    """A student with random weights, those of a file, or those of a checkpoint of ``distilhubert``.

    Args:
        student: name of the student
        dropout: dropout before its output layer
        start: file of initial weights, or a checkpoint: folder in the hub's format, or ``owner/name``

    Raises:
        PluginError: if no student has that name
        WeightsError: if ``start`` does not fit the student
    """
    if start and not start.is_file() and hasattr(plugins.load(plugins.STUDENTS, student), "from_body"):
        return build(student, dropout, str(start))
    net = build(student, dropout)
    if start:
        start_from(net, start)
    return net


def fit_network(
    examples: Examples, student: str, config: NetworkConfig, seed: int, progress: Progress, start: Path | None = None
) -> Classifier:
    """Train a student on segments.

    Args:
        examples: training examples, whose inputs are segments
        student: name of the student
        config: settings
        seed: random seed of the weights, the dropout and the batches
        progress: called with (epochs done, epochs)
        start: as of :func:`initial`; None is random weights

    Raises:
        AudioError: if a segment cannot be read
        WeightsError: if ``start`` does not fit the student
    """
    signals = [read_int16(segment) for segment in examples.inputs]
    lengths = np.array([min(len(signal), round(config.max_dur * SAMPLING_RATE)) for signal in signals])
    rng = np.random.default_rng(seed)
    steps = config.epochs * -(-len(signals) // config.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = initial(student, config.dropout, start)
        model = Classifier(net, examples.categories, config.dropout, 0.0 if start else 0.5).train()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay)
        truth, category = torch.from_numpy(examples.truth).float(), torch.from_numpy(examples.category)
        balance, step = torch.from_numpy(examples.balance()), 0
        note = ""
        for epoch in range(config.epochs):
            progress(epoch, config.epochs, f"epoch {epoch + 1} of {config.epochs}{note}")
            losses = []
            for index in batches(lengths, config.batch_size, rng):
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate * schedule(step, steps, warm_up_steps(WARM_UP, steps))
                samples = max(int(lengths[index].max()), model.net.min_length)
                clips = augmented(signals, index, config.distorted, rng)
                emotion, logits, _ = model(torch.from_numpy(placed(clips, samples, rng)))
                target = truth[index], category[index]
                loss = supervised_loss(*target, emotion, logits, balance, config.ccc, config.focal)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(weights, MAX_NORM)
                optimiser.step()
                losses.append(loss.item())
                step += 1
            note = f", loss {np.mean(losses):.3f}"
    return model.eval()


def read_int16(segment: Segment) -> np.ndarray:
    """The samples of a segment at 16 kHz, int16, shape=(samples,), at half the memory.

    Raises:
        AudioError: if it cannot be read
    """
    samples: np.ndarray = np.round(np.clip(segment_signal(segment), -1, 1) * 32767).astype(np.int16)
    return samples


def augmented(
    signals: Sequence[np.ndarray], index: np.ndarray, share: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """The clips of a batch, of which a share is distorted.

    Args:
        signals: of all clips, int16, each shape=(samples,); a random one may be added as babble
        index: numbers of the clips of the batch
        share: of distorted clips, on average
        rng: random generator
    """
    if not share:
        return [signals[i] for i in index]
    floats = [
        [signals[i] / np.float32(32768) for i in (int(place), int(rng.integers(len(signals))))] for place in index
    ]
    return [distort(signal, other, rng) if rng.random() < share else signal for signal, other in floats]


def batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The batches of an epoch, in random order: numbers of clips of similar length.

    Args:
        lengths: samples of each clip, shape=(clips,)
        batch_size: clips of a batch
        rng: random generator
    """
    order = rng.permutation(len(lengths))
    found: list[np.ndarray] = []
    for first in range(0, len(order), POOL * batch_size):
        pool = order[first : first + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        found += [pool[place : place + batch_size] for place in range(0, len(pool), batch_size)]
    return (found[number] for number in rng.permutation(len(found)))


def placed(signals: Sequence[np.ndarray], samples: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Signals cut or zero-padded to ``samples``, float32, shape=(signals, samples).

    Args:
        signals: float32 or int16, each shape=(samples,)
        samples: length of all
        rng: of the random positions; None cuts and pads at the end
    """
    rows = np.zeros((len(signals), samples), np.float32)
    for row, signal in zip(rows, signals, strict=True):
        scale = 32768 if signal.dtype == np.int16 else 1
        offset = int(rng.integers(abs(samples - len(signal)) + 1)) if rng else 0
        if len(signal) >= samples:
            row[:] = signal[offset : offset + samples] / np.float32(scale)
        else:
            row[offset : offset + len(signal)] = signal / np.float32(scale)
    return rows
