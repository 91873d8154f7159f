"""Labels of whole batches by a teacher."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from wav2small.train.online.compose import decibel, rms
from wav2small.train.online.draw import Draw
from wav2small.train.teachers.base import Teacher

LEVELS = (-32.0, -18.0)
"""Range of the level of the teacher's input, in dB re full scale."""


class Labeller:
    """Labels batches with ``teacher.label_batch`` if the teacher has it, else clip by clip.

    Args:
        teacher: the teacher
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.batch = getattr(teacher, "label_batch", None)

    def __call__(self, signal: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Emotions (batch, 3) and embeddings (batch, size) of signals (batch, samples), at a random level each."""
        level = draw.uniform(len(signal), 1, low=LEVELS[0], high=LEVELS[1])
        return self.of(signal / rms(signal) * decibel(level))

    @cached_property
    def probe(self) -> list[float]:
        """The teacher's A/D/V of a fixed noise; distinguishes teachers with the same name and version."""
        with torch.inference_mode():
            emotion, _ = self.of(0.1 * Draw((0,)).normal(1, 32000))
        return [round(value, 3) for value in emotion[0].tolist()]

    def of(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Emotions (batch, 3) and embeddings (batch, size) of signals at their own level."""
        if self.batch is not None:
            emotion, embedding = self.batch(signal)
            return emotion, embedding
        emotions, embeddings = self.teacher.label_and_embed(list(signal.cpu().numpy()))
        return torch.tensor(emotions, device=signal.device), torch.from_numpy(embeddings).to(signal.device)
