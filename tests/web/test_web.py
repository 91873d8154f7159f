"""The web page and its wasm agree with the integer reference, in node and in Chromium."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from functools import partial, reduce
from http.server import ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import soxr

from wav2small import Baseline, Emotion, load, load_baseline
from wav2small.audio import read as audio
from wav2small.audio.vad import FILE_DUR, Energy, SpeechMeter, is_enough, sound
from wav2small.cli import demo
from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.probes import voice
from wav2small.network.weights import DATA, identity
from wav2small.runtime.baseline import CHANGES
from wav2small.serve import page

WEB = page.folder()
MICRO = DATA / "micro-int8.safetensors"
NAMES = ("arousal", "dominance", "valence")
RATES = ((8000, "wav"), (44100, "wav"), (48000, "flac"), (44100, "ogg"))
PART, PARTS = audio.SAMPLING_RATE // 2, 6
"""Samples between events, and the number of these parts in the window of an event."""
NODE = """
import { readFileSync } from "node:fs";
import { Live, SpeechMeter, load } from "./web/node.js";
const [, wasm, clip, kind] = process.argv;
const bytes = readFileSync(clip);
const at = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const samples = kind === "float" ? new Float32Array(at) : new Int16Array(at);
const model = await load(wasm);
const answers = [], events = [];
for (const cut of [samples.length, 777, 128]) {
  model.reset();
  for (let from = 0; from < samples.length; from += cut) model.push(samples.subarray(from, from + cut));
  model.finish();
  answers.push(model.read());
  const live = new Live(model), found = [];
  for (let from = 0; from < samples.length; from += cut) found.push(...live.push(samples.subarray(from, from + cut)));
  found.push(...live.finish());
  events.push(found);
}
const meter = new SpeechMeter(model.speech);
meter.push(samples);
meter.finish();
const ratio = meter.ratio(0, samples.length);
model.reset();
let refused = "";
const early = new Live(model, 48000);
for (const wrong of [() => early.push([1, 2]), () => model.resampler(44100.5), () => model.read(9)])
  try { wrong(); } catch (error) { refused += error.message; }
console.log(JSON.stringify({ answers, events, refused, empty: model.read(), about: model.about,
  rate: model.samplingRate, ratio, isEnough: meter.isEnough(ratio, samples.length, model.speech.fileDur) }));
"""
RESAMPLE = """
import { readFileSync, writeFileSync } from "node:fs";
import { load } from "./web/node.js";
const [, path, rate] = process.argv;
const all = new Float32Array(readFileSync(path).buffer.slice(0));
const [noise, tone] = [all.subarray(0, rate), all.subarray(rate)];
const model = await load(), made = [];
for (const [samples, cut] of [[noise, noise.length], [noise, 128], [tone, 777]]) {
  const resampler = model.resampler(Number(rate));
  for (let at = 0; at < samples.length; at += cut) made.push(...resampler.push(samples.subarray(at, at + cut)));
  made.push(...resampler.finish());
}
writeFileSync(`${path}.out`, Float32Array.from(made));
"""
TAP = """
// What the worklet hears goes out with its events.
const register = registerProcessor;
globalThis.registerProcessor = (name, Processor) => register(name, class extends Processor {
  heard = [];

  constructor(options) {
    super(options);
    const post = this.port.postMessage.bind(this.port);
    this.port.postMessage = (event) => { post({ ...event, sampleRate, samples: this.heard }); this.heard = []; };
  }

  process(inputs) {
    this.heard.push(...inputs[0][0] ?? []);
    return super.process(inputs);
  }
});
"""
PAGE = """<!doctype html><iframe src="/index.html" width="1000" height="900"></iframe><script type="module">
const frame = document.querySelector("iframe");
const pause = (dur) => new Promise((done) => setTimeout(done, dur));
const text = (id) => frame.contentDocument?.getElementById(id)?.textContent;
while (text("status") !== "Ready") await pause(50);
const page = frame.contentDocument, view = frame.contentWindow;
const values = () => Object.fromEntries([...page.querySelectorAll("output")].map((one) => [one.id, one.dataset.value]));
async function drop(name) {
  const content = await (await fetch(name)).arrayBuffer(), transfer = new view.DataTransfer();
  transfer.items.add(new view.File([content], name));
  view.dispatchEvent(new view.DragEvent("drop", { dataTransfer: transfer }));
  while (!text("status").startsWith(`${name}:`)) await pause(20);
  return { values: values(), status: text("status"), cost: text("cost") };
}
const report = { files: {} };
for (const name of NAMES) report.files[name] = await drop(name);
const button = page.getElementById("example");
report.hasExample = !button.hidden;
button.click();
while (!text("status").startsWith("example.flac:")) await pause(20);
report.example = values();

