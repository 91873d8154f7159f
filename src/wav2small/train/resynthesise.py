"""Resynthesis of speech with changed pitch, pitch range, formants and tempo, by the vocoder WORLD.

Source: Morise et al. 2016, "WORLD: a vocoder-based high-quality speech synthesis system", by the package ``pyworld``
(extra ``voices``): F0 by DIO and StoneMask, spectral envelope by CheapTrick, aperiodicity by D4C. The ranges are ours;
they preserve the emotion of a clip but change the speaker's identity.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import re
import signal as signals
import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile

from wav2small.errors import ManifestError, missing_packages
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.tables.manifest import Segment, segment_signal
from wav2small.tables.table import write_table
from wav2small.train import Progress, make_folder
from wav2small.train.config import VoicesConfig

FRAME_DUR = 0.005
LOWEST_F0, HIGHEST_F0 = 50.0, 1000.0
"""Range of the changed pitch, in Hz."""


@dataclass(frozen=True)
class Voice:
    """Factors of change.

    Attributes:
        pitch: of the median pitch
        pitch_range: of the range of log pitch
        formants: of the formant frequencies
        tempo: of the speaking rate
    """

    pitch: float = 1.0
    pitch_range: float = 1.0
    formants: float = 1.0
    tempo: float = 1.0


@dataclass(frozen=True)
class Analysis:
    """WORLD's parameters of a clip, one row per ``FRAME_DUR`` seconds.

    Attributes:
        f0: Hz, 0 in unvoiced frames, shape=(frames,)
        envelope: spectral envelope (power), shape=(frames, bins)
        aperiodicity: 0 to 1, shape=(frames, bins)
        rms: root mean square of the clip
    """

    f0: np.ndarray
    envelope: np.ndarray
    aperiodicity: np.ndarray
    rms: float


def check_extra() -> None:
    """Check that the extra ``voices`` is installed.

    Raises:
        MissingExtraError: if it is not
    """
    missing = [name for name in ("pyworld", "pkg_resources") if find_spec(name) is None]
    if missing:
        raise missing_packages("this", missing, "wav2small[voices]")


def draw_voice(name: str, variant: int, config: VoicesConfig) -> Voice:
    """The voice of a variant of a clip, which depends only on the seed, the name of the clip and the variant."""
    rng = np.random.default_rng([config.seed, variant, *hashlib.sha256(name.encode()).digest()])
    return Voice(
        pitch=float(np.exp(rng.uniform(-config.pitch, config.pitch))),
        pitch_range=float(np.exp(rng.uniform(np.log(config.least_range), np.log(config.most_range)))),
        formants=float(1 + rng.uniform(-config.formants, config.formants)),
        tempo=float(1 + rng.uniform(-config.tempo, config.tempo)),
    )


def analyse(signal: np.ndarray) -> Analysis:
    """WORLD's parameters of mono float32 audio at 16 kHz, shape=(samples,)."""
    pyworld = _pyworld()
    samples = np.ascontiguousarray(signal, np.float64)
    coarse, time = pyworld.dio(samples, SAMPLING_RATE, frame_period=FRAME_DUR * 1000)
    f0 = pyworld.stonemask(samples, coarse, time, SAMPLING_RATE)
    envelope = pyworld.cheaptrick(samples, f0, time, SAMPLING_RATE)
    aperiodicity = pyworld.d4c(samples, f0, time, SAMPLING_RATE)
    return Analysis(f0, envelope, aperiodicity, float(np.sqrt(np.mean(samples**2))))


def synthesise(analysis: Analysis, voice: Voice) -> np.ndarray:
    """The clip in another voice, at the same level.

    Args:
        analysis: parameters of the clip
        voice: factors of change

    Returns:
        mono audio at 16 kHz, float32 in [-1, 1], shape=(samples,); about the clip's length divided by ``voice.tempo``
    """
    pyworld = _pyworld()
    made = pyworld.synthesize(
        changed_pitch(analysis.f0, voice.pitch, voice.pitch_range),
        np.exp(_warp(np.log(analysis.envelope), voice.formants)),
        np.clip(_warp(analysis.aperiodicity, voice.formants), 0, 1),
        SAMPLING_RATE,
        FRAME_DUR * 1000 / voice.tempo,
    )
    rms, peak = float(np.sqrt(np.mean(made**2))), float(np.abs(made).max())
    gain = min(analysis.rms / rms, 0.99 / peak) if rms > 0 else 0.0
    return np.asarray(gain * made, np.float32)


