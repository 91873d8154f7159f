"""Models of ``experiment`` trained on a Ray cluster; features are made, and answers written, on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from wav2small.evaluation.experiment import Cell
from wav2small.evaluation.experiment_cells import Job, answer_job
from wav2small.evaluation.score import Answer
from wav2small.train import Progress

WAITING = 2
"""Jobs for each core of the cluster that are sent before the first answer."""


class Cluster:
    """An engine of :func:`run_cells`.

    Args:
        address: address of a running cluster; None starts one on this machine

    Raises:
        MissingExtraError: if the extra ``ray`` is not installed
        Wav2SmallError: if there is no cluster at the address
    """

    def __init__(self, address: str | None) -> None:
        from wav2small.train.label.ray import connected

        self.ray = connected(address)

    def __call__(self, jobs: Iterator[tuple[Cell, Job]], progress: Progress) -> Iterator[tuple[Cell, list[Answer]]]:
        """The answers of jobs, in order of completion; a job whose worker died is sent again by Ray."""
        ask = self.ray.remote(num_cpus=1)(answer_job)
        most = WAITING * max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        sent: dict[object, Cell] = {}
        for cell, job in jobs:
            sent[ask.remote(job)] = cell
            if len(sent) >= most:
                yield self._next(sent)
        while sent:
            yield self._next(sent)

    def _next(self, sent: dict[object, Cell]) -> tuple[Cell, list[Answer]]:
        (done,), _ = self.ray.wait(list(sent), num_returns=1)
        return sent.pop(done), self.ray.get(done)
