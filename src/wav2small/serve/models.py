"""The models that a service offers, each loaded when it is first asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from wav2small.errors import NativeError, WeightsError, closest
from wav2small.network.weights import full_name, shipped_names
from wav2small.options import DEFAULT_MODEL
from wav2small.runtime.model import Model, load, models
from wav2small.serve.errors import ServeError
from wav2small.serve.settings import Settings

FACTS = ("name", "version", "precision", "licence", "teacher", "training_data", "sha256")
"""Of a model's metadata, those that are listed."""


def reads_arrays(backend: str) -> bool:
    """Whether safetensors are loaded rather than ONNX: by ``auto`` where C runs, compiled already or here."""
    if backend != "auto":
        return backend in ("c", "numpy")
    try:
        load(DEFAULT_MODEL, "c")
    except NativeError:
        return False
    return True


class Models:
    """Models by their names. What a client names is looked up here and is never a path.

    Args:
        settings: whose model is the default; a file is offered by its stem
    """

    def __init__(self, settings: Settings) -> None:
        self._backend = settings.backend
        self._facts = {full_name(row): row for row in models() if row["file"].endswith(".onnx")}
        self._sources = {name: name for name in self._facts}
        if reads_arrays(settings.backend):
            arrays = {full_name(row): row for row in models() if row["file"].endswith(".safetensors")}
            self._facts |= {name: row for name, row in arrays.items() if name in self._facts}
        self.default = settings.model
        if settings.model.partition(":")[0] not in shipped_names():
            self.default = Path(settings.model).stem
            self._sources[self.default] = settings.model
        self._loaded: dict[tuple[str, bool], Model] = {}
        self._lock = threading.Lock()
        self.default = self.id_of(self.default)

    def ids(self) -> list[str]:
        """Names of all models, the default first."""
        return [self.default, *(name for name in self._sources if name != self.default)]

    def id_of(self, name: str | None) -> str:
        """The listed name of a model, the default's for None; ``micro:fp32`` is listed as ``micro``.

        Raises:
            ServeError: if there is no such model
        """
        if not name:
            return self.default
        for listed, row in self._facts.items():
            is_only = sum(other["name"] == row["name"] for other in self._facts.values()) == 1
            if name == f"{row['name']}:{row['precision']}" or (is_only and name == row["name"]):
                return listed
        if name not in self._sources:
            raise ServeError("not_found", f"There is no model {name[:100]!r}.{closest(name[:100], self._sources)}.")
        return name

    def get(self, name: str | None, calibrated: bool = False) -> Model:
        """A model by its name; the first call for it may take seconds.

        Raises:
            ServeError: if there is no such model, or it has no calibration and one is asked for
        """
        key = self.id_of(name), calibrated
        with self._lock:
            if key not in self._loaded:
                try:
                    self._loaded[key] = self._load(self._sources[key[0]], calibrated)
                except WeightsError as error:
                    raise ServeError("config_invalid", f"{key[0]} cannot be used so: {error}") from None
            return self._loaded[key]

    def _load(self, source: str, calibrated: bool) -> Model:
        if self._backend != "auto" or not reads_arrays(self._backend):
            return load(source, self._backend, calibration=calibrated)
        try:
            return load(source, "c", calibration=calibrated)
        except (NativeError, WeightsError):  # no compiler for this one, or no safetensors
            return load(source, calibration=calibrated)

    def about(self, name: str) -> dict[str, Any]:
        """A model in OpenAI's shape, with licence, sha256 and precision."""
        listed = self.id_of(name)
        facts = self._facts.get(listed) or self.get(listed).metadata
        return {
            "id": listed,
            "object": "model",
            "created": 0,
            "owned_by": "wav2small",
            "is_default": listed == self.default,
            **{fact: facts.get(fact) for fact in FACTS},
        }
