"""``wav2small label``: audio and a teacher -> a table of labels."""

from __future__ import annotations

from pathlib import Path

import click

from wav2small.cli.options import where_option


@click.command("label")
@click.argument("source", metavar="FOLDER|MANIFEST")
@click.option("--teacher", "name", default="open", show_default=True, help="Its name, or a file that fit wrote.")
@click.option("-o", "output", required=True, type=click.Path(), help="CSV, JSON lines or Parquet, by its suffix.")
@click.option("--root", type=click.Path(file_okay=False), help="Folder that the manifest's files are relative to.")
@where_option
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto is a GPU if there is one.")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16: twice as fast where there is hardware for it.")
@click.option("--embed", is_flag=True, help="Add the teacher's embedding, a second target for students: 1 KB a row.")
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
) -> None:
    """Label audio with a teacher's arousal, dominance and valence.

    FOLDER holds audio, or a manifest.csv; MANIFEST is a CSV or Parquet file with a column file. An unreadable file
    becomes a row with its error; the exit code is then 1. The same command resumes a run that was stopped.

    \b
    Example:
      wav2small label recordings --teacher open -o labels.csv
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.manifest import read_manifest, select
    from wav2small.tables import check_parquet, check_writable, format_of
    from wav2small.train import check_extra, choose_device
    from wav2small.train.label import label
    from wav2small.train.teachers import load_teacher

    check_extra()
    check_writable(output)
    if format_of(output) == "parquet":
        check_parquet()
    segments = select(read_manifest(source, root), where)
    teacher = load_teacher(name, bf16, choose_device(device))
    with progress_bar("labels") as tell:
        rows = label(segments, teacher, Path(output), tell, embed)
    failed = sum(1 for row in rows if row["error"])
    click.echo(f"{output}: {len(rows) - failed} labels by {teacher.name} {teacher.version}, {failed} errors", err=True)
    ctx.exit(1 if failed else 0)
