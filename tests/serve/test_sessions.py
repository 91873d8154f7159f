"""Live sessions: the numbers of Stream and predict, the protocols, and every limit."""

from __future__ import annotations

import json
import socket as socket_module
import time
from contextlib import suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from running_service import code_of, dialogue, running
from wav2small import Stream, load, predict
from wav2small.network.config import OUTPUTS
from wav2small.serve.session import MULAW
from wav2small.serve.settings import Limits

REALTIME, LISTEN = "/v1/emotion/realtime", "/v1/listen"


@pytest.fixture(scope="module")
def micro():
    return load("micro", "c")


@pytest.fixture(scope="module")
def talk(clip):
    return dialogue(clip)


@pytest.fixture(scope="module")
def strict():
    limits = Limits(sessions=3, sessions_a_key=2, idle_dur=1.5, ahead_dur=3, message_bytes=2**18, frame_dur=2, errors=5)
    with running(limits=limits) as found:
        yield found


def spoken(service, path, frames, before=(), after=()):
    """All messages of a session, whose audio is these frames."""
    with connect(service.ws + path, open_timeout=60, close_timeout=60) as socket:
        for message in (*before, *frames, *after):
            socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
        return [json.loads(text) for text in received(socket)]


def received(socket):
    """Texts until the service closes, whatever the code."""
    with suppress(ConnectionClosed):
        yield from socket


def frames(signal, length=1600):
    return [signal[start : start + length].tobytes() for start in range(0, len(signal), length)]


def update(**session):
    return {"type": "session.update", "session": session}


CLOSE = {"type": "session.close"}


def assert_dimensions(found, expected):
    assert found == {name: pytest.approx(getattr(expected, name), abs=6e-5) for name in OUTPUTS}


def test_a_session_has_the_numbers_of_stream_and_predict(service, micro, talk):
    messages = spoken(service, REALTIME, frames(talk), after=[CLOSE])
    kinds = [one["type"] for one in messages]
    assert kinds[:2] == ["session.created", "utterance.start"] and kinds[-1] == "session.closed"
    measured = [one for one in messages if one["type"] == "measurement.result"]
    stream = Stream(micro, vad="energy")
    events = [event for event in stream.push(talk) + stream.finish() if event.speech]
    intervals = [one for one in measured if one["trigger"] == "interval"]
    assert [one["audio_end_ms"] for one in intervals] == [round(1000 * event.end) for event in events]
    for one, event in zip(intervals, events, strict=True):
        assert_dimensions(one["dimensions"], event)
        assert one["speech_ratio"] == pytest.approx(event.speech_ratio, abs=6e-5)
    ended = [one for one in measured if one["trigger"] == "speech_ended"]
    assert [one["utterance_id"] for one in ended] == ["u1", "u2"]
    for one in ended:
        part = talk[16 * one["audio_start_ms"] : 16 * one["audio_end_ms"]]
        assert_dimensions(one["dimensions"], *predict(part, 16000, model=micro, vad="energy"))
    closed = messages[-1]
    assert closed["reason"] == "client_closed"
    assert closed["received"] == {"audio_duration_ms": round(len(talk) / 16), "frames": len(frames(talk))}
    assert closed["produced"] == {"utterances": 2, "measurements": len(measured)}


def test_a_session_takes_settings(service, talk):
    wanted = {
        "sample_rate": 48000,
        "hop": 1.0,
        "window": 1.0,
        "intervals": True,
        "model": "micro:int8",
        "min_speech": 0.3,
    }
    signal = np.repeat(talk, 3)
    messages = spoken(service, REALTIME, frames(signal, 4800), [update(**wanted)], [CLOSE])
    assert messages[1]["type"] == "session.updated" and wanted.items() <= messages[1]["session"].items()
    stream = Stream(load("micro:int8", "c", calibration=True), 1.0, 1.0, min_speech=0.3, vad="energy")
    events = [event for event in stream.push(signal, 48000) + stream.finish() if event.speech]
    found = [one for one in messages if one.get("trigger") == "interval"]
    for one, event in zip(found, events, strict=True):
        assert_dimensions(one["dimensions"], event)
        assert one["intervals"]["valence"] == pytest.approx([event.valence_low, event.valence_high], abs=6e-5)
        assert one["confidence"] == pytest.approx(event.confidence, abs=6e-5)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", "message_invalid"),
        ("{}", "message_invalid"),
        ('{"type": "session.clos"}', "message_invalid"),
        ('{"type": "session.close", "more": 1}', "message_invalid"),
        (b"odd", "invalid_audio_frame"),
        (b"", "invalid_audio_frame"),
        (bytes(2 * 16000 * 10 + 2), "invalid_audio_frame"),
    ],
)
def test_a_session_survives_a_wrong_message(service, message, code):
    messages = spoken(service, REALTIME, [], [message], [bytes(3200), CLOSE])
    assert [code_of(one) for one in messages if one["type"] == "error"] == [code]
    assert messages[-1]["reason"] == "client_closed" and messages[-1]["received"]["frames"] == 1


