"""wav2small calibrate: the scale and the intervals of a model's outputs, from audio with or without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wav2small.cli.options import model_option, where_option

if TYPE_CHECKING:
    from wav2small.runtime.calibration import Scale


@click.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, metavar="FILE", help="Calibration to write, JSON.")
@model_option
@click.option(
    "--base",
    metavar="FILE",
    help="Without labels: the calibration to start from.  [default: the one that ships with the model]",
)
@where_option
def command(
    manifests: tuple[str, ...],
    output: str,
    model: str,
    base: str | None,
    where: list[tuple[str, str]],
) -> None:
    """Fit a calibration: map a model's outputs to the scale of labels, and measure how far they are off.

    MANIFEST is a CSV, JSON or Parquet file with a column file, a folder with manifest.csv, or a folder of audio. It is
    one corpus, or several by its column corpus; all corpora have the same weight. Needed are 30 clips of 10 speakers; a
    clip without a speaker counts as a speaker of its own.

    With columns arousal, dominance and valence (0 to 1) for every clip, outputs are mapped to labels quantile by
    quantile, and the intervals that hold 80 and 95 % of the labels are measured: on whole clips and parts of 1, 2 and
    3 s, as recorded and with noise. Give held-out speakers: for speakers that the model was trained on, the intervals
    are too narrow.

    Without labels only the range is fitted, to that of the calibration that ships with the model, or of --base. Its
    intervals are kept; whether they hold for this audio is not known.

    predict and stream use the file with --calibration FILE.

    \b
    Example:
      wav2small calibrate dev-labels.csv --model micro -o micro.calibration.json
      wav2small calibrate my-recordings --model micro -o mine.json
      wav2small predict talk.wav --model micro --calibration mine.json --intervals
    """
    from wav2small.cli.progress import progress_bar, report_written, say
    from wav2small.errors import ManifestError
    from wav2small.evaluation.fit_calibration import answer, check_enough, fit_calibration, read_corpora, speaker_of
    from wav2small.files import check_writable
    from wav2small.network.config import OUTPUTS
    from wav2small.runtime.model import load
    from wav2small.tables.table import render

    check_writable(output)
    corpora = read_corpora(manifests, where)
    labelled = sum(clip.emotion is not None for found in corpora.values() for clip in found)
    clips = sum(map(len, corpora.values()))
    if 0 < labelled < clips:
        raise ManifestError(f"{labelled} of {clips} clips have labels. Give labels for all, or for none.")
    check_enough(
        clips, len({speaker_of(name, clip, n) for name, found in corpora.items() for n, clip in enumerate(found)})
    )
    answering = load(model, calibration=base or not labelled)
    with progress_bar("calibrate", unit="clips") as progress:
        answers = answer(corpora, answering.batch, progress)
    calibration = fit_calibration(answers, answering.metadata, answering.calibration)
    calibration.save(output)
    click.echo(render([row(name, calibration.scales[name], bool(labelled)) for name in OUTPUTS], "table"), nl=False)
    if not labelled:
        say("no labels: only the range was fitted; the intervals are those of the base, and may not hold here")
    speakers = len(set(answers.speaker))
    report_written(output, f"calibration of {calibration.weights}, {clips} clips, {speakers} speakers")


def row(dimension: str, scale: Scale, is_labelled: bool) -> dict[str, object]:
    """The line of a dimension: its range, and with labels how wide its intervals are."""
    about: dict[str, object] = {"dimension": dimension, "mean": f"{scale.mean:.3f}", "spread": f"{scale.spread:.3f}"}
    about["middle 80 %"] = f"{scale.low:.3f} to {scale.high:.3f}"
    if is_labelled:
        hard, easy = scale.half_width["0.8"][0][0], scale.half_width["0.8"][-1][-1]
        about |= {"80 % interval, at best": f"±{easy:.3f}", "at worst": f"±{hard:.3f}"}
    return about
