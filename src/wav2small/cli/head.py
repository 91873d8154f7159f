"""wav2small head: categories of one's own on the embedding of a model."""

from __future__ import annotations

import click

from wav2small.cli.options import model_option, where_option


@click.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, metavar="FILE", help="The head, safetensors.")
@model_option
@where_option
def command(manifests: tuple[str, ...], output: str, model: str, where: list[tuple[str, str]]) -> None:
    """Fit categories of your own, by logistic regression on the embedding of a model.

    A MANIFEST is a CSV or Parquet file, or a folder with manifest.csv, with columns file, label and speaker. What is
    shown is the confusion matrix of speakers that the head did not hear, a row a category. predict and stream --head
    FILE tell by it. Needs the extra head (scikit-learn).

    \b
    Example:
      wav2small head open/emodb --model micro -o emodb-head.safetensors
      wav2small predict talk.wav --model micro --head emodb-head.safetensors
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.errors import ManifestError
    from wav2small.evaluation.fit_head import check_head, embeddings, fit_head
    from wav2small.files import check_writable
    from wav2small.runtime.model import load
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.tables.table import render

    check_writable(output)
    rows = select([row for manifest in manifests for row in read_manifest(manifest)], where)
    segments = [row for row in rows if row.label]
    if not segments:
        raise ManifestError(f"none of {len(rows)} rows has a label; name the category in a column label")
    labels, speakers = [row.label for row in segments], [row.speaker for row in segments]
    check_head(labels, speakers)
    heard = load(model)
    with progress_bar("embedding") as progress:
        embedding = embeddings(segments, heard.embed, progress)
    head, confusion = fit_head(embedding, labels, speakers, heard.metadata)
    head.save(output)
    click.echo(render(confusion.rows(), "table"), nl=False)
    click.echo(
        f"{output}: {len(head.labels)} categories, {len(segments)} clips, {confusion.speakers} speakers, each unheard "
        f"once; unweighted average recall {confusion.recall.mean():.3f}, chance {1 / len(head.labels):.3f}"
    )
