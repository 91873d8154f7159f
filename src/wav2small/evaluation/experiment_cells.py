"""The work of ``experiment``: trains the models of its cells, and writes the answers of each cell into the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wav2small.evaluation.experiment import Cell, Experiment
from wav2small.evaluation.experiment_models import ModelSpec
from wav2small.evaluation.features import stacked
from wav2small.evaluation.predictors import Predictor, open_predictor, training_notes
from wav2small.evaluation.score import Answer
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.tables.journal import Journal
from wav2small.tables.manifest import Segment
from wav2small.train import Bar, Progress
from wav2small.train.examples import Examples

Numbered = list[tuple[int, Answer]]
"""Answers with the numbers of their segments in the corpus."""
Answering = Callable[[Progress], Iterator[tuple[Cell, Numbered]]]
"""Answers cells; it reports the part of a cell that is done."""


class Job(NamedTuple):
    """All that trains the model of one cell and answers its test clips; it can be sent to another machine.

    Attributes:
        spec: the model
        examples: training clips
        labels: the categories
        test: inputs of the test clips
        allowed: numbers of the categories that test clips can have
        seed: random seed
        cache: folder for checkpoints
    """

    spec: ModelSpec
    examples: Examples
    labels: tuple[str, ...]
    test: np.ndarray
    allowed: tuple[int, ...]
    seed: int
    cache: Path


Engine = Callable[[Iterator[tuple[Cell, Job]], Progress], Iterator[tuple[Cell, list[Answer]]]]
"""Answers jobs, in any order; the function can be called with the part of the next job that is done, and the whole."""


def unreported(done: float, total: float, note: str = "") -> None:
    """No progress."""


def answer_job(job: Job, progress: Progress = unreported) -> list[Answer]:
    """Train a model and answer the test clips; a category is the most probable of those that are allowed."""
    fitted = job.spec.fit(job.examples, job.seed, job.cache, progress)
    found = fitted.answers(job.test)
    guesses = [""] * len(job.test)
    if job.allowed:
        chosen = np.array(job.allowed)[found.probability[:, list(job.allowed)].argmax(1)]
        guesses = [job.labels[number] for number in chosen]
    return [
        Answer(Emotion(*map(float, row)), category=guess) for row, guess in zip(found.emotion, guesses, strict=True)
    ]


def here(jobs: Iterator[tuple[Cell, Job]], progress: Progress) -> Iterator[tuple[Cell, list[Answer]]]:
    """The engine of this process."""
    return ((cell, answer_job(job, progress)) for cell, job in jobs)


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
        cache: folder of features and checkpoints
        bar: opens progress bars
        report: called with a sentence about each corpus that a model was trained on
        engine: answers the jobs of trained models
    """
    missing = [cell for cell in experiment.cells() if cell.key not in journal.done]
    total = len(missing) + len(journal.done)
    for name, spec in experiment.models.items():
        cells = [cell for cell in missing if cell.group.model == name]
        if not cells:
            continue
        if isinstance(spec, str):
            predictor = open_predictor(spec, [spec])
            notes = training_notes(name, predictor.training_data, experiment.tests)
            answer = partial(_by_predictor, predictor, cells, experiment)
        else:
            prepared = spec.prepare(_segments(cells, experiment), cache, bar)
            notes = training_notes(f"the {prepared.origin} of {name}", prepared.training_data, experiment.tests)
            answer = partial(_by_training, spec, prepared.inputs, cells, experiment, cache, engine)
        for note in notes:
            report(note)
        _write(answer, f"cells of {name}", total, journal, bar)


def _write(answer: Answering, title: str, cells: int, journal: Journal, bar: Bar) -> None:
    """Answer cells and write each into the journal, with one bar that also moves within a cell."""
    with bar(title) as progress:

        def within(done: float, total: float, note: str = "") -> None:
            progress(len(journal.done) + done / total, cells, note)

        for cell, answers in answer(within):
            journal.add(cell.key, [_row(answers)])
            progress(len(journal.done), cells)


def _by_predictor(
    predictor: Predictor, cells: Sequence[Cell], experiment: Experiment, progress: Progress
) -> Iterator[tuple[Cell, Numbered]]:
    for cell in cells:
        segments, answers = experiment.corpora[cell.group.test].segments, []
        for answer in predictor.answer(segments, False):
            answers.append(answer)
            progress(len(answers), len(segments))
        yield cell, list(enumerate(answers))


def _by_training(
    spec: ModelSpec,
    inputs: Mapping[str, np.ndarray],
    cells: Sequence[Cell],
    experiment: Experiment,
    cache: Path,
    engine: Engine,
    progress: Progress,
) -> Iterator[tuple[Cell, Numbered]]:
    pending: dict[Cell, tuple[list[int], Job]] = {}

    def jobs() -> Iterator[tuple[Cell, Job]]:
        for cell in cells:
            kept, tested = _divided(cell, experiment)
            pending[cell] = tested.tolist(), _job(cell, spec, experiment, inputs, cache, kept, tested)
            yield cell, pending[cell][1]

    for cell, answers in engine(jobs(), progress):
        rows, job = pending.pop(cell)
        labels = experiment.corpora[cell.group.test].labels
        yield (
            cell,
            [
                (row, answer if labels[row] in job.labels else answer._replace(category=""))
                for row, answer in zip(rows, answers, strict=True)
            ],
        )


def _segments(cells: Iterable[Cell], experiment: Experiment) -> dict[str, list[Segment]]:
    """The segments of the corpora that cells train or test on, by name."""
    needed = {corpus for cell in cells for corpus in (*cell.group.train, cell.group.test)}
    return {corpus: experiment.corpora[corpus].segments for corpus in sorted(needed)}


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
    spec: ModelSpec,
    experiment: Experiment,
    inputs: Mapping[str, np.ndarray],
    cache: Path,
    kept: dict[str, np.ndarray],
    tested: np.ndarray,
) -> Job:
    corpora = {name: experiment.corpora[name] for name in kept}
    labels = tuple(sorted({label for corpus in corpora.values() for label in corpus.labels} - {""}))
    number = {"": -1, **{label: place for place, label in enumerate(labels)}}
    test = experiment.corpora[cell.group.test]
    allowed = tuple(sorted(number[label] for label in {*test.labels} & {*labels}))
    examples = Examples(
        stacked([inputs[name][rows] for name, rows in kept.items()]),
        np.array([_numbers(corpora[name].truth[row]) for name, rows in kept.items() for row in rows], np.float32),
        np.array([number[corpora[name].labels[row]] for name, rows in kept.items() for row in rows]),
        len(labels),
    )
    return Job(spec, examples, labels, inputs[cell.group.test][tested], allowed, cell.seed, cache)


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
