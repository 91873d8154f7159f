"""Why babble changes answers: pauses of the clip, and that training reverses its babble.

    python benchmarks/babble.py ravdess [MODEL ...]

Prints the CCC of arousal, dominance and valence with the answer to the clean clip, on the clips of docs/robustness.md:
with babble over whole clips, over clips without the pauses at their ends, and with reversed babble over whole clips.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from wav2small.audio.distort import add_noise, trim
from wav2small.evaluation.conditions import Sounds, clip_rng, sounds_of
from wav2small.metrics import concordance_cc
from wav2small.runtime.model import Model, load
from wav2small.tables.manifest import Segment, read_manifest, segment_signal, select

CLIPS = (("text", "s01"), ("extra", "rep=01"), ("intensity", "normal"))
SNRS = (20, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("models", nargs="*", default=["micro"])
    arguments = parser.parse_args()
    clips = select(read_manifest(arguments.manifest), CLIPS)
    sounds = sounds_of(clips, [], [], 0)
    for name in arguments.models:
        model = load(name)
        answers = defaultdict(list)
        for clip in clips:
            for case, pair in cases(clip, sounds, model):
                answers[case].append(pair)
        for case, pairs in answers.items():
            clean, noisy = np.array(pairs).transpose(1, 2, 0)
            cccs = [f"{concordance_cc(one, other):.2f}" for one, other in zip(clean, noisy, strict=True)]
            print(f"{name}, {case}: {' / '.join(cccs)}")


def cases(clip: Segment, sounds: Sounds, model: Model) -> Iterator[tuple[str, tuple[object, object]]]:
    """Answers to the clean clip and to the one with babble, in each case."""
    whole = segment_signal(clip)
    trimmed = trim(whole)
    clean = model(whole), model(trimmed)
    babbles = [sounds.babble(clip, len(signal), clip_rng(clip, 0)) for signal in (whole, trimmed)]
    for snr in SNRS:
        yield f"whole clips, {snr} dB", (clean[0], model(add_noise(whole, babbles[0], snr)))
        yield f"trimmed clips, {snr} dB", (clean[1], model(add_noise(trimmed, babbles[1], snr)))
        yield f"whole clips, reversed babble, {snr} dB", (clean[0], model(add_noise(whole, babbles[0][::-1], snr)))


if __name__ == "__main__":
    main()
