"""The command: SIGTERM in the middle of sessions, a new start at the same port, several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest
from click.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from running_service import KEY, dialogue
from wav2small.cli import main
from wav2small.client import Client
from wav2small.errors import Wav2SmallError

PATHS = ["/v1/emotion/realtime", "/v1/emotion/realtime", "/v1/listen"]


@contextmanager
def started(*options):
    """The process of the command and its URL; it ends with SIGTERM, exit code 0 and no traceback."""
    command = [sys.executable, "-m", "wav2small", "serve", "--vad", "energy", *options]
    environment = os.environ | {"WAV2SMALL_KEYS": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process, re.match(r"http://\S+", process.stdout.readline())[0]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "Traceback" not in errors, errors
    finally:
        process.kill()


@pytest.mark.slow
def test_sigterm_ends_sessions_with_their_last_measurement_and_the_service_starts_again(clip):
    talk = dialogue(clip)
    with started("--port", "0") as (process, url), ExitStack() as stack:
        sockets = [stack.enter_context(connect(url.replace("http", "ws") + path, open_timeout=60)) for path in PATHS]
        for socket in sockets:
            for start in range(0, 57600, 1600):
                socket.send(talk[start : start + 1600].tobytes())
        for socket in sockets:
            while '"UtteranceEnd"' not in (text := socket.recv(60)) and '"utterance.end"' not in text:
                pass
        process.send_signal(signal.SIGTERM)
        for socket in sockets:
            messages = []
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    messages.append(json.loads(socket.recv(60)))
            assert caught.value.rcvd.code == 1001
            assert messages[-1]["reason"] == "server_shutdown"
            assert messages[-2]["type"] in ("measurement.result", "Results")
        assert process.wait(60) == 0
    port = url.rpartition(":")[2]
    with started("--port", port) as (_, again):
        assert again == url and Client(url).emotion("examples/08a05Fe.flac")["rows"]


@pytest.mark.slow
def test_workers_share_a_port_and_add_up_their_metrics():
    with started("--port", "0", "--workers", "2") as (_, url):
        client = Client(url)
        for _ in range(8):
            client.models()
        text = client._fetch("/metrics")
        assert 'wav2small_requests_total{code="200",route="/v1/models"} 8.0' in text


def test_wrong_options_are_one_sentence(service, tmp_path):
    for options, said in (
        (["--host", "0.0.0.0"], "no key"),
        (["--port", str(service.port)], "choose another"),
        (["--keys", str(tmp_path / "none")], "cannot be read"),
        (["--port", "0", "--model", "nonsense"], "nonsense"),
        (["--host", "0.0.0.0", "--keys", str(tmp_path / "short")], "16"),
    ):
        (tmp_path / "short").write_text("short\n")
        result = CliRunner().invoke(main, ["serve", *options], env={"WAV2SMALL_KEYS": ""})
        assert result.exit_code == 1 and said in result.output and result.output.count("\n") == 1, result.output


def test_the_application_is_made_from_the_environment(monkeypatch):
    """As other servers of ASGI applications do it."""
    from wav2small.serve.app import create_app
    from wav2small.serve.settings import Settings

    monkeypatch.setenv("WAV2SMALL_SETTINGS", Settings(model="micro:int8").to_json())
    monkeypatch.setenv("WAV2SMALL_KEYS", KEY)
    state = create_app().state.service
    assert state.models.default == "micro:int8" and state.keys == (KEY,)


@pytest.mark.slow
def test_ray_serve_gets_the_same_application():
    pytest.importorskip("ray.serve", reason="needs ray[serve]", exc_type=ImportError)
    from wav2small.serve.on_ray import deployment
    from wav2small.serve.settings import Settings

    application = deployment(Settings(workers=2))
    assert application._bound_deployment.num_replicas == 2 and application._bound_deployment.name == "wav2small"


def test_ray_serve_that_is_missing_is_named(monkeypatch):
    from wav2small.serve.on_ray import deployment
    from wav2small.serve.settings import Settings

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Wav2SmallError, match="Ray Serve"):
        deployment(Settings())
