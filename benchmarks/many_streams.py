"""Many live streams on one thread: time and memory of a stream, and how late its events are.

    python benchmarks/many_streams.py [--streams 50] [--live 200] [--seconds 20]

First each kind of stream gets the same audio as fast as it goes: CPU milliseconds per second of audio, which gives the
number of live streams that fill a core, and kilobytes per stream that Python and NumPy allocate. Silero VAD's own
stream, 32 ms a step in ONNX Runtime, is measured in the same run, and 32 of them that share its calls. Then ``--live``
streams of ``micro`` get 100 ms of audio every 100 ms, each at its own moment; lateness is from then until the events
are there.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from wav2small import Stream, load
from wav2small.audio.read import FRAME_LENGTH, read
from wav2small.audio.vad import FrameCutter, Silero, score_together
from wav2small.network.config import SAMPLING_RATE

CLIP = Path(__file__).parents[1] / "examples" / "08a05Fe.flac"
AUDIO_DUR, CHUNK_DUR, HOP_DUR, WIN_DUR = 12.0, 0.1, 0.5, 3.0
TOGETHER = 32
MEASURED = 10
"""Streams whose memory is measured, which makes them slow."""
CHUNK = round(CHUNK_DUR * SAMPLING_RATE)
KINDS = (
    ("micro", "c", "energy"),
    ("micro:int8", "c", "energy"),
    ("micro", "numpy", "energy"),
    ("micro", "c", "silero"),
    ("wav2small", "c", "energy"),
    ("wav2small", "onnx", "energy"),
)
Push = Callable[[np.ndarray], object]


def chunks() -> Iterator[np.ndarray]:
    signal = np.tile(read(CLIP), 5)[: round(AUDIO_DUR * SAMPLING_RATE)]
    yield from (signal[start : start + CHUNK] for start in range(0, len(signal), CHUNK))


def cost(make: Callable[[], Push], streams: int) -> tuple[float, float]:
    """CPU milliseconds per second of audio of one stream, and kilobytes per stream once it is full."""
    audio = list(chunks())
    run([make()], audio)
    pushes = [make() for _ in range(streams)]
    start = time.process_time()
    run(pushes, audio)
    taken = time.process_time() - start
    del pushes
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    pushes = [make() for _ in range(MEASURED)]
    run(pushes, audio)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return 1000 * taken / streams / AUDIO_DUR, grown / MEASURED / 1000


def run(pushes: list[Push], audio: list[np.ndarray]) -> None:
    for chunk in audio:
        for push in pushes:
            push(chunk)


def vad_stream() -> Push:
    """Silero's network alone, in the steps that its authors give it."""
    vad, rest = Silero(), np.zeros(0, np.float32)

    def push(chunk: np.ndarray) -> None:
        nonlocal rest
        signal = np.concatenate([rest, chunk])
        whole = len(signal) // FRAME_LENGTH * FRAME_LENGTH
        vad.score(signal[:whole].reshape(-1, FRAME_LENGTH), np.zeros(0))
        rest = signal[whole:]

    return push


def together_cost() -> float:
    """CPU milliseconds per second of audio of one of many streams that share the calls of Silero's network."""
    detectors, cutters = [Silero() for _ in range(TOGETHER)], [FrameCutter() for _ in range(TOGETHER)]
    start = time.process_time()
    for chunk in chunks():
        score_together(detectors, [cutter.push(chunk) for cutter in cutters])
    return 1000 * (time.process_time() - start) / TOGETHER / AUDIO_DUR


def lateness(streams: int, seconds: float, backend: str) -> tuple[float, float, float]:
    """Median, 95th percentile and largest lateness in ms, of live streams on this thread."""
    model = load("micro", backend)
    pushes = [Stream(model, HOP_DUR, WIN_DUR, vad="energy").push for _ in range(streams)]
    audio, late = list(chunks()), []
    begin = time.perf_counter() + 0.2
    for step in range(round(seconds / CHUNK_DUR)):
        for number, push in enumerate(pushes):
            due = begin + (step + number / streams) * CHUNK_DUR
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            if push(audio[step % len(audio)]):
                late.append(1000 * (time.perf_counter() - due))
    return float(np.median(late)), float(np.quantile(late, 0.95)), max(late)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    print(f"hop {HOP_DUR} s, window {WIN_DUR} s, chunks of {CHUNK_DUR} s, {arguments.streams} streams at once\n")
    print("| stream | CPU ms per second of audio | live streams a core | KB a stream |\n|---|---|---|---|")
    rows: list[tuple[str, Callable[[], Push]]] = [("Silero VAD alone", vad_stream)]
    for name, backend, vad in KINDS:
        model = load(name, backend)
        rows.append(
            (f"{name}, {backend}, {vad}", lambda m=model, v=vad: Stream(m, HOP_DUR, WIN_DUR, vad=v).push)  # type: ignore
        )
    for title, make in rows:
        milliseconds, kilobytes = cost(make, arguments.streams)
        print(f"| {title} | {milliseconds:.2f} | {1000 / milliseconds:,.0f} | {kilobytes:.0f} |", flush=True)
    milliseconds = together_cost()
    print(f"| Silero VAD alone, {TOGETHER} in one call | {milliseconds:.2f} | {1000 / milliseconds:,.0f} | |")
    print(f"\n{arguments.live} live streams of micro for {arguments.seconds:g} s, one thread: ms late")
    print("| backend | median | 95 % | largest |\n|---|---|---|---|")
    for backend in ("c", "numpy"):
        found = lateness(arguments.live, arguments.seconds, backend)
        print(f"| {backend} | {' | '.join(f'{value:.1f}' for value in found)} |", flush=True)


if __name__ == "__main__":
    main()
