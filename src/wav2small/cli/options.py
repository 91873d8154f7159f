"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from wav2small.runtime.model import Model

Command = TypeVar("Command", bound=Callable[..., Any])


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r}. Give column=value, for example fold=0.")
    return [(column, text) for column, _, text in (value.partition("=") for value in values)]


where_option = click.option(
    "--where", metavar="COLUMN=VALUE", multiple=True, callback=_pairs, help="Only these rows; repeatable."
)
"""Gives (column, value) pairs for ``manifest.select``."""

vad_option = click.option(
    "--vad",
    type=click.Choice(("auto", "silero", "energy")),
    default="auto",
    show_default=True,
    help="What tells speech: Silero's network (extra vad) or the level; auto is Silero where it is installed.",
)
min_speech_option = click.option(
    "--min-speech",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Of speech that an emotion needs; a window below 3 s, or a file below 10 s, needs less in proportion.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(("onnx", "c", "numpy")),
    default="onnx",
    show_default=True,
    help="What computes: ONNX Runtime; C, compiled once by the machine's compiler; the slow reference.",
)


def config_option(config: type, field: str, *declarations: str, **attributes: Any) -> Callable[[Command], Command]:
    """A click option with the default of a dataclass's field; by default with the name of the field too."""
    declarations = declarations or ("--" + field.replace("_", "-"),)
    return click.option(*declarations, default=getattr(config, field), show_default=True, **attributes)


class Telling(NamedTuple):
    """What rows and events are told by, and their columns beside those that are always there."""

    calibration: str | bool
    head: str | None
    min_confidence: float
    columns: tuple[str, ...]

    def load(self, model: str, precision: str, backend: str = "onnx") -> Model:
        """The model, with what it is told by."""
        from wav2small.runtime import model as models

        return models.load(model, precision, backend, calibration=self.calibration, head=self.head)


def telling_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that become the argument ``telling``: all but ``--head`` ask for a calibration."""

    @wraps(command)
    def told(*arguments: Any, calibrated: bool, calibration: str | None, head: str | None, **others: Any) -> None:
        from wav2small.runtime.stream import CATEGORY, INTERVALS, TOLD

        intervals, min_confidence = others.pop("intervals"), others.pop("min_confidence")
        asked = calibration or calibrated or intervals or min_confidence > 0
        columns = (TOLD if asked else ()) + (CATEGORY if head else ()) + (INTERVALS if intervals else ())
        command(*arguments, telling=Telling(asked, head, min_confidence, columns), **others)

    for option in (
        click.option("--head", metavar="FILE", help="A category of one's own and its probability, by what head wrote."),
        click.option(
            "--min-confidence",
            default=0.0,
            type=click.FloatRange(0, 1),
            help="Calibrated, and a dimension below it is left empty.",
        ),
        click.option(
            "--intervals", is_flag=True, help="Calibrated, and where the label is for 80 % of unheard clips: low, high."
        ),
        click.option(
            "--calibration", metavar="FILE", help="Calibrated by one that calibrate wrote, not by the one that ships."
        ),
        click.option(
            "--calibrated", is_flag=True, help="A/D/V on the scale of the teacher's labels, a confidence and a word."
        ),
    ):
        told = option(told)
    return told
