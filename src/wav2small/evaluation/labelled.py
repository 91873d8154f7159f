"""Labelled clips of one manifest or several, as the evaluations read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wav2small.errors import ManifestError
from wav2small.evaluation.predictors import manifest_name, read_truth
from wav2small.evaluation.score import MEAN, POOLED, EvaluationSet, check_truth, rows_of
from wav2small.tables.manifest import Segment, load_norms, read_manifest, select


def read_manifests(
    manifests: Sequence[str], root: str | None, where: Sequence[tuple[str, str]]
) -> dict[str, Sequence[Segment]]:
    """The chosen segments of each manifest, by its name.

    Args:
        manifests: paths
        root: folder that the files of the one manifest are relative to; None is that of each manifest
        where: (column, value) pairs that segments must have

    Raises:
        ManifestError: if two manifests have one name, or no segment of a manifest is chosen
    """
    sources: dict[str, Sequence[Segment]] = {}
    for manifest in manifests:
        name = manifest_name(manifest)
        if name in sources:
            raise ManifestError(f"two manifests are named {name}: {', '.join(manifests)}. Rename a folder or file.")
        segments = read_manifest(manifest, root)
        try:
            sources[name] = select(segments, where)
        except ManifestError as error:
            raise ManifestError(f"{name}: {error}" if len(manifests) > 1 else str(error)) from None
    return sources


def read_set(
    sources: Mapping[str, Sequence[Segment]],
    corpus: str | None,
    truth: str | None,
    norms: str | None,
    draws: int,
    seed: int,
) -> tuple[str, EvaluationSet]:
    """All segments with their truth and corpora, and what the truth is called.

    Args:
        sources: segments by the name of their manifest, which is their corpus
        corpus: column that names the corpus instead
        truth: as for ``read_truth``
        norms: file of norms; None are those of the package
        draws: of the bootstrap
        seed: of the bootstrap

    Raises:
        ManifestError: if a corpus has no truth, or corpora with and without annotations are combined
    """
    pairs = [(name, segment) for name, segments in sources.items() for segment in segments]
    segments, categories = [segment for _, segment in pairs], load_norms(norms)
    if corpus:
        check_column(corpus, segments, sources, f"it does not tell corpora apart; leave --corpus {corpus} out")
    corpora = [(segment.column(corpus) if corpus else "") or name for name, segment in pairs]
    if {MEAN, POOLED} & set(corpora):
        raise ManifestError(f"a corpus cannot be named {MEAN} or {POOLED}, as figures over corpora are. Rename it.")
    if truth is None and len(sources) > 1:
        truth = _common_truth(sources)
    truth_name, true = read_truth(truth, segments, categories)
    for name, rows in rows_of(corpora).items():
        check_truth([true[row] for row in rows], name if len(set(corpora)) > 1 else "")
    return truth_name, EvaluationSet(segments, true, corpora, categories, draws, seed)


def _common_truth(sources: Mapping[str, Sequence[Segment]]) -> str:
    annotated = [name for name, segments in sources.items() if any(segment.emotion for segment in segments)]
    if annotated and len(annotated) < len(sources):
        others = [name for name in sources if name not in annotated]
        raise ManifestError(
            f"{', '.join(annotated)} has annotations and {', '.join(others)} has none, and a mean over corpora needs "
            "one truth: give --truth norms, or a table of labels."
        )
    return "manifest" if annotated else "norms"


def check_column(column: str, segments: Sequence[Segment], sources: Mapping[str, object], so: str) -> None:
    """Raise ManifestError if no segment has a value in a column; ``so`` is what follows from that."""
    if not any(segment.column(column) for segment in segments):
        raise ManifestError(f"{', '.join(sources)}: no row has a {column}, so {so}")
