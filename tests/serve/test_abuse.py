"""Broken messages and requests: each gets an error or nothing, and the service goes on."""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from running_service import code_of, running
from wav2small.serve.settings import Limits

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["model", "sample_rate", "hop", "window", "min_speech", "silence", "calibrated", "intervals", "baseline"]
UPDATE = st.dictionaries(st.sampled_from(NAMES), JSON | st.floats(0, 100) | st.integers(-1, 96000), max_size=4)
MESSAGE = st.one_of(
    st.binary(max_size=2000),
    st.text(max_size=200),
    JSON.map(json.dumps),
    UPDATE.map(lambda session: json.dumps({"type": "session.update", "session": session})),
    st.sampled_from(["session.update", "session.close", "KeepAlive", "Finalize", "CloseStream"]).flatmap(
        lambda name: JSON.map(lambda value: json.dumps({"type": name, "session": value}))
    ),
    st.sampled_from(['{"type": "KeepAlive"}', '{"type": "Finalize"}']),
)


@pytest.fixture(scope="module")
def abused():
    with running(limits=Limits(idle_dur=20, upload_dur=2)) as found:
        yield found


@pytest.fixture(autouse=True)
def no_traceback(caplog, abused):
    """Whatever comes, the service does not fail."""
    with caplog.at_level(logging.WARNING):
        yield
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert abused.get("/ready")[0] == 200


@pytest.mark.slow
@given(st.sampled_from(["/v1/emotion/realtime", "/v1/listen"]), st.lists(MESSAGE, max_size=6))
@EXAMPLES
def test_a_session_answers_broken_messages_and_ends(abused, path, messages):
    kinds = []
    with connect(abused.ws + path, open_timeout=60) as client:
        with suppress(ConnectionClosed):  # a message may end the session
            for message in messages:
                client.send(message)
            client.send('{"type": "session.close"}' if "realtime" in path else '{"type": "CloseStream"}')
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                message = json.loads(client.recv(60))
                kinds.append(message["type"])
                assert message["type"] != "error" or code_of(message) != "internal_error"
    assert closed.value.rcvd is not None and closed.value.rcvd.code in (1000, 1008)
    assert kinds[-1] in ("session.closed", "Metadata")


@pytest.mark.slow
@given(st.sampled_from(["/v1/audio/emotion", "/v1/expression/audio/file"]), st.data())
@EXAMPLES
def test_a_broken_form_is_refused(abused, path, data):
    names = [*NAMES, "hop", "response_format", "segments", "config", "by_speaker", "file"]
    draw = st.dictionaries(st.sampled_from(names), st.text(max_size=20) | st.binary(max_size=200), max_size=4)
    fields = data.draw(draw)
    file = data.draw(st.binary(max_size=500))
    fields = {name: value for name, value in fields.items() if name != "file"}
    status, text = abused.post(b"RIFF" + file, path, **fields)
    assert 400 <= status < 500 and code_of(json.loads(text))


@pytest.mark.slow
@given(st.binary(max_size=300), st.sampled_from(["/v1/audio/emotion", "/v1/models", "/v1/listen", "/%ff/../.."]))
@EXAMPLES
def test_bytes_that_are_no_form_or_request_are_survived(abused, content, path):
    heads = [
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n",
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    ]
    for head in heads:
        with socket.create_connection(("127.0.0.1", abused.port), 60) as raw:
            raw.sendall(head % path.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(100)


@pytest.mark.slow
@given(st.dictionaries(st.text("abc_", max_size=8) | st.sampled_from(["encoding", "channels"]), st.text(max_size=8)))
@EXAMPLES
def test_parameters_of_listen_are_checked(abused, parameters):
    from urllib.parse import urlencode

    try:
        with connect(f"{abused.ws}/v1/listen?{urlencode(parameters)}", open_timeout=60) as client:
            client.send('{"type": "CloseStream"}')
            assert json.loads(client.recv(60))["type"] == "Metadata"
    except InvalidStatus as error:
        assert code_of(json.loads(error.response.body)) in ("config_invalid", "not_found", "key_in_url")
