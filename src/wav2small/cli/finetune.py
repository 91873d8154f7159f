"""``wav2small finetune``: annotated manifests -> a teacher whose encoder is trained too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wav2small.cli.options import config_option
from wav2small.train.config import ADAPTATIONS, POOLINGS, TRAINED, AdaptConfig, FinetuneConfig

ADAPT_HELP = "Pretrain the body on the task's own speech before that."
CHECKPOINTING_HELP = "Compute activations twice: a third slower, far less memory."


def counts(ctx: click.Context, param: click.Parameter, value: str | tuple[int, ...]) -> tuple[int, ...]:
    """Numbers with commas between them."""
    if isinstance(value, tuple):
        return value
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) > 1 for part in parts):
        raise click.BadParameter(f"{value!r}. Give whole numbers above 1 with commas between, for example 64,512.")
    return tuple(int(part) for part in parts)


@click.command("finetune")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(), help="Weights of the whole teacher, safetensors.")
@click.option("--name", required=True, help="Name of the teacher.")
@click.option("--version", default="1", show_default=True, help="Version of the teacher, recorded with each label.")
@click.option("--licence", required=True, help="Of the body, which every label of the teacher has.")
@click.option("--body", required=True, help="Encoder to train: a folder in the hub's format, or owner/name.")
@click.option("--layers", type=click.IntRange(1), help="Layers of the body to keep, from the first.  [default: all]")
@config_option(FinetuneConfig, "trained", type=click.Choice(TRAINED), help="Parts of the body to train.")
@config_option(FinetuneConfig, "pooling", type=click.Choice(POOLINGS), help="Pooling over time.")
@config_option(FinetuneConfig, "steps", type=click.IntRange(1), help="Batches to train on.")
@config_option(FinetuneConfig, "batch_size", type=click.IntRange(2), help="Clips in a batch.")
@config_option(FinetuneConfig, "learning_rate", type=click.FloatRange(0), help="Highest learning rate, last layer.")
@config_option(
    FinetuneConfig,
    "layer_decay",
    type=click.FloatRange(0, 1, min_open=True),
    help="Multiply the learning rate by this for each layer further from the output.",
)
@click.option("--adapt", type=click.Choice(ADAPTATIONS), help=ADAPT_HELP)
@config_option(AdaptConfig, "steps", "--adapt-steps", type=click.IntRange(1), help="Batches of --adapt.")
@click.option(
    "--clusters",
    default=",".join(map(str, AdaptConfig.clusters)),
    show_default=True,
    callback=counts,
    help="Numbers of clusters of p-tapt, a task each.",
)
@config_option(FinetuneConfig, "checkpointing", is_flag=True, help=CHECKPOINTING_HELP)
@click.option("--workers", default=0, show_default=True, type=click.IntRange(0), help="Processes that read ahead.")
@click.option("--cache", default="build/finetune", show_default=True, help="Folder for checkpoints, one a name.")
@config_option(FinetuneConfig, "seed", type=click.IntRange(0), help="Random seed.")
@click.option("--device", default="auto", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@config_option(FinetuneConfig, "bf16", is_flag=True, help="Compute in bfloat16: faster where supported.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    manifests: tuple[str, ...],
    output: str,
    name: str,
    version: str,
    licence: str,
    body: str,
    layers: int | None,
    adapt: str | None,
    adapt_steps: int,
    clusters: tuple[int, ...],
    workers: int,
    cache: str,
    device: str,
    **settings: Any,
) -> None:
    """Train a teacher on annotated speech: an encoder and a head on its last layer.

    The manifests are those of wav2small fit, and so are the bodies. With --trained none and --pooling attentive,
    pooling and head alone are trained. Weights are chosen by the split dev, else by fold 0; the file holds the
    whole teacher. The same command resumes a run that was stopped.

    \b
    Example:
      wav2small finetune msp-podcast -o mine.safetensors --name mine --licence MIT \\
        --body facebook/wav2vec2-large-robust --layers 12 --layer-decay 0.9 --bf16 --checkpointing --workers 8
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.files import check_writable
    from wav2small.network.config import OUTPUTS
    from wav2small.train import check_extra, choose_device

    check_extra()
    check_writable(output)
    from wav2small.train.fit import Finetune
    from wav2small.train.heads import in_words

    def report(line: dict[str, float]) -> None:
        if OUTPUTS[0] in line:
            scores = ", ".join(f"{dimension} {line[dimension]:.3f}" for dimension in OUTPUTS)
            click.echo(f"step {line['step']}: loss {line['loss']:.3f}, dev CCC {scores}", err=True)

    run = Finetune(
        manifests,
        body,
        layers,
        FinetuneConfig(**settings),
        AdaptConfig(adapt, adapt_steps, clusters),
        Path(cache) / name,
        progress_bar,
        report,
        workers,
        choose_device(device),
    )
    try:
        scores = run.write(Path(output), {"name": name, "version": version, "licence": licence})
    except KeyboardInterrupt:
        click.echo(f"{output}: stopped; run the same command to continue", err=True)
        ctx.exit(130)
    click.echo(in_words(scores))
