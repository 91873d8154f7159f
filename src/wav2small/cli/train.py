"""``wav2small train``: labels -> a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wav2small.cli.options import config_option, student_names
from wav2small.train.config import TrainConfig

WITHIN_HELP = "Share of the loss within groups of one corpus, by the labels' column corpus."
COMPILE_HELP = "Fuse the network with torch.compile; needs a C++ compiler."


@click.command("train")
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option("--dev", required=True, multiple=True, help="Labels of held-out speakers, to choose weights by.")
@click.option("-o", "output", required=True, type=click.Path(file_okay=False), help="Folder of the run.")
@click.option("--root", type=click.Path(file_okay=False), help="Folder of the audio, if not what was labelled.")
@config_option(TrainConfig, "student", callback=student_names, help="Which network; wav2small models lists them.")
@config_option(TrainConfig, "network", metavar="FILE", help="JSON of a network of your own.")
@click.option("--from", "start", type=click.Path(dir_okay=False), help="Weights to start from: safetensors of a run.")
@config_option(TrainConfig, "steps", type=click.IntRange(1), help=f"Batches of {TrainConfig.batch_size} clips.")
@config_option(TrainConfig, "learning_rate", type=click.FloatRange(0, min_open=True), help="Highest learning rate.")
@config_option(TrainConfig, "within", type=click.FloatRange(0, 1), help=WITHIN_HELP)
@click.option("--data", default="", help="Names of the corpora, recorded in the weights.")
@click.option("--licence", help="Recorded in the weights; else that of non-commercial labels, or Apache-2.0.")
@click.option("--device", default="auto", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@click.option("--threads", default=0, type=click.IntRange(0), help="Threads of torch; 0 leaves it to torch.")
@config_option(TrainConfig, "seed", type=click.IntRange(0), help="Random seed.")
@config_option(TrainConfig, "bf16", is_flag=True, help="Convolutions in bfloat16.")
@config_option(TrainConfig, "compiled", "--compile", "compiled", is_flag=True, help=COMPILE_HELP)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    labels: tuple[str, ...],
    dev: tuple[str, ...],
    output: str,
    root: str | None,
    network: str,
    start: str | None,
    data: str,
    licence: str | None,
    device: str,
    threads: int,
    **settings: Any,
) -> None:
    """Train a student on a teacher's labels, and on its embedding where the labels have one.

    The folder gets a checkpoint, a log of the loss and of the CCC of each dimension on the dev speakers, and the
    best weights. The same command resumes a run that was stopped, with Ctrl-C or otherwise.

    With --root the student learns from other audio than the teacher labelled: the folder has files of the same names,
    such as the clips of wav2small augment where LABELS are of those that augment --plain made.

    --network trains a network that is only data: front end, layers and pooling as JSON. The command
    wav2small models --network micro prints that of a student to begin with.

    \b
    Example:
      wav2small train clips.csv --dev dev.csv -o runs/first
      wav2small train plain.csv --root clips --dev dev.csv -o runs/first
      wav2small train clips.csv --dev dev.csv -o runs/17k --student wav2small-17k
      wav2small train clips.csv --dev dev.csv -o runs/48 --network micro48.json
      torchrun --nproc-per-node 4 -m wav2small train clips.csv --dev dev.csv -o runs/first --threads 1
      wav2small train mine.csv --dev dev.csv -o runs/mine --from runs/first/best.safetensors --steps 500
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.network.config import OUTPUTS
    from wav2small.network.weights import sha256
    from wav2small.train import check_extra, choose_device

    check_extra()
    import torch

    from wav2small.tables.manifest import read_labelled
    from wav2small.train.distributed import as_one, own_device
    from wav2small.train.student import BEST, describe, train

    device = own_device(choose_device(device))
    if threads:
        torch.set_num_threads(threads)
    segments = read_labelled(labels, root), read_labelled(dev)
    if network:
        settings |= described(ctx, network)
    config = TrainConfig(start=sha256(start) if start else "", **settings)
    begin = Path(start) if start else None
    metadata = describe(segments[0], data, licence, begin)

    def report(line: dict[str, float]) -> None:
        scores = ", ".join(f"{name} {line[name]:.3f}" for name in OUTPUTS)
        click.echo(f"step {line['step']}: loss {line['loss']:.3f}, dev CCC {scores}, {line['seconds']:.0f} s", err=True)

    try:
        with as_one(device) as writes, progress_bar("train", shown=writes) as progress:
            train(*segments, Path(output), config, metadata, progress, report, begin, device)
    except KeyboardInterrupt:
        click.echo(f"{output}: stopped; run the same command to continue", err=True)
        ctx.exit(130)
    if writes:
        click.echo(f"{output}/{BEST}")


def described(ctx: click.Context, file: str) -> dict[str, str]:
    """The settings that a network of one's own replaces; what it costs is printed."""
    from wav2small.evaluation.macs import COUNTED_DUR, layer_macs
    from wav2small.network.config import read_network

    if ctx.get_parameter_source("student") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--network is a student of your own: leave out --student.")
    network = read_network(file)
    cost = layer_macs(network) / COUNTED_DUR / 1e6
    click.echo(
        f"{network.name}: {network.num_parameters():,} parameters, {cost:.1f} MMAC a second of audio after the log-mel",
        err=True,
    )
    return {"student": network.name, "network": network.to_json()}
