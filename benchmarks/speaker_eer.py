"""Which embedding separates speakers, and what ``corpus --check-voices`` reports about mislabelled speakers.

    python benchmarks/speaker_eer.py DATA --cache FOLDER [--ravdess FOLDER] [--teacher] [--write FILE]

DATA is the folder open/ of docs/data.md. The first table is the equal error rate (EER) of pairs within a corpus: of
clips, and of means of five clips. The embeddings are compared by cosine, and after linear discriminant analysis (LDA)
fitted on the other corpora, so that no speaker is in both. Intervals are of a bootstrap over speakers.

The second table is of ``check_voices``, with the projection fitted on the other corpora. Each speaker in turn gets two
names, with half of the clips each: recall is the share of them that is a warning. False warnings are pairs of two
speakers, per 100 speakers, without a planted error. The last two columns are of a check that is not shipped: half of
a speaker's clips are replaced by those of another speaker, and 2-means is to notice it.

``--write`` fits the projection on all corpora of DATA and writes the file that the package ships.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from wav2small.audio.read import read
from wav2small.corpora.voices import CLIP_DUR, FALSE_WARNINGS, MIN_CLIPS, describe, same_voices
from wav2small.metrics import percentile_interval
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.weights import write_safetensors
from wav2small.runtime.model import load
from wav2small.tables.manifest import Segment, read_manifest

CLIPS = {"speechocean": 10, "librispeech": 10, "emogator": 12, "emodb": 20, "accents": 3, "arabic_commands": 10}
"""Clips of a speaker for the first table; LibriSpeech's speakers of one clip give up to three parts of it."""
CHECKED = {"emodb": 40, "emogator": 20, "arabic_commands": 20, "ravdess": 40}
"""Clips of a speaker for the second table."""
VOICE = "log-mel, F0"
STUDENTS = ("micro", "micro-l", "wav2small")
PIECE = int(CLIP_DUR * SAMPLING_RATE)
SHRINKAGE, DIMENSIONS = 0.1, 40
BINS, DRAWS = 400, 200
MIN_SPEAKERS = 5
"""With two rows, for an EER."""
STEPS = range(0, DRAWS + 1, 50)


class Clips(NamedTuple):
    """Speaker of each clip, and embeddings by name, shape=(clips, size) each."""

    speaker: np.ndarray
    embedding: dict[str, np.ndarray]


def subset(manifest: Path, most: int) -> Iterator[tuple[str, Segment, int]]:
    """Speaker, clip and number of clips of the speaker, for at most ``most`` clips each, drawn with a fixed seed."""
    by_speaker: dict[str, list[Segment]] = defaultdict(list)
    for segment in read_manifest(manifest):
        if segment.speaker:
            by_speaker[segment.speaker].append(segment)
    rng = np.random.default_rng(zlib.crc32(manifest.name.encode()))
    for speaker, own in sorted(by_speaker.items()):
        for index in rng.permutation(len(own))[:most]:
            yield speaker, own[index], len(own)


