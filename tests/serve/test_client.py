"""The client: the service's answers in Python, and its errors."""

from __future__ import annotations

import asyncio

import pytest

from running_service import KEY, dialogue, running
from wav2small.client import Client, ServiceError
from wav2small.errors import Wav2SmallError

CLIP = "examples/08a05Fe.flac"


def chunks(signal):
    return (signal[start : start + 1600].tobytes() for start in range(0, len(signal), 1600))


def test_files_and_models(service):
    client = Client(service.url + "/")
    assert client.models()[0]["id"] == "micro"
    rows = client.emotion(CLIP, hop=1.0)["rows"]
    assert [row["end"] for row in rows] == pytest.approx([3.0, 3.0987], abs=1e-3)
    assert client.emotion_text(CLIP, response_format="vtt", model=None).startswith("WEBVTT")
    with open(CLIP, "rb") as file:
        content = client.emotion(file.read(), segments=b"0\t2\ta\n", by_speaker=True)
    assert content["rows"][0]["speaker"] == "a" and content["rows"][0]["file"] == "audio"


def test_live_sessions_in_threads_and_in_asyncio(service, clip):
    client, talk = Client(service.url), dialogue(clip)

    async def listen():
        async def source():
            for chunk in chunks(talk):
                yield chunk

        return [message async for message in client.astream(source(), hop=1.0)]

    messages = list(client.stream(chunks(talk), hop=1.0))
    assert [one["type"] for one in messages[:2]] == ["session.created", "session.updated"]
    assert [strip(one) for one in asyncio.run(listen())] == [strip(one) for one in messages]
    assert messages[-1]["produced"]["utterances"] == 2


def strip(message):
    """A message without what is drawn at random."""
    return {name: value for name, value in message.items() if name not in ("session_id", "measurement_id")}


def test_errors_have_their_codes(service, clip, tmp_path):
    client = Client(service.url)
    with pytest.raises(ServiceError, match="no model") as caught:
        client.emotion(CLIP, model="nonsense")
    assert caught.value.code == "not_found" and not caught.value.is_retryable
    with pytest.raises(ServiceError, match="hop") as caught:
        list(client.stream(chunks(clip), hop=0))
    assert caught.value.code == "config_invalid"
    with pytest.raises(Wav2SmallError, match="cannot be read"):
        client.emotion(tmp_path / "none.wav")
    with pytest.raises(Wav2SmallError, match="cannot be reached"):
        Client("http://127.0.0.1:9").models()
    with running(keys=(KEY,)) as locked:
        with pytest.raises(ServiceError) as caught:
            Client(locked.url).models()
        assert caught.value.code == "key_invalid"
        assert Client(locked.url, KEY).models() and list(Client(locked.url, KEY).stream([bytes(3200)]))
