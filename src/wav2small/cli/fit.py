"""``wav2small fit``: annotated manifests -> the heads of a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

POOLINGS = ("mean", "mean+std", "first", "max", "quantile")


@click.command("fit")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(), help="Weights of the heads, safetensors.")
@click.option("--name", default="open", show_default=True, help="Name of the teacher.")
@click.option("--version", default="1", show_default=True, help="Version of the teacher, recorded with each label.")
@click.option("--licence", help="Of the teacher; needed with --body, else Apache-2.0.")
@click.option("--body", help="Encoder to fit on: a folder in the hub's format, or owner/name; else Whisper base.")
@click.option("--layers", type=click.IntRange(1), help="Layers of the body to keep, from the first.  [default: all]")
@click.option("--pooling", default="mean+std", show_default=True, type=click.Choice(POOLINGS), help="Over time.")
@click.option("--cache", default="build/statistics", show_default=True, help="Folder for the encoder's statistics.")
@click.option("--copies", default=2, type=click.IntRange(0), show_default=True, help="Distorted copies of each clip.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@click.option("--device", default="auto", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@click.option("--bf16", is_flag=True, help="Compute the encoder in bfloat16: twice as fast where there is hardware.")
def command(
    manifests: tuple[str, ...],
    output: str,
    name: str,
    version: str,
    licence: str | None,
    body: str | None,
    layers: int | None,
    pooling: str,
    cache: str,
    copies: int,
    seed: int,
    device: str,
    bf16: bool,
) -> None:
    """Fit a teacher on annotated speech: heads on the Whisper-base encoder, or on a body of your own.

    A MANIFEST is a CSV or Parquet file, or a folder with manifest.csv. Its rows have arousal, dominance and
    valence from 0 to 1, or a label that the norms know; speakers are kept apart by a column fold, else speaker.
    Rows of a split that begins with test are left out. The encoder comes from the folder WAV2SMALL_MODELS or the hub.
    Its statistics are kept in the cache, so that the same command resumes a run that was stopped.

    --body is any wav2vec2, HuBERT, DistilHuBERT, WavLM, data2vec-audio or Whisper encoder.

    \b
    Example:
      wav2small fit open/emodb open/emogator -o open.safetensors
      wav2small fit msp-podcast -o mine.safetensors --body facebook/hubert-base-ls960 --layers 8 --licence MIT
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.config import OUTPUTS
    from wav2small.licences import OURS
    from wav2small.outfile import check_writable
    from wav2small.train import check_extra, choose_device

    check_extra()
    from wav2small.train.fit import FitConfig, describe, fit, load_corpus
    from wav2small.train.teachers.bodies import load_body
    from wav2small.train.teachers.whisper import WhisperBody, find_encoder

    check_writable(output)
    if body and not licence:
        raise click.UsageError("--body needs --licence: that of the body, which every label of the teacher will bear.")
    if not body and (layers or pooling != "mean+std"):
        raise click.UsageError("--layers and --pooling need --body.")
    config = FitConfig(copies=copies, seed=seed)
    device = choose_device(device)
    if body:
        encoder: Any = load_body(body, layers, pooling, bf16, device)
        config = replace(config, layers=tuple(range(1, encoder.layers)))
    else:
        encoder = WhisperBody(find_encoder(), bf16, device)
    corpora = []
    for manifest in manifests:
        with progress_bar(f"statistics of {manifest}") as tell:
            corpora.append(load_corpus(manifest, encoder, config, Path(cache), tell))
    with progress_bar("heads") as tell:
        heads, scores = fit(corpora, config, tell)
    names = [corpus.name for corpus in corpora]
    about = {"name": name, "version": version, "licence": licence or OURS, **describe(config, names, scores)}
    if body:
        about |= {"body": body, "body_layers": str(encoder.layers - 1), "body_fingerprint": encoder.key}
        about |= {"pooling": pooling}
    heads.save(Path(output), about)
    for corpus, score in scores.items():
        figures = ", ".join(f"{dimension} {score[dimension]:.3f}" for dimension in OUTPUTS)
        click.echo(f"{corpus}: CCC of unheard speakers: {figures}")
