"""Broken messages and requests by the thousand: the service must survive them and write no traceback.

python benchmarks/serve_abuse.py --count 10000
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from urllib.request import urlopen

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

MESSAGES = (
    b'{"type": "session.update", "session": {"hop": 0.5, "window": 3, "sample_rate": 16000, "model": "micro"}}',
    b'{"type": "session.close"}',
    b'{"type": "Finalize"}',
    b'{"type": "KeepAlive"}',
    b'{"type": "CloseStream"}',
)
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF0000WAVEfmt 00000000data0000'
    b'\r\n--x\r\nContent-Disposition: form-data; name="hop"\r\n\r\n0.5\r\n--x--\r\n'
)
REQUEST = b"POST /v1/audio/emotion HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PATHS = ("/v1/emotion/realtime", "/v1/listen", "/v1/listen?channels=2&multichannel=true", "/v1/listen?encoding=mulaw")
MESSAGES_A_SESSION = 20


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The same with some bytes changed, left out, doubled or added."""
    found = bytearray(content)
    for _ in range(draw.randrange(4)):
        start = draw.randrange(len(found) + 1)
        stop = min(len(found), start + draw.randrange(8))
        found[start:stop] = draw.choice(
            (b"", draw.randbytes(4), bytes(found[start:stop]) * 2, b"NaN", b"[[[", b"1e999")
        )
    return bytes(found)


def abuse_session(url: str, draw: random.Random) -> str:
    """Send broken messages in a session; how it ended."""
    try:
        with connect(url + draw.choice(PATHS), open_timeout=60, close_timeout=1) as client:
            for _ in range(MESSAGES_A_SESSION):
                message = damaged(draw.choice(MESSAGES), draw)
                if draw.random() < 0.3:
                    message = draw.randbytes(draw.randrange(3000))
                client.send(message if draw.random() < 0.5 else message.decode("utf-8", "replace"))
            if draw.random() < 0.5:
                return "left"
            client.send(b"odd")
            with suppress(TimeoutError):
                while True:
                    if json.loads(client.recv(1))["type"] == "error":
                        return "error"
            return "no answer"
    except InvalidStatus as error:
        return str(error.response.status_code)
    except ConnectionClosed as error:
        return f"closed {error.rcvd.code if error.rcvd else 'without a code'}"


def abuse_request(port: int, draw: random.Random) -> str:
    """Send one broken request; the status of the answer.

    A client that promises more than it sends, or whose header is damaged, then leaves without waiting for an answer.
    """
    body = damaged(FORM, draw)
    head = damaged(REQUEST, draw) if draw.random() < 0.5 else REQUEST
    length = len(body) if draw.random() < 0.8 else draw.randrange(10**9)
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as raw:
        raw.sendall(head + b"Content-Length: %d\r\n\r\n" % length + body)
        if head is not REQUEST or length != len(body):
            raw.shutdown(socket.SHUT_WR)
        return raw.recv(100)[9:12].decode("latin-1") or "left"
    return "reset"


def main() -> None:
    """Start a service, abuse it, and print how it answered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="messages and requests")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, answers, start = random.Random(arguments.seed), Counter(), time.monotonic()
    command = [sys.executable, "-m", "wav2small", "serve", "--port", "0", "--vad", "energy"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        url = process.stdout.readline().split()[0]
        for _ in range(arguments.count // (2 * MESSAGES_A_SESSION)):
            answers[abuse_session(url.replace("http", "ws"), draw)] += 1
            for _ in range(MESSAGES_A_SESSION):
                answers[abuse_request(int(url.rpartition(":")[2]), draw)] += 1
        is_ready = urlopen(f"{url}/ready").status == 200
        process.terminate()
        code = process.wait()
        log.seek(0)
        errors = log.read().decode()
    print(f"{arguments.count} in {time.monotonic() - start:.0f} s:", dict(answers.most_common()))
    print(f"ready afterwards: {is_ready}, exit code {code}, lines in the log: {len(errors.splitlines())}")
    if not is_ready or code or "Traceback" in errors:
        sys.exit(errors[-5000:])


if __name__ == "__main__":
    main()
