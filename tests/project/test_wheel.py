"""The wheel: compiled C for this platform, run without a compiler; the choice of a processor; pure where it must be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import wav2small
from wav2small.errors import NativeError
from wav2small.runtime import compiler, prebuilt

ROOT = Path(__file__).parents[2]
PLATFORM = sysconfig.get_platform()
VARIANTS = ["", "avx2"] if PLATFORM == "linux-x86_64" else [""]
SHIPPED = ("micro", "micro:int8", "wav2small", "wav2small:int8")
SIGNAL = "np.sin(np.arange(80000) / 9 * (1 + np.sin(np.arange(80000) / 3e4))).astype('f4') / 3"
RUN = f"""
import json, sys, numpy as np, wav2small
from pathlib import Path
from wav2small.export.c_folder import export_c
from wav2small.runtime import compiler
from wav2small.runtime.native import library
compiler.CPUINFO, signal, found = Path(sys.argv[1]), {SIGNAL}, {{"package": wav2small.__file__}}
for name in {SHIPPED}:
    model = wav2small.load(name, backend="c")
    found[name] = [model(signal)]
    if model.native:
        stream = wav2small.Stream(model, min_speech=0, vad="energy")
        found[name] += [(event.arousal, event.dominance, event.valence) for event in stream.push(signal, 16000)]
        found["library of " + name] = model.native(8).path.name
for key, call in {{
    "long window": lambda: wav2small.Stream(wav2small.load("micro", backend="c"), win_dur=30.0),
    "absent": lambda: wav2small.load("mobilenetv4-small"),
}}.items():
    try:
        call()
    except wav2small.errors.Wav2SmallError as error:
        found[key] = str(error)
