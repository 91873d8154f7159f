"""``wav2small augment``: manifests -> a folder of new clips, for a teacher to label."""

from __future__ import annotations

from pathlib import Path

import click

from wav2small.cli.options import config_option, joined, share_option, where_option
from wav2small.train.config import AugmentConfig


@click.command("augment")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option(
    "-o",
    "output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder to write FLAC files and manifest.csv into.",
)
@config_option(AugmentConfig, "clips", type=click.IntRange(1), help="Clips to make; 1,200 are about an hour.")
@click.option(
    "--without-fold", "fold", default="", help="Leave out rows with this value of the column fold: dev speakers."
)
@where_option
@share_option
@config_option(
    AugmentConfig,
    "plain",
    is_flag=True,
    help="No distortion: the clean clips of the same seed, for a teacher to label.",
)
@click.option("--noise", metavar="MANIFEST", help="Recorded noise and music to distort with.")
@click.option("--rooms", metavar="MANIFEST", help="Impulse responses of rooms to distort with.")
@config_option(AugmentConfig, "seed", type=click.IntRange(0), help="Random seed.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes that make clips.")
def command(
    manifests: tuple[str, ...],
    output: str,
    clips: int,
    fold: str,
    where: list[tuple[str, str]],
    shares: tuple[str, ...],
    plain: bool,
    noise: str | None,
    rooms: str | None,
    seed: int,
    workers: int,
) -> None:
    """Make new clips from those of manifests: cut, joined, mixed, stretched and distorted, at any level.

    They are composed as distil composes them; this command writes them, for labels that are made elsewhere. A MANIFEST
    is a CSV, JSON or Parquet file, a folder with manifest.csv, or a folder of audio; manifests joined by commas are one
    corpus. Files that cannot be read are left out and reported. The same command continues a run that was stopped.
    Needs the extra train.

    \b
    Example:
      wav2small augment open/emodb open/librispeech -o build/clips --clips 12000 --without-fold 0
      wav2small augment open/emodb open/librispeech -o build/plain --clips 12000 --without-fold 0 --plain
      wav2small augment msp.csv --where split=train -o build/clips --clips 200000 --noise open/noise
    """
    from wav2small.cli.progress import progress_bar, report_written, say
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.train import check_extra

    check_extra()
    from wav2small.train.augment import augment
    from wav2small.train.online.pool import Source

    sources = [
        Source(
            corpus.name,
            [row for row in select(corpus.segments(), where) if not fold or row.column("fold") != fold],
            corpus.share,
        )
        for corpus in joined(manifests, shares)
    ]
    extra = [[Source(name, read_manifest(name))] if name else [] for name in (noise, rooms)]
    config = AugmentConfig(clips=clips, plain=plain, seed=seed)
    with progress_bar("clips", unit="clips") as progress:
        skipped = augment(sources, Path(output), config, workers, progress, *extra)
    for reason in skipped:
        say(f"left out: {reason}")
    report_written(output, f"{clips:,} clips")
