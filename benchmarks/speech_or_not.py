"""Share of windows that get an emotion, by kind of sound, with detection by level and with the Silero VAD.

    python benchmarks/speech_or_not.py [FOLDER]

Windows are 3 s every second, each kind has about 100 s. Speech and bursts are from the open corpora in FOLDER (else
WAV2SMALL_DATA): clips of a kind one after the other. The rest is made here with a fixed seed, so that it repeats:
coughs are a short burst and a longer, duller tail; breath is shaped noise that rises and falls; music is chords of
decaying harmonics over a beat.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wav2small import Stream
from wav2small.audio.read import read
from wav2small.network.config import SAMPLING_RATE, Emotion

DUR = 100.0
LEVEL = 0.1
"""Default RMS of the synthetic signals: -20 dB re full scale."""
BURSTS = 400
"""Clips of vocal bursts, so that many speakers and emotions are among them."""


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["WAV2SMALL_DATA"]) / "open"
    rng = np.random.default_rng(0)
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "speech, read (LibriSpeech)": lambda: clips(folder / "librispeech", rng),
        "speech, acted (EmoDB)": lambda: clips(folder / "emodb", rng),
        "speech, shouted (SDAP)": lambda: clips(folder / "sdap", rng),
        "speech in white noise, 10 dB SNR": lambda: in_noise(clips(folder / "librispeech", rng), rng, 10),
        "speech in white noise, 0 dB SNR": lambda: in_noise(clips(folder / "librispeech", rng), rng, 0),
        "speech at -50 dB": lambda: at_level(clips(folder / "librispeech", rng), 10**-2.5),
        "vocal bursts without words (EmoGator)": lambda: clips(folder / "emogator", rng),
        "digital silence": lambda: np.zeros(samples(), np.float32),
        "an idle microphone, noise at -70 dB": lambda: at_level(white(rng), 10**-3.5),
        "mains hum, 50 Hz at -40 dB": lambda: at_level(tone(50), 0.01),
        "tone of 440 Hz": lambda: tone(440),
        "sweep, 100 Hz to 4 kHz": lambda: sweep(),
        "white noise": lambda: white(rng),
        "pink noise": lambda: pink(rng),
        "music-like chords": lambda: music(rng),
        "coughs, one in 2 s": lambda: events(rng, cough, 2.0),
        "breath, one in 3 s": lambda: events(rng, breath, 3.0),
        "clicks, two a second": lambda: events(rng, click, 0.5),
    }
    print("| kind | windows | energy | Silero | mean speech ratio, energy | Silero |\n|---|---|---|---|---|---|")
    for kind, make in kinds.items():
        signal, cells = make(), []
        for vad in ("energy", "silero"):
            found = list(Stream(lambda signal: Emotion(0.5, 0.5, 0.5), 1.0, 3.0, vad=vad).run([signal]))
            cells.append((np.mean([e.speech for e in found]), np.mean([e.speech_ratio for e in found])))
        (energy, energy_ratio), (silero, silero_ratio) = cells
        row = f"| {kind} | {len(found)} | {energy:.0%} | {silero:.0%} | {energy_ratio:.2f} | {silero_ratio:.2f} |"
        print(row, flush=True)
    print("\n| whole clips answered by predict | clips | energy | Silero |\n|---|---|---|---|")
    for corpus in ("emodb", "librispeech", "sdap", "arabic_commands", "mycroft", "emogator"):
        answered(folder / corpus)


def answered(folder: Path) -> None:
    from wav2small.audio.vad import FILE_DUR, MIN_SPEECH_DUR, detector, is_enough, sound

    paths = files(folder)
    paths = paths[:: max(1, len(paths) // 200)]
    shares = []
    for vad in ("energy", "silero"):
        what = detector(vad)
        signals = map(read, paths)
        rows = [(sound(signal, what).ratio, len(signal), MIN_SPEECH_DUR, FILE_DUR) for signal in signals]
        shares.append(np.mean([is_enough(*row) for row in rows]))
    print(f"| {folder.name} | {len(paths)} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)


def files(folder: Path) -> list[Path]:
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        return [folder / row["file"] for row in csv.DictReader(file)]


def clips(folder: Path, rng: np.random.Generator) -> np.ndarray:
    """Clips drawn from a corpus, one after the other, each at the same level."""
    paths, parts, total = files(folder), [], 0
    for index in rng.permutation(len(paths))[:BURSTS]:
        parts.append(at_level(read(paths[index]), LEVEL))
        total += len(parts[-1])
        if total >= samples():
            break
    return np.concatenate(parts)


def samples(dur: float = DUR) -> int:
    return round(dur * SAMPLING_RATE)


def time(dur: float = DUR) -> np.ndarray:
    return np.arange(samples(dur)) / SAMPLING_RATE


def at_level(signal: np.ndarray, level: float) -> np.ndarray:
    return np.asarray(signal * (level / max(1e-9, np.sqrt(np.mean(np.square(signal, dtype=np.float64))))), np.float32)


def in_noise(signal: np.ndarray, rng: np.random.Generator, snr: float) -> np.ndarray:
    noise = at_level(rng.standard_normal(len(signal)), LEVEL * 10 ** (-snr / 20))
    return at_level(signal, LEVEL) + noise


def tone(frequency: float) -> np.ndarray:
    return at_level(np.sin(2 * np.pi * frequency * time()), LEVEL)


def sweep() -> np.ndarray:
    share = time() % 10 / 10
    return at_level(np.sin(2 * np.pi * np.cumsum(100 * 40**share) / SAMPLING_RATE), LEVEL)


def white(rng: np.random.Generator, dur: float = DUR) -> np.ndarray:
    return at_level(rng.standard_normal(samples(dur)), LEVEL)


def shaped(rng: np.random.Generator, dur: float, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Noise whose spectrum is multiplied by a gain, a function of Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples(dur)))
    frequency = np.fft.rfftfreq(samples(dur), 1 / SAMPLING_RATE)
    return at_level(np.fft.irfft(spectrum * gain(frequency), samples(dur)), LEVEL)


def pink(rng: np.random.Generator) -> np.ndarray:
    return shaped(rng, DUR, lambda frequency: 1 / np.sqrt(np.maximum(frequency, 20)))


def music(rng: np.random.Generator) -> np.ndarray:
    """A chord every half a second, three notes of eight harmonics that decay, and noise on every beat."""
    signal = np.zeros(samples())
    part = time(0.5)
    for start in range(0, len(signal), len(part)):
        root = 220 * 2 ** (rng.integers(-12, 12) / 12)
        for step in (0, 4, 7):
            pitch = root * 2 ** (step / 12)
            notes = sum(np.sin(2 * np.pi * pitch * order * part) / order for order in range(1, 9))
            signal[start : start + len(part)] += notes * np.exp(-3 * part)
        signal[start : start + len(part)] += rng.standard_normal(len(part)) * np.exp(-40 * part)
    return at_level(signal, LEVEL)


def events(rng: np.random.Generator, make: Callable[[np.random.Generator], np.ndarray], every: float) -> np.ndarray:
    """One event after the other over the noise of a room at -60 dB."""
    signal = white(rng) * 10**-2.0
    for start in range(0, len(signal) - samples(2.0), samples(every)):
        event = make(rng)
        signal[start : start + len(event)] += event
    return signal


def cough(rng: np.random.Generator) -> np.ndarray:
    """A burst of 60 ms and a tail of 300 ms around the resonances of a throat."""
    part = time(0.36)
    burst = shaped(rng, 0.36, lambda hertz: np.exp(-(((hertz - 1500) / 1200) ** 2))) * np.exp(-part / 0.03)
    tail = shaped(rng, 0.36, lambda hertz: np.exp(-(((hertz - 500) / 500) ** 2))) * np.exp(-part / 0.12)
    return np.asarray(4 * burst + 2 * tail, np.float32)


def breath(rng: np.random.Generator) -> np.ndarray:
    """In for a second, out for a little more, softer than speech."""
    parts = []
    for dur, centre in ((0.9, 1800), (1.0, 900)):
        swell = np.sin(np.pi * time(dur) / dur) ** 2
        noise = shaped(rng, dur, lambda hertz, centre=centre: np.exp(-(((hertz - centre) / 900) ** 2)))
        parts.append(0.2 * noise * swell)
    return np.asarray(np.concatenate(parts), np.float32)


def click(rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.standard_normal(80) * np.exp(-np.arange(80) / 15), np.float32)


if __name__ == "__main__":
    main()
