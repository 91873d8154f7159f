"""The conditions of ``robustness``: distortions of a clip, each fixed by the seed and the clip.

A condition is a name, ``KIND`` or ``KIND:PARAMETER``, and a function of the clip. All conditions of a clip begin with
the same random state: ``white:20`` and ``white:0`` add the same noise, whatever else is computed and in which order.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2small.audio import distort
from wav2small.errors import AudioError, ManifestError, Wav2SmallError
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import Segment, segment_signal

Signal = NDArray[np.float32]

CLEAN = "clean"
"""Name of the clip as it is."""
SNRS = (20, 10, 0, -10)
"""Signal-to-noise ratios, dB."""
MUSIC = "music"
"""Label of the rows of ``--noise`` that are music."""
VOICES, VOICES_AT_ONCE = 40, 5
"""Clips of the manifest that babble is mixed from, and how many of them sound at once."""
SILENCE_DUR = 2.0
"""Seconds of leading or trailing silence."""
PART_SHARE = 1 / 3
"""Of the clip, that ``speed-part`` changes."""
DAWN = ("noise:20", "noise:10", "noise:0", "speed-part:1.25", "fade")
"""The perturbations of Wagner et al. 2022, arXiv:2203.07378, as later work describes them."""
PRESETS = {"dawn": DAWN}


@dataclass(frozen=True)
class Sounds:
    """What is added to clips: recorded noise, music and rooms, and the voices of babble with their signals."""

    noise: Sequence[Segment] = ()
    music: Sequence[Segment] = ()
    rooms: Sequence[Segment] = ()
    voices: Sequence[tuple[Segment, Signal]] = ()

    def available(self, kind: str) -> bool:
        """Whether there is what this kind of condition adds; babble needs another clip beside the one it is for."""
        needed = {"noise": self.noise, "music": self.music, "room": self.rooms, "babble": self.voices[1:]}
        return kind not in needed or bool(needed[kind])

    def babble(self, clip: Segment, samples: int, rng: np.random.Generator) -> Signal:
        """Other clips at one level; those of other speakers, if there are any."""
        others = [(voice, signal) for voice, signal in self.voices if voice != clip]
        foreign = [signal for voice, signal in others if not clip.speaker or voice.speaker != clip.speaker]
        signals = foreign or [signal for _, signal in others]
        chosen = rng.choice(len(signals), min(VOICES_AT_ONCE, len(signals)), replace=False)
        mixed = np.zeros(samples, np.float32)
        for number in chosen:
            mixed += distort.looped(signals[number] / distort.rms(signals[number]), samples, rng)
        return mixed


Change = Callable[[Signal, Segment, Sounds, np.random.Generator], Signal]


@dataclass(frozen=True)
class Condition:
    """A named distortion.

    Examples:
            >>> from pathlib import Path
    from typing import Any
            >>> from wav2small.evaluation.conditions import Sounds, choose
            >>> (cut,) = choose(["cut:1"])
            >>> cut.apply(np.ones(48000, np.float32), Segment("a.wav", Path("a.wav")), Sounds(), seed=0).shape
            (16000,)
    """

    name: str
    change: Change

    @property
    def kind(self) -> str:
        """The name without its parameter."""
        return self.name.partition(":")[0]

    def apply(self, signal: Signal, clip: Segment, sounds: Sounds, seed: int) -> Signal:
        """The distorted clip, turned down if its peak is above full scale.

        Args:
            signal: mono audio at 16 kHz, float32, shape=(samples,)
            clip: which clip it is; it determines what is drawn, together with the seed
            sounds: what may be added
            seed: random seed

        Returns:
            a new array, float32, shape=(samples,), in [-1, 1]
        """
        out = self.change(signal, clip, sounds, clip_rng(clip, seed))
        peak = float(np.max(np.abs(out), initial=0.0))
        return out / np.float32(peak) if peak > 1 else out


def clip_rng(clip: Segment, seed: int) -> np.random.Generator:
    """Random numbers that depend only on the seed and on which clip it is."""
    digest = hashlib.sha256(f"{clip.file}\n{clip.start}\n{clip.end}".encode()).digest()
    return np.random.default_rng((seed, int.from_bytes(digest[:8], "little")))


def _coloured(
    slope: float, snr: float, signal: Signal, clip: Segment, sounds: Sounds, rng: np.random.Generator
) -> Signal:
    return distort.add_noise(signal, distort.coloured_noise(len(signal), rng, slope), snr)


def _babble(snr: float, signal: Signal, clip: Segment, sounds: Sounds, rng: np.random.Generator) -> Signal:
    return distort.add_noise(signal, sounds.babble(clip, len(signal), rng), snr)


def _recorded(kind: str, snr: float, signal: Signal, clip: Segment, sounds: Sounds, rng: np.random.Generator) -> Signal:
    chosen = _one(sounds.music if kind == MUSIC else sounds.noise, rng)
    sound = distort.trim(_recording(chosen.path, chosen.start, chosen.end))
    return distort.add_noise(signal, distort.looped(sound, len(signal), rng), snr)


def _room(signal: Signal, clip: Segment, sounds: Sounds, rng: np.random.Generator) -> Signal:
    chosen = _one(sounds.rooms, rng)
    response = _recording(chosen.path, chosen.start, chosen.end)
    return distort.reverberate(signal, response / np.float32(np.sqrt(np.sum(response**2)) + 1e-9))


@lru_cache(maxsize=64)
def _recording(path: Path, start: float, end: float | None) -> Signal:
    return segment_signal(Segment(path.name, path, start, end))


def _one(recordings: Sequence[Segment], rng: np.random.Generator) -> Segment:
    return recordings[int(rng.integers(len(recordings)))]


def _plain(change: Callable[[Signal], Signal]) -> Change:
    return lambda signal, clip, sounds, rng: change(signal)


def _drawn(change: Callable[[Signal, np.random.Generator], Signal]) -> Change:
    return lambda signal, clip, sounds, rng: change(signal, rng)


def _surround(leading: float, trailing: float) -> Change:
    before, after = (round(duration * SAMPLING_RATE) for duration in (leading, trailing))
    return _drawn(lambda signal, rng: distort.surround(signal, before, after, rng))


def _reverb(decay_dur: float) -> Change:
    return _drawn(lambda signal, rng: distort.reverberate(signal, distort.room_response(decay_dur, rng)))


def _codec(container: str, subtype: str, sampling_rate: int = SAMPLING_RATE, **settings: Any) -> Change:
    return _plain(partial(distort.codec, container=container, subtype=subtype, sampling_rate=sampling_rate, **settings))


CHANGES: dict[str, Change] = {
    **{f"white:{snr}": partial(_coloured, 0.0, snr) for snr in SNRS},
    **{f"pink:{snr}": partial(_coloured, 1.0, snr) for snr in SNRS},
    **{f"babble:{snr}": partial(_babble, snr) for snr in SNRS},
    **{f"{kind}:{snr}": partial(_recorded, kind, snr) for kind in (MUSIC, "noise") for snr in SNRS},
    "mulaw:8k": _codec("WAV", "ULAW", 8000),
    "mp3:32k": _codec("MP3", "MPEG_LAYER_III", compression_level=0.842, bitrate_mode="CONSTANT"),
    "opus:12k": _codec("OGG", "OPUS", compression_level=0.976),
    "band:300-3400": _plain(lambda signal: distort.band_pass(signal, 300, 3400)),
    "level:-20": _plain(lambda signal: signal * np.float32(distort.amplitude(-20))),
    "level:+10": _plain(lambda signal: distort.overdriven(signal, 10)),
    "reverb:0.3": _reverb(0.3),
    "reverb:0.8": _reverb(0.8),
    "room": _room,
    "speed:0.8": _plain(lambda signal: distort.speed(signal, 0.8)),
    "speed:1.25": _plain(lambda signal: distort.speed(signal, 1.25)),
    "speed-part:1.25": _drawn(lambda signal, rng: distort.speed_part(signal, 1.25, PART_SHARE, rng)),
    "fade": _drawn(lambda signal, rng: distort.fade(signal, 0.02, rng)),
    "packets": _drawn(lambda signal, rng: distort.lose_packets(signal, 0.1, rng)),
    "silence:leading": _surround(SILENCE_DUR, 0),
    "silence:trailing": _surround(0, SILENCE_DUR),
    **{f"cut:{dur}": _plain(partial(distort.middle, duration=float(dur))) for dur in (1, 2, 3)},
}
CONDITIONS = tuple(Condition(name, change) for name, change in CHANGES.items())
"""In the order in which they are reported."""
NEEDS = {
    "noise": "recordings: give --noise MANIFEST",
    "music": f"recordings: give --noise MANIFEST with rows of the label {MUSIC}",
    "room": "impulse responses: give --rooms MANIFEST",
    "babble": "other clips of the manifest, and there is only one that can be read",
}


def choose(names: Iterable[str]) -> list[Condition]:
    """The conditions with these names, in the order of ``CONDITIONS``; a kind stands for all of its conditions.

    Raises:
        Wav2SmallError: if a name is unknown
    """
    chosen = list(names)
    known = dict.fromkeys(name for one in CONDITIONS for name in (one.kind, one.name))
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise Wav2SmallError(
                f"{name} is not a condition.{hint} There are {', '.join(dict.fromkeys(c.kind for c in CONDITIONS))}, "
                "and each with its parameter, such as white:20."
            )
    return [one for one in CONDITIONS if one.name in chosen or one.kind in chosen]


def check_available(conditions: Iterable[Condition], sounds: Sounds) -> None:
    """Raise ManifestError if there is nothing that one of the conditions could add."""
    for one in conditions:
        if not sounds.available(one.kind):
            raise ManifestError(f"the condition {one.name} needs {NEEDS[one.kind]}.")


def sounds_of(clips: Sequence[Segment], noise: Sequence[Segment], rooms: Sequence[Segment], seed: int) -> Sounds:
    """What the conditions may add to these clips.

    Args:
        clips: of the manifests; some of them, drawn by the seed whatever their order, become babble
        noise: recordings; those with the label ``music`` are music
        rooms: impulse responses
        seed: random seed
    """
    music = [one for one in noise if one.label.strip().lower() == MUSIC]
    others = [one for one in noise if one.label.strip().lower() != MUSIC]
    return Sounds(others, music, rooms, _voices(clips, seed))


def _voices(clips: Sequence[Segment], seed: int) -> list[tuple[Segment, Signal]]:
    ordered = sorted(clips, key=lambda clip: (clip.file, clip.start, str(clip.path)))
    voices: list[tuple[Segment, Signal]] = []
    for index in np.random.default_rng(seed).permutation(len(ordered)):
        if len(voices) == VOICES:
            break
        try:
            signal = distort.trim(segment_signal(ordered[index]))
        except AudioError:
            continue
        if signal.any():
            voices.append((ordered[index], signal))
    return voices
