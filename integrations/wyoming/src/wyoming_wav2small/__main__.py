"""Run the server: ``wyoming-wav2small --asr tcp://127.0.0.1:10300``."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wyoming.client import AsyncClient
from wyoming.server import AsyncServer

from wav2small import Baseline, load, load_baseline
from wav2small.agents import Reading
from wav2small.errors import Wav2SmallError, missing_packages
from wav2small.files import check_writable
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
    try:
        AsyncClient.from_uri(options.asr)
        server = AsyncServer.from_uri(options.uri)
    except ValueError as error:
        parser.error(f"{error}; give tcp://HOST:PORT or unix://PATH")
    try:
        asyncio.run(server.run(handler_of(options)))
    except (Wav2SmallError, OSError) as error:
        parser.exit(1, f"wyoming-wav2small: {error}\n")


def handler_of(options: argparse.Namespace) -> Callable[..., EmotionHandler]:
    """Makes the handler of each connection; the model, the baseline and the sensors are those of all.

    Raises:
        Wav2SmallError: if the weights, the baseline or the MQTT broker cannot be used
    """
    baseline = opened(options.baseline)
    calls = [partial(save, baseline, options.baseline)] if baseline else []
    if options.mqtt_host:
        calls.append(connected(options.mqtt_host, options.mqtt_port, options.device).publish)
    return partial(
        EmotionHandler,
        asr_uri=options.asr,
        model=load(options.model, calibration=True),
        baseline=baseline,
        on_reading=partial(call_all, calls),
    )


def opened(path: Path | None) -> Baseline | None:
    """The baseline of a file, a new one if that is missing, None without a file."""
    if path is None:
        return None
    check_writable(path)
    return load_baseline(path) if path.exists() else Baseline()


def save(baseline: Baseline, path: Path, reading: Reading) -> None:
    """Save the baseline that a reading has moved."""
    baseline.save(path)


def connected(host: str, port: int, device: str) -> Sensors:
    """Sensors at an MQTT broker."""
    try:
        from paho.mqtt.client import CallbackAPIVersion, Client
    except ImportError:
        raise missing_packages("MQTT", ["paho-mqtt"], "wyoming-wav2small[mqtt]") from None
    client = Client(CallbackAPIVersion.VERSION2)
    try:
        client.connect(host, port)
    except OSError as error:
        raise Wav2SmallError(f"{host}:{port}: no MQTT broker answers there: {error.strerror or error}") from None
    client.loop_start()
    return Sensors(client, device)


def call_all(calls: list[Callable[[Reading], None]], reading: Reading) -> None:
    """Call each with the reading."""
    for call in calls:
        call(reading)


if __name__ == "__main__":
    main()
