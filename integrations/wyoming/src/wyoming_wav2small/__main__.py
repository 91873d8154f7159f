"""Run the server: ``wyoming-wav2small --asr tcp://127.0.0.1:10300``."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wyoming.server import AsyncServer

from wav2small import Baseline, load, load_baseline
from wav2small.agents import Reading
from wyoming_wav2small.handler import EmotionHandler
from wyoming_wav2small.mqtt import Sensors


def main() -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asr", required=True, help="the speech-to-text server: tcp://HOST:PORT or unix://PATH")
    parser.add_argument("--uri", default="tcp://127.0.0.1:10301", help="where to serve")
    parser.add_argument("--model", default="micro")
    parser.add_argument("--baseline", type=Path, help="file of the one speaker's baseline; made if it is missing")
    parser.add_argument("--mqtt-host", help="publish sensors for Home Assistant there (extra mqtt)")
    parser.add_argument("--mqtt-port", type=int, default=1883)
    parser.add_argument("--device", default="wav2small", help="identifier of the device in Home Assistant")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    baseline = opened(options.baseline)
    calls = [partial(save, baseline, options.baseline)] if baseline else []
    if options.mqtt_host:
        calls.append(connected(options.mqtt_host, options.mqtt_port, options.device).publish)
    handler = partial(
        EmotionHandler,
        asr_uri=options.asr,
        model=load(options.model, calibration=True),
        baseline=baseline,
        on_reading=partial(call_all, calls),
    )
    asyncio.run(AsyncServer.from_uri(options.uri).run(handler))


def opened(path: Path | None) -> Baseline | None:
    """The baseline of a file, a new one if that is missing, None without a file."""
    if path is None:
        return None
    return load_baseline(path) if path.exists() else Baseline()


def save(baseline: Baseline, path: Path, reading: Reading) -> None:
    """Save the baseline that a reading has moved."""
    baseline.save(path)


def connected(host: str, port: int, device: str) -> Sensors:
    """Sensors at an MQTT broker."""
    from paho.mqtt.client import CallbackAPIVersion, Client

    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(host, port)
    client.loop_start()
    return Sensors(client, device)


def call_all(calls: list[Callable[[Reading], None]], reading: Reading) -> None:
    """Call each with the reading."""
    for call in calls:
        call(reading)


if __name__ == "__main__":
    main()
