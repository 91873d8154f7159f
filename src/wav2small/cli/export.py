"""wav2small export: weights to ONNX, to C or to folders of other tools, each checked against its reference."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from wav2small.tables.table import TEXT_FORMATS, render

LANGUAGES = ("android", "cpp", "csharp", "go", "rust", "swift")
"""Forms that are a package for a language, around C."""
FOLDERS = ("c", *LANGUAGES, "audonnx", "hub", "transformers-js")
"""Forms that are a folder, written as a whole."""


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE options as a dictionary."""
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{value!r}. Give key=value, for example licence=Apache-2.0.")
    return {key: text for key, _, text in (value.partition("=") for value in values)}


@click.command()
@click.argument("weights", metavar="MODEL")
@click.option("-o", "--output", metavar="FOLDER", help="Folder to write into; made if it does not exist.")
@click.option(
    "--to",
    type=click.Choice(("onnx", "integers", *FOLDERS)),
    default="onnx",
    show_default=True,
    help="Form: ONNX files, safetensors of integers, or a folder for C or another tool.",
)
@click.option("--ship", is_flag=True, help="Write into the package's own folder and its index, instead of -o.")
@click.option("--name", help="Name of the files, also in their metadata.  [default: that of the weights]")
@click.option("--version", help="Version in the metadata.  [default: that of the weights]")
@click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=pairs,
    help="Further metadata, such as licence=Apache-2.0; repeatable.",
)
@click.option(
    "--dev",
    multiple=True,
    metavar="LABELS",
    help="The labels that train chose weights by: refuse files that lose more than 0.02 of CCC; repeatable.",
)
@click.option(
    "--calibrate",
    metavar="SPEECH",
    help="Folder or manifest of speech that sets the scales of eight-bit activations; with --to onnx it needs --dev.",
)
@click.option(
    "--scores",
    metavar="REPORT",
    help="With --to hub: report of evaluate -o REPORT.json on these weights, for CCC with intervals in the card.",
)
@click.option(
    "--board",
    metavar="BOARD",
    help="With --to c: refuse a network that this board cannot hold, such as esp32-s3, nano-33-ble or pico.",
)
@click.option(
    "--format", type=click.Choice(TEXT_FORMATS), default="table", show_default=True, help="Format of the report."
)
def command(
    weights: str,
    output: str | None,
    to: str,
    ship: bool,
    name: str | None,
    version: str | None,
    metadata: dict[str, str],
    dev: tuple[str, ...],
    calibrate: str | None,
    scores: str | None,
    board: str | None,
    format: str,
) -> None:
    """Export a student's weights to ONNX, in float32 and with eight-bit weights, to integers, C or other tools.

    MODEL is a safetensors file that train or distil wrote, or NAME[:PRECISION] of weights that ship.

    --to onnx writes NAME.onnx and NAME-int8.onnx, both or none. Each holds everything from waveform to emotion. A file
    is written only if log-mel, embedding and emotion agree with the reference; the largest differences are printed.
    With --calibrate the int8 file is static, faster for large networks: activations have eight bits, too, at scales set
    by SPEECH. Its answers on --dev must agree with and without ONNX Runtime's optimisations on this machine, and keep
    the CCC.

    --to integers --calibrate SPEECH writes NAME-int8.safetensors: any network that pools tokens, such as micro or
    wav2small, in integers from the samples on, for C and the backend numpy. It takes seconds for micro, two minutes
    for wav2small.

    --to c writes a folder of C: the runtime, a header with the weights, and project files and examples for ESP-IDF,
    Arduino, PlatformIO, Zephyr and ESPHome. It is compared with the reference if there is a C compiler. --to android,
    cpp, csharp, go, rust or swift writes a package for that language around the same C, with a test of its own.

    --to audonnx writes a folder for audonnx, audinterface and nkululeko; --to transformers-js one for transformers.js
    in Node.js and browsers; --to hub one to push to the Hugging Face hub, which also --model FOLDER reads. Each has a
    card with licence, training data, CCC and the sha256 of its files.

    \b
    Example:
      wav2small export best.safetensors -o models --name mine --version 1.0 --metadata licence=Apache-2.0
      wav2small export best.safetensors -o models --dev dev.csv
      wav2small export best.safetensors -o models --dev dev.csv --calibrate open/librispeech
      wav2small export best.safetensors -o models --to integers --calibrate open/librispeech
      wav2small export micro:int8 --to c --board esp32-s3 -o firmware/wav2small
      wav2small export micro:int8 --to swift -o app/wav2small
      wav2small export best.safetensors --to audonnx -o audonnx-folder
    """
    from wav2small.export.artefacts import export, export_integers
    from wav2small.export.artefacts import ship as export_into_package
    from wav2small.network.licences import is_non_commercial
    from wav2small.runtime.model import locate
    from wav2small.tables.manifest import read_labelled, read_manifest

    if bool(output) == ship:
        raise click.UsageError("Give one of -o FOLDER and --ship.")
    if scores and to != "hub":
        raise click.UsageError("--scores needs --to hub.")
    if board and to != "c":
        raise click.UsageError("--board needs --to c.")
    if to in FOLDERS:
        if name or version or metadata or dev or calibrate or ship:
            raise click.UsageError(f"--to {to} takes MODEL and -o FOLDER only: it says what the weights say.")
        is_c = to in ("c", *LANGUAGES)
        made = c_row(to, weights, str(output), board) if is_c else tool_row(to, weights, str(output), scores)
        click.echo(render([made], format), nl=False)
        if is_non_commercial(str(made.get("licence", ""))):
            click.echo(f"{output}: {made['licence']}: not for commercial use", err=True)
        return
    if to == "integers":
        if not calibrate or dev:
            raise click.UsageError("--to integers needs --calibrate SPEECH, and goes without --dev.")
        where, speech = None if ship else str(output), read_manifest(calibrate)
        path = export_integers(locate(weights, ".safetensors"), speech, where, name, version, metadata)
        click.echo(render([{"file": str(path), "precision": "int8", "bytes": path.stat().st_size}], format), nl=False)
        return
    if calibrate and not dev:
        raise click.UsageError("--calibrate needs --dev: a static int8 file is held to its CCC alone.")
    if ship and (dev or calibrate):
        raise click.UsageError("--dev and --calibrate need -o: what ships is compared with its reference.")
    weights = str(locate(weights, ".safetensors"))
    held = read_labelled(dev)
    speech = read_manifest(calibrate) if calibrate else []
    if ship:
        artefacts = export_into_package(weights, name, version, metadata)
    else:
        artefacts = export(weights, str(output), name, version, metadata, held, speech)
    click.echo(render([row(artefact) for artefact in artefacts], format), nl=False)
    for artefact in artefacts:
        if is_non_commercial(artefact.licence):
            click.echo(f"{artefact.path}: {artefact.licence}: not for commercial use", err=True)


