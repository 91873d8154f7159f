"""The work of ``experiment``: fits the heads of its cells, and writes the answers of each cell into the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wav2small.evaluation.experiment import Cell, Corpus, Experiment, HeadSpec
from wav2small.evaluation.features import Frozen, features, open_frozen
from wav2small.evaluation.predictors import open_predictor, training_notes
from wav2small.evaluation.score import Answer
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.journal import Journal
from wav2small.train.config import DenseConfig

if TYPE_CHECKING:
    from wav2small.train import Progress

Bar = Callable[[str], AbstractContextManager["Progress"]]
Numbered = list[tuple[int, Answer]]
"""Answers with the numbers of their segments in the corpus."""


class Job(NamedTuple):
    """All that fits the head of one cell and answers its test clips; it can be sent to another machine.

    Attributes:
        features: of the training clips, shape=(clips, width)
        truth: of the training clips, NaN where there is none, shape=(clips, 3)
        category: number of the category of each training clip, -1 where there is none
        labels: the categories
        test: features of the test clips
        allowed: numbers of the categories that test clips can have
        config: how
        seed: random seed
    """

    features: np.ndarray
    truth: np.ndarray
    category: np.ndarray
    labels: tuple[str, ...]
    test: np.ndarray
    allowed: tuple[int, ...]
    config: DenseConfig
    seed: int


Engine = Callable[[Iterator[tuple[Cell, Job]]], Iterator[tuple[Cell, list[Answer]]]]
"""Answers jobs, in any order."""


def answer_job(job: Job) -> list[Answer]:
    """Fit a head and answer the test clips; a category is the most probable of those that are allowed."""
    from wav2small.train.dense import Examples, fit_dense

    head = fit_dense(Examples(job.features, job.truth, job.category, len(job.labels)), job.config, job.seed)
    found = head.answers(job.test)
    guesses = [""] * len(job.test)
    if job.allowed:
        chosen = np.array(job.allowed)[found.probability[:, list(job.allowed)].argmax(1)]
        guesses = [job.labels[number] for number in chosen]
    return [
        Answer(Emotion(*map(float, row)), category=guess) for row, guess in zip(found.emotion, guesses, strict=True)
    ]


def here(jobs: Iterator[tuple[Cell, Job]]) -> Iterator[tuple[Cell, list[Answer]]]:
    """The engine of this process."""
    return ((cell, answer_job(job)) for cell, job in jobs)


def run_cells(
    experiment: Experiment,
    journal: Journal,
    cache: Path,
    bar: Bar,
    report: Callable[[str], None],
    engine: Engine = here,
) -> None:
    """Answer all cells that the journal lacks.

    Args:
        experiment: what to do
        journal: of the output
        cache: folder of features
        bar: opens progress bars
        report: called with a sentence about each corpus that a model was trained on
        engine: answers the jobs of heads
    """
    missing = [cell for cell in experiment.cells() if cell.key not in journal.done]
    done, total = len(journal.done), len(missing) + len(journal.done)
    for name, spec in experiment.models.items():
        cells = [cell for cell in missing if cell.group.model == name]
        answered = (
            _as_it_is(name, spec, cells, experiment, bar, report)
            if isinstance(spec, str)
            else _by_heads(name, spec, cells, experiment, cache, bar, report, engine)
        )
        with bar(f"cells of {name}") as progress:
            for cell, answers in answered:
                journal.add(cell.key, [_row(answers)])
                done += 1
                progress(done, total)


def _as_it_is(
    name: str, spec: str, cells: Sequence[Cell], experiment: Experiment, bar: Bar, report: Callable[[str], None]
) -> Iterator[tuple[Cell, Numbered]]:
    if not cells:
        return
    predictor = open_predictor(spec, [spec])
    for note in training_notes(name, predictor.training_data, experiment.tests):
        report(note)
    for cell in cells:
        segments, answers = experiment.corpora[cell.group.test].segments, []
        with bar(f"{name} on {cell.group.test}") as progress:
            for answer in predictor.answer(segments, False):
                answers.append(answer)
                progress(len(answers), len(segments))
        yield cell, list(enumerate(answers))


def _by_heads(
    name: str,
    spec: HeadSpec,
    cells: Sequence[Cell],
    experiment: Experiment,
    cache: Path,
    bar: Bar,
    report: Callable[[str], None],
    engine: Engine,
) -> Iterator[tuple[Cell, Numbered]]:
    if not cells:
        return
    frozen = open_frozen(spec.body, spec.layers, spec.pooling)
    for note in training_notes(f"the body of {name}", frozen.training_data, experiment.tests):
        report(note)
    needed = {corpus for cell in cells for corpus in (*cell.group.train, cell.group.test)}
    made = {corpus: _features(frozen, experiment.corpora[corpus], cache, bar) for corpus in sorted(needed)}
    pending: dict[Cell, tuple[list[int], Job]] = {}

    def jobs() -> Iterator[tuple[Cell, Job]]:
        for cell in cells:
            kept, tested = _divided(cell, experiment)
            pending[cell] = tested.tolist(), _job(cell, spec.config, experiment, made, kept, tested)
            yield cell, pending[cell][1]

    for cell, answers in engine(jobs()):
        rows, job = pending.pop(cell)
        labels = experiment.corpora[cell.group.test].labels
        yield (
            cell,
            [
                (row, answer if labels[row] in job.labels else answer._replace(category=""))
                for row, answer in zip(rows, answers, strict=True)
            ],
        )


def _features(frozen: Frozen, corpus: Corpus, cache: Path, bar: Bar) -> np.ndarray:
    with bar(f"features of {corpus.name}") as progress:
        return features(frozen, corpus.segments, cache, progress)


def _divided(cell: Cell, experiment: Experiment) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Numbers of the training segments of each corpus, and of the test segments."""
    group = cell.group
    kept = {name: np.arange(len(experiment.corpora[name].segments)) for name in group.train}
    test = experiment.corpora[group.test]
    if not group.folds:
        return kept, np.arange(len(test.segments))
    is_held_out = np.array(test.folds(group.folds, cell.seed)) == cell.fold
    return {**kept, group.test: np.flatnonzero(~is_held_out)}, np.flatnonzero(is_held_out)


