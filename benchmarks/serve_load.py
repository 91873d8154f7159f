"""Many live sessions of one service on this machine: lateness, processor time, memory; and what SIGTERM does to them.

    python benchmarks/serve_load.py --sessions 200 --duration 30
    python benchmarks/serve_load.py --sessions 100 --duration 1200 --report 60
    python benchmarks/serve_load.py --sessions 100 --duration 20 --kill

Each session sends 50 ms of an example every 50 ms. A measurement is late by the time from the moment at which the audio
that completes its window was sent to the moment at which it was received. Latenesses of the first ``WARM_DUR`` seconds,
while sessions begin, are left out. Processor time is that of the service while the sessions last, without its start.

With ``--kill`` the service gets SIGTERM in the middle of the sessions, and starts again at the same port. Each client
connects again as soon as it can, and sends on. Every measurement that the audio received gives must have come before
``session.closed``, and the reason must be ``server_shutdown``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wav2small import Stream, load
from wav2small.audio.read import read

CLIP = Path(__file__).parents[1] / "examples" / "08a05Fe.flac"
ROUTE = "/v1/emotion/realtime"
CHUNK_DUR, HOP_DUR, WIN_DUR = 0.05, 0.5, 3.0
LENGTH = round(16000 * CHUNK_DUR)
BEGIN_DUR = 2.0
"""Seconds within which the sessions begin."""
WARM_DUR = 5.0


@dataclass
class Record:
    """What clients saw.

    Args:
        late: seconds, of each measurement of a whole window
        closed: the ``session.closed`` messages
        measured: measurements of each session that was closed, in the order of ``closed``
        failures: sessions that ended without ``session.closed``, by what happened
        away: seconds from a session's end by the service to the beginning of the next
    """

    late: list[float] = field(default_factory=list)
    closed: list[dict] = field(default_factory=list)
    measured: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    away: list[float] = field(default_factory=list)


def chunks() -> list[bytes]:
    """The clip as messages, one after another."""
    samples = np.round(read(CLIP) * 32767).astype("<i2")
    return [samples[at : at + LENGTH].tobytes() for at in range(0, len(samples) - LENGTH + 1, LENGTH)]


async def client(url: str, audio: list[bytes], duration: float, delay: float, record: Record, is_killed: bool) -> None:
    """Talk for so many seconds; after a shutdown of the service, connect again and talk on."""
    await asyncio.sleep(delay)
    end, ended = time.monotonic() + duration, None
    while (rest := end - time.monotonic()) > CHUNK_DUR:
        try:
            async with connect(url, compression=None, open_timeout=60, ping_interval=None) as socket:
                if ended is not None:
                    record.away.append(time.monotonic() - ended)
                await talk(socket, audio, rest, record)
        except (OSError, InvalidStatus) as error:
            if not is_killed:
                record.failures[type(error).__name__] += 1
                return
            await asyncio.sleep(0.1)
            continue
        if not is_killed:
            return
        ended = time.monotonic()


async def talk(socket: ClientConnection, audio: list[bytes], duration: float, record: Record) -> None:
    """One session, until its end or ``duration``."""
    began, measured = time.monotonic(), 0
    sender = asyncio.create_task(send(socket, audio, duration, began))
    closed = None
    try:
        async for text in socket:
            message = json.loads(text)
            measured += message["type"] == "measurement.result"
            if message["type"] == "session.closed":
                closed = message
            elif message.get("trigger") == "interval" and message["audio_end_ms"] % (1000 * HOP_DUR) == 0:
                late = time.monotonic() - began - message["audio_end_ms"] / 1000
                if time.monotonic() - began > WARM_DUR or duration < 2 * WARM_DUR:
                    record.late.append(late)
    except ConnectionClosed as error:
        if closed is None:
            record.failures[str(error)] += 1
    sender.cancel()
    if closed is not None:
        record.closed.append(closed)
        record.measured.append(measured)


async def send(socket: ClientConnection, audio: list[bytes], duration: float, began: float) -> None:
    """Send audio in real time, then ask for the end."""
    with contextlib.suppress(ConnectionClosed):
        for number in range(1, round(duration / CHUNK_DUR) + 1):
            await asyncio.sleep(began + number * CHUNK_DUR - time.monotonic())
            await socket.send(audio[(number - 1) % len(audio)])
        await socket.send(json.dumps({"type": "session.close"}))


class Service:
    """The service as a process of its own.

    Args:
        options: of the command
        port: to bind, 0 for any
    """

    def __init__(self, options: list[str], port: int = 0) -> None:
        command = [sys.executable, "-m", "wav2small", "serve", "--port", str(port), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().split()[0]

    def memory(self) -> float:
        """Resident memory, MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def used(self) -> float:
        """Seconds of processor time."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Send SIGTERM and wait; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()


@contextlib.contextmanager
def started(options: list[str], port: int = 0) -> Iterator[Service]:
    """A service that ends with the block."""
    service = Service(options, port)
    try:
        yield service
    finally:
        service.end()


def expected(frames: int, audio: list[bytes], stream: Stream) -> int:
    """Measurements by windows of so many messages, as a ``Stream`` gives them."""
    stream.reset()
    chunks = [np.frombuffer(audio[number % len(audio)], "<i2") for number in range(frames)]
    events = [event for chunk in chunks for event in stream.push(chunk)] + stream.finish()
    return sum(bool(event.speech) for event in events)


async def load_service(service: Service, arguments: argparse.Namespace, record: Record) -> None:
    """Run all sessions, with a line of figures every ``--report`` seconds."""
    audio, url = chunks(), service.url.replace("http", "ws") + ROUTE
    count = arguments.sessions
    delays = [BEGIN_DUR * number / count for number in range(count)]
    clients = [client(url, audio, arguments.duration, delay, record, arguments.kill) for delay in delays]
    running = asyncio.gather(*clients)
    begun, used = time.monotonic(), service.used()
    while arguments.report and not (await asyncio.wait({running}, timeout=arguments.report))[0]:
        seconds, late = time.monotonic() - begun, record.late[-20 * count :]
        share = (service.used() - used) / arguments.report
        used = service.used()
        p95 = f"{1000 * np.quantile(late, 0.95):.0f} ms" if late else "-"
        print(f"| {seconds:.0f} s | {service.memory():.1f} MB | {share:.0%} of a core | {p95} |", flush=True)
    await running


def print_load(record: Record, arguments: argparse.Namespace, used: float, before: float, after: float) -> None:
    """The figures of a load."""
    count, audio = arguments.sessions, sum(one["received"]["audio_duration_ms"] for one in record.closed) / 1000
    print(f"{count} sessions of {arguments.duration:g} s, --vad {arguments.vad}: {len(record.late)} measurements")
    median, p95, largest = np.quantile(record.late, (0.5, 0.95, 1)) * 1000
    print(f"late by {median:.0f} ms (median), {p95:.0f} ms (95 %), {largest:.0f} ms (largest)")
    print(f"processor {1000 * used / audio:.2f} ms per second of audio: {audio / used:.0f} sessions fill a core")
    print(f"memory {before:.0f} MB before, {after:.0f} MB after")
    reasons = Counter(one["reason"] for one in record.closed)
    print(f"closed: {dict(reasons)}; without session.closed: {dict(record.failures)}")


def kill(arguments: argparse.Namespace, options: list[str]) -> None:
    """SIGTERM in the middle of all sessions, and a restart at the same port while they connect again."""
    record = Record()

    async def run() -> tuple[int, float, float]:
        service = Service(options)
        port = int(service.url.rpartition(":")[2])
        sessions = asyncio.create_task(load_service(service, arguments, record))
        await asyncio.sleep(BEGIN_DUR + arguments.duration / 2)
        moment = time.monotonic()
        code = await asyncio.to_thread(service.end)
        gone = time.monotonic()
        again = await asyncio.to_thread(Service, options, port)
        ready = time.monotonic()
        try:
            await sessions
        finally:
            await asyncio.to_thread(again.end)
        return code, gone - moment, ready - gone

    code, ending, starting = uvloop.run(run())
    shut = [number for number, one in enumerate(record.closed) if one["reason"] == "server_shutdown"]
    stream = Stream(load(arguments.model, "c"), HOP_DUR, WIN_DUR, vad=arguments.vad)
    audio, missing = chunks(), 0
    known: dict[int, int] = {}
    for number in shut:
        produced, frames = record.closed[number]["produced"], record.closed[number]["received"]["frames"]
        if frames not in known:
            known[frames] = expected(frames, audio, stream)
        measured = record.measured[number]
        missing += abs(known[frames] + produced["utterances"] - measured) + abs(produced["measurements"] - measured)
    print(f"SIGTERM: exit code {code} after {ending:.2f} s; the next service is ready {starting:.2f} s later")
    print(
        f"closed with server_shutdown: {len(shut)} of {arguments.sessions}; without a reason: {dict(record.failures)}"
    )
    print(f"measurements of these sessions: {sum(record.measured[number] for number in shut)}, missing: {missing}")
    others = Counter(one["reason"] for one in record.closed if one["reason"] != "server_shutdown")
    print(
        f"sessions that went on in the next service: {dict(others)}, {max(record.away, default=0):.2f} s away at most"
    )


def main() -> None:
    """Start a service, load it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of each session")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--vad", default="silero", choices=("silero", "energy"))
    parser.add_argument("--report", type=float, help="print memory, processor and lateness every so many seconds")
    parser.add_argument("--kill", action="store_true", help="SIGTERM in the middle, and start again")
    arguments = parser.parse_args()
    limit = str(arguments.sessions)
    options = ["--max-sessions", limit, "--max-sessions-per-key", limit]
    options += ["--vad", arguments.vad, "--model", arguments.model]
    if arguments.kill:
        kill(arguments, options)
        return
    record = Record()
    with started(options) as service:
        before, used = service.memory(), service.used()
        uvloop.run(load_service(service, arguments, record))
        print_load(record, arguments, service.used() - used, before, service.memory())


if __name__ == "__main__":
    main()