export_c("micro:int8", sys.argv[2])
found["ships"] = [row["file"] for row in wav2small.models()]
print(json.dumps(found))
"""


def build(source: Path, folder: Path, **variables: str) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The source archive."""
    pytest.importorskip("hatchling", reason="needs the extra dev")
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    """Built from the source archive, as pip does."""
    if not any(map(shutil.which, compiler.COMPILERS)):
        pytest.skip("needs a C compiler")
    return build(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Of a bare environment with the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    zipfile.ZipFile(wheel).extractall(subprocess.check_output([interpreter, "-c", where], text=True).strip())
    return interpreter


def content(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def libraries(wheel: Path) -> set[str]:
    return {Path(name).name for name in content(wheel) if name.startswith("wav2small/c/lib/")}


@pytest.mark.slow
def test_the_wheel_is_of_this_platform_of_any_python_and_without_the_mobilenets(wheel):
    assert wheel.name.endswith(f"-py3-none-{PLATFORM.replace('-', '_').replace('.', '_')}.whl")
    assert len(libraries(wheel)) == len(prebuilt.MODELS) * len(VARIANTS)
    assert not [name for name in content(wheel) if "mobilenet" in name and "data" in name]
    assert {f"wav2small/c/{name}" for name in compiler.SOURCES} < content(wheel)
    assert {"wav2small/LICENSE", "wav2small/bindings/rust/src/lib.rs"} < content(wheel)
    assert wheel.stat().st_size < 7e6


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "fma avx2"] if len(VARIANTS) > 1 else [""])
def test_the_wheel_runs_c_without_a_compiler(python, tmp_path, flags):
    """Numbers are those of NumPy; dependencies are those of this environment."""
    (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t\t: sse2 {flags}\n")
    shared = os.pathsep.join(folder for folder in sys.path if folder.endswith("-packages"))
    environment = {"PATH": str(python.parent), "HOME": str(tmp_path), "PYTHONPATH": f"{package_of(python)}:{shared}"}
    command = [python, "-c", RUN, tmp_path / "cpuinfo", tmp_path / "folder"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["package"].startswith(str(python.parents[1]))
    assert not (tmp_path / ".cache" / "wav2small").exists(), "nothing was compiled"
    signal = eval(SIGNAL, {"np": np})
    for name in SHIPPED:
        model = wav2small.load(name, backend="numpy")
        np.testing.assert_allclose(found[name][0], model(signal), atol=0 if name.endswith("int8") else 1e-4)
    stream = wav2small.Stream(wav2small.load("micro", backend="numpy"), min_speech=0, vad="energy")
    expected = [(event.arousal, event.dominance, event.valence) for event in stream.push(signal, 16000)]
    np.testing.assert_allclose(found["micro"][1:], expected, atol=1e-4)
    assert len(expected) > 3
    assert found["library of micro"].endswith("-avx2.so") == bool(flags)
    assert found["long window"].startswith("the backend 'c' needs a C compiler once")
    assert "src/wav2small/data/mobilenetv4-small-int8.onnx" in found["absent"]
    assert "micro.onnx" in found["ships"] and not [name for name in found["ships"] if "mobilenet" in name]
    assert (tmp_path / "folder" / "library.json").is_file()


def package_of(python: Path) -> str:
    return str(next((python.parents[1] / "lib").glob("python*/site-packages")))


@pytest.mark.slow
def test_it_is_pure_if_that_is_asked_for(source, tmp_path):
    wheel = build(source, tmp_path, WAV2SMALL_PURE="1")
    assert wheel.name.endswith("-py3-none-any.whl") and not libraries(wheel)


@pytest.fixture
def hook(monkeypatch):
    """The build hook, whose compiler writes nothing, and what it warned of."""
    pytest.importorskip("hatchling", reason="needs the extra dev")
    specification = util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.delenv("WAV2SMALL_PURE", raising=False)
    monkeypatch.setattr(prebuilt, "build", lambda folder, platform: [folder / "w2s-1.so"])
    warnings = []
    made = module.CompiledRuntime(str(ROOT), {}, None, None, "", "wheel")
    monkeypatch.setattr(type(made), "app", SimpleNamespace(display_warning=warnings.append))
    monkeypatch.setattr(sys, "path", sys.path[:])
    return made, warnings


def built(hook, version: str = "standard") -> dict[str, object]:
    data = {"force_include": {}, "pure_python": True}
    hook.initialize(version, data)
    hook.finalize(version, data, "")
    return data


def test_the_hook_adds_libraries_and_the_tag_of_the_platform(hook, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "macosx-11.0-arm64")
    data = built(hook[0])
    assert list(data["force_include"].values()) == ["wav2small/c/lib/w2s-1.so"]
    assert (data["pure_python"], data["tag"]) == (False, "py3-none-macosx_11_0_arm64")


@pytest.mark.parametrize("case", ["editable", "asked", "windows", "no compiler"])
def test_the_hook_leaves_a_wheel_pure(hook, monkeypatch, case):
    if case == "asked":
        monkeypatch.setenv("WAV2SMALL_PURE", "1")
    elif case == "windows":
        monkeypatch.setattr(sys, "platform", "win32")
    elif case == "no compiler":
        monkeypatch.setattr(prebuilt, "build", lambda *_: (_ for _ in ()).throw(NativeError("no C compiler")))
    assert built(hook[0], "editable" if case == "editable" else "standard") == {
        "force_include": {},
        "pure_python": True,
    }
    assert hook[1] == (["The wheel has no compiled C: no C compiler"] if case == "no compiler" else [])


@pytest.mark.parametrize(
    "flags, present, expected",
    [
        ("sse2 avx avx2 fma", ("", "avx2"), "avx2"),
        ("sse2 avx2", ("", "avx2"), ""),
        ("sse2 avx2 fma", ("",), ""),
        (None, ("", "avx2"), ""),
        ("avx2 fma", (), None),
    ],
)
def test_the_processor_chooses_the_library(monkeypatch, tmp_path, flags, present, expected):
    """``flags`` of None: a system without /proc/cpuinfo."""
    (tmp_path / "lib").mkdir()
    for variant in present:
        (tmp_path / "lib" / prebuilt.file_name("abc", variant)).touch()
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"model name: x\nflags\t\t: {flags}\nbugs: none\nflags\t: other\n")
    monkeypatch.setattr(compiler, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(prebuilt, "runtime", lambda: tmp_path)
    found = prebuilt.find("abc")
    assert (found and found.name) == (None if expected is None else prebuilt.file_name("abc", expected))


def test_on_macos_the_tag_says_what_clang_compiles_for():
    assert list(prebuilt.architecture("linux-aarch64")) == []
    assert list(prebuilt.architecture("macosx-11.0-arm64")) == ["-mmacosx-version-min=11.0", "-arch", "arm64"]
    assert list(prebuilt.architecture("macosx-10.13-universal2"))[1:] == ["-arch", "arm64", "-arch", "x86_64"]
