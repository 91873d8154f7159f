"""web/ as a package: packed, installed, used in node; its types; and the page, by axe-core's rules of accessibility."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_web import NAMES, WEB, expected, in_chromium, wav

from wav2small.network.probes import voice

TOOLS = ("axe-core@4.12.1", "typescript@6.0.3")
USE = """
import { readFileSync } from "node:fs";
import { load } from "wav2small";
const model = await load();
const again = await load(import.meta.resolve("wav2small/wav2small.wasm"));
const bytes = readFileSync("samples");
const samples = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
const answers = [model, again].map((one) => { one.push(samples); one.finish(); return one.read(); });
console.log(JSON.stringify({ answers, worklet: import.meta.resolve("wav2small/worklet") }));
"""
TYPED = """
import { Baseline, Live, SpeechMeter, Wav2Small, listen, load, PART_DUR, PARTS } from "wav2small";
import type { Emotion, EmotionEvent } from "wav2small";

const model: Wav2Small = await load(new URL("https://localhost/wav2small.wasm"));
const live = new Live(model, 48000);
const events: EmotionEvent[] = [...live.push(new Float32Array(9)), ...live.finish()];
const valence: number | undefined = events[0]?.emotion?.valence;
const emotion: Emotion | null = model.read(PARTS);
const meter = new SpeechMeter(model.speech);
meter.push(model.resampler(48000).push(new Float32Array(9)));
const baseline: Baseline = Baseline.fromJSON(JSON.parse(JSON.stringify(new Baseline())), model.about);
if (emotion) baseline.add(emotion, 1.5);
const usual: number | null = emotion && baseline.isReady ? baseline.deviation(emotion).arousal : null;
const show = (event: EmotionEvent) => console.log(event.end, valence, emotion, usual, PART_DUR);
const stop: () => Promise<void> = await listen(show, { onEnd: console.warn });
await stop();
// @ts-expect-error: push takes samples, not a path
model.push("talk.wav");
// @ts-expect-error: there may be no answer
emotion.arousal;
"""
AXE = """<!doctype html><iframe src="/index.html" height="900"></iframe><script type="module">
const frame = document.querySelector("iframe");
const pause = (dur) => new Promise((done) => setTimeout(done, dur));
const text = (id) => frame.contentDocument?.getElementById(id)?.textContent;
while (text("status") !== "Ready") await pause(50);
const page = frame.contentDocument, view = frame.contentWindow;
const script = page.createElement("script");
script.src = "/axe.js";
page.head.append(script);
while (!view.axe) await pause(50);
const dark = [...page.styleSheets[0].cssRules].find(({ media }) => media?.mediaText.includes("dark")).media;
const report = [];
async function check(state) {
  for (const scheme of ["(max-width: 1px)", "all"]) for (const width of [320, 1000]) {
    dark.mediaText = scheme;
    page.documentElement.style.colorScheme = scheme === "all" ? "dark" : "light";
    frame.width = width;
    await pause(300);
    const { violations, passes } = await view.axe.run();
    const wide = page.documentElement.scrollWidth > width;
    report.push({ state, scheme, width, wide, passes: passes.length,
      violations: violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`) });
  }
}
await check("empty");
const transfer = new view.DataTransfer();
transfer.items.add(new view.File([await (await fetch("/clip.wav")).arrayBuffer()], "clip.wav"));
view.dispatchEvent(new view.DragEvent("drop", { dataTransfer: transfer }));
while (!text("status").startsWith("clip.wav:")) await pause(20);
await check("file");
page.getElementById("microphone").click();
while (!text("cost").includes(" ms")) await pause(50);
await check("microphone");
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>"""

pytestmark = [
    pytest.mark.slow,  # npm's registry, and a browser
    pytest.mark.skipif(not shutil.which("npm"), reason="needs npm"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project that has installed the package as it would be published, and the tools."""
    folder = tmp_path_factory.mktemp("project")
    packed = npm(folder, "pack", "--json", str(WEB))
    assert packed.returncode == 0, packed.stderr
    (archive,) = json.loads(packed.stdout)
    shipped = {"LICENSE", "README.md", "node.js", "package.json", "wav2small.d.ts", "wav2small.js", "wav2small.wasm"}
    assert {file["path"] for file in archive["files"]} == shipped
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    installed = npm(folder, "install", "--no-audit", "--no-fund", f"./{archive['filename']}")
    assert installed.returncode == 0, installed.stderr
    return folder


@pytest.fixture(scope="module")
def tools(project) -> Path:
    if npm(project, "install", "--no-audit", "--no-fund", *TOOLS).returncode:
        pytest.skip("needs npm's registry")
    return project / "node_modules"


def npm(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *words], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.round(voice(np.random.default_rng(0), 3.0) * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


def test_the_installed_package_answers_in_node(project, clip):
    clip.tofile(project / "samples")
    (project / "use.js").write_text(USE)
    done = subprocess.run(["node", "use.js"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for answer in found["answers"]:
        assert [answer[name] for name in NAMES] == expected(clip)
    assert found["worklet"].endswith("node_modules/wav2small/wav2small.js")


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_its_types_hold_in_strict_typescript(tools, resolution):
    (tools.parent / "use.ts").write_text(TYPED)
    module = "esnext" if resolution == "bundler" else "nodenext"
    options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom"]
    options += ["--module", module, "--moduleResolution", resolution]
    done = subprocess.run(
        [tools / ".bin" / "tsc", *options, "use.ts"], cwd=tools.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_axe_finds_nothing_on_the_page_in_any_state_scheme_or_width(tmp_path, tools, clip):
    (tmp_path / "clip.wav").write_bytes(wav(clip))
    files = {
        "/test.html": AXE.encode(),
        "/axe.js": (tools / "axe-core" / "axe.min.js").read_bytes(),
        "/clip.wav": wav(clip),
    }
    report = in_chromium(tmp_path / "profile", files, tmp_path / "clip.wav")
    assert len(report) == 12
    for case in report:
        assert case["violations"] == [] and not case["wide"], case
        assert case["passes"] > 20
