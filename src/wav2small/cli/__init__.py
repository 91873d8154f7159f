"""The command line: one file for each command, imported when it is called."""

from __future__ import annotations

import difflib
import errno
from importlib import import_module

import click

import wav2small
from wav2small.errors import Wav2SmallError

COMMANDS = {
    "predict": ("wav2small.cli.predict:command", "Predict arousal, dominance and valence of audio files."),
    "stream": ("wav2small.cli.stream:command", "Predict them live, from a microphone, a pipe or a file."),
    "enroll": ("wav2small.cli.enroll:command", "Record what a speaker's voice is usually like."),
    "demo": ("wav2small.cli.demo:command", "Serve a page that runs the network in the browser."),
    "models": ("wav2small.cli.models:command", "List the shipped weights."),
    "evaluate": ("wav2small.cli.evaluate:command", "Score a model or a table of predictions against a manifest."),
    "bench": ("wav2small.cli.bench:command", "Measure size, MACs, memory, time and CCC of models here."),
    "export": (
        "wav2small.cli.export:command",
        "Export weights to ONNX, C or integers, and check each file.",
    ),
    "corpus": ("wav2small.cli.corpus:command", "Make a manifest of a corpus as its owner distributes it."),
    "label": ("wav2small.cli.label:command", "Label audio with a teacher."),
    "augment": ("wav2small.cli.augment:command", "Make augmented copies of the clips of a manifest."),
    "resynthesise": ("wav2small.cli.resynthesise:command", "Make variants of clips in other voices and manners."),
    "train": ("wav2small.cli.train:command", "Train a student on a teacher's labels."),
    "distil": ("wav2small.cli.distil:command", "Distil a teacher into students, directly from audio."),
    "calibrate": ("wav2small.cli.calibrate:command", "Measure the scale and the intervals of a model's answers."),
    "head": ("wav2small.cli.head:command", "Fit your own categories on a model's embedding."),
    "fit": ("wav2small.cli.fit:command", "Fit a teacher's heads on annotated manifests."),
    "finetune": ("wav2small.cli.finetune:command", "Train a teacher's encoder and head on annotated manifests."),
}
"""Name of a command -> its place (module:attribute), and its line in the list of commands."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and prints our errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name; None if the name is unknown."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; for a mistyped name, the nearest one is in the error."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, 1)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their summaries into the help text, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and turn expected errors into one line on standard error and an exit code.

        The code is 1 for a ``Wav2SmallError`` and for a full disk, 130 for Ctrl-C. Other errors are raised.
        """
        try:
            return super().invoke(ctx)
        except Wav2SmallError as error:
            click.echo(f"wav2small: {error}", err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            click.echo(f"wav2small: {error.strerror}; free some space and try again", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(130)


def show_version(ctx: click.Context, parameter: click.Parameter, is_asked: bool) -> None:
    """Print the version, which is read only then, and exit."""
    if is_asked and not ctx.resilient_parsing:
        click.echo(f"wav2small, version {wav2small.__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=show_version, help="Show the version."
)
def main() -> None:
    """Arousal, dominance and valence of speech, each from 0 to 1."""