def row(artefact: Any) -> dict[str, object]:
    """A line about a file; differences to two digits, as their size is what matters."""
    errors = {f"{depth} error": f"{error:.1e}" for depth, error in asdict(artefact.errors).items()}
    ccc = {f"dev CCC {name}": f"{value:.3f}" for name, value in artefact.ccc._asdict().items()} if artefact.ccc else {}
    facts = {"file": str(artefact.path), "precision": artefact.precision, "bytes": artefact.bytes}
    return facts | errors | ccc | {"licence": artefact.licence}


def c_row(to: str, weights: str, folder: str, board: str | None) -> dict[str, object]:
    """A line about a folder of C, or a package for a language around it, which is written."""
    from wav2small.export.boards import BOARDS
    from wav2small.export.c_folder import export_c
    from wav2small.export.languages import export_language

    if board and board not in BOARDS:
        raise click.BadParameter(f"{board!r}. Known are {', '.join(BOARDS)}.", param_hint="--board")
    made = export_c(weights, folder, board) if to == "c" else export_language(weights, folder, to)
    error = "not compared, no C compiler" if made.error is None else f"{made.error:.1e}"
    row = {"folder": str(made.path), "precision": made.precision, "header bytes": made.header_bytes, "error": error}
    if board and made.needs:
        load = made.needs.instructions / 1e6 / BOARDS[board].clock
        row |= {"flash KB": round(made.needs.flash / 1024), "RAM KB": round(made.needs.ram / 1024)}
        row |= {"processor, at least": f"{load:.0%}"}
    return row | {"licence": made.licence}


def tool_row(to: str, weights: str, folder: str, scores: str | None) -> dict[str, object]:
    """A line about a folder for another tool, which is written."""
    from wav2small.export.hub import export_hub
    from wav2small.export.tools import export_audonnx, export_transformers_js

    if to == "hub":
        made = export_hub(weights, folder, scores)
    else:
        made = (export_audonnx if to == "audonnx" else export_transformers_js)(weights, folder)
    error = f"{made.error:.1e}"
    return {
        "folder": str(made.path),
        "precision": ", ".join(made.precisions),
        "bytes": made.bytes,
        "emotion error": error,
        "licence": made.licence,
    }
