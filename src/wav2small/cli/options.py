"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from wav2small.options import DEFAULT_MODEL, VADS, Options

if TYPE_CHECKING:
    from wav2small.runtime.model import Model
    from wav2small.train.corpus import Corpus

Command = TypeVar("Command", bound=Callable[..., Any])


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r}. Give column=value, for example fold=0.")
    return [(column, text) for column, _, text in (value.partition("=") for value in values)]


where_option = click.option(
    "--where",
    metavar="COLUMN=VALUE",
    multiple=True,
    callback=_pairs,
    help="Use only rows with this value, such as fold=0; repeatable.",
)
"""Gives (column, value) pairs for ``manifest.select``."""

share_option = click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="CORPUS=NUMBER",
    help="Weight of a corpus in the draw, such as emodb=4; repeatable.  [default: the square root of its clips]",
)
channel_option = click.option(
    "--channel",
    type=click.IntRange(0),
    default=Options.channel,
    metavar="N",
    help="Use channel N, from 0; else the mean of all.",
)
vad_option = click.option(
    "--vad",
    type=click.Choice(VADS),
    default=Options.vad,
    show_default=True,
    help="Speech detector: the Silero VAD, or the signal level, which is faster but takes noise for speech.",
)
min_speech_option = click.option(
    "--min-speech",
    type=click.FloatRange(0),
    default=Options.min_speech,
    show_default=True,
    metavar="SECONDS",
    help="Of speech that an emotion needs; a window below 3 s, or a file below 10 s, needs less in proportion.",
)
model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="MODEL",
    help="Weights: NAME[:PRECISION] as wav2small models lists them, such as micro:int8, or a file of weights.",
)
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Computes the network: onnx, c (the C runtime), numpy (the slow reference), torch or openvino; auto is numpy "
    "for safetensors files, else onnx.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device of torch: cpu, cuda or cuda:1; auto is a GPU if there is one.",
)
threads_option = click.option(
    "--threads", default=0, show_default=True, type=click.IntRange(0), help="Threads of torch; 0: its own choice."
)
REPORT_FORMATS = ("table", "csv", "json", "jsonl", "parquet")
"""Formats of a report: scores, and what they were computed from."""
truth_option = click.option(
    "--truth",
    metavar="manifest|norms|FILE",
    help="Score against the manifest's own A/D/V columns, the norms of its categories, or a table of labels.  "
    "[default: manifest if it has them, else norms]",
)
norms_option = click.option(
    "--norms", metavar="FILE", help="CSV of norms by category.  [default: those of the package]"
)
report_format_option = click.option(
    "--format",
    type=click.Choice(REPORT_FORMATS),
    help="Format of what is printed and of every -o.  [default: a table, and by the suffix of each -o]",
)
hop_help = "Seconds from the start of a window to the start of the next."
window_help = "Seconds of a window."


def reports_option(help: str, required: bool = False) -> Callable[[Command], Command]:
    """``-o`` of a command whose report may be written to several files; gives ``outputs``."""
    return click.option("-o", "--output", "outputs", metavar="FILE", multiple=True, required=required, help=help)


def config_option(config: type, field: str, *declarations: str, **attributes: Any) -> Callable[[Command], Command]:
    """A click option with the default of a dataclass's field; by default with the name of the field too."""
    declarations = declarations or ("--" + field.replace("_", "-"),)
    shown = getattr(config, field) not in ("", None)
    return click.option(*declarations, default=getattr(config, field), show_default=shown, **attributes)


class AnswerOptions(NamedTuple):
    """What is reported beside a network's own numbers, and the columns that this adds."""

    calibration: str | bool
    head: str | None
    min_confidence: float
    columns: tuple[str, ...]

    def load(self, model: str, backend: str) -> Model:
        """The model with this calibration and head."""
        from wav2small.runtime.model import load

        return load(model, backend, calibration=self.calibration, head=self.head)


def answer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that become the argument ``answer``: all but ``--head`` load a calibration."""

    @wraps(command)
    def wrapped(*arguments: Any, calibrated: bool, calibration: str | None, head: str | None, **others: Any) -> None:
        from wav2small.runtime.event import CALIBRATION_COLUMNS, CATEGORY_COLUMNS, INTERVAL_COLUMNS

        intervals, min_confidence = others.pop("intervals"), others.pop("min_confidence")
        wanted = calibration or calibrated or intervals or min_confidence > 0
        calibrated_columns = CALIBRATION_COLUMNS if wanted else ()
        columns = (*calibrated_columns, *(CATEGORY_COLUMNS if head else ()), *(INTERVAL_COLUMNS if intervals else ()))
        command(*arguments, answer=AnswerOptions(wanted, head, min_confidence, columns), **others)

    for option in (
        click.option("--head", metavar="FILE", help="Add the category and its probability, by a head that head wrote."),
        click.option(
            "--min-confidence",
            default=Options.min_confidence,
            type=click.FloatRange(0, 1),
            help="Calibrated; a dimension with less confidence is left empty.",
        ),
        click.option(
            "--intervals",
            is_flag=True,
            help="Calibrated; add low and high, which hold the label for 80 % of held-out clips.",
        ),
        click.option(
            "--calibration", metavar="FILE", help="Calibrated by a file of calibrate instead of the one that ships."
        ),
        click.option(
            "--calibrated", is_flag=True, help="A/D/V on the scale of the teacher's labels, a confidence and a word."
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def student_names(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Names of students, ``micro:int8`` as the entry point ``micro-int8``, whose runs and files have that name."""
    return value.replace(":", "-") if isinstance(value, str) else tuple(name.replace(":", "-") for name in value)


def joined(corpora: Sequence[str], shares: Sequence[str] = ()) -> list[Corpus]:
    """Corpora of manifests joined by commas, with their shares."""
    from wav2small.train.corpus import Corpus

    share = dict(pair(text, "--share", "emodb=4") for text in shares)
    found = []
    for text in corpora:
        corpus = Corpus.of(text)
        number = share.pop(corpus.name, None)
        if number is not None and not re.fullmatch(r"\d*\.?\d+", number):
            raise click.UsageError(f"--share {corpus.name}={number}: {number!r} is not a number of 0 or more.")
        found.append(corpus if number is None else replace(corpus, share=float(number)))
    if all(corpus.share == 0 for corpus in found) and found:
        raise click.UsageError("--share 0 for every corpus leaves nothing to learn from.")
    if share:
        raise click.UsageError(f"--share {next(iter(share))}: there are {', '.join(corpus.name for corpus in found)}.")
    return found


def pair(text: str, option: str, example: str) -> tuple[str, str]:
    """The two sides of ``name=value``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.UsageError(f"{option} {text}: give {option} {example}.")
    return name, value
