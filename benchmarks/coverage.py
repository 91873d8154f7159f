"""Do the intervals of a calibration hold on a corpus that it was not made from, and what does it do to the CCC?

    python benchmarks/coverage.py CALIBRATION.json LABELS.csv --model micro

LABELS are the teacher's of whole clips, as `wav2small label` writes them. A line for whole clips and for their middle
1, 2 and 3 s: the share of labels inside the intervals of 80 and 95 %, for each dimension, the mean width
of those of 80 %, and the CCC before and after.
"""

from __future__ import annotations

import argparse

import numpy as np

from wav2small.calibration import LEVELS, load_calibration
from wav2small.config import OUTPUTS, Emotion
from wav2small.fit_calibration import listen
from wav2small.manifest import read_manifest
from wav2small.metrics import concordance_cc
from wav2small.model import load


def triple(values: np.ndarray) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calibration")
    parser.add_argument("labels")
    parser.add_argument("--model", default="micro")
    arguments = parser.parse_args()
    calibration, model = load_calibration(arguments.calibration), load(arguments.model)
    calibration.check(model.metadata)
    heard = listen({"all": read_manifest(arguments.labels)}, model.batch, lambda *_: None, snrs=(np.inf,))
    print("| heard | clips | 80 % hold | 95 % hold | width of 80 % | CCC before | CCC after |")
    print("|---" * 7 + "|")
    for cut_dur in sorted(set(heard.cut_dur)):
        some = heard[heard.cut_dur == cut_dur]
        mapped = np.array([calibration.calibrated(Emotion(*row)) for row in some.output])
        cells = [f"{cut_dur:g} s" if cut_dur else "whole", f"{len(some.clip):,}"]
        widths = []
        for level in LEVELS:
            ends = [
                calibration.interval(Emotion(*row), dur, contrast, level)
                for row, dur, contrast in zip(mapped, some.speech_dur, some.contrast, strict=True)
            ]
            low, high = np.array(ends).transpose(1, 0, 2)
            cells.append(triple(np.mean((low <= some.label) & (some.label <= high), axis=0)))
            widths.append(triple(np.mean(high - low, axis=0)))
        cells.append(widths[0])
        for answer in (some.output, mapped):
            columns = range(len(OUTPUTS))
            cells.append(triple(np.array([concordance_cc(some.label[:, d], answer[:, d]) for d in columns])))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