def _job(
    cell: Cell,
    config: DenseConfig,
    experiment: Experiment,
    made: dict[str, np.ndarray],
    kept: dict[str, np.ndarray],
    tested: np.ndarray,
) -> Job:
    corpora = {name: experiment.corpora[name] for name in kept}
    labels = tuple(sorted({label for corpus in corpora.values() for label in corpus.labels} - {""}))
    number = {"": -1, **{label: place for place, label in enumerate(labels)}}
    test = experiment.corpora[cell.group.test]
    allowed = tuple(sorted(number[label] for label in {*test.labels} & {*labels}))
    return Job(
        np.concatenate([made[name][rows] for name, rows in kept.items()]),
        np.array([_numbers(corpora[name].truth[row]) for name, rows in kept.items() for row in rows], np.float32),
        np.array([number[corpora[name].labels[row]] for name, rows in kept.items() for row in rows]),
        labels,
        made[cell.group.test][tested],
        allowed,
        config,
        cell.seed,
    )


def _numbers(answer: Answer) -> Sequence[float]:
    return answer.emotion or (float("nan"),) * len(OUTPUTS)


def _row(answers: Numbered) -> dict[str, Any]:
    errors = [answer.detail for _, answer in answers if answer.reason == "error"]
    return {"answers": [(number, *answer) for number, answer in answers], "error": errors[0] if errors else None}


def read_answers(journal: Journal, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Numbered]]:
    """The answers of each cell, from the journal."""
    for cell in cells:
        for row in journal.rows([cell.key]):
            yield (
                cell,
                [(number, Answer(emotion and Emotion(*emotion), *rest)) for number, emotion, *rest in row["answers"]],
            )
