"""What ``experiment`` reads: a file of models, corpora, training sets, folds and seeds, and the cells of these."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wav2small.errors import ManifestError, Wav2SmallError
from wav2small.evaluation.experiment_models import ModelSpec, read_model
from wav2small.evaluation.experiment_values import as_list, as_name, as_names, check_keys
from wav2small.evaluation.labelled import check_column
from wav2small.evaluation.predictors import file_sha256, read_truth
from wav2small.evaluation.score import Answer, check_truth
from wav2small.tables.manifest import Segment, load_norms, read_manifest, select

RANDOM = "random:"
"""Before a number of folds whose clips are drawn at random: the speakers of the test are in the training too."""


class Group(NamedTuple):
    """What one line of the table is about: a model, the corpora that it was trained on, the test, and kind of folds.

    ``train`` and ``folds`` are empty for a model that is scored as it is; ``folds`` is empty where the whole test
    corpus is held out.
    """

    model: str
    train: tuple[str, ...]
    test: str
    folds: str


class Cell(NamedTuple):
    """One result: a group, the fold that is held out ("" is the whole corpus), and the seed."""

    group: Group
    fold: str
    seed: int

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return json.dumps([*self.group, self.fold, self.seed])


@dataclass(frozen=True)
class Corpus:
    """A corpus of an experiment: segments, their truth, and the categories in lower case ("" where there is none)."""

    name: str
    segments: list[Segment]
    truth: list[Answer]
    labels: list[str]
    sha256: str | None

    def folds(self, kind: str, seed: int) -> list[str]:
        """The fold of each segment; one with the fold "" is only trained on.

        Args:
            kind: a column, or ``random:N``
            seed: of random folds

        Raises:
            Wav2SmallError: if there are fewer than two folds
        """
        if kind.startswith(RANDOM):
            count = int(kind.removeprefix(RANDOM))
            order = np.random.default_rng([seed, len(self.segments)]).permutation(len(self.segments))
            return [str(place % count) for place in np.argsort(order)]
        found = [segment.column(kind) for segment in self.segments]
        if len({*found} - {""}) < 2:
            count = len({*found} - {""})
            raise Wav2SmallError(
                f"{self.name}: folds by {kind} need two or more values of this column, and it has {count}. "
                f"Name another column in folds, such as speaker or {RANDOM}10, or give the corpus train = false."
            )
        return found

    def shares_speakers(self, kind: str) -> bool:
        """Whether a speaker is in two folds."""
        pairs = {(s.speaker, fold) for s, fold in zip(self.segments, self.folds(kind, 0), strict=True) if s.speaker}
        return len(pairs) > len({speaker for speaker, _ in pairs})


@dataclass(frozen=True)
class Experiment:
    """Models x corpora x folds x seeds.

    Attributes:
        models: by name; a string is a PREDICTOR of ``evaluate``, scored as it is; the others are trained in each cell
        corpora: by name
        tests: names of the corpora that are tested on
        train: sets of corpora that models are trained on
        folds: kinds of folds, each a column or ``random:N``
        seeds: random seeds of the training and of random folds
        by: columns whose values are also scored alone
        truth: name of the truth, for a title
        settings: content of the file, and sha256 of the manifests
    """

    models: dict[str, str | ModelSpec]
    corpora: dict[str, Corpus]
    tests: list[str]
    train: list[tuple[str, ...]]
    folds: list[str]
    seeds: list[int]
    by: list[str]
    truth: str
    settings: dict[str, Any]

    def notes(self) -> Iterator[str]:
        """A sentence about each corpus and kind of folds in which training and test share speakers.

        There is none without heads, as nothing is trained then.
        """
        if all(isinstance(spec, str) for spec in self.models.values()):
            return
        for name in dict.fromkeys(name for train in self.train for name in train if name in self.tests):
            for kind in self.folds:
                if self.corpora[name].shares_speakers(kind):
                    yield f"{name}: folds {kind} have the same speakers in training and test"

    def cells(self) -> Iterator[Cell]:
        """All cells; those of one model and training set follow each other."""
        for model, spec in self.models.items():
            if isinstance(spec, str):
                yield from (Cell(Group(model, (), test, ""), "", 0) for test in self.tests)
                continue
            for train in self.train:
                for test in self.tests:
                    yield from self._trained_cells(model, train, test)

    def _trained_cells(self, model: str, train: tuple[str, ...], test: str) -> Iterator[Cell]:
        for seed in self.seeds:
            if test not in train:
                yield Cell(Group(model, train, test, ""), "", seed)
                continue
            for kind in self.folds:
                names = sorted({*self.corpora[test].folds(kind, seed)} - {""})
                yield from (Cell(Group(model, train, test, kind), fold, seed) for fold in names)


def read_experiment(path: str | Path) -> Experiment:
    """Read the file of an experiment, TOML or JSON, and its manifests; paths are relative to the file's folder.

    Raises:
        Wav2SmallError: if a key is unknown or missing, or a value is not allowed
        ManifestError: if a manifest cannot be read, or has no truth
    """
    file = Path(path)
    given = _parse(file)
    where = str(path)
    check_keys(given, ("models", "corpora"), ("train", "folds", "seeds", "by", "truth"), where)
    truth = given.get("truth", "norms")
    corpora, trainable, tests, truths = {}, [], [], {}
    for name, value in _table(given, "corpora", where).items():
        table = value if isinstance(value, dict) else {"manifest": value}
        check_keys(table, ("manifest",), ("where", "truth", "train", "test"), f"{where}, corpora.{name}")
        truths[name] = as_name(table.get("truth", truth), f"{where}: truth")
        corpora[name] = _read_corpus(name, table, truths[name], file.parent)
        if table.get("train", True):
            trainable.append(name)
        if table.get("test", True):
            tests.append(name)
    models = {name: read_model(name, value, file) for name, value in _table(given, "models", where).items()}
    experiment = Experiment(
        models,
        corpora,
        tests,
        [_train_set(value, trainable, where) for value in as_list(given.get("train", trainable))],
        _folds(given.get("folds", ["speaker"]), where),
        [_seed(value, where) for value in as_list(given.get("seeds", [0]))],
        as_names(given.get("by", []), f"{where}: by"),
        _listed(truths),
        {"experiment": given, "manifests": {name: corpus.sha256 for name, corpus in corpora.items()}},
    )
    for column in experiment.by:
        segments = [segment for test in tests for segment in corpora[test].segments]
        check_column(column, segments, dict.fromkeys(tests), f"leave {column} out of by in {where}")
    if not experiment.seeds:
        raise Wav2SmallError(f"{where}: seeds is empty. Give one or more whole numbers from 0.")
    return experiment


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Wav2SmallError(f"{path}: cannot be read as text: {error}. Give a TOML or JSON file.") from None
    parse: Callable[[str], Any] = json.loads
    if not text.lstrip().startswith("{"):
        if sys.version_info < (3, 11):
            raise Wav2SmallError(f"{path}: TOML is read by Python 3.11 and later. Give the same content as JSON.")
        import tomllib

        parse = tomllib.loads
    try:
        return dict(parse(text))
    except ValueError as error:
        raise Wav2SmallError(f"{path}: {error}. Give TOML or JSON; docs/experiment.md has examples.") from None


def _table(given: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    if not isinstance(given[key], dict) or not given[key]:
        raise Wav2SmallError(f"{where}: [{key}] has no entries. Give one or more, such as emodb = 'open/emodb'.")
    return dict(given[key])


def _listed(truths: Mapping[str, str]) -> str:
    """One truth by its name; of several, the corpora of each."""
    corpora = {truth: [name for name, own in truths.items() if own == truth] for truth in truths.values()}
    return ", ".join(truth if len(corpora) == 1 else f"{truth} ({' '.join(names)})" for truth, names in corpora.items())


def _read_corpus(name: str, table: Mapping[str, Any], truth: str, folder: Path) -> Corpus:
    manifest = folder / as_name(table["manifest"], f"corpora.{name}: manifest")
    where = [(column, str(value)) for column, values in table.get("where", {}).items() for value in as_list(values)]
    try:
        segments = select(read_manifest(manifest), where)
    except ManifestError as error:
        raise ManifestError(f"corpora.{name}: {error}") from None
    source = truth if truth in ("manifest", "norms") else str(folder / truth)
    true = list(read_truth(source, segments, load_norms())[1])
    check_truth(true, name)
    return Corpus(name, segments, true, [s.label.strip().lower() for s in segments], file_sha256(manifest))


def _train_set(value: Any, trainable: Sequence[str], where: str) -> tuple[str, ...]:
    names = tuple(as_names(value, f"{where}: train"))
    if unknown := [name for name in names if name not in trainable]:
        raise Wav2SmallError(
            f"{where}: train names {unknown[0]}, which is not a corpus to train on. There are: {', '.join(trainable)}."
        )
    return names


def _folds(value: Any, where: str) -> list[str]:
    kinds = as_names(value, f"{where}: folds")
    for kind in kinds:
        count = kind.removeprefix(RANDOM)
        if kind.startswith(RANDOM) and not (count.isdecimal() and int(count) > 1):
            raise Wav2SmallError(f"{where}: folds has {kind!r}. Give the name of a column, or {RANDOM}10.")
    return kinds


def _seed(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Wav2SmallError(f"{where}: seeds has {value!r}. Give whole numbers from 0.")
    return value
