"""``wav2small augment``: manifests -> a folder of new clips, for a teacher to label."""

from __future__ import annotations

from pathlib import Path

import click

from wav2small.cli.options import config_option, where_option
from wav2small.train.config import ComposeConfig


@click.command("augment")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(file_okay=False), help="Folder for FLAC files.")
@config_option(ComposeConfig, "clips", type=click.IntRange(1), help="Number of clips; 1,200 are an hour.")
@click.option("--without-fold", "fold", default="", help="Leave out the rows with this fold: the dev speakers.")
@where_option
@click.option("--plain", is_flag=True, help="No distortion: the clips of the same seed, clean, for the teacher.")
@config_option(ComposeConfig, "seed", type=click.IntRange(0), help="Random seed.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes.")
def command(
    manifests: tuple[str, ...],
    output: str,
    clips: int,
    fold: str,
    where: list[tuple[str, str]],
    plain: bool,
    seed: int,
    workers: int,
) -> None:
    """Make new clips: cut, sped up, mixed, joined, distorted, at any level.

    A manifest that is named twice is drawn from twice as often. The same command resumes a run that was stopped.

    \b
    Example:
      wav2small augment open/emodb open/librispeech -o build/clips --clips 12000 --without-fold 0
      wav2small augment msp.csv --where split=train -o build/clips --clips 200000
      wav2small augment open/emodb open/librispeech -o build/plain --clips 12000 --without-fold 0 --plain
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.train.compose import compose_all

    corpora = [[s for s in select(read_manifest(m), where) if not fold or s.column("fold") != fold] for m in manifests]
    config = ComposeConfig(clips, seed, plain=1.0 if plain else ComposeConfig.plain)
    with progress_bar("clips") as progress:
        compose_all(corpora, Path(output), config, workers, progress)
    click.echo(f"{output}: {clips} clips")
