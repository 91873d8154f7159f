"""A run of online distillation, as configured on the command line: corpora, teacher, students, folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from wav2small.errors import ManifestError
from wav2small.network.licences import of_weights
from wav2small.network.weights import licence_of
from wav2small.tables.manifest import read_manifest
from wav2small.tables.table import write_table
from wav2small.train import Bar
from wav2small.train.config import DistilConfig
from wav2small.train.corpus import DEALT_FOLDS, Corpus
from wav2small.train.loop import Scores
from wav2small.train.online.distil import Dev, Online, Pupil, composer, embedding_moments, load_dev, make_loop
from wav2small.train.online.distort import Distortion
from wav2small.train.online.labels import Labeller
from wav2small.train.online.pool import Pool, Source, load_pool
from wav2small.train.online.ring import Labelled, Recipe, Shards, ring
from wav2small.train.teachers import load_teacher
from wav2small.train.teachers.base import TeacherId

DEV_LABELS = "dev.csv"
"""File of the dev labels, an input of export and calibrate."""


@dataclass(frozen=True)
class Run:
    """A run of online distillation.

    Args:
        corpora: training corpora
        pupils: the students
        folder: folder of the checkpoint, the log and the weights
        teacher: name or file of the teacher
        dev_fold: value of the column ``fold`` of the dev speakers
        left_out: held-out corpora, used for scoring only
        noise: manifest of noise for distortion
        rooms: manifest of room impulse responses for distortion
        ring: folder of the ring buffer; None is inside ``folder``
        workers: number of processes that fill the ring; None is one per core
        data: names of the corpora for the metadata of the weights
        licence: licence of the weights; None derives it from the teacher's
        device: torch device
        config: settings of the training
    """

    corpora: Sequence[Corpus]
    pupils: Sequence[Pupil]
    folder: Path
    teacher: str = "open"
    dev_fold: str = "0"
    left_out: Sequence[Corpus] = ()
    noise: str | None = None
    rooms: str | None = None
    ring: Path | None = None
    workers: int | None = None
    data: str = ""
    licence: str | None = None
    device: str = "cpu"
    config: DistilConfig = field(default_factory=DistilConfig)

    def start(self, bar: Bar, say: Callable[[str], None]) -> Online:
        """Train for ``config.steps``, resuming from the checkpoint in the folder if there is one.

        Args:
            bar: opens progress bars
            say: called with a sentence for each skipped file, and for each student at each evaluation

        Returns:
            the training task with the students and dev clips

        Raises:
            ManifestError: if a corpus has no training clips, or there are no dev clips
            WeightsError: if the teacher is not available, or the folder contains another run
        """
        for pupil in self.pupils:
            pupil.net(0.0)  # an error here is reported before the long work
        self._check_names()
        return self._with_folds(say)._start(bar, say)

    def _with_folds(self, say: Callable[[str], None]) -> Run:
        """The same run; if no corpus has folds, each speaker (or file, if unknown) is assigned to one."""
        if any(segment.column("fold") for corpus in self.corpora for segment in corpus.segments()):
            return self
        say(
            f"no corpus has a column fold: one in {DEALT_FOLDS} speakers, or files where no speaker is known, is held "
            "out for selecting weights"
        )
        return replace(self, dev_fold="0", corpora=[replace(corpus, is_dealt=True) for corpus in self.corpora])

    def _start(self, bar: Bar, say: Callable[[str], None]) -> Online:
        labeller = Labeller(load_teacher(self.teacher, False, self.device))
        pools = self._pools(bar, say)
        dev = self._dev(labeller, bar)
        with self._batches(pools, labeller) as draw_batch:
            key, noise, rooms = self._key(pools[0](), labeller), pools[1](), pools[2]()
            distortion = Distortion(noise, rooms, self.config.clean)
            moments = embedding_moments(draw_batch, self.folder / f"embedding-{key}.npy")
            arguments = (draw_batch, distortion, dev, self.folder, moments, self._metadata(labeller), self.device)
            task = Online(self.config, self.pupils, *arguments)
            loop = make_loop(self.folder, task, key)

            def report(line: Scores) -> None:
                for sentence in task.in_words(line):
                    say(sentence)

            with bar("distil") as progress:
                loop.run(progress, report)
        return task

    def _check_names(self) -> None:
        names = [corpus.name for corpus in (*self.corpora, *self.left_out)]
        if len(set(names)) < len(names):
            raise ManifestError(f"two corpora have one name: {', '.join(names)}. Rename a folder or a file.")

    def _pools(
        self, bar: Bar, say: Callable[[str], None]
    ) -> tuple[Callable[[], Pool], Callable[[], Pool | None], Callable[[], Pool | None]]:
        """Functions that open the pools of clips, noise and rooms; the audio is decoded here."""
        with bar("audio") as progress:
            folder = self.folder / "audio"
            clips = partial(load_pool, self._sources(), folder, self.device, nothing)
            noise, rooms = (
                partial(load_pool, [Source(manifest, read_manifest(manifest))], folder, self.device, nothing, trimmed)
                if manifest
                else none
                for manifest, trimmed in ((self.noise, True), (self.rooms, False))
            )
            load_pool(self._sources(), folder, self.device, progress)
        for pool in (clips, noise, rooms):
            for reason in getattr(pool(), "skipped", []):
                say(f"left out: {reason}")
        return clips, noise, rooms

    def _sources(self) -> list[Source]:
        return [Source(corpus.name, corpus.learnt(self.dev_fold), corpus.share) for corpus in self.corpora]

    def _dev(self, labeller: Labeller, bar: Bar) -> list[Dev]:
        devs = []
        with bar("dev clips") as progress:
            sets = [(corpus.name, corpus.dev(self.dev_fold), False) for corpus in self.corpora]
            sets += [(corpus.name, corpus.segments(), True) for corpus in self.left_out]
            for done, (name, segments, left_out) in enumerate(sets):
                progress(done, len(sets))
                if segments:
                    devs.append(load_dev(name, segments, labeller, self.config, self.folder, left_out))
        if all(dev.left_out for dev in devs):
            raise ManifestError(
                f"no corpus has a row in fold {self.dev_fold} for selecting weights. Give another --dev-fold."
            )
        who = TeacherId.of(labeller.teacher)._asdict()
        rows = [row | who for dev in devs if not dev.left_out for row in dev.rows(self.folder)]
        write_table(rows, str(self.folder / DEV_LABELS), "csv")
        return devs

    @contextmanager
    def _batches(
        self, pools: Sequence[Callable[[], Pool | None]], labeller: Labeller
    ) -> Iterator[Callable[[int], Labelled]]:
        clips = pools[0]()
        assert clips is not None
        if self.device != "cpu":
            yield composer(clips, labeller, self.config, self.device)
            return
        shards = Shards(self.ring or self.folder / "ring", self.config, self._key(clips, labeller))
        recipe = Recipe(pools[0], partial(open_labeller, self.teacher), shards, self.config)
        with ring(recipe, self.workers or os.cpu_count() or 1, keep=self.ring is not None) as made:
            yield made.draw
            made.end()

    def _key(self, clips: Pool, labeller: Labeller) -> str:
        """Hash of everything that the labelled clips depend on."""
        names = ("group_size", "durations", "mixture", "joined", "fastest", "stretched", "stretch")
        composition = [getattr(self.config, name) for name in (*names, "modulated", "modulation", "seed")]
        parts = json.dumps([clips.key, composition, labeller.probe])
        return hashlib.sha256(parts.encode()).hexdigest()[:12]

    def _metadata(self, labeller: Labeller) -> dict[str, str]:
        teacher = labeller.teacher
        starts = [licence_of(pupil.start) for pupil in self.pupils if pupil.start]
        return {
            "teacher": f"{teacher.name} {teacher.version}".strip(),
            "training_data": self.data or ", ".join(corpus.name for corpus in self.corpora),
            "teacher_licence": teacher.licence,
            "licence": self.licence or of_weights([teacher.licence, *starts]),
        }


def open_labeller(name: str) -> Labeller:
    """Create the labeller of a worker."""
    return Labeller(load_teacher(name))


def nothing(done: float, total: float, note: str = "") -> None:
    """Ignore progress."""


def none() -> None:
    """Return no pool."""
