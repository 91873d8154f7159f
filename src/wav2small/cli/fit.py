"""``wav2small fit``: annotated manifests -> the heads of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

POOLINGS = ("mean", "mean+std", "first", "max", "quantile", "attentive")
Scores = dict[str, dict[str, float]]


def counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) > 1 for part in parts):
        raise click.BadParameter(f"{value!r}. Give whole numbers above 1 with commas between, for example 64,512.")
    return tuple(int(part) for part in parts)


@click.command("fit")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(), help="Weights of the heads, safetensors.")
@click.option("--name", default="open", show_default=True, help="Name of the teacher.")
@click.option("--version", default="1", show_default=True, help="Version of the teacher, recorded with each label.")
@click.option("--licence", help="Of the teacher; needed with --body, else Apache-2.0.")
@click.option("--body", help="Encoder to fit on: a folder in the hub's format, or owner/name; else Whisper base.")
@click.option("--layers", type=click.IntRange(1), help="Layers of the body to keep, from the first.  [default: all]")
@click.option("--pooling", default="mean+std", show_default=True, type=click.Choice(POOLINGS), help="Over time.")
@click.option("--fine-tune", type=click.Choice(["no-cnn", "full"]), help="Train the body too, without its CNN or all.")
@click.option("--steps", default=3000, show_default=True, type=click.IntRange(1), help="Of training the body.")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(2), help="Clips in a step of that.")
@click.option("--learning-rate", default=3e-5, show_default=True, type=click.FloatRange(0), help="Of the last layer.")
@click.option(
    "--layer-decay", default=1.0, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="A layer down."
)
@click.option("--adapt", type=click.Choice(["tapt", "p-tapt"]), help="Pretrain on the task's speech before that.")
@click.option("--adapt-steps", default=10_000, show_default=True, type=click.IntRange(1), help="Of the pretraining.")
@click.option("--clusters", default="64,512,4096", show_default=True, callback=counts, help="Of P-TAPT, a task each.")
@click.option("--checkpointing", is_flag=True, help="Compute activations twice: a third slower, far less memory.")
@click.option("--workers", default=0, show_default=True, type=click.IntRange(0), help="Processes that read ahead.")
@click.option("--cache", default="build/statistics", show_default=True, help="Folder for the encoder's statistics.")
@click.option("--copies", default=2, type=click.IntRange(0), show_default=True, help="Distorted copies of each clip.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@click.option("--device", default="auto", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@click.option("--bf16", is_flag=True, help="Compute the encoder in bfloat16: twice as fast where there is hardware.")
@click.pass_context
def command(
    ctx: click.Context,
    manifests: tuple[str, ...],
    output: str,
    name: str,
    version: str,
    licence: str | None,
    body: str | None,
    layers: int | None,
    pooling: str,
    fine_tune: str | None,
    steps: int,
    batch_size: int,
    learning_rate: float,
    layer_decay: float,
    adapt: str | None,
    adapt_steps: int,
    clusters: tuple[int, ...],
    checkpointing: bool,
    workers: int,
    cache: str,
    copies: int,
    seed: int,
    device: str,
    bf16: bool,
) -> None:
    """Fit a teacher on annotated speech: heads on the Whisper-base encoder, or on a body of your own.

    A MANIFEST is a CSV or Parquet file, or a folder with manifest.csv. Its rows have arousal, dominance and
    valence from 0 to 1, or a label that the norms know; speakers are kept apart by a column fold, else speaker.
    Rows of a split that begins with test are left out. The encoder comes from the folder WAV2SMALL_MODELS or the hub.
    Its statistics are kept in the cache, so that the same command resumes a run that was stopped.

    --body is any wav2vec2, HuBERT, DistilHuBERT, WavLM, data2vec-audio or Whisper encoder. With --fine-tune it is
    trained, too, with a head on its last layer; with --pooling attentive, pooling and head are. Weights are chosen by
    the split dev, else by fold 0, and the file holds the whole teacher.

    \b
    Example:
      wav2small fit open/emodb open/emogator -o open.safetensors
      wav2small fit msp-podcast -o mine.safetensors --body facebook/hubert-base-ls960 --layers 8 --licence MIT
      wav2small fit msp-podcast -o mine.safetensors --body facebook/wav2vec2-large-robust --layers 12 --licence MIT \
        --fine-tune no-cnn --layer-decay 0.9 --bf16 --checkpointing --workers 8
    """
    from wav2small.files import check_writable
    from wav2small.network.licences import OURS
    from wav2small.train import check_extra, choose_device

    check_extra()
    check_writable(output)
    if body and not licence:
        raise click.UsageError("--body needs --licence: that of the body, which every label of the teacher will bear.")
    if not body and (layers or pooling != "mean+std" or fine_tune or adapt):
        raise click.UsageError("--layers, --pooling, --fine-tune and --adapt need --body.")
    if adapt and not fine_tune:
        raise click.UsageError("--adapt needs --fine-tune: what the body learns by it is for that.")
    about = {"name": name, "version": version, "licence": licence or OURS}
    device = choose_device(device)
    if not fine_tune and pooling != "attentive":
        scores = _fit_heads(manifests, output, about, Path(cache), body, layers, pooling, copies, seed, bf16, device)
    else:
        from wav2small.train.finetune import TuneConfig

        config = TuneConfig(
            fine_tune=fine_tune or "none",
            pooling=pooling,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            layer_decay=layer_decay,
            evaluate_every=max(1, min(300, steps // 10)),
            seed=seed,
            bf16=bf16,
            checkpointing=checkpointing,
        )
        pretraining = (adapt, adapt_steps, clusters)
        try:
            scores = _fit_body(
                manifests, output, about, Path(cache) / name, str(body), layers, device, config, pretraining, workers
            )
        except KeyboardInterrupt:
            click.echo(f"{output}: stopped; the same command goes on where this was", err=True)
            ctx.exit(130)
    for corpus, score in scores.items():
        figures = ", ".join(f"{dimension} {value:.3f}" for dimension, value in score.items())
        click.echo(f"{corpus}: CCC of unheard speakers: {figures}")


def _fit_heads(
    manifests: Sequence[str],
    output: str,
    about: dict[str, str],
    cache: Path,
    body: str | None,
    layers: int | None,
    pooling: str,
    copies: int,
    seed: int,
    bf16: bool,
    device: str,
) -> Scores:
    """Heads on a frozen body."""
    from wav2small.cli.progress import progress_bar
    from wav2small.train.heads import FitConfig, describe, fit, load_corpus
    from wav2small.train.teachers.bodies import load_body
    from wav2small.train.teachers.whisper import WhisperBody, find_encoder

    config = FitConfig(copies=copies, seed=seed)
    if body:
        encoder: Any = load_body(body, layers, pooling, bf16, device)
        config = replace(config, layers=tuple(range(1, encoder.layers)))
        about |= {"body": body, "body_layers": str(encoder.layers - 1), "body_fingerprint": encoder.key}
        about |= {"pooling": pooling}
    else:
        encoder = WhisperBody(find_encoder(), bf16, device)
    corpora = []
    for manifest in manifests:
        with progress_bar(f"statistics of {manifest}") as tell:
            corpora.append(load_corpus(manifest, encoder, config, cache, tell))
    with progress_bar("heads") as tell:
        heads, scores = fit(corpora, config, tell)
    heads.save(Path(output), about | describe(config, [corpus.name for corpus in corpora], scores))
    return dict(scores)


def _fit_body(
    manifests: Sequence[str],
    output: str,
    about: dict[str, str],
    folder: Path,
    body: str,
    layers: int | None,
    device: str,
    config: Any,
    pretraining: tuple[str | None, int, tuple[int, ...]],
    workers: int,
) -> Scores:
    """A body with a head, after what pretraining there is."""
    from wav2small.cli.progress import progress_bar
    from wav2small.network.config import OUTPUTS
    from wav2small.train import make_folder
    from wav2small.train.adapt import p_tapt, tapt
    from wav2small.train.finetune import tune
    from wav2small.train.heads import FitConfig, describe, read_annotated
    from wav2small.train.teachers.bodies import load_body

    adapt, steps, clusters = pretraining
    corpora = [read_annotated(manifest, FitConfig().folds) for manifest in manifests]
    stamp = f"{[(c.name, len(c.segments)) for c in corpora]} {body} {layers} {adapt} {steps} {clusters} "

    def report(line: dict[str, Any]) -> None:
        figures = ", ".join(f"{name} {line[name]:.3f}" for name in OUTPUTS)
        click.echo(f"step {line['step']}: dev CCC {figures}", err=True)

    def tuned(part: str) -> Any:
        make_folder(folder / part)
        with progress_bar(f"fine-tuning {part}".strip()) as tell:
            return tune(corpora, encoder, config, folder / part, tell, report, workers, stamp)

    encoder = load_body(body, layers, device=device)
    if adapt == "p-tapt":
        taught, encoder = tuned("before")[0].body[0], load_body(body, layers, device=device)
        with progress_bar("P-TAPT") as tell:
            p_tapt(corpora, taught, encoder, clusters, config, steps, folder / "before", tell, workers)
    if adapt == "tapt":
        make_folder(folder)
        with progress_bar("TAPT") as tell:
            tapt(corpora, body, encoder, config, steps, folder, tell, workers)
    net, scores = tuned("")
    net.save(Path(output), about | describe(config, [corpus.name for corpus in corpora], scores))
    return dict(scores)
