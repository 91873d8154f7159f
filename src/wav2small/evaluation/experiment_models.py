"""The kinds of models that an experiment trains in its cells: heads on frozen features, whole networks, and encoders.

A kind is a dataclass with the methods of :class:`ModelSpec`, and the key that selects it in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from wav2small.errors import Wav2SmallError
from wav2small.evaluation.experiment_values import as_list, as_name, as_settings, beside, check_keys, one_of
from wav2small.evaluation.features import features, open_frozen
from wav2small.network.weights import read_safetensors
from wav2small.tables.manifest import Segment
from wav2small.train import Bar, Progress, check_extra
from wav2small.train.config import (
    ADAPTATIONS,
    POOLINGS,
    TRAINED,
    AdaptConfig,
    DenseConfig,
    FinetuneConfig,
    NetworkConfig,
)

if TYPE_CHECKING:
    from wav2small.train.examples import Examples, Fitted


class Prepared(NamedTuple):
    """What a model sees of the corpora.

    Attributes:
        inputs: of the clips of each corpus, by name: features, shape=(clips, width), or segments, shape=(clips,)
        origin: what the model starts from or is built on, for a sentence about it
        training_data: of that, names of corpora with commas between them; empty where it is not known
    """

    inputs: dict[str, np.ndarray]
    origin: str = ""
    training_data: str = ""


class ModelSpec(Protocol):
    """A model that is trained in each cell."""

    def prepare(self, corpora: Mapping[str, Sequence[Segment]], cache: Path, bar: Bar) -> Prepared:
        """The inputs of all clips, computed once, on this machine, before the first cell.

        Args:
            corpora: segments of each corpus
            cache: folder that keeps features
            bar: opens progress bars
        """

    def fit(self, examples: Examples, seed: int, cache: Path, progress: Progress) -> Fitted:
        """Train on some of the inputs; the process may be on another machine.

        Args:
            examples: training examples of a cell
            seed: random seed
            cache: folder for checkpoints
            progress: called with the part that is done, and the whole
        """


@dataclass(frozen=True)
class HeadSpec:
    """A head on frozen features: ``body``, ``layers`` and ``pooling`` as of ``open_frozen``, and how it is fitted."""

    body: str
    layers: int | None
    pooling: str
    config: DenseConfig

    @classmethod
    def read(cls, value: Mapping[str, Any], where: str, folder: Path) -> HeadSpec:
        """From a table with the key ``body``.

        Raises:
            Wav2SmallError: if a key is unknown, or a value is not allowed
        """
        check_keys(value, ("body",), ("layers", "pooling", *_names(DenseConfig)), where)
        pooling = one_of(value, "pooling", POOLINGS, "mean", where)
        config = as_settings(value, DenseConfig(), where)
        return cls(beside(as_name(value["body"], f"{where}: body"), folder), _layers(value, where), pooling, config)

    def prepare(self, corpora: Mapping[str, Sequence[Segment]], cache: Path, bar: Bar) -> Prepared:
        """Features of all clips."""
        frozen = open_frozen(self.body, self.layers, self.pooling)
        inputs = {}
        for name, segments in corpora.items():
            with bar(f"features of {name}") as progress:
                inputs[name] = features(frozen, segments, cache, progress)
        return Prepared(inputs, "body", frozen.training_data)

    def fit(self, examples: Examples, seed: int, cache: Path, progress: Progress) -> Fitted:
        """Fit the head."""
        from wav2small.train.dense import fit_dense

        return fit_dense(examples, self.config, seed)


@dataclass(frozen=True)
class NetworkSpec:
    """A student by name, all of which is trained: from random weights, or from those of the file ``start``."""

    network: str
    start: Path | None
    config: NetworkConfig

    @classmethod
    def read(cls, value: Mapping[str, Any], where: str, folder: Path) -> NetworkSpec:
        """From a table with the key ``network``.

        Raises:
            Wav2SmallError: if a key is unknown, or a value is not allowed
            PluginError: if no student has that name
            WeightsError: if the initial weights are not those of the student
        """
        check_extra()
        from wav2small.train.supervised import initial

        check_keys(value, ("network",), ("from", *_names(NetworkConfig)), where)
        network = as_name(value["network"], f"{where}: network")
        config = as_settings(value, NetworkConfig(), where)
        start = Path(beside(as_name(value["from"], f"{where}: from"), folder)) if "from" in value else None
        initial(network, config.dropout, start)  # an error here is reported before anything is computed
        return cls(network, start, config)

    def prepare(self, corpora: Mapping[str, Sequence[Segment]], cache: Path, bar: Bar) -> Prepared:
        """The segments themselves."""
        data = read_safetensors(self.start)[1].get("training_data", "") if self.start and self.start.is_file() else ""
        return Prepared(_as_rows(corpora), "start", data)

    def fit(self, examples: Examples, seed: int, cache: Path, progress: Progress) -> Fitted:
        """Train the network."""
        from wav2small.train.supervised import fit_network

        return fit_network(examples, self.network, self.config, seed, progress, self.start)


@dataclass(frozen=True)
class FinetuneSpec:
    """A body whose encoder is trained, after task-adaptive pretraining if ``adapt.kind`` is not None."""

    body: str
    layers: int | None
    config: FinetuneConfig
    adapt: AdaptConfig

    @classmethod
    def read(cls, value: Mapping[str, Any], where: str, folder: Path) -> FinetuneSpec:
        """From a table with the key ``finetune``.

        Raises:
            Wav2SmallError: if a key is unknown, or a value is not allowed
            WeightsError: if the body is not available, or TAPT does not support it
        """
        check_extra()
        from wav2small.train.tune import check_tuning

        numbers = [field.name for field in fields(FinetuneConfig) if not isinstance(field.default, (str, bool))]
        optional = ("layers", "adapt", "adapt_steps", "clusters", "trained", "pooling", *numbers)
        check_keys(value, ("finetune",), [key for key in optional if key != "seed"], where)
        default = FinetuneConfig(
            trained=one_of(value, "trained", TRAINED, FinetuneConfig.trained, where),
            pooling=one_of(value, "pooling", POOLINGS, FinetuneConfig.pooling, where),
        )
        config = as_settings({key: value[key] for key in value if key in numbers}, default, where)
        kind = one_of(value, "adapt", ("none", *ADAPTATIONS), "none", where)
        clusters = as_list(value.get("clusters", list(AdaptConfig.clusters)))
        if not all(isinstance(number, int) and number > 1 for number in clusters):
            raise Wav2SmallError(f"{where}: clusters is {clusters}. Needed: whole numbers above 1.")
        adapt = AdaptConfig(None if kind == "none" else kind, clusters=tuple(clusters))
        adapt = as_settings({"steps": value.get("adapt_steps", adapt.steps)}, adapt, f"{where}, adapt_steps")
        spec = cls(
            beside(as_name(value["finetune"], f"{where}: finetune"), folder), _layers(value, where), config, adapt
        )
        check_tuning(spec.body, spec.layers, adapt)  # an error here is reported before anything is computed
        return spec

    def prepare(self, corpora: Mapping[str, Sequence[Segment]], cache: Path, bar: Bar) -> Prepared:
        """The segments themselves."""
        return Prepared(_as_rows(corpora))

    def fit(self, examples: Examples, seed: int, cache: Path, progress: Progress) -> Fitted:
        """Adapt and fine-tune the body."""
        from wav2small.train.tune import tune

        config = replace(self.config, seed=seed)
        return tune(examples, self.body, self.layers, config, self.adapt, cache / "finetune", progress)


KINDS: dict[str, Callable[[Mapping[str, Any], str, Path], ModelSpec]] = {
    "body": HeadSpec.read,
    "network": NetworkSpec.read,
    "finetune": FinetuneSpec.read,
}
"""Kinds of trained models by the key that each needs."""


def read_model(name: str, value: Any, file: Path) -> str | ModelSpec:
    """A model of an experiment: a PREDICTOR that is scored as it is, or one of ``KINDS``.

    Args:
        name: of the model
        value: text or table
        file: of the experiment

    Raises:
        Wav2SmallError: if it is neither
    """
    where = f"{file}, models.{name}"
    if isinstance(value, str):
        return beside(value, file.parent)
    if not isinstance(value, dict):
        raise Wav2SmallError(
            f"{where}: is {value!r}. Give a model by name or file, or a table with a body, network or finetune."
        )
    kinds = [key for key in KINDS if key in value]
    if len(kinds) != 1:
        raise Wav2SmallError(f"{where}: has {' and '.join(kinds) or 'no kind'}. Give one of: {', '.join(KINDS)}.")
    return KINDS[kinds[0]](value, where, file.parent)


def _as_rows(corpora: Mapping[str, Sequence[Segment]]) -> dict[str, np.ndarray]:
    """The segments of each corpus, shape=(clips,)."""
    return {name: np.fromiter(segments, object, len(segments)) for name, segments in corpora.items()}


def _layers(value: Mapping[str, Any], where: str) -> int | None:
    layers = value.get("layers")
    if layers is not None and (not isinstance(layers, int) or layers < 1):
        raise Wav2SmallError(f"{where}: layers is {layers!r}. Needed: a whole number from 1.")
    return layers


def _names(config: type[DenseConfig | NetworkConfig]) -> list[str]:
    return [field.name for field in fields(config)]
