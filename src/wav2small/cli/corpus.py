"""wav2small corpus: a folder as its owner distributes it -> a manifest, and what it lacks; or which are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wav2small.tables.table import (
    TEXT_FORMATS,
    check_columns,
    check_parquet,
    check_writable,
    format_of,
    render,
    write_table,
)

if TYPE_CHECKING:
    from wav2small.corpora.check import Finding
    from wav2small.tables.manifest import Segment

REPORT_COLUMNS = ("kind", "name", "detail")
SERIES_COLUMNS = ("file", "split", "time")
COLUMNS = ("title", "annotation", "splits", "licence", "source")
SHOWN = 3
"""Findings of a kind that are printed; ``--report`` has all."""
SHOWN_VALUES = 12


@click.command("corpus")
@click.argument("name", required=False)
@click.argument("folder", required=False, type=click.Path())
@click.option("-o", "output", type=click.Path(), help="Manifest to write: CSV, JSON lines or Parquet, by the suffix.")
@click.option(
    "--fold",
    metavar="speaker|session|N",
    help="Column fold: one fold per speaker or per session, or speakers dealt into N folds.  [default: 5]",
)
@click.option(
    "--series",
    "series_file",
    type=click.Path(),
    help="Table to write of the annotation over time: file, split, time, A/D/V; for wav2small series.",
)
@click.option("--report", type=click.Path(), help="Table to write, one row for each thing that is missing or doubtful.")
@click.option(
    "--check-voices",
    "voices",
    is_flag=True,
    help="Report pairs of speakers who sound like one voice. Reads up to 40 clips of each speaker with 5 or more.",
)
@click.option(
    "--format",
    type=click.Choice(TEXT_FORMATS),
    default="table",
    show_default=True,
    help="Format of the list of corpora.",
)
def command(
    name: str | None,
    folder: str | None,
    output: str | None,
    fold: str | None,
    series_file: str | None,
    report: str | None,
    voices: bool,
    format: str,
) -> None:
    """Read a corpus as its owner distributes it, and write the manifest that every command reads.

    NAME is the name of the corpus, and FOLDER holds it. Without NAME, the known corpora are listed. Without -o, only a
    report is printed: annotation without audio (left out of the manifest), audio without annotation, the same audio
    twice, a speaker in two splits; with --check-voices, one voice under two names.

    The manifest has file, speaker, split, label, fold, and arousal, dominance and valence from 0 to 1 where people
    rated them. The splits are the owner's. If there are none, fold 0 is dev and fold 1 is test.

    \b
    Example:
      wav2small corpus
      wav2small corpus ravdess Audio_Speech_Actors_01-24
      wav2small corpus iemocap IEMOCAP_full_release --fold session -o iemocap.csv
      wav2small corpus msp-podcast MSP-PODCAST-Publish-1.11 -o msp.parquet --report missing.csv
      wav2small corpus msp-conversation MSP-Conversation -o clips.csv --series truth.csv
      wav2small corpus webdataset shards -o clips.csv
      wav2small corpus plain clips.csv --check-voices --report doubtful.csv
    """
    if name is None:
        click.echo(render(known(), format), nl=False)
        return
    if folder is None:
        raise click.UsageError(f"Give the folder that holds {name}: wav2small corpus {name} FOLDER")
    from wav2small.cli.progress import progress_bar, report_written
    from wav2small.corpora import load_corpus, read_corpus, read_corpus_series
    from wav2small.corpora.check import KINDS, check
    from wav2small.tables.manifest import KNOWN, to_row
    from wav2small.tables.series import series_rows

    for file, columns in ((output, KNOWN), (report, REPORT_COLUMNS), (series_file, SERIES_COLUMNS)):
        if file:
            check_writable(file)
            check_columns(format_of(file), columns)
            if format_of(file) == "parquet":
                check_parquet()
    unpacked = Path(output).with_name(f"{Path(output).stem}-audio") if output else None
    segments = read_corpus(name, Path(folder), fold, unpacked)
    series = list(series_rows(read_corpus_series(name, Path(folder)))) if series_file else []
    corpus = load_corpus(name)
    root = unpacked if corpus.unpack and unpacked else Path(folder)
    with progress_bar("duplicates") as tell:
        findings = check(segments, root, corpus.audio, tell)
    missing = {finding.name for finding in findings if finding.kind == "no audio"}
    kept = [segment for segment in segments if segment.file not in missing]
    kinds: tuple[str, ...] = KINDS
    if voices:
        from wav2small.corpora.voices import SAME_VOICE, check_voices

        with progress_bar("voices") as tell:
            findings += check_voices(kept, tell)
        kinds += (SAME_VOICE,)
    for line in (*summary(kept), *shown(findings, kinds)):
        click.echo(line)
    if report:
        write_table([finding._asdict() for finding in findings], report, columns=REPORT_COLUMNS)
        report_written(report, f"{len(findings):,} rows")
    if not kept:
        from wav2small.errors import ManifestError

        raise ManifestError(f"{folder}: no annotated file has audio. Copy the audio beside the annotation.")
    if output:
        write_table([to_row(segment, Path(output).parent) for segment in kept], output)
        report_written(output, f"{len(kept):,} rows")
    if series_file:
        write_table(series, series_file)
        report_written(series_file, f"{len(series):,} rows")


def known() -> list[dict[str, object]]:
    """A row a corpus: what it is, who annotated it how, its splits, licence and source."""
    from wav2small import plugins
    from wav2small.corpora import load_corpus

    corpora = {name: load_corpus(name) for name in plugins.names(plugins.CORPORA)}
    return [{"name": n, **{column: getattr(corpus, column) for column in COLUMNS}} for n, corpus in corpora.items()]


def summary(segments: Sequence[Segment]) -> Iterator[str]:
    """Lines about what is there."""
    from wav2small.network.config import OUTPUTS

    files, speakers = len({s.path for s in segments}), len({s.speaker for s in segments} - {""})
    unknown = sum(not segment.speaker for segment in segments)
    yield f"{len(segments):,} segments of {files:,} files, {speakers:,} speakers, {unknown:,} without a speaker"
    counts: tuple[tuple[str, Callable[[Segment], str]], ...] = (
        ("split", lambda segment: segment.split),
        ("fold", lambda segment: segment.column("fold")),
        ("label", lambda segment: segment.label),
    )
    for column, value in counts:
        yield f"{column}: {counted([value(segment) for segment in segments])}"
    rated = [segment.emotion for segment in segments if segment.emotion is not None]
    for name in OUTPUTS if rated else ():
        values = [getattr(emotion, name) for emotion in rated]
        mean = sum(values) / len(values)
        yield f"{name}: {min(values):.2f} to {max(values):.2f}, mean {mean:.2f}, {len(values):,} rated"


def counted(values: Sequence[str]) -> str:
    """How often each value comes, in order of the values; the most frequent ones if there are many."""
    counts = Counter(values)
    common = sorted(counts) if len(counts) <= SHOWN_VALUES else [value for value, _ in counts.most_common(SHOWN_VALUES)]
    rest = f", and {len(counts) - len(common)} more" if len(counts) > len(common) else ""
    return ", ".join(f"{value or 'none'} {counts[value]:,}" for value in common) + rest


def shown(findings: Sequence[Finding], kinds: Sequence[str]) -> Iterator[str]:
    """A line a kind of finding, with the first of them."""
    for kind in kinds:
        found = [finding for finding in findings if finding.kind == kind]
        first = "; ".join(f"{f.name} ({f.detail})" if f.detail else f.name for f in found[:SHOWN])
        more = "; ..." if len(found) > SHOWN else ""
        yield f"{kind}: {len(found):,}" + (f", {first}{more}" if found else "")
