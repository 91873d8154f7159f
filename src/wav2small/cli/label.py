"""``wav2small label``: audio and a teacher -> a table of labels, or a store of them."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import click

from wav2small.cli.options import config_option, device_option, where_option
from wav2small.train.config import LabelConfig

if TYPE_CHECKING:
    from wav2small.train.label.threads import Engine


EMBED_HELP = "Add the teacher's embedding, a second target for students: 1 KB per row."
PART_HELP = "Rows that are written together; a run that was killed repeats about as many."
BATCH_HELP = "Seconds of audio in a batch, padded to its longest clip; on a GPU give hundreds."


@click.command("label")
@click.argument("source", metavar="SOURCE")
@click.option(
    "--teacher",
    "name",
    default="open",
    show_default=True,
    help="Name of a teacher, a file that fit or finetune wrote, or ensemble:A,B.",
)
@click.option(
    "-o",
    "output",
    required=True,
    help="Labels to write: CSV, JSON lines or Parquet by the suffix; without one, a folder of Parquet.",
)
@click.option("--root", help="Folder that the files are relative to.  [default: the folder of the manifest]")
@where_option
@device_option
@click.option(
    "--bf16", is_flag=True, help="Compute in bfloat16, which is twice as fast where the hardware supports it."
)
@config_option(LabelConfig, "embed", is_flag=True, help=EMBED_HELP)
@config_option(LabelConfig, "batch_dur", "--batch", "batch_dur", type=click.FloatRange(0), help=BATCH_HELP)
@click.option(
    "--workers", type=click.IntRange(1), help="Batches at once.  [default: one per core, or with ray one per GPU]"
)
@config_option(LabelConfig, "part_rows", "--part", "part_rows", type=click.IntRange(1), help=PART_HELP)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where labels are computed: on this machine, or by a Ray cluster (extra ray).",
)
@click.option(
    "--ray-address", help="Address of a running cluster, such as ray://head:10001.  [default: start one here]"
)
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    name: str,
    output: str,
    root: str | None,
    where: list[tuple[str, str]],
    device: str,
    bf16: bool,
    embed: bool,
    batch_dur: float,
    workers: int | None,
    part_rows: int,
    engine: str,
    ray_address: str | None,
) -> None:
    """Label audio with a teacher's arousal, dominance and valence.

    SOURCE is a folder of audio, a folder with manifest.csv, or a CSV, JSON or Parquet file with a column file. A file
    that cannot be read becomes a row with its error, and the exit code then is 1. The same command continues a run that
    was stopped or killed.

    With a folder as output the labels stay in Parquet parts: the folder is a manifest, and any reader of Parquet reads
    it. Paths may be URLs of object stores (extra remote), and many machines may work together (extra ray). Needs the
    extra train.

    \b
    Example:
      wav2small label recordings --teacher open -o labels.csv
      wav2small label s3://speech/clips.parquet -o s3://speech/labels --embed --device cuda --bf16
      wav2small label /mnt/clips -o /mnt/labels --engine ray --ray-address auto
    """
    from wav2small.cli.progress import progress_bar, report_written
    from wav2small.files import locate
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.tables.store import check_folder
    from wav2small.tables.table import check_writable, pyarrow
    from wav2small.train import check_extra, choose_device

    if ray_address and engine != "ray":
        raise click.UsageError("--ray-address is of --engine ray; give that too.")
    check_extra()
    pyarrow()
    from wav2small.train.label.labelling import label, store_of
    from wav2small.train.label.threads import Threads, choose_workers
    from wav2small.train.teachers import load_teacher

    to = locate(output)
    folder = store_of(to)
    if folder != to:
        check_writable(output)
    check_folder(folder)
    segments = select(read_manifest(source, root), where)
    config = LabelConfig(embed, batch_dur, part_rows)
    if engine == "ray":
        from wav2small.train.label.ray import Workers

        name = os.path.abspath(name) if os.path.isfile(name) else name
        made: Engine = Workers(partial(load_teacher, name, bf16), config, device, workers, ray_address)
    else:
        device = choose_device(device)
        made = Threads(load_teacher(name, bf16, device), config, workers or choose_workers(device))
    with progress_bar("labels", unit="clips") as progress:

        def report(done: int, total: int, dur: float) -> None:
            progress(done, total, f"{dur / 3600:,.2f} h of audio")

        labelled = label(segments, made, to, config, report)
    who = f"{made.teacher_id.teacher} {made.teacher_id.teacher_version}"
    report_written(output, f"{labelled.rows - labelled.errors:,} labels by {who}, {labelled.errors:,} errors")
    ctx.exit(1 if labelled.errors else 0)
