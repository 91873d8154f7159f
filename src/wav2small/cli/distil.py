"""``wav2small distil``: audio and a teacher -> students, online."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import config_option, joined, pair, share_option, student_names
from wav2small.train.config import DistilConfig

if TYPE_CHECKING:
    from wav2small.train.online.distil import Pupil

STUDENT_HELP = "A student to train; repeatable: all learn from the same batches."
FROM_HELP = "Weights that a student starts from; repeatable."
REUSE_HELP = "Times that a clip is learnt on average, where clips come out of the ring."
RING_HELP = (
    "Folder of the ring of labelled clips, which runs with the same audio and teacher share; default: in the run."
)
WITHIN_HELP = "Share of the loss that is computed within groups of one corpus."
LEFT_OUT_HELP = "A corpus that nobody learns from, scored beside the dev speakers; repeatable."


@click.command("distil")
@click.argument("corpora", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("-o", "output", required=True, type=click.Path(file_okay=False), help="Folder of the run.")
@click.option("--teacher", default="open", show_default=True, help="Its name, or a file of fit or finetune.")
@click.option("--student", "students", multiple=True, callback=student_names, help=STUDENT_HELP)
@click.option("--network", "networks", multiple=True, metavar="FILE", help="JSON of a network of your own; repeatable.")
@click.option("--from", "starts", multiple=True, metavar="STUDENT=FILE", help=FROM_HELP)
@click.option("--dev-fold", default="0", show_default=True, help="Rows with this fold are dev speakers.")
@click.option("--left-out", multiple=True, metavar="MANIFEST", help=LEFT_OUT_HELP)
@share_option
@click.option("--noise", metavar="MANIFEST", help="Recorded sounds and music to distort with.")
@click.option("--rooms", metavar="MANIFEST", help="Impulse responses of rooms to distort with.")
@config_option(DistilConfig, "steps", type=click.IntRange(1), help="Batches in all.")
@config_option(DistilConfig, "batch_size", type=click.IntRange(2), help="Clips of a batch.")
@config_option(DistilConfig, "group_size", type=click.IntRange(2), help="Clips of a batch that share a corpus.")
@config_option(DistilConfig, "learning_rate", type=click.FloatRange(0, min_open=True), help="Highest learning rate.")
@config_option(DistilConfig, "within", type=click.FloatRange(0, 1), help=WITHIN_HELP)
@config_option(DistilConfig, "decorrelation", type=click.FloatRange(0), help="Penalty on valence taken from arousal.")
@config_option(DistilConfig, "reuse", type=click.FloatRange(1), help=REUSE_HELP)
@config_option(DistilConfig, "evaluate_every", type=click.IntRange(0), help="Steps; 0 is a tenth of all.")
@click.option("--ring", "ring_folder", type=click.Path(file_okay=False), help=RING_HELP)
@click.option("--workers", type=click.IntRange(1), help="Processes that fill the ring; default: one a core.")
@click.option("--data", default="", help="Names of the corpora, recorded in the weights.")
@click.option("--licence", help="Recorded in the weights; else that of the teacher's labels, or Apache-2.0.")
@click.option("--device", default="auto", show_default=True, help="Of torch: cpu, cuda, cuda:1.")
@click.option("--threads", default=0, type=click.IntRange(0), help="Threads of torch; 0 leaves it to torch.")
@config_option(DistilConfig, "seed", type=click.IntRange(0), help="Random seed.")
@config_option(DistilConfig, "bf16", is_flag=True, help="Networks in bfloat16.")
@config_option(DistilConfig, "compiled", "--compile", "compiled", is_flag=True, help="Fuse networks by torch.compile.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    corpora: tuple[str, ...],
    output: str,
    teacher: str,
    students: tuple[str, ...],
    networks: tuple[str, ...],
    starts: tuple[str, ...],
    dev_fold: str,
    left_out: tuple[str, ...],
    shares: tuple[str, ...],
    noise: str | None,
    rooms: str | None,
    ring_folder: str | None,
    workers: int | None,
    data: str,
    licence: str | None,
    device: str,
    threads: int,
    **settings: Any,
) -> None:
    """Distil a teacher into students, online: audio goes in, weights come out, and no label is stored.

    Clips are composed of the corpora by whole batches, labelled by the teacher as they stand, distorted, and learnt by
    all students at once. On a GPU every clip is new. On a processor workers fill a ring of labelled clips, and each is
    learnt several times (--reuse), distorted anew.

    A MANIFEST is a corpus; manifests joined by commas are one, such as a corpus and what resynthesise made of it. The
    rows of the dev fold are not learnt from: they choose the weights that are kept, by the mean over corpora of the CCC
    within each. Where no corpus has a column fold, one in 20 speakers, or files, is held out. Files that cannot be read
    are left out and named.

    The folder gets a checkpoint, a log, and STUDENT.safetensors. The same command resumes a run that was stopped, with
    Ctrl-C or otherwise.

    \b
    Example:
      wav2small distil open/emodb open/librispeech -o runs/first --student micro --student wav2small
      wav2small distil open/emodb,build/voices open/emogator --share emodb=4 --left-out open/sdap -o runs/second
      wav2small distil audioset commonvoice --teacher odyssey --device cuda --bf16 --steps 100000 -o runs/large
    """
    from wav2small.train import check_extra, choose_device, make_folder

    check_extra()
    import torch

    from wav2small.train.online.run import Run

    if settings["batch_size"] % settings["group_size"]:
        raise click.UsageError("--batch-size has to be a multiple of --group-size.")
    device = choose_device(device)
    if threads:
        torch.set_num_threads(threads)
    run = Run(
        corpora=joined(corpora, shares),
        pupils=pupils(students, networks, starts),
        folder=Path(output),
        teacher=teacher,
        dev_fold=dev_fold,
        left_out=joined(left_out),
        noise=noise,
        rooms=rooms,
        ring=Path(ring_folder) if ring_folder else None,
        workers=workers,
        data=data,
        licence=licence,
        device=device,
        config=DistilConfig(**settings),
    )
    make_folder(run.folder)
    try:
        run.start(partial(clips_bar, batch_size=run.config.batch_size), partial(click.echo, err=True))
    except KeyboardInterrupt:
        click.echo(f"{output}: stopped; run the same command to continue", err=True)
        ctx.exit(130)
    for pupil in run.pupils:
        click.echo(f"{output}/{pupil.name}.safetensors")


@contextmanager
def clips_bar(title: str, batch_size: int) -> Iterator[Callable[[float, float], None]]:
    """A progress bar that also shows how many steps are done, and while students learn the clips a second."""
    from wav2small.cli.progress import progress_bar

    with progress_bar(title) as tell:
        start: list[tuple[float, float]] = []

        def progress(done: float, total: float) -> None:
            now = time.monotonic()
            if not start:
                start.append((done, now))
            steps, dur = done - start[0][0], now - start[0][1]
            speed = f", {steps * batch_size / dur:.0f} clips/s" if title == "distil" and steps and dur else ""
            tell(done, total, f"{done:.0f} of {total:.0f}{speed}")

        yield progress


def pupils(students: Sequence[str], networks: Sequence[str], starts: Sequence[str]) -> list[Pupil]:
    """The students by name, and those that are files of JSON, each with what it starts from."""
    from wav2small.network.config import read_network
    from wav2small.train.online.distil import Pupil

    start = dict(pair(text, "--from", "micro=runs/first/micro.safetensors") for text in starts)
    start = {name.replace(":", "-"): file for name, file in start.items()}
    described = [read_network(file) for file in networks]
    names = list(students) or ([] if described else ["micro"])
    found = [(name, None) for name in names] + [(network.name, network) for network in described]
    if len({name for name, _ in found}) < len(found):
        raise click.UsageError(f"two students have one name: {', '.join(name for name, _ in found)}.")
    unknown = start.keys() - {name for name, _ in found}
    if unknown:
        raise click.UsageError(f"--from {min(unknown)}: there are {', '.join(name for name, _ in found)}.")
    return [Pupil(name, network, Path(start[name]) if name in start else None) for name, network in found]
