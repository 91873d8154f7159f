"""``wav2small resynthesise``: manifests -> a folder of the same speech in other voices and manners."""

from __future__ import annotations

from pathlib import Path

import click

from wav2small.cli.options import config_option, where_option
from wav2small.train.config import VoicesConfig


@click.command("resynthesise")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option(
    "-o",
    "output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder to write FLAC files and manifest.csv into.",
)
@config_option(VoicesConfig, "variants", type=click.IntRange(1), help="Variants to make of each clip.")
@where_option
@config_option(VoicesConfig, "seed", type=click.IntRange(0), help="Random seed.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes that make clips.")
def command(
    manifests: tuple[str, ...],
    output: str,
    variants: int,
    where: list[tuple[str, str]],
    seed: int,
    workers: int,
) -> None:
    """Resynthesise speech in other voices: change pitch, pitch range, formants and tempo, with the vocoder WORLD.

    A MANIFEST is a CSV, JSON or Parquet file, a folder with manifest.csv, or a folder of audio. The manifest in the
    output folder keeps its columns, but not seconds, so that fit, augment and label can read it. The same command
    continues a run that was stopped; with more --variants it adds them. Needs the extra voices.

    \b
    Example:
      wav2small resynthesise open/emodb -o build/emodb-voices
      wav2small fit open/emodb,build/emodb-voices open/emogator -o open.safetensors
    """
    from wav2small.cli.progress import progress_bar, report_written
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.train.resynthesise import resynthesise_all

    corpora = [select(read_manifest(manifest), where) for manifest in manifests]
    with progress_bar("clips", unit="clips") as progress:
        resynthesise_all(corpora, Path(output), VoicesConfig(variants, seed), workers, progress)
    report_written(output, f"{variants * sum(map(len, corpora)):,} clips")
