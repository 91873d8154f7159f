"""``wav2small fit``: annotated manifests -> the heads of a teacher."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("fit")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(), help="Weights of the heads, safetensors.")
@click.option("--name", default="open", show_default=True, help="Name of the teacher.")
@click.option("--version", default="1", show_default=True, help="Version of the teacher, recorded with each label.")
@click.option("--licence", default="Apache-2.0", show_default=True, help="Licence of the heads.")
@click.option("--cache", default="build/statistics", show_default=True, help="Folder for the encoder's statistics.")
@click.option("--copies", default=2, type=click.IntRange(0), show_default=True, help="Distorted copies of each clip.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@click.option("--bf16", is_flag=True, help="Compute the encoder in bfloat16: twice as fast where there is hardware.")
def command(
    manifests: tuple[str, ...],
    output: str,
    name: str,
    version: str,
    licence: str,
    cache: str,
    copies: int,
    seed: int,
    bf16: bool,
) -> None:
    """Fit a teacher's heads on the Whisper-base encoder.

    A MANIFEST is a CSV or Parquet file, or a folder with manifest.csv. Its rows have arousal, dominance and
    valence from 0 to 1, or a label that the norms know; speakers are kept apart by a column fold, else speaker.
    The encoder comes from the folder WAV2SMALL_MODELS or the hub. Its statistics are kept in the cache, so that
    the same command resumes a run that was stopped.

    \b
    Example:
      wav2small fit open/emodb open/emogator -o open.safetensors
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.config import OUTPUTS
    from wav2small.outfile import check_writable
    from wav2small.train import check_extra

    check_extra()
    from wav2small.train.fit import FitConfig, describe, fit, load_corpus
    from wav2small.train.teachers.whisper import WhisperBody, find_encoder

    check_writable(output)
    config = FitConfig(copies=copies, seed=seed)
    body = WhisperBody(find_encoder(), bf16)
    corpora = []
    for manifest in manifests:
        with progress_bar(f"statistics of {manifest}") as tell:
            corpora.append(load_corpus(manifest, body, config, Path(cache), tell))
    with progress_bar("heads") as tell:
        heads, scores = fit(corpora, config, tell)
    names = [corpus.name for corpus in corpora]
    heads.save(Path(output), {"name": name, "version": version, "licence": licence, **describe(config, names, scores)})
    for corpus, score in scores.items():
        figures = ", ".join(f"{dimension} {score[dimension]:.3f}" for dimension in OUTPUTS)
        click.echo(f"{corpus}: CCC of unheard speakers: {figures}")
