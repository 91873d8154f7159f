"""``wav2small finetune``: annotated manifests -> a teacher whose encoder is trained too."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from wav2small.cli.options import config_option, device_option
from wav2small.train.config import ADAPTATIONS, POOLINGS, TRAINED, AdaptConfig, FinetuneConfig, FitConfig

FOCAL_HELP = "Focal loss of the categories with this gamma; all weigh the same.  [default: cross-entropy]"
ADAPT_HELP = "Pretrain the encoder on the same speech first: tapt or p-tapt (arXiv:2110.06309)."
CHECKPOINTING_HELP = "Recompute activations in the backward pass: a third slower, far less memory."


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
@click.option(
    "-o", "output", required=True, type=click.Path(), help="Weights of the whole teacher to write, safetensors."
)
@click.option("--name", required=True, help="Name of the teacher, recorded with each label.")
@click.option("--version", default="1", show_default=True, help="Version of the teacher, recorded with each label.")
@click.option("--licence", required=True, help="Licence of the encoder, recorded with each label.")
@click.option("--body", required=True, help="Encoder to train: whisper, a folder in the hub's format, or owner/name.")
@click.option("--layers", type=click.IntRange(1), help="Layers of the encoder to keep, from the first.  [default: all]")
@config_option(FinetuneConfig, "trained", type=click.Choice(TRAINED), help="Parts of the encoder to train.")
@config_option(FinetuneConfig, "pooling", type=click.Choice(POOLINGS), help="Pooling over time.")
@config_option(FinetuneConfig, "steps", type=click.IntRange(1), help="Steps, each one batch.")
@config_option(FinetuneConfig, "batch_size", type=click.IntRange(2), help="Clips in a batch.")
@config_option(
    FinetuneConfig, "learning_rate", type=click.FloatRange(0), help="Highest learning rate of the encoder's last layer."
)
@config_option(
    FinetuneConfig,
    "layer_decay",
    type=click.FloatRange(0, 1, min_open=True),
    help="Multiply the learning rate by this for each layer further from the output.",
)
@config_option(FinetuneConfig, "distorted", type=click.FloatRange(0, 1), help="Share of clips that are distorted.")
@config_option(FinetuneConfig, "focal", type=click.FloatRange(0), metavar="GAMMA", help=FOCAL_HELP)
@click.option("--adapt", type=click.Choice(ADAPTATIONS), help=ADAPT_HELP)
@config_option(AdaptConfig, "steps", "--adapt-steps", type=click.IntRange(1), help="Steps of --adapt.")
@click.option(
    "--clusters",
    default=",".join(map(str, AdaptConfig.clusters)),
    show_default=True,
    callback=counts,
    help="Numbers of clusters of p-tapt, with commas between; each is a task.",
)
@config_option(FinetuneConfig, "checkpointing", is_flag=True, help=CHECKPOINTING_HELP)
@click.option(
    "--workers", default=0, show_default=True, type=click.IntRange(0), help="Processes that read audio ahead; 0: none."
)
@click.option(
    "--cache",
    default="build/finetune",
    show_default=True,
    help="Folder for checkpoints; each --name has a folder in it.",
)
@config_option(FinetuneConfig, "seed", type=click.IntRange(0), help="Random seed.")
@device_option
@config_option(
    FinetuneConfig, "bf16", is_flag=True, help="Compute in bfloat16, which is faster where the hardware supports it."
)
def command(
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
    """Train a teacher on annotated speech: an encoder, and a head on its last layer.

    MANIFESTs and encoders are as for wav2small fit. With --trained none and --pooling attentive, only pooling and head
    are trained. The weights with the best CCC on the dev speakers are kept: rows of the split dev, else of fold 0. The
    same command resumes a run that was stopped. wav2small export writes a fine-tuned HuBERT, such as DistilHuBERT, with
    mean pooling to ONNX. Needs the extra train.

    \b
    Example:
      wav2small finetune msp-podcast -o mine.safetensors --name mine --licence MIT \\
        --body facebook/wav2vec2-large-robust --layers 12 --layer-decay 0.9 --bf16 --checkpointing --workers 8
    """
    from wav2small.cli.progress import progress_bar, report_written, say
    from wav2small.files import check_writable
    from wav2small.network.config import OUTPUTS
    from wav2small.train import check_extra, choose_device

    check_extra()
    check_writable(output)
    from wav2small.train.annotated import read_annotated
    from wav2small.train.fit import Finetune
    from wav2small.train.heads import in_words

    def report(line: dict[str, float]) -> None:
        if OUTPUTS[0] in line:
            scores = ", ".join(f"{dimension} {line[dimension]:.3f}" for dimension in OUTPUTS)
            say(f"step {line['step']:,}: loss {line['loss']:.3f}, dev CCC {scores}")

    config = FinetuneConfig(**settings)
    run = Finetune(
        [read_annotated(manifest, FitConfig.folds) for manifest in manifests],
        body,
        layers,
        config,
        AdaptConfig(adapt, adapt_steps, clusters),
        Path(cache) / name,
        partial(progress_bar, unit="clips", size=config.batch_size),
        report,
        workers,
        choose_device(device),
    )
    scores = run.write(Path(output), {"name": name, "version": version, "licence": licence})
    click.echo(in_words(scores))
    report_written(output, f"teacher {name} {version}")
