"""The page and its wasm say what the integer reference says, in node and in a real Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from wav2small import audio, reference
from wav2small.cli import demo
from wav2small.parity import voice
from wav2small.weights import DATA, sha256

WEB = demo.folder()
MICRO = DATA / "micro-int8.safetensors"
NAMES = ("arousal", "dominance", "valence")
NODE = """
import { readFileSync } from "node:fs";
import { Loudness, load } from "./web/wav2small.js";
const [, wasm, clip, kind] = process.argv;
const bytes = readFileSync(clip);
const at = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const samples = kind === "float" ? new Float32Array(at) : new Int16Array(at);
const model = await load(readFileSync(wasm));
const loudness = new Loudness(model.speech);
const answers = [];
for (const cut of [samples.length, 777]) {
  model.reset();
  for (let from = 0; from < samples.length; from += cut) model.push(samples.subarray(from, from + cut));
  model.finish();
  answers.push(model.read());
}
if (kind === "float") loudness.push(samples);
model.reset();
let refused = "";
try { model.push([1, 2]); } catch (error) { refused = error.message; }
console.log(JSON.stringify({ answers, refused, empty: model.read(), about: model.about, rate: model.samplingRate,
  isSpeech: loudness.isSpeech() }));
"""
PAGE = """<!doctype html><iframe src="/index.html" width="1000" height="900"></iframe><script type="module">
const frame = document.querySelector("iframe");
const pause = (dur) => new Promise((done) => setTimeout(done, dur));
while (frame.contentDocument?.getElementById("status")?.textContent !== "Ready") await pause(50);
const page = frame.contentDocument, view = frame.contentWindow;
const values = () => Object.fromEntries([...page.querySelectorAll("output")].map((one) => [one.id, one.dataset.value]));
const status = () => page.getElementById("status").textContent;
async function drop(content, name) {
  const before = status(), transfer = new view.DataTransfer();
  transfer.items.add(new view.File([content], name));
  view.dispatchEvent(new view.DragEvent("drop", { dataTransfer: transfer }));
  while (status() === before) await pause(50);
  return { values: values(), status: status() };
}
const report = { file: await drop(await (await fetch("/clip.wav")).arrayBuffer(), "clip.wav") };
report.bad = await drop("no audio", "bad.wav");
page.getElementById("microphone").click();
const heard = [];
for (let n = 0; n < 12; n++) { await pause(500); heard.push(values()); }
report.microphone = heard; report.listening = status();
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>"""


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.round(voice(np.random.default_rng(0), 6.0) * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


def expected(signal: np.ndarray) -> list[float]:
    arrays, _, config = reference.load_student(MICRO)
    return [float(value) for value in reference.forward(signal.astype(np.float32) / 2**15, arrays, config)[1]]


def in_node(folder: Path, wasm: Path, samples: np.ndarray) -> dict:
    path = folder / "samples"
    samples.tofile(path)
    kind = "float" if samples.dtype == np.float32 else "int16"
    command = ["node", "--input-type=module", "-e", NODE, "--", str(wasm), str(path), kind]
    done = subprocess.run(command, cwd=WEB.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize("kind", ["int16", "float"])
def test_wasm_in_node_is_the_integer_reference_to_the_bit(tmp_path, clip, kind):
    samples = clip if kind == "int16" else clip.astype(np.float32) / np.float32(2**15)
    found = in_node(tmp_path, WEB / "wav2small.wasm", samples)
    for answer in found["answers"]:
        assert [answer[name] for name in NAMES] == expected(clip)
    assert found["empty"] is None and "Float32Array" in found["refused"]
    assert (found["about"]["sha256"], found["rate"]) == (sha256(MICRO), audio.SAMPLING_RATE)
    assert (WEB / "wav2small.wasm").stat().st_size < 250e3


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize("level", [0.0009, 0.0011, 0.0015, 0.01])
def test_the_page_gates_speech_as_python_does(tmp_path, level):
    signal = (np.random.default_rng(1).standard_normal(48000) * level).astype(np.float32)
    assert in_node(tmp_path, WEB / "wav2small.wasm", signal)["isSpeech"] is audio.is_speech(signal)


@pytest.mark.skipif(not all(map(shutil.which, ("clang", "wasm-ld", "make", "node"))), reason="needs clang, lld, node")
def test_a_rebuild_has_the_same_answers(tmp_path, clip):
    wasm = tmp_path / "new.wasm"
    made = ["make", "-C", str(WEB), f"WASM={wasm}", f"BUILD={tmp_path / 'c'}", f"PYTHON={sys.executable}"]
    subprocess.run(made, check=True, capture_output=True)
    old, new = (in_node(tmp_path, path, clip) for path in (WEB / "wav2small.wasm", wasm))
    assert old == new


class Handler(demo.Handler):
    """The demo's files, the test's page and clip, and what the page reports."""

    files: ClassVar[dict[str, bytes]] = {}
    reports: ClassVar[list[dict]] = []

    def do_GET(self):
        if self.path not in self.files:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.end_headers()
        self.wfile.write(self.files[self.path])

    def do_POST(self):
        self.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


@pytest.mark.slow  # a browser, and seconds of a microphone
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_dropped_file_and_the_microphone_in_chromium(tmp_path, clip):
    path = tmp_path / "clip.wav"
    soundfile.write(path, clip, audio.SAMPLING_RATE, subtype="PCM_16")
    Handler.files = {"/test.html": PAGE.encode(), "/clip.wav": path.read_bytes()}
    Handler.reports = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(WEB)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags += [f"--use-file-for-fake-audio-capture={path}", "--autoplay-policy=no-user-gesture-required"]
    address = f"http://localhost:{server.server_port}/test.html"
    browser = subprocess.Popen(
        ["chromium", *flags, "--remote-debugging-port=0", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while not Handler.reports and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    assert Handler.reports, "the page did not report within a minute"
    report = Handler.reports[0]
    assert [float(report["file"]["values"][name]) for name in NAMES] == expected(clip), report["file"]
    assert "not audio" in report["bad"]["status"]
    assert report["listening"].startswith("Listening")
    # The fake microphone resamples, loops and begins anywhere: near what Python says of the clip, not equal to it.
    latest = [float(report["microphone"][-1][name] or "nan") for name in NAMES]
    print(report["file"]["status"], latest, expected(clip))
    np.testing.assert_allclose(latest, expected(clip), atol=0.15)
