"""Teachers by name: speech -> the arousal, dominance and valence that students learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from wav2small.config import Emotion
from wav2small.errors import WeightsError
from wav2small.train import check_extra

TEACHERS = ("open",)


class Teacher(Protocol):
    """Whoever labels: has a name, a version and a licence, all three recorded with each label."""

    name: str
    version: str
    licence: str

    def label(self, signals: Sequence[np.ndarray]) -> list[Emotion]:
        """Emotion of each signal, mono float32 at 16 kHz, shape=(samples,)."""
        ...

    def label_and_embed(self, signals: Sequence[np.ndarray]) -> tuple[list[Emotion], np.ndarray]:
        """The same, and an embedding that the emotion was read from, shape=(signals, size)."""
        ...


def load_teacher(name: str, bf16: bool = False, device: str = "cpu") -> Teacher:
    """A teacher by name; ``bf16`` computes its encoder in bfloat16, ``device`` is one that ``choose_device`` gave.

    Raises:
        WeightsError: if there is none of that name, or its encoder is not to be had
        MissingExtraError: if the extra ``train`` is not installed
    """
    check_extra()
    if name not in TEACHERS and not Path(name).is_file():
        raise WeightsError(f"there is no teacher {name!r}. Known: {', '.join(TEACHERS)}, or a file that fit wrote.")
    from wav2small.train.teachers.open import HEAD_FILE, OpenTeacher

    return OpenTeacher(HEAD_FILE if name in TEACHERS else Path(name), bf16, device)
