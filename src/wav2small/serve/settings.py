"""What a service is started with: address, model, keys, limits."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wav2small.errors import Wav2SmallError
from wav2small.options import DEFAULT_MODEL, Options

KEYS_VARIABLE = "WAV2SMALL_KEYS"
"""Environment variable with keys, separated by spaces or commas."""
SETTINGS_VARIABLE = "WAV2SMALL_SETTINGS"
"""Environment variable with settings as JSON, for programs that only name the application."""
MIN_KEY_LENGTH = 16


@dataclass(frozen=True)
class Limits:
    """Bounds on what a client can ask for; those of sessions and requests are for one process.

    Args:
        request_bytes: of the body of a request
        request_dur: seconds of audio in a request, counted while it is decoded
        processing_dur: seconds that a request may be computed
        upload_dur: seconds that the body of a request may take to arrive
        requests: with a body, at once
        frame_dur: seconds of audio in a binary message
        message_bytes: of a WebSocket message
        sessions: live, in all
        sessions_a_key: live, of one key
        idle_dur: seconds without a message after which a session is closed
        ahead_dur: seconds that the audio of a session may be ahead of real time
        send_queue: messages that wait for a slow client
        drain_dur: seconds that sessions have to end after SIGTERM
        errors: messages that a session may get wrong
    """

    request_bytes: int = 25 * 2**20
    request_dur: float = 3600.0
    processing_dur: float = 60.0
    upload_dur: float = 120.0
    requests: int = 8
    frame_dur: float = 10.0
    message_bytes: int = 2**20
    sessions: int = 200
    sessions_a_key: int = 50
    idle_dur: float = 60.0
    ahead_dur: float = 30.0
    send_queue: int = 64
    drain_dur: float = 25.0
    errors: int = 100


@dataclass(frozen=True)
class Settings:
    """Settings of a service.

    Args:
        host: address to bind
        port: to bind; 0 is any that is free
        model: the default model, ``NAME[:PRECISION]`` or a file
        backend: as in ``load``; auto is ``c``, or ONNX Runtime where C cannot be compiled
        vad: speech detector, as in ``Stream``
        keys_file: a file with one key a line
        origins: of pages that may use the service from a browser, such as ``https://example.com``
        workers: processes
        max_workers: replicas on Ray, which are added where the sessions need them; 0 for always ``workers``
        threads: that compute files, in each process; live sessions have one of their own
        limits: bounds for clients
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = DEFAULT_MODEL
    backend: str = "auto"
    vad: str = Options.vad
    keys_file: str | None = None
    origins: tuple[str, ...] = ()
    workers: int = 1
    max_workers: int = 0
    threads: int = 2
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> str:
        """The settings as JSON; keys are not among them."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Settings:
    """Settings that ``Settings.to_json`` wrote."""
    content = json.loads(text)
    return Settings(**{**content, "origins": tuple(content["origins"]), "limits": Limits(**content["limits"])})


def read_keys(settings: Settings) -> tuple[str, ...]:
    """The keys of the file and of the environment, in that order.

    Raises:
        Wav2SmallError: if the file cannot be read or holds no key, or a key is too short or is not plain ASCII
    """
    keys = os.environ.get(KEYS_VARIABLE, "").replace(",", " ").split()
    if settings.keys_file:
        try:
            lines = Path(settings.keys_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Wav2SmallError(f"{settings.keys_file}: the keys cannot be read: {error}") from None
        of_file = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not of_file:
            raise Wav2SmallError(f"{settings.keys_file}: holds no key; write one a line")
        keys = of_file + keys
    for number, key in enumerate(keys, 1):
        if len(key) < MIN_KEY_LENGTH or not key.replace("-", "").replace("_", "").isalnum() or not key.isascii():
            raise Wav2SmallError(
                f"key {number} is not {MIN_KEY_LENGTH} or more of letters, digits, - and _; "
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
    return tuple(dict.fromkeys(keys))


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(settings: Settings, keys: tuple[str, ...]) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        Wav2SmallError: if the address is not a loopback address and there is no key
    """
    if not keys and not is_loopback(settings.host):
        raise Wav2SmallError(
            f"{settings.host} can be reached from other machines, and there is no key; name a file of keys with "
            f"--keys, set {KEYS_VARIABLE}, or bind 127.0.0.1"
        )
