"""wav2small export: weights to ONNX, fp32 and int8, each checked against its reference."""

from __future__ import annotations

from typing import Any

import click

from wav2small import tables


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE options as a dictionary."""
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{value!r}. Give key=value, for example licence=Apache-2.0.")
    return {key: text for key, _, text in (value.partition("=") for value in values)}


@click.command()
@click.argument("weights", metavar="WEIGHTS.safetensors")
@click.option("-o", "--output", metavar="FOLDER", help="Where the files go; made if it is not there.")
@click.option("--ship", is_flag=True, help="Into the package's own folder, and into its index of what ships.")
@click.option("--name", help="Of the files, and inside them; else that of the weights.")
@click.option("--version", help="Inside the files; else that of the weights.")
@click.option("--metadata", metavar="KEY=VALUE", multiple=True, callback=pairs, help="More metadata; repeatable.")
@click.option("--format", type=click.Choice(tables.TEXT_FORMATS), default="table", show_default=True)
def command(
    weights: str,
    output: str | None,
    ship: bool,
    name: str | None,
    version: str | None,
    metadata: dict[str, str],
    format: str,
) -> None:
    """Write NAME.onnx and NAME-int8.onnx from a student's weights: both, or none.

    Each is the whole way from waveform to emotion in one file, and is written only if it agrees with the NumPy
    reference at log-mel, embedding and emotion; that of a MobileNet or of your own student, with its network in torch.
    What is shown are the largest differences.

    \b
    Example:
      wav2small export best.safetensors -o models --name mine --version 1.0 --metadata licence=Apache-2.0
    """
    from wav2small import export

    if bool(output) == ship:
        raise click.UsageError("Give one of -o FOLDER and --ship.")
    if ship:
        artefacts = export.ship(weights, name, version, metadata)
    else:
        artefacts = export.export(weights, str(output), name, version, metadata)
    click.echo(tables.render([row(artefact) for artefact in artefacts], format), nl=False)


def row(artefact: Any) -> dict[str, object]:
    """A line about a file; differences to two digits, as their size is what matters."""
    errors = {
        f"{depth} error": f"{getattr(artefact.errors, depth):.1e}" for depth in ("log_mel", "embedding", "emotion")
    }
    return {"file": str(artefact.path), "precision": artefact.precision, "bytes": artefact.bytes} | errors
