"""wav2small head: categories of your own on the embedding of a model."""

from __future__ import annotations

import click

from wav2small.cli.options import model_option, where_option


@click.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, metavar="FILE", help="Head to write, safetensors.")
@click.option(
    "--hidden",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    metavar="UNITS",
    help="Units of a hidden layer, which makes two dense layers (extra train); 0 is a logistic regression.",
)
@model_option
@where_option
def command(manifests: tuple[str, ...], output: str, hidden: int, model: str, where: list[tuple[str, str]]) -> None:
    """Fit categories of your own on a model's embedding, by logistic regression or two dense layers.

    A MANIFEST is a CSV, JSON or Parquet file, or a folder with manifest.csv, with columns file, label and speaker; each
    category needs two speakers. Printed is the confusion matrix on held-out speakers, one row per category, from
    cross-validation. The weights themselves may have been trained on the corpus: if its name (the column corpus, or the
    name of the manifest or its folder) is among their training data, a line says so.

    predict and stream use the file with --head FILE. Needs the extra head (scikit-learn).

    \b
    Example:
      wav2small head open/emodb --model micro -o emodb-head.safetensors
      wav2small predict talk.wav --model micro --head emodb-head.safetensors
    """
    from wav2small.cli.progress import progress_bar, report_written, say
    from wav2small.errors import ManifestError
    from wav2small.evaluation.fit_head import check_head, embeddings, fit_head
    from wav2small.evaluation.predictors import manifest_name, training_notes
    from wav2small.files import check_writable
    from wav2small.runtime.model import load
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.tables.table import render

    check_writable(output)
    if hidden:
        from wav2small.train import check_extra

        check_extra()
    rows = select([row for manifest in manifests for row in read_manifest(manifest)], where)
    segments = [row for row in rows if row.label]
    if not segments:
        raise ManifestError(f"none of {len(rows)} rows has a label; name the category in a column label")
    labels, speakers = [row.label for row in segments], [row.speaker for row in segments]
    check_head(labels, speakers)
    network = load(model)
    with progress_bar("embedding", unit="clips") as progress:
        embedding = embeddings(segments, network.embed, progress)
    head, confusion = fit_head(embedding, labels, speakers, network.metadata, hidden)
    head.save(output)
    click.echo(render(confusion.rows(), "table"), nl=False)
    click.echo(
        f"{len(segments)} clips, {confusion.speakers} speakers, each held out once; {confusion}, "
        f"chance {1 / len(head.labels):.3f}"
    )
    corpora = [*map(manifest_name, manifests), *(row.column("corpus") for row in segments)]
    for note in training_notes(model, network.metadata.get("training_data", ""), corpora):
        say(note)
    report_written(output, f"{len(head.labels)} categories")
