"""A made-up corpus with annotation over time: recordings of EmoDB clips, and truth.csv.

    python benchmarks/made_up_series.py EMODB FOLDER [--delay SECONDS] [--fold N] [--train]

EMODB is the corpus with its manifest. The clips of two speakers of one fold are put in an order of chance, and cut into
eight recordings per speaker, with pauses between clips. The first speaker is dev, the second is test; with ``--train``
the speakers of the other folds are train. The truth at each quarter of a second is the norm of the category of the last
clip that has begun, ``--delay`` seconds later: a rater who reacts late and never errs. It is known by construction and
says nothing about people's ratings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.tables.manifest import load_norms, read_manifest, segment_signal, select
from wav2small.tables.series import Series, series_rows
from wav2small.tables.table import write_table

RECORDINGS = 8
HOP_DUR = 0.25
PAUSE_DUR = (0.3, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=2.0)
    parser.add_argument("--fold", default="0")
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    clips = read_manifest(options.corpus)
    held_out = sorted({clip.speaker for clip in select(clips, [("fold", options.fold)])})[:2]
    splits = dict(zip(held_out, ("dev", "test"), strict=True))
    if options.train:
        others = sorted({clip.speaker for clip in clips if clip.column("fold") != options.fold})
        splits |= dict.fromkeys(others, "train")
    norms, rng = load_norms(), np.random.default_rng(0)
    series = []
    for speaker, split in splits.items():
        own = [clip for clip in clips if clip.speaker == speaker]
        for number, chosen in enumerate(np.array_split(rng.permutation(len(own)), RECORDINGS)):
            parts, starts = [], []
            for clip in (own[index] for index in chosen):
                starts.append(sum(map(len, parts)) / SAMPLING_RATE)
                parts += [segment_signal(clip), np.zeros(round(rng.uniform(*PAUSE_DUR) * SAMPLING_RATE), np.float32)]
            signal = np.concatenate(parts)
            file = f"{speaker}-{number}.flac"
            soundfile.write(options.folder / file, signal, SAMPLING_RATE)
            time = np.arange(options.delay, len(signal) / SAMPLING_RATE, HOP_DUR)
            spoken = np.searchsorted(starts, time - options.delay, side="right") - 1
            truth = np.array([norms[own[index].label].emotion for index in chosen])[spoken]
            series.append(Series(file, time, dict(zip(OUTPUTS, truth.T, strict=True)), split))
    write_table(series_rows(series), options.folder / "truth.csv")


if __name__ == "__main__":
    main()
