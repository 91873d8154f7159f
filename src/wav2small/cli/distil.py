"""``wav2small distil``: audio and a teacher -> students, online."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wav2small.cli.options import (
    config_option,
    device_option,
    joined,
    pair,
    share_option,
    student_names,
    threads_option,
)
from wav2small.train.config import DistilConfig

if TYPE_CHECKING:
    from wav2small.train.online.distil import Pupil

STUDENT_HELP = "Student to train; repeatable: all are trained on the same batches.  [default: micro]"
FROM_HELP = "Weights that a student starts from, such as micro=runs/first/micro.safetensors; repeatable."
BODY_HELP = "Checkpoint in the hub's format that a student starts from, such as distilhubert=ntu-spml/distilhubert."
REUSE_HELP = "Times that a labelled clip is used on average, on a processor; each time distorted anew."
RING_HELP = "Folder of the labelled clips, which runs with the same audio and teacher can share.  [default: in the run]"
WITHIN_HELP = "Share of the loss that is computed within corpora, 0 to 1."
LEFT_OUT_HELP = "Corpus that is not trained on, and scored at each evaluation; repeatable."


@click.command("distil")
@click.argument("corpora", nargs=-1, required=True, metavar="MANIFEST...")
@click.option(
    "-o",
    "output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder of the run: checkpoint, log and STUDENT.safetensors.",
)
@click.option(
    "--teacher", default="open", show_default=True, help="Name of a teacher, or a file that fit or finetune wrote."
)
@click.option("--student", "students", multiple=True, callback=student_names, help=STUDENT_HELP)
@click.option("--network", "networks", multiple=True, metavar="FILE", help="JSON of a network of your own; repeatable.")
@click.option("--body", "bodies", multiple=True, metavar="STUDENT=FOLDER", help=BODY_HELP)
@click.option("--from", "starts", multiple=True, metavar="STUDENT=FILE", help=FROM_HELP)
@click.option(
    "--dev-fold",
    default="0",
    show_default=True,
    help="Rows with this value of the column fold are dev speakers, which choose the weights.",
)
@click.option("--left-out", multiple=True, metavar="MANIFEST", help=LEFT_OUT_HELP)
@share_option
@click.option("--noise", metavar="MANIFEST", help="Recorded noise and music to distort with.")
@click.option("--rooms", metavar="MANIFEST", help="Impulse responses of rooms to distort with.")
@config_option(DistilConfig, "steps", type=click.IntRange(1), help="Steps in all, each one batch.")
@config_option(DistilConfig, "batch_size", type=click.IntRange(2), help="Clips in a batch; a multiple of --group-size.")
@config_option(
    DistilConfig, "group_size", type=click.IntRange(2), help="Clips of one corpus that stand together in a batch."
)
@config_option(
    DistilConfig,
    "learning_rate",
    type=click.FloatRange(0, min_open=True),
    help="Highest learning rate; it rises linearly and falls by a cosine.",
)
@config_option(DistilConfig, "within", type=click.FloatRange(0, 1), help=WITHIN_HELP)
@config_option(
    DistilConfig,
    "decorrelation",
    type=click.FloatRange(0),
    help="Weight of a penalty on valence that follows arousal; 0: none.",
)
@config_option(DistilConfig, "reuse", type=click.FloatRange(1), help=REUSE_HELP)
@config_option(
    DistilConfig, "evaluate_every", type=click.IntRange(0), help="Steps between evaluations; 0: a tenth of all steps."
)
@click.option("--ring", "ring_folder", type=click.Path(file_okay=False), help=RING_HELP)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that label clips, on a processor.  [default: one per core]"
)
@click.option(
    "--data",
    default="",
    help="Names of the corpora, with commas between them, recorded in the weights.  [default: the manifests]",
)
@click.option(
    "--licence", help="Licence recorded in the weights.  [default: that of the teacher's labels, else Apache-2.0]"
)
@device_option
@threads_option
@config_option(DistilConfig, "seed", type=click.IntRange(0), help="Random seed.")
@config_option(
    DistilConfig,
    "bf16",
    is_flag=True,
    help="Compute networks in bfloat16, which is faster where the hardware supports it.",
)
@config_option(
    DistilConfig,
    "compiled",
    "--compile",
    "compiled",
    is_flag=True,
    help="Compile networks with torch.compile; needs a C++ compiler.",
)
def command(
    corpora: tuple[str, ...],
    output: str,
    teacher: str,
    students: tuple[str, ...],
    networks: tuple[str, ...],
    bodies: tuple[str, ...],
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
    """Distil a teacher into students, online: from audio, without stored labels.

    Batches of clips are composed from the corpora, labelled by the teacher, distorted, and used to train all students
    at once. On a GPU every clip is new. On a processor, --workers label clips into a ring of files, and each clip is
    used several times (--reuse), distorted anew.

    A MANIFEST is a corpus; manifests joined by commas are one corpus, such as clips and what resynthesise made of them.
    Rows of --dev-fold are not trained on: they choose the weights that are kept, by the mean over corpora of the CCC
    within each. If no corpus has a column fold, one in 20 speakers, or files, is held out. Files that cannot be read
    are left out and reported.

    The same command resumes a run that was stopped. Needs the extra train.

    \b
    Example:
      wav2small distil open/emodb open/librispeech -o runs/first --student micro --student wav2small
      wav2small distil open/emodb,build/voices open/emogator --share emodb=4 --left-out open/sdap -o runs/second
      wav2small distil audioset commonvoice --teacher odyssey --device cuda --bf16 --steps 100000 -o runs/large
    """
    from wav2small.cli.progress import report_written, say, training_bar
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
        pupils=pupils(students, networks, bodies, starts),
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
    run.start(training_bar("distil", run.config.batch_size), say)
    for pupil in run.pupils:
        report_written(f"{output}/{pupil.name}.safetensors", f"student {pupil.name}")


def pupils(
    students: Sequence[str], networks: Sequence[str], bodies: Sequence[str], starts: Sequence[str]
) -> list[Pupil]:
    """The students by name, and those that are files of JSON, each with what it starts from."""
    from wav2small.network.config import read_network
    from wav2small.train.online.distil import Pupil

    start = dict(pair(text, "--from", "micro=runs/first/micro.safetensors") for text in starts)
    start = {name.replace(":", "-"): file for name, file in start.items()}
    body = dict(pair(text, "--body", "distilhubert=ntu-spml/distilhubert") for text in bodies)
    described = [read_network(file) for file in networks]
    names = list(students) or ([] if described else ["micro"])
    found = [(name, None) for name in names] + [(network.name, network) for network in described]
    if len({name for name, _ in found}) < len(found):
        raise click.UsageError(f"two students have one name: {', '.join(name for name, _ in found)}.")
    for option, given in (("--from", start), ("--body", body)):
        unknown = given.keys() - {name for name, _ in found}
        if unknown:
            raise click.UsageError(f"{option} {min(unknown)}: there are {', '.join(name for name, _ in found)}.")
    return [
        Pupil(name, network, Path(start[name]) if name in start else None, body.get(name, ""))
        for name, network in found
    ]
