"""A number lives once: what two languages must write down is compared here, with Python's value."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from wav2small.audio import read, vad
from wav2small.audio.decode import FORMATS, SUFFIXES
from wav2small.errors import NativeError
from wav2small.export.languages import LANGUAGES
from wav2small.network.config import SAMPLING_RATE
from wav2small.options import Options
from wav2small.runtime import baseline, compiler, native
from wav2small.runtime.c_header import HEADER

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

ROOT = Path(__file__).parents[2]
SPEECH = {
    "frameLength": read.FRAME_LENGTH,
    "level": read.SPEECH_LEVEL,
    "pauseLevel": vad.PAUSE_LEVEL,
    "minDur": Options.min_speech,
    "fileDur": vad.FILE_DUR,
}
"""What the wasm says of speech, by its names in JavaScript."""
BASELINE = {
    name: getattr(baseline, name)
    for name in ["READY_DUR", "PRIOR_DUR", "PRIOR_MEAN", "PRIOR_SPREAD", "CLIP", "TO_SPREAD", "MIN_SPREAD"]
}
"""Constants of a speaker's baseline."""


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def project() -> dict:
    if tomllib is None:
        pytest.skip("needs tomllib, which came with Python 3.11")
    return tomllib.loads(text("pyproject.toml"))


def codes() -> dict[str, int]:
    """What the functions of w2s.h return."""
    return {name: int(code) for name, code in re.findall(r"^    (W2S_\w+) = (-?\d+)", text("c/w2s.h"), re.MULTILINE)}


def test_every_language_has_the_version_of_the_package():
    c = re.findall(r'"(\d+\.\d+\.\d+)"', text("c/w2s.h"))
    assert re.search(r'^#define W2S_VERSION "', text("c/w2s.h"), re.MULTILINE)
    assert {*c, json.loads(text("web/package.json"))["version"]} == {project()["project"]["version"]}


def test_the_installed_package_is_this_one():
    assert version("wav2small") == project()["project"]["version"]


def test_templates_of_libraries_leave_the_version_to_the_export():
    assert json.loads(text("c/export/library.json"))["version"] == "$version"
    assert "\nversion=$version\n" in text("c/export/library.properties")


def test_every_c_file_of_the_runtime_is_compiled_and_packed():
    files = {path.name for path in (ROOT / "c").glob("w2s*.[ch]")}
    packed = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert len(compiler.SOURCES) == len(set(compiler.SOURCES))
    assert set(compiler.SOURCES) == files
    assert {f"c/{name}": f"wav2small/c/{name}" for name in files}.items() <= packed.items()
    assert {source for source in packed if source.startswith("c/")} == {"c/export"} | {f"c/{name}" for name in files}


def test_every_c_file_is_included_from_the_one_that_is_compiled():
    reached, waiting = set(), ["w2s.c"]
    while waiting:
        reached.add(name := waiting.pop())
        names = re.findall(r'^ *#include "(\w+\.h)"', text(f"c/{name}"), re.MULTILINE)
        waiting += [found for found in names if found not in reached | {HEADER}]
    assert reached == set(compiler.SOURCES)


def test_every_package_for_a_language_is_packed():
    packed = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    folders = {f"bindings/{path.name}" for path in (ROOT / "bindings").iterdir() if path.is_dir()}
    assert folders == {f"bindings/{language}" for language in LANGUAGES}
    assert {source for source in packed if source.startswith("bindings/")} == folders
    assert packed["LICENSE"] == "wav2small/LICENSE" and all(
        packed[folder] == f"wav2small/{folder}" for folder in folders
    )


