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
    "diary": ("wav2small.cli.diary:command", "Show a day of stream --log, as a table and a picture."),
    "fuse": ("wav2small.cli.fuse:command", "Combine the valence of predictions with that of words."),
    "mcp": ("wav2small.cli.mcp:command", "Serve the tone of files and of a voice to language models."),
    "demo": ("wav2small.cli.demo:command", "Serve a page that runs the network in the browser."),
    "serve": ("wav2small.cli.serve:command", "Serve files over HTTP and live streams over WebSockets."),
    "models": ("wav2small.cli.models:command", "List the models that ship, and the students to train."),
    "evaluate": ("wav2small.cli.evaluate:command", "Score models or tables of predictions against labelled audio."),
    "robustness": ("wav2small.cli.robustness:command", "Score models on noisy, coded, cut and other distorted clips."),
    "experiment": ("wav2small.cli.experiment:command", "Score models and heads over corpora, folds and seeds."),
    "series": ("wav2small.cli.series:command", "Score predictions against annotation over time."),
    "bench": ("wav2small.cli.bench:command", "Measure size, MACs, memory, time and CCC of models."),
    "export": ("wav2small.cli.export:command", "Export weights to ONNX or C, checked against the reference."),
    "corpus": ("wav2small.cli.corpus:command", "Write the manifest of a corpus as its owner distributes it."),
    "label": ("wav2small.cli.label:command", "Label audio with a teacher's arousal, dominance and valence."),
    "augment": ("wav2small.cli.augment:command", "Compose and distort new clips from those of manifests."),
    "resynthesise": ("wav2small.cli.resynthesise:command", "Resynthesise the speech of manifests in other voices."),
    "train": ("wav2small.cli.train:command", "Train a student on stored labels of a teacher."),
    "distil": ("wav2small.cli.distil:command", "Distil a teacher into students, without stored labels."),
    "calibrate": ("wav2small.cli.calibrate:command", "Fit the scale and the intervals of a model's outputs."),
    "head": ("wav2small.cli.head:command", "Fit your own categories on a model's embedding."),
    "fit": ("wav2small.cli.fit:command", "Fit a teacher's heads on annotated speech."),
    "finetune": ("wav2small.cli.finetune:command", "Train a teacher's encoder and head on annotated speech."),
}
"""Name of a command -> its place (module:attribute), and its line in the list of commands."""


RESUMES = "the same command continues from the last checkpoint, or from the start if there is none"
CONTINUES = "the same command continues with what is not done yet"
NOTHING = "nothing was written"
AFTER_CTRL_C = {
    "evaluate": NOTHING,
    "series": NOTHING,
    "fuse": NOTHING,
    "diary": NOTHING,
    "robustness": "with -o FILE, finished conditions are kept, and the same command with --resume continues",
    "bench": NOTHING,
    "export": NOTHING,
    "corpus": NOTHING,
    "calibrate": NOTHING,
    "head": NOTHING,
    "enroll": NOTHING,
    "label": CONTINUES,
    "augment": CONTINUES,
    "resynthesise": CONTINUES,
    "fit": CONTINUES,
    "experiment": CONTINUES,
    "train": RESUMES,
    "distil": RESUMES,
    "finetune": RESUMES,
}
"""Name of a command -> what a user must know after Ctrl-C, unless the work itself says it."""


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
        except KeyboardInterrupt as stopped:
            command = ctx.invoked_subcommand or ""
            if command in AFTER_CTRL_C:
                click.echo(f"wav2small: interrupted; {str(stopped) or AFTER_CTRL_C[command]}", err=True)
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