def signals(manifest: Path, most: int) -> Iterator[tuple[str, np.ndarray]]:
    """Speaker and signal of each clip; the only clip of a speaker of LibriSpeech is cut into parts."""
    for speaker, clip, count in subset(manifest, most):
        signal = read(clip.path)
        parts = 3 if count == 1 and manifest.name == "librispeech" else 1
        for start in range(0, max(1, len(signal) - PIECE // 2), PIECE)[:parts]:
            yield speaker, signal[start : start + PIECE]


def embeddings(manifest: Path, most: int, with_teacher: bool, cache: Path) -> Clips:
    """Every embedding of the clips of a corpus, from the cache if it is there."""
    file = cache / f"{manifest.name}-{most}{'-teacher' if with_teacher else ''}.npz"
    cache.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        speakers, clips = zip(*signals(manifest, most), strict=True)
        found = {VOICE: np.stack([describe(clip) for clip in clips])}
        if with_teacher:
            models = {name: load(name) for name in STUDENTS}
            found |= {name: np.stack([model.embed(clip) for clip in clips]) for name, model in models.items()}
            found |= teacher(clips)
        np.savez(file, speaker=np.array(speakers), **found)
    arrays = dict(np.load(file))
    return Clips(arrays.pop("speaker"), arrays)


def by_recording(clips: Clips) -> dict[str, Clips]:
    """Speakers of LibriSpeech with several clips, and those with parts of one clip, whose channel is one."""
    several = np.isin(clips.speaker, [name for name in np.unique(clips.speaker) if np.sum(clips.speaker == name) > 3])
    found = {"librispeech": several, "librispeech, parts of a clip": ~several}
    return {
        name: Clips(clips.speaker[rows], {key: values[rows] for key, values in clips.embedding.items()})
        for name, rows in found.items()
    }


def teacher(clips: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and standard deviation over time of the states of each layer of Whisper's encoder."""
    from wav2small.train.teachers.whisper import WhisperBody, find_encoder

    states = WhisperBody(find_encoder(layers=3)).statistics(clips)
    return {f"Whisper, layer {layer}": states[:, layer] for layer in range(states.shape[1])}


def fit_lda(corpora: Sequence[Clips], name: str) -> np.ndarray:
    """LDA of clips centred by corpus, shape=(size, dimensions), with a shrunk covariance within speakers."""
    centred = np.concatenate([clips.embedding[name] - clips.embedding[name].mean(0) for clips in corpora])
    speakers = np.concatenate([np.char.add(f"{number} ", clips.speaker) for number, clips in enumerate(corpora)])
    codes = np.unique(speakers, return_inverse=True)[1]
    counts = np.bincount(codes)
    scale = centred.std(0) + 1e-6
    scaled = centred / scale
    means = np.stack([scaled[codes == code].mean(0) for code in range(len(counts))])
    residual = (scaled - means[codes])[counts[codes] > 1]
    within = residual.T @ residual / (len(residual) - np.count_nonzero(counts > 1))
    size = len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / size * np.eye(size)
    whiten = np.linalg.inv(np.linalg.cholesky(within)).T
    spread = (means - means.mean(0)) @ whiten
    directions = np.linalg.eigh(spread.T @ spread)[1][:, -DIMENSIONS:]
    return np.asarray(whiten @ directions / scale[:, None])


def units(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def means_of(embedding: np.ndarray, speaker: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``count`` clips of a speaker, no clip in two of them, and their speakers."""
    rng, rows = np.random.default_rng(0), []
    for name in np.unique(speaker):
        order = rng.permutation(np.flatnonzero(speaker == name))
        rows += [(name, order[i : i + count]) for i in range(0, len(order) - count + 1, count)]
    if not rows:
        return embedding[:0], speaker[:0]
    return np.stack([units(embedding[own]).mean(0) for _, own in rows]), np.array([name for name, _ in rows])


def equal_error_rate(embedding: np.ndarray, speaker: np.ndarray) -> tuple[float, float, float]:
    """EER of all pairs by cosine, and its interval over speakers; pairs of a speaker drawn twice are left out."""
    names, codes = np.unique(speaker, return_inverse=True)
    unit = units(embedding)
    first, second = np.triu_indices(len(codes), 1)
    bins = np.clip(((unit @ unit.T)[first, second] + 1) / 2 * BINS, 0, BINS - 1).astype(int)
    counts = np.zeros((len(names), len(names), BINS), np.float32)
    np.add.at(counts, (codes[first], codes[second], bins), 1)
    times = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    times = np.concatenate([np.ones((1, len(names)), int), times]).astype(np.float32)
    upper = np.triu_indices(len(names), 1)
    same = times @ counts[np.arange(len(names)), np.arange(len(names))]
    of_pairs = counts[upper]
    different = np.concatenate([times[i : i + 50, upper[0]] * times[i : i + 50, upper[1]] @ of_pairs for i in STEPS])
    with np.errstate(invalid="ignore"):  # a draw without a speaker of two rows is not a number
        missed = np.cumsum(same, 1) / same.sum(1, keepdims=True)
        accepted = 1 - np.cumsum(different, 1) / different.sum(1, keepdims=True)
    best = np.abs(missed - accepted).argmin(1)[:, None]
    rates = np.take_along_axis((missed + accepted) / 2, best, 1)[:, 0]
    return float(rates[0]), *percentile_interval(rates[1:])


def centred(clips: Clips, name: str) -> np.ndarray:
    return np.asarray(clips.embedding[name] - clips.embedding[name].mean(0))


def report_eer(corpora: Mapping[str, Clips]) -> None:
    """A table of clips, and one of means of five clips."""
    rows: dict[tuple[str, str], dict[int, list[str]]] = {}
    for name in next(iter(corpora.values())).embedding:
        for scoring in ("cosine", "LDA"):
            cells = rows[name, scoring] = {1: [], 5: []}
            for corpus, clips in corpora.items():
                values = centred(clips, name)
                if scoring == "LDA":
                    values = values @ fit_lda([other for key, other in corpora.items() if key != corpus], name)
                else:
                    values = values / (values.std(0) + 1e-6)
                for count in cells:
                    cells[count].append(eer_cell(values, clips.speaker, count))
    for count in (1, 5):
        what = "single clips" if count == 1 else f"means of {count} clips"
        print(f"\nEER in %, {what}\n\n| embedding | scoring | {' | '.join(corpora)} |")
        print("|---" * (2 + len(corpora)) + "|")
        for key, cells in rows.items():
            print(f"| {' | '.join((*key, *cells[count]))} |")


def eer_cell(values: np.ndarray, speaker: np.ndarray, count: int) -> str:
    means, names = means_of(values, speaker, count)
    if np.count_nonzero(np.unique(names, return_counts=True)[1] > 1) < MIN_SPEAKERS:
        return "-"
    rate, low, high = equal_error_rate(means, names)
    return f"{100 * rate:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def mixed_names(embedding: np.ndarray, names: np.ndarray) -> list[str]:
    """Names that sound like two voices: their clips part into two groups that are far apart. Not shipped."""
    distinct, codes = np.unique(names, return_inverse=True)
    unit = units(embedding)
    distance = np.array([_distance_of_halves(unit[codes == code]) for code in range(len(distinct))])
    others = len(distinct) - 1
    mean = (distance.sum() - distance) / others
    spread = np.sqrt(np.maximum((np.square(distance).sum() - distance**2) / others - mean**2, 1e-12))
    scores = (distance - mean) / spread
    limit = NormalDist().inv_cdf(1 - FALSE_WARNINGS)
    return [str(name) for name in distinct[scores > limit]]


def _distance_of_halves(unit: np.ndarray) -> float:
    """1 - cosine of the means of two groups of clips, by 2-means that starts from the first principal direction."""
    centred = unit - unit.mean(0)
    side = centred @ np.linalg.svd(centred, full_matrices=False)[2][0] > 0
    for _ in range(10):
        if side.all() or not side.any():
            return 0.0
        one, other = unit[side].mean(0), unit[~side].mean(0)
        side = np.square(unit - other).sum(1) > np.square(unit - one).sum(1)
    one, other = units(np.stack([one, other]))
    return float(1 - one @ other)


def report_checks(name: str, voices: np.ndarray, speaker: np.ndarray, count: int) -> None:
    """One row: errors are planted one at a time; each speaker has ``count`` clips, or as many as there are."""
    rng = np.random.default_rng(0)
    own = {s: rng.permutation(np.flatnonzero(speaker == s))[:count] for s in np.unique(speaker)}
    own = {s: rows for s, rows in own.items() if len(rows) >= max(2 * MIN_CLIPS, count / 2)}
    rows = np.concatenate(list(own.values()))
    names, values = speaker[rows], voices[rows]
    false = [100 * len(check(values, names)) / len(own) for check in (same_voices, mixed_names)]
    two_names, two_voices = [], []
    for one in own:
        where = np.flatnonzero(names == one)
        halved = names.astype(object)
        halved[where[: len(where) // 2]] = "planted"
        two_names.append(any({a.name, a.other} == {one, "planted"} for a in same_voices(values, halved.astype(str))))
        other = rng.choice([s for s in own if s != one])
        mixture = values.copy()
        half = where[: min(len(where), len(own[other])) // 2]
        mixture[half] = values[np.flatnonzero(names == other)[: len(half)]]
        without = names != other
        two_voices.append(one in mixed_names(mixture[without], names[without]))
    cells = (np.mean(two_names), false[0], np.mean(two_voices), false[1])
    print(
        f"| {name} | {len(own)} | {count} | "
        + " | ".join(f"{x:.2f}" if i % 2 == 0 else f"{x:.1f}" for i, x in enumerate(cells))
        + " |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the embeddings")
    parser.add_argument("--ravdess", type=Path, help="folder of RAVDESS: evaluation only")
    parser.add_argument("--teacher", action="store_true", help="the students and Whisper's encoder too: minutes")
    parser.add_argument("--write", type=Path, help="file for the projection")
    arguments = parser.parse_args()
    corpora: dict[str, Clips] = {}
    for name, most in CLIPS.items():
        clips = embeddings(arguments.data / name, most, arguments.teacher, arguments.cache)
        corpora |= by_recording(clips) if name == "librispeech" else {name: clips}
    report_eer(corpora)
    print(
        "\n| corpus | speakers | clips of a name | recall, one voice under two names | false warnings per 100 names |"
        " recall, two voices under one name | false warnings per 100 names |\n|---|---|---|---|---|---|---|"
    )
    for name, most in CHECKED.items():
        folder = arguments.ravdess if name == "ravdess" else arguments.data / name
        if folder is not None:
            clips = embeddings(folder, most, False, arguments.cache)
            lda = fit_lda([other for key, other in corpora.items() if key != name], VOICE)
            for count in (10, 20, 40):
                if count <= most:
                    report_checks(name, centred(clips, VOICE) @ lda, clips.speaker, count)
    if arguments.write:
        lda = fit_lda(list(corpora.values()), VOICE).astype(np.float32)
        write_safetensors(arguments.write, {"projection": lda}, {"data": ", ".join(corpora)})


if __name__ == "__main__":
    main()
