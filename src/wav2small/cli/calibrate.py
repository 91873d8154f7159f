"""wav2small calibrate: what the answers of a model mean, on one's own audio."""

from __future__ import annotations

import click

from wav2small.cli.options import model_option, where_option


@click.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, metavar="FILE", help="The calibration, JSON.")
@model_option
@click.option(
    "--base", metavar="FILE", help="Without labels: the calibration to start from, if not the one that ships."
)
@where_option
def command(
    manifests: tuple[str, ...],
    output: str,
    model: str,
    base: str | None,
    where: list[tuple[str, str]],
) -> None:
    """Lay a model's answers on the scale of labels, and find how far they are off.

    With columns arousal, dominance and valence in every MANIFEST, of 10 speakers or more whom the model has not heard,
    output is laid upon label quantile by quantile, and the intervals of 80 and 95 % are those that held for them: for
    whole clips and parts of 1 to 3 s, as recorded and in noise. Without labels the range alone is fitted, to that of
    the calibration that ships, or of --base. predict and stream --calibration FILE use it.

    \b
    Example:
      wav2small calibrate dev-labels.csv --model micro -o micro.calibration.json
      wav2small calibrate my-recordings --model micro -o mine.json
      wav2small predict talk.wav --model micro --calibration mine.json --intervals
    """
    from wav2small.cli.progress import progress_bar
    from wav2small.errors import ManifestError
    from wav2small.evaluation.fit_calibration import fit_calibration, listen
    from wav2small.evaluation.predictors import manifest_name
    from wav2small.files import check_writable
    from wav2small.network.config import OUTPUTS
    from wav2small.runtime.model import load
    from wav2small.tables.manifest import read_manifest, select
    from wav2small.tables.table import render

    check_writable(output)
    named = [(manifest_name(manifest), select(read_manifest(manifest), where)) for manifest in manifests]
    corpora = {name: [row for row in rows if not row.column("error")] for name, rows in named}
    if len(corpora) < len(named):
        raise ManifestError(f"two of the manifests have one name: {', '.join(name for name, _ in named)}. Rename one.")
    labelled = sum(row.emotion is not None for rows in corpora.values() for row in rows)
    clips = sum(map(len, corpora.values()))
    if 0 < labelled < clips:
        raise ManifestError(f"{labelled} of {clips} clips have labels. Give labels for all, or for none.")
    answering = load(model, calibration=base or not labelled)
    with progress_bar("calibrate") as progress:
        heard = listen(corpora, answering.batch, progress)
    calibration = fit_calibration(heard, answering.metadata, answering.calibration)
    calibration.save(output)
    rows = []
    for name in OUTPUTS:
        scale = calibration.scales[name]
        hard, easy = scale.half_width["0.8"][0][0], scale.half_width["0.8"][-1][-1]
        about = {"mean": f"{scale.mean:.3f}", "spread": f"{scale.spread:.3f}"}
        about |= {"middle 80 %": f"{scale.low:.3f} to {scale.high:.3f}"}
        rows.append({"": name} | about | {"80 % interval, at best": f"±{easy:.3f}", "at worst": f"±{hard:.3f}"})
    click.echo(render(rows, "table"), nl=False)
    click.echo(f"{output}: {calibration.weights}, {clips} clips, {len(set(heard.speaker))} speakers")
