"""Arousal, dominance and valence of a voice: the public names, each loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wav2small import errors
    from wav2small.metrics import concordance_cc
    from wav2small.network.config import Emotion
    from wav2small.options import Options
    from wav2small.runtime.baseline import Baseline, load_baseline
    from wav2small.runtime.event import Event
    from wav2small.runtime.model import Model, load, models
    from wav2small.runtime.predict import Prediction, predict
    from wav2small.runtime.stream import Stream

    __version__: str

__all__ = ["Baseline", "Emotion", "Event", "Model", "Options", "Prediction", "Stream"]
__all__ += ["concordance_cc", "errors", "load", "load_baseline", "models", "predict"]

_HOMES = {
    "Baseline": "runtime.baseline",
    "Emotion": "network.config",
    "Event": "runtime.event",
    "Model": "runtime.model",
    "Options": "options",
    "Prediction": "runtime.predict",
    "Stream": "runtime.stream",
    "concordance_cc": "metrics",
    "load": "runtime.model",
    "load_baseline": "runtime.baseline",
    "models": "runtime.model",
    "predict": "runtime.predict",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("wav2small.errors")
    if name == "__version__":
        value: object = import_module("importlib.metadata").version("wav2small")
    elif name in _HOMES:
        value = getattr(import_module(f"wav2small.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'wav2small' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
