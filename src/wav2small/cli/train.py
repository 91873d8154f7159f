"""``wav2small train``: labels -> a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wav2small.cli.options import config_option, device_option, student_names, threads_option
from wav2small.train.config import TrainConfig

WITHIN_HELP = "Share of the loss that is computed within corpora (column corpus of the labels), 0 to 1."
BODY_HELP = "Checkpoint that distilhubert starts from: a folder in the hub's format, or owner/name on the hub."
COMPILE_HELP = "Compile the network with torch.compile; needs a C++ compiler."


@click.command("train")
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option(
    "--dev",
    required=True,
    multiple=True,
    help="Labels of held-out speakers, which choose the weights that are kept; repeatable.",
)
@click.option(
    "-o",
    "output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder of the run: checkpoint, log and best.safetensors.",
)
@click.option(
    "--root", type=click.Path(file_okay=False), help="Folder of the audio.  [default: the folders of the labels]"
)
@config_option(TrainConfig, "student", callback=student_names, help="Network to train; wav2small models lists them.")
@config_option(TrainConfig, "network", metavar="FILE", help="JSON of a network of your own, instead of --student.")
@config_option(TrainConfig, "body", metavar="FOLDER", help=BODY_HELP)
@click.option(
    "--from", "start", type=click.Path(dir_okay=False), help="Weights to start from: best.safetensors of another run."
)
@config_option(
    TrainConfig, "steps", type=click.IntRange(1), help=f"Steps, each a batch of {TrainConfig.batch_size} clips."
)
@config_option(
    TrainConfig,
    "learning_rate",
    type=click.FloatRange(0, min_open=True),
    help="Highest learning rate; it rises linearly and falls by a cosine.",
)
@config_option(TrainConfig, "within", type=click.FloatRange(0, 1), help=WITHIN_HELP)
@click.option("--data", default="", help="Names of the corpora, with commas between them, recorded in the weights.")
@click.option(
    "--licence", help="Licence recorded in the weights.  [default: that of non-commercial labels, else Apache-2.0]"
)
@device_option
@threads_option
@config_option(TrainConfig, "seed", type=click.IntRange(0), help="Random seed.")
@config_option(
    TrainConfig,
    "bf16",
    is_flag=True,
    help="Compute convolutions in bfloat16, which is faster where the hardware supports it.",
)
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
    """Train a student on stored labels of a teacher, and on its embedding where the labels have one.

    LABELS are tables that wav2small label wrote. Each evaluation prints the loss and the CCC on the dev speakers, and
    the weights with the highest mean CCC are kept in best.safetensors. The same command resumes a run that was stopped.

    With --root the student is trained on other audio than the teacher labelled: a folder with files of the same names,
    such as distorted clips of wav2small augment, where LABELS are of those that augment --plain made.

    --network trains a network that is described by JSON: front end, layers and pooling. The command
    wav2small models --network micro prints that of a student to begin with. Needs the extra train.

    --student distilhubert starts from a HuBERT checkpoint with any number of layers, of which it trains all but the
    convolutions. Give it a lower learning rate, such as 1e-4.

    \b
    Example:
      wav2small train clips.csv --dev dev.csv -o runs/first
      wav2small train plain.csv --root clips --dev dev.csv -o runs/first
      wav2small train clips.csv --dev dev.csv -o runs/17k --student wav2small-17k
      wav2small train clips.csv --dev dev.csv -o runs/48 --network micro48.json
      wav2small train clips.csv --dev dev.csv -o runs/dh --student distilhubert --body ntu-spml/distilhubert
      torchrun --nproc-per-node 4 -m wav2small train clips.csv --dev dev.csv -o runs/first --threads 1
      wav2small train mine.csv --dev dev.csv -o runs/mine --from runs/first/best.safetensors --steps 500
    """
    from wav2small.cli.progress import report_written, say, training_bar
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
        say(f"step {line['step']:,}: loss {line['loss']:.3f}, dev CCC {scores}, {line['seconds']:.0f} s")

    with as_one(device) as writes:
        bar = training_bar("train", config.batch_size, shown=writes)
        train(*segments, Path(output), config, metadata, bar, report, begin, device)
    if writes:
        report_written(f"{output}/{BEST}", f"student {config.student}")


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
