"""Teachers by name: speech -> arousal, dominance and valence, the labels of the students.

An entry point of the group ``wav2small.teachers`` is a function ``(bf16, device) -> teacher`` that returns a
:class:`Teacher`. ``label --teacher NAME`` then accepts its name.
"""

from __future__ import annotations

import re
from pathlib import Path

from wav2small import plugins
from wav2small.errors import WeightsError
from wav2small.network.weights import ENCODER, read_safetensors
from wav2small.train import check_extra
from wav2small.train.teachers.base import Teacher as Teacher

ENSEMBLE = "ensemble:"


def load_teacher(name: str, bf16: bool = False, device: str = "cpu") -> Teacher:
    """Load a teacher.

    Args:
        name: name of an entry point of the group ``wav2small.teachers``, a file that fit wrote, or an ensemble of
            these with optional weights: ``ensemble:odyssey=2,mine.safetensors``
        bf16: compute matrix products in bfloat16
        device: torch device, as ``choose_device`` returns it

    Raises:
        PluginError: if no teacher has that name; the message names the closest one
        WeightsError: if its weights are not available, or do not fit
        MissingExtraError: if the extra ``train`` is not installed

    Examples:
        >>> from wav2small.train.teachers import load_teacher
        >>> load_teacher("dwan")
        Traceback (most recent call last):
        wav2small.errors.PluginError: unknown teacher 'dwan'. Did you mean 'dawn'? ...
    """
    check_extra()
    if name.startswith(ENSEMBLE):
        from wav2small.train.teachers.ensemble import Ensemble

        members, weights = parse_ensemble(name)
        return Ensemble(name, [load_teacher(member, bf16, device) for member in members], weights)
    if name not in plugins.names(plugins.TEACHERS) and (Path(name).is_file() or Path(name).suffix):
        return _fitted(Path(name), bf16, device)
    teacher: Teacher = plugins.load(plugins.TEACHERS, name)(bf16, device)
    return teacher


def _fitted(path: Path, bf16: bool, device: str) -> Teacher:
    """A teacher that fit wrote: a complete network, or heads on a separate body."""
    from wav2small.train.teachers.open import OpenTeacher
    from wav2small.train.teachers.tuned import TunedTeacher

    arrays, metadata = read_safetensors(path)
    if ENCODER in metadata:
        return TunedTeacher(path, arrays, metadata, bf16, device)
    return OpenTeacher(path, bf16, device)


def parse_ensemble(name: str) -> tuple[list[str], list[float]]:
    """Members and weights of an ensemble such as ``ensemble:a=2,b``.

    Raises:
        WeightsError: if there are fewer than two members, one occurs twice, or a weight is not a number above 0
    """
    parts = [part.strip().partition("=") for part in name.removeprefix(ENSEMBLE).split(",")]
    members = [member for member, _, _ in parts]
    if len(members) < 2 or len(set(members)) < len(members) or not all(members):
        raise WeightsError(f"{name!r}: an ensemble needs two or more different members: ensemble:odyssey,dawn=2.")
    for _, _, text in parts:
        if text and not (re.fullmatch(r"\d*\.?\d+", text) and float(text) > 0):
            raise WeightsError(f"{name!r}: the weight {text!r} is not a number above 0: ensemble:odyssey,dawn=2.")
    return members, [float(text) if text else 1.0 for _, _, text in parts]
