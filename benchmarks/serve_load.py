"""Many live sessions of one service on this machine: how late measurements are, and the memory of the service.

Each session sends 50 ms of an example every 50 ms. A measurement is late by the time from the moment at which the audio
that completes its window was sent to the moment at which it was received.

python benchmarks/serve_load.py --sessions 100 --duration 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from wav2small.audio.read import read

CLIP = Path(__file__).parents[1] / "examples" / "08a05Fe.flac"
CHUNK_DUR = 0.05


async def session(url: str, signal: np.ndarray, duration: float, delay: float) -> list[float]:
    """Seconds that each interval measurement was late."""
    await asyncio.sleep(delay)
    length = round(16000 * CHUNK_DUR)
    late: list[float] = []
    async with connect(url, compression=None, open_timeout=60, ping_interval=None) as socket:
        began = time.monotonic()

        async def listen() -> None:
            async for text in socket:
                message = json.loads(text)
                if message.get("trigger") == "interval" and message["audio_end_ms"] % 500 == 0:
                    late.append(time.monotonic() - began - message["audio_end_ms"] / 1000)

        listener = asyncio.create_task(listen())
        for number in range(1, round(duration / CHUNK_DUR) + 1):
            await asyncio.sleep(max(0.0, began + number * CHUNK_DUR - time.monotonic()))
            start = number * length % (len(signal) - length)
            await socket.send(signal[start : start + length].tobytes())
        await socket.send(json.dumps({"type": "session.close"}))
        await listener
    return late


def memory(process: int) -> float:
    """Resident memory of a process, MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


async def load(url: str, count: int, duration: float) -> list[float]:
    """The lateness of all measurements of so many sessions, which begin within two seconds."""
    signal = np.round(read(CLIP) * 32767).astype(np.int16)
    runs = [session(url, signal, duration, 2 * number / count) for number in range(count)]
    return [late for found in await asyncio.gather(*runs) for late in found]


def main() -> None:
    """Start a service, load it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of each session")
    arguments = parser.parse_args()
    limit = str(arguments.sessions)
    command = [sys.executable, "-m", "wav2small", "serve", "--port", "0", "--max-sessions", limit]
    command += ["--max-sessions-per-key", limit, "--vad", "energy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[0].replace("http", "ws") + "/v1/emotion/realtime"
        before = memory(process.pid)
        late = asyncio.run(load(url, arguments.sessions, arguments.duration))
        after = memory(process.pid)
        process.terminate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    median, p95 = np.percentile(late, (50, 95)) * 1000
    audio = arguments.sessions * arguments.duration
    print(f"{arguments.sessions} sessions of {arguments.duration:g} s, {len(late)} measurements")
    print(f"late by {median:.0f} ms (median), {p95:.0f} ms (95 %)")
    print(f"memory {before:.0f} MB before, {after:.0f} MB after")
    print(f"processor {used.ru_utime + used.ru_stime:.1f} s with the start, for {audio:.0f} s of audio")


if __name__ == "__main__":
    main()
