"""The page that the service has at /, in Chromium: a file and the microphone by the server, and by the page itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
import soundfile
from websockets.sync.client import connect

from running_service import KEY, running
from wav2small import load, predict
from wav2small.network.config import OUTPUTS
from wav2small.serve.settings import Limits

EXAMPLE, MICROPHONE = "examples/10b10Wa.flac", "examples/08a05Fe.flac"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "about:blank"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
FLAGS += ["--autoplay-policy=no-user-gesture-required"]


class Tab:
    """A tab of a browser, by the protocol of its developer tools."""

    def __init__(self, socket):
        self._socket, self._count = socket, 0

    def call(self, method, **parameters):
        """The result of a command."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv(60))).get("id") != self._count:
            pass
        return message["result"]

    def value(self, script):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return found["result"].get("value")

    def until(self, script):
        """Wait for an expression to be true."""
        deadline = time.monotonic() + 120
        while not self.value(script):
            assert time.monotonic() < deadline, (script, self.value(status()))
            time.sleep(0.1)


def status():
    return "document.getElementById('status').textContent"


@contextmanager
def tab(profile, microphone):
    """A tab of Chromium, whose microphone is a file."""
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", f"--use-file-for-fake-audio-capture={microphone}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        try:
            port = next(found[1] for line in browser.stderr if (found := re.search(r"ws://127.0.0.1:(\d+)", line)))
            tabs = json.load(urlopen(f"http://127.0.0.1:{port}/json"))
            address = next(one["webSocketDebuggerUrl"] for one in tabs if one["type"] == "page")
            with connect(address, max_size=None, ping_interval=None) as socket:
                yield Tab(socket)
        finally:
            browser.terminate()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_page_computes_on_the_server_or_in_itself(tmp_path):
    signal, rate = soundfile.read(MICROPHONE)
    soundfile.write(tmp_path / "microphone.wav", signal, rate)
    values = "[...document.querySelectorAll('output')].map(({ dataset }) => Number(dataset.value))"
    (expected,) = predict(EXAMPLE, model=load("micro", "c"), vad="energy")
    with (
        running(keys=(KEY,), limits=Limits(idle_dur=600)) as service,
        tab(tmp_path, tmp_path / "microphone.wav") as page,
    ):
        page.call("Page.navigate", url=service.url)
        page.until(f"{status()} === 'Ready' && !document.getElementById('with-key').hidden")
        assert "stays on your device" in page.value("document.querySelector('main > p').textContent")
        page.value("document.querySelector('input[value=server]').click()")
        assert "sent" in page.value("document.querySelector('main > p').textContent")
        page.value("document.getElementById('example').click()")
        page.until(f"{status()}.includes('There is no valid key')")
        page.value(f"document.getElementById('key').value = '{KEY}'")
        page.value("document.getElementById('example').click()")
        page.until(f"{status()}.startsWith('example.flac: 2.6 s')")
        assert page.value(values) == [pytest.approx(getattr(expected, name), abs=1e-6) for name in OUTPUTS]
        page.value("document.getElementById('microphone').click()")
        page.until("document.getElementById('cost').textContent.startsWith('From the end of the audio')")
        assert len(service.state._sessions) == 1 and all(0 < value < 1 for value in page.value(values))
        page.value("document.getElementById('microphone').click()")
        page.until(f"{status()} === 'Stopped'")
        page.value("document.querySelector('input[value=page]').click()")
        while service.state._sessions:
            time.sleep(0.01)

        def seconds():
            """Of audio that the service has processed."""
            text = service.request("GET", "/metrics", headers={"X-Api-Key": KEY})[2]
            return re.findall(r"wav2small_audio_seconds_total.*", text)

        sent = seconds()
        page.value("document.getElementById('example').click()")
        page.until(f"{status()}.startsWith('example.flac: 2.6 s')")
        assert page.value(values) == [pytest.approx(getattr(expected, name), abs=0.03) for name in OUTPUTS]
        assert seconds() == sent
