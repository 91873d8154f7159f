"""Speakers of a corpus who sound like one voice under two names: they leak between splits that are disjoint by name.

A clip is described by its cepstra and its fundamental frequency. A projection, fitted by linear discriminant analysis
(LDA) on open corpora, keeps what differs between speakers more than within them. A name is the mean of its clips, and
a pair of names is a finding if it is far nearer than its two names are to all others.

Accuracy: docs/related/speakers.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2small.corpora.check import Finding, Progress
from wav2small.errors import ManifestError
from wav2small.network.config import FRONTEND, SAMPLING_RATE
from wav2small.network.frontend import log_mel, normalise
from wav2small.network.weights import read_safetensors
from wav2small.tables.manifest import Segment, segment_signal

Floats = NDArray[np.float64]
PROJECTION = Path(__file__).with_name("voices.safetensors")
SAME_VOICE = "one voice under two names"
"""Kind of the findings."""

CEPSTRA, DELTAS = 24, 13
VOICE_FRONTEND = replace(FRONTEND, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=60.0, fmax=7800.0)
QUIET = 0.3
"""Share of the frames, the quietest, that are left out."""
F0_LENGTH, F0_FFT = 640, 2048
"""Samples of a window for the fundamental frequency, and of its FFT."""
F0_MIN, F0_MAX = 60, 500
"""Hz."""
VOICED, AUDIBLE = 0.5, 1e-3
"""Least autocorrelation of a voiced frame, and its least power relative to the loudest frame."""
OF_HIGHEST = 0.9
"""The period is the shortest lag with a peak of so much of the highest: multiples of the period have peaks too."""
UNKNOWN_F0 = 150.0
"""Hz, where hardly any frame is voiced."""
CLIP_DUR = 4.0
"""Seconds of a clip that are used, from its start."""
MIN_CLIPS, MAX_CLIPS = 5, 40
"""Of a name: with fewer it is not checked, and of more some are used, evenly spaced."""
MIN_NAMES = 8
"""Names that are needed to tell what is usual between two of them."""
FALSE_WARNINGS = 0.003
"""Per name, if scores were normally distributed; measured, there are more."""


class Alike(NamedTuple):
    """Two names that sound like one voice.

    Attributes:
        name: of a speaker
        other: name of another speaker
        score: how unusual it is that two names of this corpus are so near, in standard deviations
    """

    name: str
    other: str
    score: float


def describe(signal: np.ndarray) -> Floats:
    """Voice of a clip: mean and spread of its cepstra, their mean change, and its fundamental frequency.

    Args:
        signal: mono audio at 16 kHz, shape=(samples,); zero-padded to ``F0_LENGTH`` if it is shorter

    Returns:
        shape=(67,)
    """
    signal = np.pad(signal, (0, max(0, F0_LENGTH - len(signal))))
    spectrum = log_mel(normalise(signal), VOICE_FRONTEND)
    level = spectrum.mean(1)
    cepstrum = spectrum[level >= np.quantile(level, QUIET)] @ _cosines(VOICE_FRONTEND.n_mels)
    change = np.abs(np.diff(cepstrum[:, :DELTAS], axis=0)).mean(0) if len(cepstrum) > 1 else np.zeros(DELTAS)
    return np.concatenate([cepstrum.mean(0), cepstrum.std(0), change, _f0(signal)])


def _cosines(size: int) -> Floats:
    """The orthonormal DCT-II, shape=(size, CEPSTRA)."""
    phase = np.pi / size * np.outer(np.arange(size) + 0.5, np.arange(CEPSTRA))
    return np.cos(phase) * np.sqrt(np.where(np.arange(CEPSTRA) == 0, 1, 2) / size)


def _f0(signal: np.ndarray) -> Floats:
    """Median and four quantiles of log F0, and the share of voiced frames, by normalised autocorrelation."""
    window = np.hanning(F0_LENGTH)
    frames = np.lib.stride_tricks.sliding_window_view(signal, F0_LENGTH)[:: VOICE_FRONTEND.hop_length] * window
    correlation, of_window = _autocorrelation(frames), _autocorrelation(window)
    power = correlation[:, 0]
    normalised = correlation / np.maximum(power[:, None], 1e-9) / (of_window / of_window[0])
    shortest, longest = SAMPLING_RATE // F0_MAX, SAMPLING_RATE // F0_MIN
    near, inside, far = (normalised[:, shortest + shift : longest + shift] for shift in (-1, 0, 1))
    peak = (inside >= near) & (inside >= far) & (inside >= OF_HIGHEST * inside.max(1, keepdims=True))
    first = peak.argmax(1)
    height = np.where(peak.any(1), inside[np.arange(len(first)), first], 0)
    lag, voiced = first + shortest, (height > VOICED) & (power > power.max() * AUDIBLE)
    log_f0 = np.log(SAMPLING_RATE / lag[voiced]) if voiced.sum() > 3 else np.log([UNKNOWN_F0])
    return np.array([np.median(log_f0), *np.quantile(log_f0, [0.1, 0.25, 0.75, 0.9]), voiced.mean()])


def _autocorrelation(frames: Floats) -> Floats:
    power = np.abs(np.fft.rfft(frames, F0_FFT)) ** 2
    return np.asarray(np.fft.irfft(power)[..., :F0_LENGTH])


def check_voices(segments: Sequence[Segment], progress: Progress) -> list[Finding]:
    """Pairs of speakers of a corpus who sound like one voice, the most alike first.

    Args:
        segments: with speakers; at most ``MAX_CLIPS`` of each name are read
        progress: called after each clip

    Raises:
        ManifestError: if fewer than ``MIN_NAMES`` names have ``MIN_CLIPS`` clips
        AudioError: if a clip cannot be read
    """
    by_name: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        by_name[segment.speaker].append(segment)
    by_name = {name: own for name, own in sorted(by_name.items()) if name and len(own) >= MIN_CLIPS}
    if len(by_name) < MIN_NAMES:
        raise ManifestError(
            f"{len(by_name)} speakers have {MIN_CLIPS} clips or more. --check-voices compares {MIN_NAMES} or "
            "more such speakers; leave it out."
        )
    clips = [(name, clip) for name, own in by_name.items() for clip in _some(own)]
    voices = []
    for done, (_, clip) in enumerate(clips, 1):
        voices.append(describe(segment_signal(clip)[: int(CLIP_DUR * SAMPLING_RATE)]))
        progress(done, len(clips))
    embedding, names = project(np.array(voices)), np.array([name for name, _ in clips])
    split = {name: "+".join(sorted({clip.split for clip in own})) for name, own in by_name.items()}
    return [Finding(SAME_VOICE, pair.name, _about(pair, split)) for pair in same_voices(embedding, names)]


def _about(pair: Alike, split: Mapping[str, str]) -> str:
    own, other = split[pair.name], split[pair.other]
    return f"and {pair.other}, score {pair.score:.1f}" + (f", of another split: {own}, {other}" if own != other else "")


def _some(clips: Sequence[Segment]) -> list[Segment]:
    count = min(len(clips), MAX_CLIPS)
    return [clips[number * len(clips) // count] for number in range(count)]


def project(voices: Floats) -> Floats:
    """Descriptions of all clips of a corpus (clips, 67) to where speakers differ, (clips, dimensions)."""
    arrays, _ = read_safetensors(PROJECTION)
    return np.asarray((voices - voices.mean(0)) @ arrays["projection"])


def same_voices(embedding: Floats, names: NDArray[np.str_]) -> list[Alike]:
    """Pairs of names that sound like one voice, the most alike first.

    Args:
        embedding: shape=(clips, size)
        names: of each clip, shape=(clips,)
    """
    distinct, codes = np.unique(names, return_inverse=True)
    scores = score_pairs(mean_of_names(embedding, codes))
    limit = NormalDist().inv_cdf(1 - 2 * FALSE_WARNINGS / (len(distinct) - 1))
    first, second = np.nonzero(np.triu(scores > limit, 1))
    found = [Alike(str(distinct[i]), str(distinct[j]), float(scores[i, j])) for i, j in zip(first, second, strict=True)]
    return sorted(found, key=lambda one: -one.score)


def units(values: Floats) -> Floats:
    """Rows of length 1."""
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def mean_of_names(embedding: Floats, codes: NDArray[np.intp]) -> Floats:
    """Mean over the clips of each name, of embeddings of unit length, shape=(names, size)."""
    unit = units(embedding)
    return np.stack([unit[codes == code].mean(0) for code in range(codes.max() + 1)])


def score_pairs(means: Floats) -> Floats:
    """How near each pair of names is, relative to how near its two names are to all others, shape=(names, names).

    Source: symmetric normalisation of scores, s-norm; Kenny 2010, Odyssey. Near is minus the logarithm of the Euclidean
    distance, which has no upper limit as a cosine has. The pair itself is left out of the mean and the deviation.
    """
    near = -np.log(np.linalg.norm(means[:, None] - means, axis=2) + np.eye(len(means)))
    others = len(means) - 2
    mean = (near.sum(1, keepdims=True) - near) / others
    variance = (np.square(near).sum(1, keepdims=True) - near**2) / others - mean**2
    relative = (near - mean) / np.sqrt(np.maximum(variance, 1e-12))
    return np.asarray((relative + relative.T) / 2)
