"""transformers.js in a browser, ONNX Runtime in node and a browser, and React have Python's numbers.

They install packages from npm, so `make examples` runs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_web import NAMES, WEB, in_chromium

from wav2small import load
from wav2small.export.tools import export_transformers_js
from wav2small.network.weights import resolve

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "examples" / "10b10Wa.flac"
ORT = ROOT / "integrations" / "onnxruntime"
REACT = WEB / "examples" / "react"
DRIVE = """
const frame = document.querySelector("iframe");
const pause = (dur) => new Promise((done) => setTimeout(done, dur));
async function until(condition) {
  for (let tries = 0; tries < 1200; tries++, await pause(50)) if (condition()) return;
  throw new Error(frame.contentDocument.body.innerText);
}
const find = (what) => frame.contentDocument?.querySelector(what);
async function choose(name) {
  const transfer = new frame.contentWindow.DataTransfer();
  transfer.items.add(new frame.contentWindow.File([await (await fetch(`/${name}`)).arrayBuffer()], name));
  find("input").files = transfer.files;
  find("input").dispatchEvent(new frame.contentWindow.Event("change", { bubbles: true }));
}
const report = {};
try { await drive(); } catch (error) { report.error = String(error); }
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
"""
ORT_PAGE = """<!doctype html><iframe src="/ort/index.html"></iframe><script type="module">
async function drive() {
  await until(() => find("input")?.onchange);
  await choose("clip.wav");
  await until(() => find("pre").textContent.includes("valence"));
  report.text = find("pre").textContent;
}
%s</script>"""
TRANSFORMERS_JS = "@huggingface/transformers@4.3.2"
TRANSFORMERS_PAGE = """<!doctype html><script type="module">
import { AutoModelForAudioClassification, AutoProcessor, env } from "/transformers.min.js";
const report = {};
try {
  env.allowLocalModels = true;
  env.allowRemoteModels = env.useBrowserCache = false;
  env.localModelPath = "/";
  Object.assign(env.backends.onnx.wasm, { wasmPaths: "/ort/", numThreads: 1 });
  const bytes = await (await fetch("/clip.wav")).arrayBuffer();
  const buffer = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes);
  const processor = await AutoProcessor.from_pretrained("folder");
  const model = await AutoModelForAudioClassification.from_pretrained("folder", { dtype: "fp32", device: "wasm" });
  const { logits } = await model(await processor(buffer.getChannelData(0)));
  Object.assign(report, { found: [...logits.data], labels: model.config.id2label });
} catch (error) { report.error = String(error); }
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>"""
REACT_PAGE = """<!doctype html><iframe src="/react.html"></iframe><script type="module">
const status = () => find("[role=status]").textContent;
const values = () => [...frame.contentDocument.querySelectorAll("output")].map((one) => [one.dataset.name, one.value]);
async function drive() {
  await until(() => find("input"));
  await choose("clip.wav");
  await until(() => status().endsWith("clip.wav"));
  report.file = values();
  find("button").click();
  await until(() => /^[3-9].* s of the microphone$/.test(status()));
  report.microphone = values();
  find("button:nth-of-type(2)").click();
  await pause(200);
  const last = status();
  await pause(1200);
  report.isStopped = status() === last;
  await choose("test.html");
  await until(() => status().startsWith("test.html: "));
  report.refused = status();
}
%s</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("EXAMPLES" not in os.environ, reason="installs packages from npm: make examples"),
]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path, *packages: str) -> None:
    run(folder, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", *packages)


def content(folder: Path, prefix: str) -> dict[str, bytes]:
    """Every file of a folder, by its address."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A clip of EmoDB as WAV."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def ort(tmp_path_factory) -> Path:
    folder = Path(shutil.copytree(ORT, tmp_path_factory.mktemp("ort") / "ort"))
    shutil.copy(resolve("micro"), folder / "micro.onnx")
    install(folder)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The React example, with the package as it would be published, type-checked and built."""
    folder = Path(shutil.copytree(REACT, tmp_path_factory.mktemp("react") / "react"))
    run(folder, "npm", "pack", "--silent", str(WEB))
    install(folder)
    run(folder, "npm", "run", "build")
    return folder / "dist"


def numbers(text: str) -> list[float]:
    """Of lines such as "arousal 0.5", in order."""
    rows = [line.split() for line in text.strip().splitlines()]
    assert [row[0] for row in rows] == list(NAMES)
    return [float(row[1]) for row in rows]


def shown(name: str, found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest difference, which is printed for the table in docs/tools.md."""
    difference = float(np.abs(np.subtract(found, expected)).max())
    print(f"\n{name}: largest difference from Python {difference:.1e}")
    return difference


def test_onnxruntime_node_has_python_s_numbers(ort, clip):
    found = numbers(run(ort, "node", "emotion.js", "micro.onnx", str(clip)))
    assert shown("onnxruntime-node", found, load("micro")(clip)) < 1e-5


def test_onnxruntime_web_has_python_s_numbers(tmp_path, ort, clip):
    scripts = [
        f"node_modules/onnxruntime-web/dist/{name}" for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs")
    ]
    names = ["index.html", "micro.onnx", *scripts, "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"]
    files = {f"/ort/{name}": (ort / name).read_bytes() for name in names}
    files |= {"/test.html": (ORT_PAGE % DRIVE).encode(), "/clip.wav": clip.read_bytes()}
    report = in_chromium(tmp_path / "profile", files, clip)
    assert "error" not in report, report
    assert shown("onnxruntime-web", numbers(report["text"]), load("micro")(clip)) < 1e-5


def test_transformers_js_in_a_browser_has_python_s_numbers(tmp_path, clip):
    install(tmp_path, TRANSFORMERS_JS)
    packages = tmp_path / "node_modules"
    export_transformers_js("micro", tmp_path / "folder")
    script = (packages / "@huggingface" / "transformers" / "dist" / "transformers.min.js").read_bytes()
    files = content(tmp_path / "folder", "/folder") | content(packages / "onnxruntime-web" / "dist", "/ort")
    files |= {"/test.html": TRANSFORMERS_PAGE.encode(), "/transformers.min.js": script, "/clip.wav": clip.read_bytes()}
    report = in_chromium(tmp_path / "profile", files, clip)
    assert "error" not in report, report
    assert list(report["labels"].values()) == list(NAMES)
    assert shown("transformers.js, Chromium", np.clip(report["found"], 0, 1), load("micro")(clip)) < 1e-5


def test_the_react_example_has_python_s_numbers(tmp_path, built, clip):
    files = content(built, "")
    files |= {"/react.html": files.pop("/index.html"), "/test.html": (REACT_PAGE % DRIVE).encode()}
    report = in_chromium(tmp_path / "profile", files | {"/clip.wav": clip.read_bytes()}, clip)
    assert "error" not in report, report
    expected = load("micro:int8", backend="numpy")(clip)
    for source, allowed in (("file", 0.03), ("microphone", 0.15)):
        assert [name for name, _ in report[source]] == list(NAMES)
        assert shown(f"React, {source}", [float(value) for _, value in report[source]], expected) < allowed
    assert report["isStopped"] and "Unable to decode" in report["refused"]
