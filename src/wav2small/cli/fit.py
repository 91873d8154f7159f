"""``wav2small fit``: annotated manifests -> heads of a teacher on a frozen encoder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wav2small.cli.options import config_option, device_option
from wav2small.train.config import FIXED_POOLINGS, BodyConfig, FitConfig

if TYPE_CHECKING:
    from wav2small.train import Progress


@click.command("fit")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(), help="Weights of the heads to write, safetensors.")
@click.option("--name", default="open", show_default=True, help="Name of the teacher, recorded with each label.")
@click.option("--version", default="1", show_default=True, help="Version of the teacher, recorded with each label.")
@click.option("--licence", help="Licence of the teacher; needed with --body.  [default: Apache-2.0]")
@click.option(
    "--body", help="Encoder: a folder in the hub's format, or owner/name on the hub.  [default: Whisper base]"
)
@click.option("--layers", type=click.IntRange(1), help="Layers of the encoder to keep, from the first.  [default: all]")
@config_option(BodyConfig, "pooling", type=click.Choice(FIXED_POOLINGS), help="Statistics of the states over time.")
@click.option(
    "--cache", default="build/statistics", show_default=True, help="Folder that keeps the encoder's statistics."
)
@config_option(
    FitConfig, "copies", type=click.IntRange(0), help="Distorted copies of each clip that are fitted on, too."
)
@config_option(
    FitConfig, "within", type=click.FloatRange(0, 1), help="Share of the loss that is computed within corpora, 0 to 1."
)
@config_option(FitConfig, "seed", type=click.IntRange(0), help="Random seed.")
@device_option
@config_option(
    BodyConfig,
    "bf16",
    is_flag=True,
    help="Compute the encoder in bfloat16, which is faster where the hardware supports it.",
)
def command(
    manifests: tuple[str, ...],
    output: str,
    name: str,
    version: str,
    licence: str | None,
    body: str | None,
    layers: int | None,
    pooling: str,
    cache: str,
    copies: int,
    within: float,
    seed: int,
    device: str,
    bf16: bool,
) -> None:
    """Fit a teacher on annotated speech: heads on a frozen encoder, Whisper base or one of your own.

    A MANIFEST is a CSV, JSON or Parquet file, or a folder with manifest.csv. Its rows have arousal, dominance and
    valence from 0 to 1, or a label that the norms have a value for. Held-out speakers are those of a fold: the column
    fold, else speakers dealt into folds. Manifests joined by commas are one corpus, such as clips and what resynthesise
    made of them. Rows of a split that begins with test are left out.

    The encoder comes from the folder WAV2SMALL_MODELS or from the hub. Its statistics are kept in --cache, so that the
    same command continues a run that was stopped. --body takes any wav2vec2, HuBERT, DistilHuBERT, WavLM,
    data2vec-audio or Whisper encoder; it stays frozen, and finetune trains it too.

    Printed is the CCC on the held-out speakers of each corpus. Needs the extra train.

    \b
    Example:
      wav2small fit open/emodb open/emogator -o open.safetensors
      wav2small fit open/emodb,build/emodb-voices open/emogator -o open.safetensors
      wav2small fit msp-podcast -o mine.safetensors --body facebook/hubert-base-ls960 --layers 8 --licence MIT
    """
    from wav2small.cli.progress import progress_bar, report_written, say
    from wav2small.files import check_writable
    from wav2small.network.licences import OURS
    from wav2small.train import check_extra, choose_device

    check_extra()
    check_writable(output)
    if body and not licence:
        raise click.UsageError("--body needs --licence: that of the body, which every label of the teacher has.")
    if not body and (layers or pooling != BodyConfig.pooling):
        raise click.UsageError("--layers and --pooling need --body.")
    from wav2small.train.fit import fit
    from wav2small.train.heads import in_words

    about = {"name": name, "version": version, "licence": licence or OURS}
    made_of = BodyConfig(body, layers, pooling, bf16)
    config = FitConfig(copies=copies, within=within, seed=seed)
    device = choose_device(device)

    def bar(title: str) -> AbstractContextManager[Progress]:
        return progress_bar(title, unit="heads" if title == "heads" else "clips")

    click.echo(in_words(fit(manifests, Path(output), about, made_of, config, Path(cache), bar, device, say)))
    report_written(output, f"teacher {name} {version}")