def _pyworld() -> ModuleType:
    """The package pyworld, imported without its warning about pkg_resources."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return import_module("pyworld")


def changed_pitch(f0: np.ndarray, pitch: float, pitch_range: float) -> np.ndarray:
    """F0 with log F0 scaled around its mean over voiced frames and shifted; unvoiced frames stay 0.

    Args:
        f0: Hz, shape=(frames,)
        pitch: factor of F0
        pitch_range: factor of the range of log F0
    """
    voiced = f0 > 0
    if not voiced.any():
        return f0.copy()
    log_f0 = np.log(f0[voiced])
    changed = f0.copy()
    stretched = np.exp(log_f0.mean() + pitch_range * (log_f0 - log_f0.mean())) * pitch
    changed[voiced] = np.clip(stretched, LOWEST_F0, HIGHEST_F0)
    return changed


def _warp(spectrum: np.ndarray, factor: float) -> np.ndarray:
    """Scale the frequency axis by ``factor``, shape=(frames, bins); the last bin is repeated above it."""
    place = np.minimum(np.arange(spectrum.shape[1]) / factor, spectrum.shape[1] - 1)
    low = np.minimum(place.astype(int), spectrum.shape[1] - 2)
    share = place - low
    return np.ascontiguousarray((1 - share) * spectrum[:, low] + share * spectrum[:, low + 1])


def resynthesise_all(
    corpora: Sequence[Sequence[Segment]], folder: Path, config: VoicesConfig, workers: int, progress: Progress
) -> None:
    """Write ``config.variants`` FLAC files per segment and a manifest into ``folder``; existing files are kept.

    Args:
        corpora: segments of each corpus
        folder: output folder
        config: settings of the variants
        workers: number of processes
        progress: called with (segments done, segments)

    Raises:
        ManifestError: if there are no segments, two would be written to one file, or the folder contains clips of
            another seed or other segments
        AudioError: if a segment cannot be read
        MissingExtraError: if pyworld is not installed
    """
    check_extra()
    segments = [segment for corpus in corpora for segment in corpus]
    if not segments:
        raise ManifestError("the manifests have no rows to resynthesise. Give a manifest with rows.")
    _check_names(segments)
    make_folder(folder)
    _check_stamp(folder / "resynthesised.txt", segments, config)
    missing = [segment for segment in segments if _missing(segment, folder, config)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _begin, (folder, config)) as pool:
        done = len(segments) - len(missing)
        for count, _ in enumerate(pool.imap_unordered(_write, missing, chunksize=4), done + 1):
            progress(count, len(segments))
    rows = [_row(segment, variant, config) for segment in segments for variant in range(config.variants)]
    write_table(rows, folder / "manifest.csv", columns=list(dict.fromkeys(name for row in rows for name in row)))


def _check_names(segments: Sequence[Segment]) -> None:
    seen: dict[str, str] = {}
    for segment in segments:
        name = file_name(segment, 0)
        if name in seen:
            raise ManifestError(f"{seen[name]} and {segment.file} would both be written to {name}. Use two folders.")
        seen[name] = segment.file


def _check_stamp(marker: Path, segments: Sequence[Segment], config: VoicesConfig) -> None:
    digest = hashlib.sha256("\n".join(_key(segment) for segment in segments).encode()).hexdigest()[:8]
    stamp = f"seed {config.seed}, {len(segments)} segments {digest}\n"
    if marker.is_file() and marker.read_text() != stamp:
        raise ManifestError(f"{marker.parent}: contains clips of {marker.read_text().strip()}. Give another folder.")
    marker.write_text(stamp)


def _key(segment: Segment) -> str:
    whole = (segment.start, segment.end) == (0, None)
    return segment.file if whole else f"{segment.file} {segment.start:g}-{segment.end or 0:g}"


def file_name(segment: Segment, variant: int) -> str:
    """Path of a variant relative to the folder."""
    stem, suffix, _ = segment.file.rpartition(".")
    key = _key(segment).replace(segment.file, stem if suffix else segment.file)
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', key)}-{variant + 1}.flac"


def _missing(segment: Segment, folder: Path, config: VoicesConfig) -> list[int]:
    return [v for v in range(config.variants) if not (folder / file_name(segment, v)).is_file()]


def _row(segment: Segment, variant: int, config: VoicesConfig) -> dict[str, object]:
    """Row of a variant: the columns of its clip except the length, the name of the clip, and the factors of the voice.

    A clip without a speaker is its own speaker, so that its variants stay in one fold.
    """
    voice = zip(
        (field.name for field in fields(Voice)), astuple(draw_voice(_key(segment), variant, config)), strict=True
    )
    row: dict[str, object] = {"file": file_name(segment, variant), "speaker": segment.speaker or segment.file}
    row |= {name: value for name in ("split", "label") if (value := segment.column(name))}
    if segment.emotion is not None:
        row |= dict(zip(OUTPUTS, segment.emotion, strict=True))
    row |= {name: value for name, value in segment.fields.items() if name != "seconds"}
    return row | {"source": _key(segment)} | {name: f"{value:.3f}" for name, value in voice}


_work: tuple[Path, VoicesConfig]


def _begin(folder: Path, config: VoicesConfig) -> None:
    signals.signal(signals.SIGINT, signals.SIG_IGN)  # the parent handles Ctrl-C and stops the workers
    global _work
    _work = (folder, config)


def _write(segment: Segment) -> None:
    folder, config = _work
    analysis = analyse(segment_signal(segment))
    for variant in _missing(segment, folder, config):
        made = synthesise(analysis, draw_voice(_key(segment), variant, config))
        with whole_file(folder / file_name(segment, variant)) as temporary:
            soundfile.write(temporary, made, SAMPLING_RATE, subtype="PCM_16")
