"""The command: SIGTERM in the middle of sessions, a new start at the same port, several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress

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
def started(*options, **variables):
    """The process of the command and its URL; it ends with SIGTERM, exit code 0 and no traceback."""
    command = [sys.executable, "-m", "wav2small", "serve", "--vad", "energy", *options]
    environment = os.environ | {"WAV2SMALL_KEYS": "", **variables}
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


def test_replicas_beyond_workers_need_ray():
    for options in (["--max-workers", "2"], ["--ray", "--workers", "3", "--max-workers", "2"]):
        result = CliRunner().invoke(main, ["serve", *options])
        assert result.exit_code == 2 and "--max-workers 2 needs --ray" in result.output


def test_the_application_is_made_from_the_environment(monkeypatch):
    """As other servers of ASGI applications do it."""
    from wav2small.serve.app import create_app
    from wav2small.serve.settings import Settings

    monkeypatch.setenv("WAV2SMALL_SETTINGS", Settings(model="micro:int8").to_json())
    monkeypatch.setenv("WAV2SMALL_KEYS", KEY)
    state = create_app().state.service
    assert state.models.default == "micro:int8" and state.keys == (KEY,)


@pytest.mark.slow
def test_ray_serve_runs_replicas_that_end_their_sessions_in_order(clip):
    pytest.importorskip("ray.serve", reason="needs ray[serve]", exc_type=ImportError)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())  # short, as names of sockets must be
        ray = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        process, url = stack.enter_context(started("--port", str(port), "--ray", "--workers", "2", **ray))
        assert Client(url).emotion("examples/08a05Fe.flac")["rows"]
        address = url.replace("http", "ws") + PATHS[0]
        sockets = [stack.enter_context(connect(address, open_timeout=60)) for _ in range(4)]
        for one in sockets:
            one.send(dialogue(clip)[:57600].tobytes())
        for one in sockets:
            while '"utterance.end"' not in one.recv(60):
                pass
        process.send_signal(signal.SIGTERM)
        for one in sockets:
            last = [json.loads(text) for text in texts(one)][-1]
            assert last["reason"] == "server_shutdown" and last["received"]["audio_duration_ms"] == 3600
        assert process.wait(120) == 0


def texts(one):
    """Texts until the service closes."""
    with suppress(ConnectionClosed):
        yield from one


def test_autoscaling_on_ray_goes_by_the_sessions_of_a_replica():
    pytest.importorskip("ray.serve", reason="needs ray[serve]", exc_type=ImportError)
    from wav2small.serve.on_ray import deployment
    from wav2small.serve.settings import Settings

    config = deployment(Settings(workers=2, max_workers=5))._bound_deployment._deployment_config
    scaling = config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 140)
    assert config.max_ongoing_requests == 208


def test_ray_serve_that_is_missing_is_named(monkeypatch):
    from wav2small.serve.on_ray import deployment
    from wav2small.serve.settings import Settings

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Wav2SmallError, match="Ray Serve"):
        deployment(Settings())
