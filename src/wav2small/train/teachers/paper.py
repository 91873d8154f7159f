"""The teacher ``paper``: the mean of ``odyssey`` and ``dawn``, as in arXiv:2408.13920."""

from __future__ import annotations

from wav2small.train.teachers.dawn import dawn
from wav2small.train.teachers.ensemble import Ensemble
from wav2small.train.teachers.odyssey import odyssey


def paper(bf16: bool = False, device: str = "cpu") -> Ensemble:
    """Load both published teachers from WAV2SMALL_MODELS or the hub."""
    return Ensemble("paper", [odyssey(bf16, device), dawn(bf16, device)])
