"""Annotated manifests -> the file of a teacher: heads on a frozen body, or a body and its head trained together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from wav2small.train import Progress
from wav2small.train.adapt import p_tapt, tapt
from wav2small.train.annotated import Annotated, read_annotated
from wav2small.train.config import AdaptConfig, BodyConfig, FinetuneConfig, FitConfig
from wav2small.train.finetune import finetune_body
from wav2small.train.heads import CorpusScores, describe, fit_heads, load_corpora
from wav2small.train.loop import Report
from wav2small.train.teachers.bodies import Body, load_body
from wav2small.train.teachers.tuned import TunedNet
from wav2small.train.teachers.whisper import WhisperBody, find_encoder

Bar = Callable[[str], AbstractContextManager[Progress]]
"""A progress bar with a title."""


def fit(
    manifests: Sequence[str],
    output: Path,
    about: dict[str, str],
    body: BodyConfig,
    config: FitConfig,
    cache: Path,
    bar: Bar,
    device: str = "cpu",
) -> CorpusScores:
    """Fit heads on a frozen body, and write them.

    Args:
        manifests: annotated; those of one corpus may be one string, with commas between them
        output: file of the heads
        about: name, version and licence of the teacher
        body: which encoder; with a body of one's own, the heads read all of its layers
        config: how
        cache: folder for the statistics of the encoder
        bar: shows the progress
        device: of torch

    Returns:
        CCC on held-out speakers of each corpus
    """
    encoder = _frozen(body, max(config.layers), device)
    if body.name:
        config = replace(config, layers=tuple(range(1, encoder.layers)))
        about = about | {"body": body.name, "body_layers": str(encoder.layers - 1), "body_fingerprint": encoder.key}
        about |= {"pooling": body.pooling}
    corpora = []
    for manifest in manifests:
        with bar(f"statistics of {manifest}") as progress:
            corpora.extend(load_corpora(manifest, encoder, config, cache, progress))
    with bar("heads") as progress:
        heads, scores = fit_heads(corpora, config, progress)
    heads.save(output, about | describe(config, [corpus.name for corpus in corpora], scores))
    return scores


def _frozen(body: BodyConfig, layers: int, device: str) -> Body:
    if body.name:
        return load_body(body.name, body.layers, body.pooling, body.bf16, device)
    return WhisperBody(find_encoder(layers=layers), body.bf16, device)


@dataclass(frozen=True)
class Finetune:
    """One fine-tuning of a teacher, resumed from its folder.

    Args:
        manifests: annotated
        body: a folder in the hub's format, or ``owner/name``
        layers: how many of its layers to keep, from the first; None keeps all
        config: how the body is trained
        adapt: how it is pretrained on the task's own speech before that
        folder: for checkpoints and logs
        bar: shows the progress
        report: called with each line of the log
        workers: processes that read audio ahead
        device: of torch
    """

    manifests: Sequence[str]
    body: str
    layers: int | None
    config: FinetuneConfig
    adapt: AdaptConfig
    folder: Path
    bar: Bar
    report: Report
    workers: int = 0
    device: str = "cpu"

    def write(self, output: Path, about: dict[str, str]) -> CorpusScores:
        """Write the trained teacher.

        Args:
            output: its file
            about: name, version and licence of the teacher

        Returns:
            CCC on the dev speakers of each corpus
        """
        net, scores = self._finetuned(self._adapted(), "")
        net.save(output, about | describe(self.config, [corpus.name for corpus in self._corpora], scores))
        return scores

    @cached_property
    def _corpora(self) -> list[Annotated]:
        return [read_annotated(manifest, FitConfig().folds) for manifest in self.manifests]

    def _load(self) -> Body:
        return load_body(self.body, self.layers, device=self.device)

    def _finetuned(self, body: Body, part: str) -> tuple[TunedNet, CorpusScores]:
        sizes = [(corpus.name, len(corpus.segments)) for corpus in self._corpora]
        settings = {"corpora": sizes, "body": self.body, "layers": self.layers, "adapt": str(self.adapt)}
        with self.bar(f"fine-tuning {part}".strip()) as progress:
            arguments = (self._corpora, body, self.config, self.folder / part, progress, self.report)
            return finetune_body(*arguments, self.workers, settings)

    def _adapted(self) -> Body:
        """The body, pretrained on the task's own speech if that is asked for."""
        body = self._load()
        if self.adapt.kind is None:
            return body
        folder = self.folder / self.adapt.kind
        if self.adapt.kind == "tapt":
            with self.bar("TAPT") as progress:
                tapt(self._corpora, self.body, body, self.config, self.adapt, folder, progress, self.workers)
            return body
        tuned, fresh = self._finetuned(body, "before")[0].body[0], self._load()
        with self.bar("P-TAPT") as progress:
            p_tapt(self._corpora, tuned, fresh, self.config, self.adapt, folder, progress, self.workers)
        return fresh