@pytest.mark.parametrize(
    "path, ended, level",
    [
        (
            "android/src/main/kotlin/wav2small/Wav2Small.kt",
            r"check\(result != (-\d)\) .*ended",
            r"!= (-\d)\) \{\n.*level is",
        ),
        ("csharp/Wav2Small.cs", r"result == (-\d)\) .*ended", r"result == (-\d)\)\n.*\n.*Level is"),
        ("rust/src/lib.rs", r"(-\d) => Err\(Error::Ended", r"(-\d) => Err\(Error::Level"),
        (
            "swift/Sources/Wav2Small/Wav2Small.swift",
            r"case (-\d): throw StreamError.ended",
            r"(-\d): throw StreamError.level",
        ),
    ],
)
def test_languages_that_do_not_read_the_header_have_its_codes(path, ended, level):
    found = [re.findall(pattern, text(f"bindings/{path}")) for pattern in (ended, level)]
    assert found == [[str(codes()["W2S_ENDED"])], [str(codes()["W2S_OTHER_LEVEL"])]]


def test_every_file_of_the_web_is_packed():
    packed = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    package = json.loads(text("web/package.json"))
    page = set(re.findall(r'(?:src|href)="([\w.]+)"', text("web/index.html")))
    served = {"index.html", *page, *set(package["files"]) - {"node.js"}}
    served |= set(re.findall(r'from "\./([\w.]+)"', text("web/demo.js")))
    assert {source.removeprefix("web/") for source in packed if source.startswith("web/")} == served


def test_the_browser_answers_as_often_as_a_stream_and_for_as_long():
    numbers = dict(re.findall(r"^export const (PART_DUR|PARTS) = ([\d.]+);$", text("web/wav2small.js"), re.MULTILINE))
    assert float(numbers["PART_DUR"]) == Options.hop_dur
    assert float(numbers["PART_DUR"]) * int(numbers["PARTS"]) == Options.win_dur


def test_the_build_gives_wasm_each_number_that_it_asks_for():
    (names,) = re.findall(r"for name in '([A-Z_ ]+)'\.split", text("web/Makefile"))
    asked = set(re.findall(r"return ([A-Z_]+);", text("web/wasm.c"))) - {"BUFFER", "W2S_PARTS"}
    assert set(names.split()) == asked


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_wasm_that_ships_has_the_numbers_of_python():
    program = 'import { load } from "./web/node.js"; const { speech, parts } = await load();'
    program += "console.log(JSON.stringify([speech, parts]));"
    done = subprocess.run(["node", "--input-type=module", "-e", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    speech, parts = json.loads(done.stdout)
    assert speech == SPEECH | {"samplingRate": SAMPLING_RATE}
    assert parts * Options.hop_dur >= Options.win_dur


def test_a_baseline_has_one_set_of_constants_in_every_language():
    c = re.findall(r"^#define W2S_BASELINE_(\w+) ([\d.]+)f$", text("c/w2s.h") + text("c/w2s_baseline.h"), re.MULTILINE)
    assert {name: float(value) for name, value in c} == BASELINE
    lines = re.findall(r"^(?:export )?const (?:READY_DUR|PRIOR_DUR) = .*;$", text("web/wav2small.js"), re.MULTILINE)
    javascript = re.findall(r"([A-Z_]+) = ([\d.]+)", " ".join(lines))
    assert {name: float(value) for name, value in javascript} == BASELINE


def test_the_page_has_the_words_of_python():
    words = re.findall(r'"([\w ]+ than usual)"', text("web/demo.js"))
    assert words == [word for pair in baseline.CHANGES.values() for word in pair]


def test_an_error_has_one_code_in_c_in_python_and_in_javascript():
    errors = {code for code in codes().values() if code < 0}
    script = text("web/wav2small.js")
    (listed,) = re.findall(r"const ERRORS = \{(.*?)\};", script, re.DOTALL)
    (short,) = re.findall(r"const TOO_SHORT = (-\d+);", script)
    assert int(short) == codes()["W2S_TOO_SHORT"]
    assert {int(code) for code in re.findall(r'"(-\d+)":', listed)} <= errors - {int(short)}
    for code in errors:
        with pytest.raises(NativeError) as caught:
            native.checked(code)
        assert "answered" not in str(caught.value), f"{code} has no sentence"


def test_a_suffix_is_of_one_format():
    suffixes = [suffix for suffixes in FORMATS.values() for suffix in suffixes]
    assert len(suffixes) == len(SUFFIXES)
    for name, own in FORMATS.items():
        assert f".{name}" == own[0]
        assert all(suffix == suffix.lower() for suffix in own)
