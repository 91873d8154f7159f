"""``wav2small train``: labels -> a student."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option("--dev", required=True, multiple=True, help="Labels of speakers kept apart, to choose weights by.")
@click.option("-o", "output", required=True, type=click.Path(file_okay=False), help="Folder of the run.")
@click.option("--root", type=click.Path(file_okay=False), help="Folder of what is heard, if not of what was labelled.")
@click.option("--student", default="wav2small", show_default=True, help="Which network; wav2small models lists them.")
@click.option("--from", "start", type=click.Path(dir_okay=False), help="Weights to begin with: safetensors of a run.")
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(1), help="Batches of 32 clips.")
@click.option(
    "--learning-rate", default=3e-3, show_default=True, type=click.FloatRange(0, min_open=True), help="At most."
)
@click.option("--data", default="", help="Names of the corpora, recorded in the weights.")
@click.option("--licence", help="Recorded in the weights; else that of the labels if not for sale, or Apache-2.0.")
@click.option("--device", default="auto", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@click.option("--threads", default=0, type=click.IntRange(0), help="Threads of torch; 0 leaves it to torch.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@click.option("--bf16", is_flag=True, help="Convolutions in bfloat16.")
@click.option("--compile", "compiled", is_flag=True, help="Fuse the network with torch.compile; needs a C++ compiler.")
@click.pass_context
def command(
    ctx: click.Context,
    labels: tuple[str, ...],
    dev: tuple[str, ...],
    output: str,
    root: str | None,
    student: str,
    start: str | None,
    steps: int,
    learning_rate: float,
    data: str,
    licence: str | None,
    device: str,
    threads: int,
    seed: int,
    bf16: bool,
    compiled: bool,
) -> None:
    """Train a student on a teacher's labels, and on its embedding where the labels have one.

    The folder gets a checkpoint, a log of the loss and of the CCC of each dimension on the dev speakers, and the
    best weights. The same command resumes a run that was stopped, with Ctrl-C or otherwise.

    With --root the student hears other audio than the teacher did: the folder has files of the same names, such as the
    clips of wav2small augment where LABELS are of those that augment --plain made.

    \b
    Example:
      wav2small train clips.csv --dev dev.csv -o runs/first
      wav2small train plain.csv --root clips --dev dev.csv -o runs/first
      wav2small train clips.csv --dev dev.csv -o runs/17k --student wav2small-17k
      torchrun --nproc-per-node 4 -m wav2small train clips.csv --dev dev.csv -o runs/first --threads 1
      wav2small train mine.csv --dev dev.csv -o runs/mine --from runs/first/best.safetensors --steps 500
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.network.config import OUTPUTS
    from wav2small.network.licences import joined, of_weights
    from wav2small.network.weights import licence_of, sha256
    from wav2small.tables.manifest import read_manifest
    from wav2small.train import check_extra, choose_device

    check_extra()
    import torch

    from wav2small.train.distributed import as_one, own_device
    from wav2small.train.student import BEST, TrainConfig, train

    device = own_device(choose_device(device))
    if threads:
        torch.set_num_threads(threads)
    train_segments = [s for path in labels for s in read_manifest(path, root) if not s.column("error")]
    dev_segments = [s for path in dev for s in read_manifest(path) if not s.column("error")]
    begun = sha256(start) if start else ""
    config = TrainConfig(
        student=student,
        start=begun,
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
        bf16=bf16,
        compiled=compiled,
    )
    teachers = sorted({f"{s.column('teacher')} {s.column('teacher_version')}".strip() for s in train_segments})
    licences = [s.column("teacher_licence") for s in train_segments] + ([licence_of(start)] if start else [])
    metadata = {"teacher": ", ".join(teachers), "training_data": data, "teacher_licence": joined(licences)}
    metadata["licence"] = licence or of_weights(licences)

    def report(line: dict[str, float]) -> None:
        scores = ", ".join(f"{name} {line[name]:.3f}" for name in OUTPUTS)
        click.echo(f"step {line['step']}: loss {line['loss']:.3f}, dev CCC {scores}, {line['seconds']:.0f} s", err=True)

    try:
        with as_one(device) as writes, progress_bar("train", shown=writes) as tell:
            begin = start and Path(start)
            train(train_segments, dev_segments, Path(output), config, metadata, tell, report, begin, device)
    except KeyboardInterrupt:
        click.echo(f"{output}: stopped; the same command goes on where this was", err=True)
        ctx.exit(130)
    if writes:
        click.echo(f"{output}/{BEST}")
