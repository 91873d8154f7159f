"""Sensors of Home Assistant by MQTT discovery: what is announced once, and what is published for every reading."""

from __future__ import annotations

import json
from typing import Any, Protocol

from wav2small.agents import Reading

SENSORS = {
    "arousal": "mdi:pulse",
    "dominance": "mdi:shield-account",
    "valence": "mdi:emoticon-neutral-outline",
    "speech_ratio": "mdi:account-voice",
    "note": "mdi:comment-question-outline",
}
"""Fields of a reading that become sensors, and their icons."""
TEXTS = ("note",)


class Client(Protocol):
    """The part of ``paho.mqtt.client.Client`` that is used."""

    def publish(self, topic: str, payload: str, qos: int = 0, retain: bool = False) -> Any:
        """Send a message."""


class Sensors:
    """Publishes readings.

    Args:
        client: a connected MQTT client
        device: identifier of the device, letters, digits, - and _
        prefix: where Home Assistant looks for announcements
    """

    def __init__(self, client: Client, device: str = "wav2small", prefix: str = "homeassistant") -> None:
        self._client = client
        self._device = device
        for topic, payload in discovery(device, prefix).items():
            client.publish(topic, json.dumps(payload), retain=True)

    def publish(self, reading: Reading) -> None:
        """Publish a reading to all sensors."""
        topic, payload = state(reading, self._device)
        self._client.publish(topic, json.dumps(payload))


def discovery(device: str = "wav2small", prefix: str = "homeassistant") -> dict[str, dict[str, Any]]:
    """The announcements: retained topic -> payload.

    Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
    """
    return {f"{prefix}/sensor/{device}/{name}/config": _sensor(device, name) for name in SENSORS}


def state(reading: Reading, device: str = "wav2small") -> tuple[str, dict[str, Any]]:
    """Topic and payload of a reading; a field that is None is unknown in Home Assistant."""
    return _state_topic(device), reading.as_dict()


def _state_topic(device: str) -> str:
    return f"wav2small/{device}/state"


def _sensor(device: str, name: str) -> dict[str, Any]:
    is_text = name in TEXTS
    template = f"{{{{ value_json.{name} }}}}" if is_text else f"{{{{ value_json.{name} | round(2, default=none) }}}}"
    number = {} if is_text else {"state_class": "measurement", "suggested_display_precision": 2}
    return number | {
        "name": name.replace("_", " ").capitalize(),
        "unique_id": f"{device}_{name}",
        "state_topic": _state_topic(device),
        "value_template": template,
        "icon": SENSORS[name],
        "device": {"identifiers": [device], "name": "Tone of voice", "manufacturer": "wav2small"},
    }
