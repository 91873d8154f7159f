"""Train a teacher on annotated manifests: heads on a frozen body, or a fine-tuned body with its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wav2small.train import Bar
from wav2small.train.adapt import p_tapt, tapt
from wav2small.train.annotated import Annotated
from wav2small.train.config import AdaptConfig, BodyConfig, FinetuneConfig, FitConfig
from wav2small.train.finetune import finetune_body
from wav2small.train.heads import CorpusScores, describe, fit_heads, load_corpora
from wav2small.train.loop import Report
from wav2small.train.teachers.bodies import Body, load_body
from wav2small.train.teachers.tuned import TunedNet
from wav2small.train.teachers.whisper import WhisperBody, find_encoder


def fit(
    manifests: Sequence[str],
    output: Path,
    about: dict[str, str],
    body: BodyConfig,
    config: FitConfig,
    cache: Path,
    bar: Bar,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> CorpusScores:
    """Fit heads on a frozen body and write them.

    Args:
        manifests: annotated manifests; those of one corpus may be one comma-separated string
        output: file of the heads
        about: name, version and licence of the teacher
        body: encoder; with a body other than Whisper base, the heads use all of its layers
        config: settings of the heads
        cache: folder for the statistics of the encoder
        bar: opens progress bars
        device: torch device
        report: called with a sentence about each head

    Returns:
        CCC on the held-out speakers of each corpus

    Raises:
        ManifestError: if a manifest has no annotated rows, or all clips are in one fold
        AudioError: if a segment cannot be read
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
        heads, scores = fit_heads(corpora, config, progress, report)
    heads.save(output, about | describe(config, [corpus.name for corpus in corpora], scores))
    return scores


def _frozen(body: BodyConfig, layers: int, device: str) -> Body:
    if body.name:
        return load_body(body.name, body.layers, body.pooling, body.bf16, device)
    return WhisperBody(find_encoder(layers=layers), body.bf16, device)


@dataclass(frozen=True)
class Finetune:
    """Fine-tuning of a teacher, resumed from its folder.

    Args:
        corpora: annotated corpora
        body: name of the body, as of ``load_body``
        layers: number of layers to keep, from the first; None keeps all
        config: settings of the fine-tuning
        adapt: settings of the task-adaptive pretraining
        folder: folder of checkpoints and logs
        bar: opens progress bars
        report: called with each line of the log
        workers: number of processes that prefetch audio
        device: torch device
    """

    corpora: Sequence[Annotated]
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
        """Train the teacher and write it.

        Args:
            output: file of the teacher
            about: name, version and licence of the teacher

        Returns:
            CCC on the dev speakers of each corpus
        """
        net, scores = self.trained()
        net.save(output, about | describe(self.config, [corpus.name for corpus in self.corpora], scores))
        return scores

    def trained(self) -> tuple[TunedNet, CorpusScores]:
        """Train the teacher.

        Returns:
            the network with the best weights, and its CCC on the dev speakers of each corpus
        """
        return self._finetuned(self._adapted(), "")

    def _load(self) -> Body:
        return load_body(self.body, self.layers, device=self.device)

    def _finetuned(self, body: Body, part: str) -> tuple[TunedNet, CorpusScores]:
        sizes = [(corpus.name, len(corpus.segments)) for corpus in self.corpora]
        settings = {"corpora": sizes, "body": self.body, "layers": self.layers, "adapt": str(self.adapt)}
        with self.bar(f"fine-tuning {part}".strip()) as progress:
            arguments = (self.corpora, body, self.config, self.folder / part, progress, self.report)
            return finetune_body(*arguments, self.workers, settings)

    def _adapted(self) -> Body:
        """The body after task-adaptive pretraining, if enabled."""
        body = self._load()
        if self.adapt.kind is None:
            return body
        folder = self.folder / self.adapt.kind
        if self.adapt.kind == "tapt":
            with self.bar("TAPT") as progress:
                tapt(self.corpora, self.body, body, self.config, self.adapt, folder, progress, self.workers)
            return body
        tuned, fresh = self._finetuned(body, "before")[0].body[0], self._load()
        with self.bar("P-TAPT") as progress:
            p_tapt(self.corpora, tuned, fresh, self.config, self.adapt, folder, progress, self.workers)
        return fresh