const add = view.Worklet.prototype.addModule;
view.Worklet.prototype.addModule = async function (...words) {
  await add.call(this, "/tap.js");
  return add.apply(this, words);
};
let heard;
const Node = view.AudioWorkletNode, Context = view.AudioContext;
view.AudioWorkletNode = class extends Node {
  constructor(...options) {
    super(...options);
    const { port } = this, hear = (then) => port.addEventListener("message", (event) => {
      then(event);
      heard.push({ ...event.data, shown: values(), compared: text("baseline") });
    });
    Object.defineProperty(port, "onmessage", { set(then) { hear(then); port.start(); } });
  }
};
async function listen(count, Context) {
  heard = [];
  view.AudioContext = Context;
  page.getElementById("microphone").click();
  while (heard.length < count) await pause(50);
  const listening = text("status"), cost = text("cost");
  const before = heard.slice(); // the page ignores events after the click
  page.getElementById("microphone").click();
  while (text("status") === listening) await pause(50);
  return { heard: before, listening, cost, stopped: text("status") };
}
const { createObjectURL } = view.URL;
let saved;
view.URL.createObjectURL = (blob) => { saved = blob.text(); return createObjectURL(blob); };
report.baseline = (await drop("baseline.json")).status;
report.broken = (await drop("broken.json")).status;
report.exact = await listen(18, class extends Context { constructor() { super({ sampleRate: 16000 }); } });
page.getElementById("save-baseline").click();
report.enrolled = JSON.parse(await saved);
page.getElementById("start-over").click();
report.fresh = text("baseline");
report.native = await listen(8, Context);
page.getElementById("save-baseline").click();
report.started = JSON.parse(await saved);
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>"""


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.round(voice(np.random.default_rng(0), 6.0) * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


@pytest.fixture(scope="module")
def pauses(clip) -> np.ndarray:
    """Some speech, then none for longer than a window."""
    return np.concatenate([clip[:37000], np.zeros(60000, np.int16)])


def expected(signal: np.ndarray) -> list[float]:
    arrays, _, config = reference.load_student(MICRO)
    return [float(value) for value in reference.forward(signal.astype(np.float32) / 2**15, arrays, config)[1]]


def expected_events(signal: np.ndarray, ends: list[int], ended: bool) -> list[dict]:
    """Predictions for the last parts of a stream at each event, where Python's rule detects enough speech."""
    arrays, _, config = reference.load_student(MICRO)
    log_mel = fixed_frontend.log_mel(fixed_frontend.to_samples(signal), config)
    tokens = fixed_point.tokens(log_mel, arrays, config)
    bounds = [0, *(-(-config.frontend.num_frames(end) // config.frames_a_token) for end in ends)]
    parts = [fixed_point.pool(tokens[start:end], arrays) for start, end in pairwise(bounds)]
    meter, found = SpeechMeter(Energy()), []
    meter.push(signal)
    if ended:
        meter.finish()
    for at, end in enumerate(ends):
        start = max(0, (-(-end // PART) - PARTS) * PART)
        ratio = meter.sound(start, end).ratio
        emotion = (
            fixed_point.read_pool(reduce(fixed_point.merge, parts[max(0, at + 1 - PARTS) : at + 1]), arrays)[1] / 2**15
        )
        speech = is_enough(ratio, end - start)
        found.append({"start": start / 16000, "end": end / 16000, "speechRatio": pytest.approx(ratio)})
        found[-1]["emotion"] = dict(zip(NAMES, emotion.tolist(), strict=True)) if speech else None
    return found


def in_node(folder: Path, wasm: Path, samples: np.ndarray) -> dict:
    path = folder / "samples"
    samples.tofile(path)
    kind = "float" if samples.dtype == np.float32 else "int16"
    command = ["node", "--input-type=module", "-e", NODE, "--", str(wasm), str(path), kind]
    done = subprocess.run(command, cwd=WEB.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(event.pop("computeDur") > 0 for events in found["events"] for event in events)
    return found


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize("kind", ["int16", "float"])
def test_wasm_in_node_is_the_integer_reference_to_the_bit(tmp_path, clip, kind):
    samples = clip if kind == "int16" else clip.astype(np.float32) / np.float32(2**15)
    found = in_node(tmp_path, WEB / "wav2small.wasm", samples)
    for answer in found["answers"]:
        assert [answer[name] for name in NAMES] == expected(clip)
    assert found["empty"] is None
    for part in ("Float32Array", "44100.5: must be an integer from 4000", "a number of parts out of range"):
        assert part in found["refused"]
    assert (found["about"]["sha256"], found["rate"]) == (identity(MICRO), audio.SAMPLING_RATE)
    size = (WEB / "wav2small.wasm").stat().st_size
    assert size < 250e3 and f"{size:,} bytes" in (WEB.parent / "docs" / "web.md").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize("kind", ["int16", "float"])
def test_events_are_python_s_to_the_bit_in_any_cutting(tmp_path, pauses, kind):
    samples = pauses if kind == "int16" else pauses.astype(np.float32) / np.float32(2**15)
    ends = [*range(PART, len(samples), PART), len(samples)]
    expected = expected_events(pauses.astype(np.float32) / 2**15, ends, True)
    assert {event["emotion"] is None for event in expected} == {True, False}
    for events in in_node(tmp_path, WEB / "wav2small.wasm", samples)["events"]:
        assert events == expected


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize("level", [0.0009, 0.0011, 0.0015, 0.01])
@pytest.mark.parametrize("samples", [300, 5000, 48000])
def test_javascript_tells_speech_as_python_does(tmp_path, level, samples):
    signal = (np.random.default_rng(1).standard_normal(samples) * level).astype(np.float32)
    signal[samples // 3 : samples // 2] *= 0.01
    found = in_node(tmp_path, WEB / "wav2small.wasm", signal)
    ratio = sound(signal, Energy()).ratio
    assert found["ratio"] == pytest.approx(ratio)
    assert found["isEnough"] is is_enough(ratio, samples, whole_dur=FILE_DUR)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_a_resampler_keeps_what_there_is_and_only_that_in_any_cutting(tmp_path, rate):
    """As soxr below 6.5 kHz, without what would fold back: a 10 kHz tone at 48 kHz is gone at 16 kHz."""
    noise = np.random.default_rng(2).standard_normal(rate).astype(np.float32)
    tone = np.sin(2 * np.pi * 10000 * np.arange(rate) / rate).astype(np.float32)
    np.concatenate([noise, tone]).tofile(tmp_path / "samples")
    command = ["node", "--input-type=module", "-e", RESAMPLE, "--", str(tmp_path / "samples"), str(rate)]
    subprocess.run(command, cwd=WEB.parent, check=True)
    whole, pieces, tones = np.split(np.fromfile(tmp_path / "samples.out", np.float32), 3)
    np.testing.assert_array_equal(whole, pieces)
    assert len(whole) == 16000
    low = round(min(6500, 0.4 * rate))
    found, expected = (
        np.fft.rfft(part * np.hanning(16000))[:low] for part in (whole, soxr.resample(noise, rate, 16000))
    )
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
    if rate > 20000:
        assert np.abs(tones[500:-500]).max() < 0.002


@pytest.mark.skipif(not all(map(shutil.which, ("clang", "wasm-ld", "make", "node"))), reason="needs clang, lld, node")
def test_a_rebuild_has_the_same_answers(tmp_path, clip):
    wasm = tmp_path / "new.wasm"
    made = ["make", "-C", str(WEB), f"WASM={wasm}", f"BUILD={tmp_path / 'c'}", f"PYTHON={sys.executable}"]
    subprocess.run(made, check=True, capture_output=True)
    old, new = (in_node(tmp_path, path, clip) for path in (WEB / "wav2small.wasm", wasm))
    assert old == new


def test_the_wheel_has_what_the_page_loads():
    wanted, known = ["index.html"], set()
    while wanted:
        name = wanted.pop()
        known.add(name)
        if name.endswith((".html", ".js")):
            text = (WEB / name).read_text("utf-8")
            wanted += set(re.findall(r'"(?:\./)?([\w.]+\.(?:js|css|wasm))"', text)) - known - set(wanted)
    packed = re.findall(
        r'^"web/(.+?)" = "wav2small/web/\1"$', (WEB.parent / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert known | {"wav2small.d.ts"} == set(packed) and len(known) == 7


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


def in_chromium(profile: Path, files: dict[str, bytes], microphone: Path) -> dict:
    """What /test.html, one of the files, reports."""
    Handler.files, Handler.reports = files, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(WEB)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags += [f"--use-file-for-fake-audio-capture={microphone}", "--autoplay-policy=no-user-gesture-required"]
    address = f"http://localhost:{server.server_port}/test.html"
    browser = subprocess.Popen(
        ["chromium", *flags, "--remote-debugging-port=0", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 300
        while not Handler.reports and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    assert Handler.reports, "the page did not report within five minutes"
    return Handler.reports[0]


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory) -> Path:
    """The file of a speaker who is usually calmer than the clip."""
    baseline = Baseline(speech_dur=8.0, mean=np.array([0.1, 0.4, 0.5]), is_enrolled=True)
    baseline.bind(load("micro:int8").metadata)
    baseline.save(path := tmp_path_factory.mktemp("baseline") / "baseline.json")
    return path


@pytest.fixture(scope="module")
def chromium(tmp_path_factory, clip, pauses, enrolled) -> dict:
    """The report of a page that files were dropped on, and that listened then."""
    folder = tmp_path_factory.mktemp("web")
    microphone = folder / "microphone.wav"
    soundfile.write(microphone, pauses, audio.SAMPLING_RATE, subtype="PCM_16")
    files = {"empty.wav": b"", "bad.wav": b"no audio", "nothing.wav": wav(clip[:0]), "clip.wav": wav(clip)}
    files["stereo.wav"] = wav(np.stack([clip, clip[::-1]], 1))
    files |= {f"{rate}.{kind}": wav(soxr.resample(clip, 16000, rate), rate, kind) for rate, kind in RATES}
    files["silence.wav"] = wav(clip * 0)
    files["minutes.wav"] = wav(np.tile(clip, 100))
    served = {f"/{name}": content for name, content in files.items()}
    served["/test.html"] = PAGE.replace("NAMES)", f"{json.dumps(list(files))})").encode()
    served |= {"/baseline.json": enrolled.read_bytes(), "/broken.json": b"{}"}
    served["/tap.js"] = TAP.encode()
    return in_chromium(folder / "profile", served, microphone)


def wav(signal: np.ndarray, sampling_rate: int = audio.SAMPLING_RATE, kind: str = "wav") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, sampling_rate, format=kind, subtype="VORBIS" if kind == "ogg" else "PCM_16")
    return file.getvalue()


@pytest.mark.slow  # a browser, and ten seconds of a microphone
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_dropped_file_has_python_s_answer_or_a_sentence(chromium, clip):
    def found(name: str) -> list[float]:
        return [float(chromium["files"][name]["values"][dimension]) for dimension in NAMES]

    assert found("clip.wav") == expected(clip)
    assert found("stereo.wav") == expected((clip.astype(np.float32) + clip[::-1]) / 2)
    for rate, kind in RATES:
        signal = audio.prepare(soxr.resample(clip, 16000, rate), rate)
        np.testing.assert_allclose(found(f"{rate}.{kind}"), expected(signal * 2**15), atol=0.03, err_msg=f"{rate}")
    np.testing.assert_allclose(found("minutes.wav"), expected(np.tile(clip, 10)), atol=0.015)
    say = {name: file["status"] for name, file in chromium["files"].items()}
    assert say["empty.wav"] == "empty.wav: is empty; choose a file with audio"
    assert "this browser cannot decode it" in say["bad.wav"]
    assert "600.0 s" in say["minutes.wav"] and "too little speech" in say["silence.wav"]
    print("\nChromium, 600 s of a file:", chromium["files"]["minutes.wav"]["cost"])


@pytest.mark.slow  # as above
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_example_is_played_at_a_click(chromium):
    samples = soundfile.read(page.EXAMPLES[1], dtype="int16")[0]
    assert chromium["hasExample"]
    assert [float(chromium["example"][name]) for name in NAMES] == expected(samples)


@pytest.mark.slow  # as above
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_microphone_s_numbers_are_python_s_to_the_bit(chromium, pauses):
    heard = chromium["exact"]["heard"]
    samples = taken(heard, 16000)
    assert similarity(samples, pauses) > 0.4, "that is not the clip"
    ends = [round(event["end"] * 16000) for event in heard]
    expected = expected_events(samples, ends, False)
    assert {event["emotion"] is None for event in expected} == {True, False}
    for event, truth in zip(heard, expected, strict=True):
        shown = {name: value and float(value) for name, value in event.pop("shown").items()}
        assert shown == (truth["emotion"] or dict.fromkeys(NAMES, ""))
        assert event.pop("computeDur") is None, "the worklet has a clock now: let the page show it"
        assert {name: value for name, value in event.items() if name != "compared"} == truth
    assert chromium["exact"]["listening"].startswith("Listening") and chromium["exact"]["stopped"] == "Stopped"
    assert re.match(r"Time per step of 0.5 s: \d+\.\d\d ms", chromium["exact"]["cost"])
    print("\nChromium, a microphone:", chromium["exact"]["cost"])


@pytest.mark.slow  # as above
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_microphone_of_another_rate_has_nearly_the_same_answers(chromium):
    heard = chromium["native"]["heard"]
    rate = heard[0]["sampleRate"]
    assert rate != 16000
    samples = audio.prepare(taken(heard, rate), rate)
    expected = expected_events(samples, [PART * n for n in range(1, len(heard))], False)
    compared = 0
    for event, truth in zip(heard, expected, strict=False):
        if event["emotion"] and truth["emotion"]:
            assert event["emotion"] == pytest.approx(truth["emotion"], abs=0.06)
            compared += 1
    assert compared


@pytest.mark.slow  # as above
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_microphone_is_compared_with_a_saved_baseline(chromium, enrolled):
    assert chromium["baseline"] == "baseline.json: this baseline is compared with the microphone"
    assert chromium["broken"] == "broken.json: This is not a baseline that wav2small wrote"
    baseline, compared = load_baseline(enrolled), set()
    for event in chromium["exact"]["heard"]:
        if event["emotion"]:
            deviation = np.array(baseline.deviation(Emotion(**event["emotion"])))
            column = int(np.abs(deviation).argmax())
            is_change = abs(deviation[column]) > 1
            words = CHANGES[NAMES[column]][int(deviation[column] > 0)] if is_change else "as usual"
            assert event["compared"] == f"Compared with your voice so far: {words}"
            compared.add(words)
    assert compared - {"as usual"}, "no event differs from the baseline"
    assert chromium["enrolled"] == json.loads(enrolled.read_text())


@pytest.mark.slow  # as above
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_new_baseline_includes_each_second_of_the_microphone_once(chromium):
    assert chromium["fresh"] == "Your voice so far: 0 of 20 s of speech"
    baseline, compared_until = Baseline(), 0.0
    for event in chromium["native"]["heard"]:
        new, compared_until = event["end"] - max(event["start"], compared_until), event["end"]
        if event["emotion"]:
            baseline.add(Emotion(**event["emotion"]), new * event["speechRatio"])
            assert event["compared"] == f"Your voice so far: {int(baseline.speech_dur)} of 20 s of speech"
    assert baseline.speech_dur > 0
    assert chromium["started"]["speech_dur"] == pytest.approx(baseline.speech_dur)
    assert chromium["started"]["mean"] == pytest.approx(dict(zip(NAMES, baseline.mean, strict=True)))
    assert (chromium["started"]["sha256"], chromium["started"]["is_enrolled"]) == (identity(MICRO), False)


def taken(heard: list[dict], rate: int) -> np.ndarray:
    """The samples that came with the events."""
    assert all(event.pop("sampleRate") == rate for event in heard)
    return np.concatenate([np.array(event.pop("samples"), np.float32) for event in heard])


def similarity(heard: np.ndarray, played: np.ndarray) -> float:
    """Correlation, at the best shift, of the first samples with a clip that is played repeatedly."""
    spectra = [np.fft.rfft(part[: len(played)].astype(np.float64)) for part in (heard, played)]
    shifted = np.fft.irfft(spectra[0] * spectra[1].conj(), len(played))
    return float(shifted.max() / np.sqrt(np.sum(np.square(played, dtype=float)) * np.sum(heard[: len(played)] ** 2.0)))
