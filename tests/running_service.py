"""A service that runs in this process, and how tests talk to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import numpy as np

from wav2small.audio import read
from wav2small.client import form
from wav2small.serve.server import bind, new_server
from wav2small.serve.settings import Limits, Settings

KEY, OTHER = "first-key-of-the-tests", "second-key-of-the-tests"


class Service:
    """A service at a port of this machine."""

    def __init__(self, port, state):
        self.port, self.state = port, state
        self.url, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    def request(self, method, path, body=None, headers=None):
        """Status, headers and text of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def get(self, path, **headers):
        """Status and JSON of a response."""
        status, _, text = self.request("GET", path, headers=headers)
        return status, json.loads(text)

    def post(self, file, path="/v1/audio/emotion", headers=None, **fields):
        """Status and text of the response to a form."""
        body, boundary = form(file, fields)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"} | (headers or {})
        status, _, text = self.request("POST", path, body, headers)
        return status, text

    def refused(self, file, **fields):
        """Status and code of an error, whose message is one sentence."""
        status, text = self.post(file, **fields)
        return status, code_of(json.loads(text))


def code_of(error):
    """The code of an error, after a look at its shape and its sentence."""
    assert error["type"] == "error" and isinstance(error["retryable"], bool)
    message = error["message"]
    assert message[0].isupper() or not message[0].isalpha()
    assert message.endswith(".") and "\n" not in message and "Traceback" not in message
    return error["code"]


@contextmanager
def running(keys=(), limits=None, send_buffer=None, **settings):
    """A service in a thread of this process, with its own limits."""
    settings = Settings(port=0, vad="energy", limits=limits or Limits(), **settings)
    listener, started = bind(settings), threading.Event()
    if send_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = new_server(settings, started.set, keys)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert started.wait(120)
        yield Service(listener.getsockname()[1], server.config.loaded_app.state.service)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def samples(path):
    """A file as int16 at 16 kHz."""
    return np.round(read.read(path) * 32768).clip(-32768, 32767).astype(np.int16)


def dialogue(clip, pause_dur=1.0):
    """The clip twice, a pause after each."""
    pause = np.zeros(round(pause_dur * 16000), np.int16)
    return np.concatenate([clip, pause, clip, pause])