@pytest.mark.parametrize(
    ("session", "said"),
    [
        ({"hop": 0}, "hop"),
        ({"hop": 2, "window": 1}, "window"),
        ({"sample_rate": 7999}, "sample_rate"),
        ({"sample_rate": "NaN"}, "sample_rate"),
        ({"model": "nonsense"}, "no model"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_wrong_settings_end_a_session(service, session, said):
    messages = spoken(service, REALTIME, [], [update(**session)])
    assert code_of(messages[1]) == "config_invalid" and said in messages[1]["message"]
    assert messages[-1]["type"] == "session.closed" and messages[-1]["reason"] == "config_invalid"


def test_settings_come_before_the_audio(service):
    messages = spoken(service, REALTIME, [bytes(3200)], after=[update(hop=1), CLOSE])
    assert code_of(messages[1]) == "message_invalid" and messages[-1]["reason"] == "client_closed"


def test_listen_has_the_numbers_of_a_stream(service, micro, talk):
    messages = spoken(
        service, f"{LISTEN}?sample_rate=16000&language=en", frames(talk), after=['{"type": "CloseStream"}']
    )
    kinds = [one["type"] for one in messages]
    assert kinds[0] == "SpeechStarted" and kinds.count("UtteranceEnd") == 2 and kinds[-1] == "Metadata"
    stream = Stream(micro, vad="energy")
    events = [event for event in stream.push(talk) + stream.finish() if event.speech]
    results = [one for one in messages if one["type"] == "Results"]
    for one, event in zip([one for one in results if not one["speech_final"]], events, strict=True):
        assert one["emotion"]["valence"] == pytest.approx(event.valence, abs=6e-5)
        assert one["start"] + one["duration"] == pytest.approx(event.end, abs=2e-3)
    assert sum(one["speech_final"] for one in results) == 2
    assert messages[-1]["duration"] == pytest.approx(len(talk) / 16000, abs=1e-3) and messages[-1]["models"] == [
        "micro"
    ]


def test_listen_takes_mulaw_of_two_channels_each_for_itself(service, micro, clip):
    left = clip[: len(clip) // 2 * 2 : 2]
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    coded = np.abs(MULAW.astype(np.int32)[None] - stereo.reshape(-1, 1)).argmin(axis=1).astype(np.uint8)
    path = f"{LISTEN}?encoding=mulaw&sample_rate=8000&channels=2&multichannel=true"
    messages = spoken(service, path, frames(coded), after=[b""])
    results = [one for one in messages if one["type"] == "Results" and not one["speech_final"]]
    assert results and {tuple(one["channel_index"]) for one in results} == {(0, 2)}
    stream = Stream(micro, vad="energy")
    events = [event for event in stream.push(MULAW[coded[::2]], 8000) + stream.finish() if event.speech]
    for one, event in zip(results, events, strict=True):
        assert one["emotion"]["arousal"] == pytest.approx(event.arousal, abs=6e-5)


def test_finalize_ends_an_utterance_now(service, clip):
    after = ['{"type": "KeepAlive"}', '{"type": "Finalize"}', '{"type": "CloseStream"}']
    messages = spoken(service, LISTEN, frames(clip[:32000]), after=after)
    forced = [one for one in messages if one.get("from_finalize")]
    assert len(forced) == 1 and forced[0]["speech_final"] and forced[0]["start"] + forced[0]["duration"] > 1.5
    assert [one["type"] for one in messages].count("UtteranceEnd") == 1


@pytest.mark.parametrize(
    "query", ["encoding=opus", "sample_rate=96000", "channels=3", "model=nonsense", "sample_rate=x"]
)
def test_wrong_parameters_are_refused(service, query):
    with pytest.raises(InvalidStatus) as caught, connect(f"{service.ws}{LISTEN}?{query}", open_timeout=60):
        pass
    response = caught.value.response
    assert response.status_code in (400, 404) and code_of(json.loads(response.body)) in ("config_invalid", "not_found")


def test_sessions_are_counted_and_a_closed_one_makes_room(strict):
    with connect(strict.ws + REALTIME, open_timeout=60), connect(strict.ws + LISTEN, open_timeout=60):
        with pytest.raises(InvalidStatus) as caught, connect(strict.ws + REALTIME, open_timeout=60):
            pass
        response = caught.value.response
        assert (response.status_code, code_of(json.loads(response.body))) == (429, "rate_limited")
    wait_for(lambda: not strict.state._sessions)
    with connect(strict.ws + REALTIME, open_timeout=60) as socket:
        assert json.loads(socket.recv())["type"] == "session.created"


def raw_socket(address, receive_buffer):
    """A connection that takes so many bytes before it is read."""
    narrow = socket_module.socket()
    narrow.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, receive_buffer)
    narrow.connect(address)
    return narrow


def wait_for(is_done):
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_idle_session_is_closed(strict):
    messages = spoken(strict, REALTIME, [])
    assert messages[-1]["type"] == "session.closed" and messages[-1]["reason"] == "idle_timeout"


def test_audio_ahead_of_real_time_is_left_out(strict):
    messages = spoken(strict, REALTIME, [bytes(32000)] * 5, after=[CLOSE])
    errors = [one for one in messages if one["type"] == "error"]
    assert errors and {code_of(one) for one in errors} == {"rate_limited"} and errors[0]["retryable"]
    assert messages[-1]["received"]["frames"] == 5 - len(errors) and messages[-1]["reason"] == "client_closed"


def test_a_large_message_ends_a_session(strict):
    for large in (bytes(2**18 + 2), " " * (2**18 + 1)):
        messages = spoken(strict, REALTIME, [large])
        assert code_of(messages[1]) == "message_too_large" and messages[-1]["reason"] == "message_too_large"
    with connect(strict.ws + REALTIME, open_timeout=60) as socket:
        socket.send(bytes(2**19 + 1))
        with pytest.raises(ConnectionClosed) as caught:
            while socket.recv():
                pass
    assert caught.value.rcvd.code == 1009


def test_many_errors_end_a_session(strict):
    messages = spoken(strict, REALTIME, [b"odd"] * 8)
    assert [code_of(one) for one in messages[1:-1]] == ["invalid_audio_frame"] * 5 + ["too_many_errors"]


def test_a_client_that_does_not_read_is_closed(clip):
    """Its socket takes little, and errors are the cheapest answers."""
    with running(limits=Limits(send_queue=4, errors=10**6, idle_dur=600), send_buffer=4096) as service:
        narrow = raw_socket(("127.0.0.1", service.port), 4096)
        with connect(service.ws + REALTIME, sock=narrow, open_timeout=60, max_queue=1, ping_interval=None) as socket:
            wait_for(lambda: service.state._sessions)
            deadline = time.monotonic() + 120
            with suppress(ConnectionClosed, OSError):
                while service.state._sessions and time.monotonic() < deadline:
                    socket.send(b"odd")
            wait_for(lambda: not service.state._sessions)
        text = service.request("GET", "/metrics")[2]
    assert 'wav2small_rejections_total{code="client_too_slow"} 1.0' in text


def test_a_client_that_goes_away_leaves_no_session(service, talk):
    for path in (REALTIME, LISTEN):
        with connect(service.ws + path, open_timeout=60) as socket:
            socket.send(talk[:16000].tobytes())
            socket.socket.close()
    wait_for(lambda: not service.state._sessions and not service.state._of_key)


def test_no_answer_is_late_by_much(service):
    """Every step and every answer of the sessions of this file is counted."""
    text = service.request("GET", "/metrics")[2]
    counts = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line and line[0] != "#"}
    assert counts["wav2small_lateness_seconds_count"] > 0 and counts["wav2small_step_seconds_count"] > 0
    assert counts['wav2small_sessions{route="/v1/listen"}'] == 0


def test_a_failure_of_steps_that_were_computed_together_ends_their_sessions(service, monkeypatch):
    def fails(pushes):
        raise RuntimeError("a bug")

    monkeypatch.setattr("wav2small.serve.state.push_together", fails)
    messages = spoken(service, REALTIME, [bytes(16000)])
    assert [code_of(one) for one in messages if one["type"] == "error"] == ["internal_error"]
    assert messages[-1]["reason"] == "internal_error"
