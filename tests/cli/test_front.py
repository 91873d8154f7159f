"""The front of the command line: mistyped names, completion, and the demo's server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from wav2small.cli import demo, main
from wav2small.serve import page


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predct", "a.wav"], "No such command 'predct'. Did you mean 'predict'?"),
        (["steam"], "No such command 'steam'. Did you mean 'stream'?"),
        (["xyzzy"], "No such command 'xyzzy'.\n"),
        (["predict", "a.wav", "--modl", "micro"], "--model"),
        (["--hlep"], "--help"),
    ],
)
def test_a_mistyped_command_or_option_is_answered_with_the_nearest(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2 and words in result.stderr


def complete(words: str) -> list[str]:
    given = {"_WAV2SMALL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-m", "wav2small"]
    result = subprocess.run(command, env=os.environ | given, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in result.stdout.splitlines()]


def test_a_shell_completes_commands_and_options():
    assert complete("wav2small pre") == ["predict"]
    assert complete("wav2small stream --list") == ["--list-devices"]
    assert complete("wav2small predict --vad ") == ["silero", "energy"]


class Stop(Exception):
    pass


def test_the_demo_opens_a_browser_at_its_address(monkeypatch):
    opened = []

    def serve(server):
        raise Stop

    monkeypatch.setattr(demo.ThreadingHTTPServer, "serve_forever", serve)
    for answer in (True, False):
        monkeypatch.setattr(demo.webbrowser, "open", lambda address, answer=answer: opened.append(address) or answer)
        result = run("demo", "--port", "0", "--open")
        assert result.stdout.startswith(opened[-1]) and isinstance(result.exception, Stop)
        assert ("no browser can be started" in result.stderr) is not answer
    run("demo", "--port", "0")
    assert len(opened) == 2


def test_the_demo_serves_the_page_and_an_example(monkeypatch, tmp_path):
    server = demo.ThreadingHTTPServer(("127.0.0.1", 0), demo.partial(demo.Handler, directory=str(demo.folder())))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_port}"
    assert b"Play an example" in urlopen(f"{address}/index.html").read()
    answer = urlopen(f"{address}/example.flac")
    assert answer.headers["Content-Type"] == "audio/flac" and answer.read().startswith(b"fLaC")
    monkeypatch.setattr(page, "EXAMPLES", (tmp_path / "gone.flac",))
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{address}/example.flac")
    server.shutdown()
    server.server_close()
