"""``wav2small resynthesise``: manifests -> a folder of the same speech in other voices and manners."""

from __future__ import annotations

from pathlib import Path

import click

from wav2small.cli.options import config_option, where_option
from wav2small.train.config import VoicesConfig


@click.command("resynthesise")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(file_okay=False), help="Folder for FLAC files.")
@config_option(VoicesConfig, "variants", type=click.IntRange(1), help="Variants of each clip.")
@where_option
@config_option(VoicesConfig, "seed", type=click.IntRange(0), help="Random seed.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes.")
def command(
    manifests: tuple[str, ...],
    output: str,
    variants: int,
    where: list[tuple[str, str]],
    seed: int,
    workers: int,
) -> None:
    """Resynthesise speech: pitch, pitch range, formants and tempo changed apart, by the vocoder WORLD.

    The manifest in the folder keeps every column but seconds, so that fit, augment and label can read it. The same
    command resumes a run that was stopped; with more variants it adds them. Needs the extra voices.

    \b
    Example:
      wav2small resynthesise open/emodb -o build/emodb-voices
      wav2small fit open/emodb,build/emodb-voices open/emogator -o open.safetensors
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.train.resynthesise import resynthesise_all

    corpora = [select(read_manifest(manifest), where) for manifest in manifests]
    with progress_bar("clips") as progress:
        resynthesise_all(corpora, Path(output), VoicesConfig(variants, seed), workers, progress)
    click.echo(f"{output}: {variants * sum(map(len, corpora))} clips")
