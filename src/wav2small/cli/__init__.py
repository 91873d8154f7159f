"""The command line: one file a command, loaded only when it is called."""

from __future__ import annotations

import errno
from importlib import import_module

import click

from wav2small.errors import Wav2SmallError

COMMANDS = {
    "predict": ("wav2small.cli.predict:command", "Arousal, dominance and valence of audio files."),
    "stream": ("wav2small.cli.stream:command", "The same while somebody speaks: a microphone, a pipe or a file."),
    "demo": ("wav2small.cli.demo:command", "A page with the student in the browser, served to this machine."),
    "models": ("wav2small.cli.models:command", "List the weights that ship."),
    "evaluate": ("wav2small.cli.evaluate:command", "Score a model or a table of predictions against a manifest."),
    "bench": ("wav2small.cli.bench:command", "Size, MACs, memory, time and CCC of models on this machine."),
    "export": ("wav2small.cli.export:command", "Weights to ONNX, each file checked against the reference."),
    "corpus": ("wav2small.cli.corpus:command", "A corpus, as its owner distributes it, to a manifest."),
    "label": ("wav2small.cli.label:command", "Label audio with a teacher."),
    "augment": ("wav2small.cli.augment:command", "Make augmented copies of the clips of a manifest."),
    "resynthesise": ("wav2small.cli.resynthesise:command", "Speech of a manifest in other voices and manners."),
    "train": ("wav2small.cli.train:command", "Train a student on a teacher's labels."),
    "distil": ("wav2small.cli.distil:command", "Distil a teacher into students, straight from audio."),
    "calibrate": ("wav2small.cli.calibrate:command", "What a model's answers mean: scale, intervals, from audio."),
    "head": ("wav2small.cli.head:command", "Fit categories of your own on a model's embedding."),
    "fit": ("wav2small.cli.fit:command", "Fit a teacher's heads on annotated manifests."),
    "finetune": ("wav2small.cli.finetune:command", "Train a teacher's encoder and head on annotated manifests."),
}
"""Name of a command -> where it is (module:attribute), and its line in the list of commands."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and says our errors in one line."""

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
            click.echo(f"wav2small: {error.strerror}; free some and try again", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wav2small")
def main() -> None:
    """Arousal, dominance and valence of a voice, each from 0 to 1."""
