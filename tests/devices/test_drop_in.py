"""The exported folder is what Arduino, PlatformIO, ESP-IDF and Zephyr take: by their rules, and built by stand-ins.

Each example is compiled unchanged, run on a clip and compared with Python's events, on this machine and on an emulated
Cortex-M4.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lines import check_lines

from wav2small.errors import WeightsError
from wav2small.export.boards import BOARDS
from wav2small.export.c_folder import export_c
from wav2small.network.weights import DATA, read_safetensors, write_safetensors

STAND_INS = Path(__file__).parent / "stand_ins"
GNU = all(map(shutil.which, ("gcc", "g++")))
ROOT = Path(__file__).parents[2]
CATEGORIES = ("Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage")
CATEGORIES += ("Data Processing", "Other")
WARN = ["-Wall", "-Wextra", "-Werror"]
ZEPHYR = """
# What a module takes of Zephyr, which add_subdirectory's it with its configuration, and the sample of an application.
cmake_minimum_required(VERSION 3.18)
project(app C)
set(CONFIG_WAV2SMALL y)
set(CONFIG_WAV2SMALL_PARTS 3)
set(ZEPHYR_CURRENT_MODULE_DIR {folder})
add_library(zephyr_interface INTERFACE)
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${{name}})
  add_library(${{name}} STATIC)
  target_link_libraries(${{name}} PUBLIC zephyr_interface)
endmacro()
function(zephyr_library_sources)
  target_sources(${{ZEPHYR_CURRENT_LIBRARY}} PRIVATE ${{ARGN}})
endfunction()
function(zephyr_include_directories)
  target_include_directories(zephyr_interface INTERFACE ${{ARGN}})
endfunction()
function(zephyr_compile_definitions)
  target_compile_definitions(zephyr_interface INTERFACE ${{ARGN}})
endfunction()
add_subdirectory({folder}/{cmake} wav2small)
add_executable(app {folder}/zephyr/samples/microphone/src/main.c)
target_include_directories(app PRIVATE {stand_ins} {stand_ins}/zephyr)
target_link_libraries(app wav2small)
"""
PLAIN = """
cmake_minimum_required(VERSION 3.18)
project(app C)
add_subdirectory({folder} wav2small)
add_executable(app {folder}/host/w2s.c)
target_link_libraries(app wav2small)
"""
CROSS = {
    "cortex-m0plus": ["arm-none-eabi-", "-mcpu=cortex-m0plus", "-mthumb"],
    "cortex-m4": ["arm-none-eabi-", "-mcpu=cortex-m4", "-mthumb"],
    "cortex-m33": ["arm-none-eabi-", "-mcpu=cortex-m33", "-mthumb"],
    "esp32-c3": ["riscv64-unknown-elf-", "-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs"],
}
"""Prefix of the compilers, and flags."""


def run(command: list[str | Path], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(lists: str | Path, folder: Path, *options: str) -> Path:
    """The program app of a CMakeLists.txt, or of the text of one."""
    source = lists if isinstance(lists, Path) else folder
    if isinstance(lists, str):
        (folder / "CMakeLists.txt").write_text(lists)
    run(["cmake", "-DCMAKE_C_FLAGS=-O2 -Wall -Wextra -Werror", *options, "-S", source, "-B", folder / "build"], folder)
    run(["cmake", "--build", folder / "build"], folder)
    return folder / "build" / "app"


def test_its_card_lists_every_file_with_its_sha256_and_the_licence(folder):
    card = (folder / "README.md").read_text()
    listed = dict(re.findall(r"^\| `(.+)` \| [\d,]+ \| `([0-9a-f]{64})` \|$", card, re.MULTILINE))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert listed == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items() if name != "README.md"
    }
    assert "- Licence: Apache-2.0." in card and "- Training data: " in card and "$" not in card
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_library_properties_follow_arduino_s_specification(folder):
    """Source: https://docs.arduino.cc/arduino-cli/library-specification, and the strict rules of arduino-lint."""
    lines = (folder / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    required = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")
    assert all(fields[name].strip() == fields[name] != "" for name in required) and len(fields) == len(lines)
    assert fields.keys() <= {*required, "includes", "depends", "license", "dot_a_linkage", "precompiled", "ldflags"}
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9 _.\-]{0,62}", fields["name"]) and "arduino" not in fields["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] in CATEGORIES
    assert not fields["paragraph"].startswith(fields["sentence"])
    assert re.match("https?://", fields["url"])
    assert all((folder / "src" / name).is_file() for name in fields["includes"].split(","))


def test_the_files_lie_as_arduino_s_specification_says(folder):
    """Source: as above; the library manager takes neither symbolic links nor programs."""
    sketches = list((folder / "examples").rglob("*.ino"))
    assert sketches and all(sketch.stem == sketch.parent.name for sketch in sketches)
    assert not (folder / "utility").exists(), "is not compiled beside src"
    paths = list(folder.rglob("*"))
    assert not [path for path in paths if path.is_symlink() or path.suffix in (".exe", ".pde") or path.name[0] == "."]
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}", folder.name)
    assert (folder / "README.md").is_file() and (folder / "LICENSE").is_file()


def test_keywords_are_the_names_of_the_header(folder):
    """Source: https://docs.arduino.cc/arduino-cli/library-specification#keywords"""
    header = (folder / "src" / "w2s.h").read_text() + (folder / "src" / "w2s_model.h").read_text()
    rows = [line.split("\t") for line in (folder / "keywords.txt").read_text().splitlines() if line[:1] != "#"]
    assert len({row[0] for row in rows}) == len(rows) > 10
    for name, kind in rows:
        assert kind in ("KEYWORD1", "KEYWORD2", "LITERAL1")
        assert re.search(rf"\b{name}\b", header), name


def test_library_json_follows_platformio_s_rules(folder):
    """Source: https://docs.platformio.org/en/latest/manifests/library-json"""
    manifest = json.loads((folder / "library.json").read_text())
    assert len(manifest["name"]) <= 50 and not set(manifest["name"]) & set(":;/,@<>")
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert len(manifest["description"]) <= 255 and manifest["license"] == "Apache-2.0"
    assert {"speech", "emotion"} <= set(manifest["keywords"])
    assert (folder / manifest["build"]["srcDir"] / "w2s.c").is_file()
    assert (folder / manifest["build"]["includeDir"] / manifest["headers"]).is_file()
    assert all((folder / one["base"] / name).is_file() for one in manifest["examples"] for name in one["files"])


def test_names_and_versions_agree_in_all_manifests(folder):
    version = json.loads((folder / "library.json").read_text())["version"]
    name = json.loads((folder / "library.json").read_text())["name"]
    assert name == "wav2small_micro_int8"
    assert f'version: "{version}"' in (folder / "idf_component.yml").read_text()
    assert f"version={version}\n" in (folder / "library.properties").read_text()
    assert f"name={name}\n" in (folder / "library.properties").read_text()
    assert f"\n  {name}:\n" in (folder / "examples" / "esp_idf_microphone" / "main" / "idf_component.yml").read_text()


@pytest.mark.skipif(not GNU, reason="needs gcc and g++")
def test_the_sketch_runs_and_prints_the_events_of_python(folder, clip, events, tmp_path):
    sources = [STAND_INS, STAND_INS / "arduino", folder / "src", folder / "examples" / "pdm_microphone"]
    include = [f"-I{path}" for path in sources]
    run(["gcc", "-std=gnu11", "-O2", *WARN, "-c", folder / "src" / "w2s.c", "-o", "w2s.o"], tmp_path)
    main = STAND_INS / "arduino" / "main.cpp"
    run(["g++", "-std=gnu++11", "-O2", *WARN, *include, main, "w2s.o", "-o", "sketch"], tmp_path)
    check_lines(run([tmp_path / "sketch"], clip), events)


@pytest.mark.parametrize("core", CROSS)
def test_sketch_example_and_sample_compile_for_the_cores_of_boards(folder, tmp_path, core):
    prefix, *flags = CROSS[core]
    if not shutil.which(f"{prefix}gcc"):
        pytest.skip(f"needs {prefix}gcc")
    folders = [STAND_INS, *(STAND_INS / name for name in ("arduino", "esp_idf", "zephyr"))]
    include = [f"-I{path}" for path in [*folders, folder / "src", folder / "examples" / "pdm_microphone"]]
    sources = [folder / "src" / "w2s.c", folder / "examples" / "esp_idf_microphone" / "main" / "main.c"]
    sources += [folder / "zephyr" / "samples" / "microphone" / "src" / "main.c"]
    for source in sources:
        run([f"{prefix}gcc", *flags, "-Os", *WARN, *include, "-c", source, "-o", "out.o"], tmp_path)
    if core.startswith("cortex"):
        main = STAND_INS / "arduino" / "main.cpp"
        run([f"{prefix}g++", *flags, "-Os", *WARN, *include, "-c", main, "-o", "out.o"], tmp_path)


@pytest.mark.skipif(not shutil.which("xtensa-lx106-elf-gcc"), reason="needs xtensa-lx106-elf-gcc")
def test_the_runtime_compiles_for_xtensa(folder, tmp_path):
    """The core of the ESP8266, which is the one of Xtensa that Debian has a compiler for."""
    flags = [
        "-Os",
        *WARN,
        "-ffreestanding",
        f"-I{ROOT / 'web' / 'include'}",
        "-c",
        folder / "src" / "w2s.c",
        "-o",
        "out.o",
    ]
    run(["xtensa-lx106-elf-gcc", *flags], tmp_path)


@pytest.mark.skipif(not GNU or not shutil.which("cmake"), reason="needs gcc and cmake")
def test_the_esp_idf_component_builds_into_its_example(folder, clip, events, tmp_path):
    options = [f"-DLIBRARY={folder}", f"-DSTAND_INS={STAND_INS}"]
    check_lines(run([built(STAND_INS / "esp_idf", tmp_path, *options)], clip), events)


@pytest.mark.skipif(not GNU or not shutil.which("cmake"), reason="needs gcc and cmake")
def test_the_zephyr_module_builds_into_its_sample(folder, clip, events, tmp_path):
    module = (folder / "zephyr" / "module.yml").read_text()
    paths = dict(re.findall(r"^ +(\w+): (\S+)$", module, re.MULTILINE))
    options = re.findall(r"^config (\w+)$", (folder / paths["kconfig"]).read_text(), re.MULTILINE)
    assert set(re.findall(r"CONFIG_(\w+)", (folder / paths["cmake"] / "CMakeLists.txt").read_text())) == set(options)
    lists = ZEPHYR.format(folder=folder, cmake=paths["cmake"], stand_ins=STAND_INS)
    check_lines(run([built(lists, tmp_path)], clip), events)


def test_the_zephyr_sample_is_complete(folder):
    """Source: https://docs.zephyrproject.org/latest/develop/test/twister.html"""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    module = yaml.safe_load((folder / "zephyr" / "module.yml").read_text())
    samples = [folder / name for name in module["samples"]]
    sample = yaml.safe_load((samples[0] / "microphone" / "sample.yaml").read_text())
    assert sample.keys() == {"sample", "common", "tests"} and list(sample["tests"]) == ["sample.wav2small.microphone"]
    (test,) = sample["tests"].values()
    assert re.search(test["harness_config"]["regex"][0], "speech 0.75 arousal 0.5")
    settings = (samples[0] / "microphone" / "prj.conf").read_text().splitlines()
    assert all(re.fullmatch(r"CONFIG_[A-Z0-9_]+=(y|\d+)", line) for line in settings)


@pytest.mark.skipif(not GNU or not shutil.which("cmake"), reason="needs gcc and cmake")
def test_it_is_a_library_for_any_cmake_project(folder, tmp_path):
    assert "micro 4, int8, Apache-2.0" in run([built(PLAIN.format(folder=folder), tmp_path), "--help"], tmp_path)


TOOLS = ("arm-none-eabi-gcc", "arm-none-eabi-g++", "qemu-system-arm")


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
@pytest.mark.parametrize("example", ["arduino", "zephyr"])
def test_an_example_runs_on_an_emulated_cortex_m4(folder, clip, events, tmp_path, example):
    firmware, board = ROOT / "c" / "firmware", ["-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-mthumb"]
    sketch, sample = folder / "examples" / "pdm_microphone", folder / "zephyr" / "samples" / "microphone" / "src"
    main = STAND_INS / "arduino" / "main.cpp" if example == "arduino" else sample / "main.c"
    include = [f"-I{path}" for path in (STAND_INS, STAND_INS / example, folder / "src", sketch)]
    flags = [*board, "-O2", "-DSEMIHOSTING", "-fno-unwind-tables", "-fno-exceptions", *include]
    for source in (folder / "src" / "w2s.c", firmware / "arm.c", main):
        compiler = "arm-none-eabi-g++" if source.suffix == ".cpp" else "arm-none-eabi-gcc"
        run([compiler, *flags, "-c", source, "-o", f"{source.stem}.o"], tmp_path)
    link = ["--specs=rdimon.specs", "-nostartfiles", "-T", firmware / "arm.ld", "-Wl,--defsym=end=bss_end"]
    run(["arm-none-eabi-gcc", *board, *link, "w2s.o", "arm.o", "main.o", "-o", "app.elf"], tmp_path)
    emulator = ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-kernel"]
    check_lines(run([*emulator, tmp_path / "app.elf"], clip), events)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "board", "reason"),
    [
        ("micro:int8", "arduino-uno", "KB of flash, and Arduino Uno has 32 KB"),
        ("micro:int8", "arduino-mega", "KB of RAM, and Arduino Mega 2560 has 8 KB"),
        ("micro", "arduino-zero", "million instructions per second of audio, and Arduino Zero"),
        ("wav2small:int8", "nano-33-ble", "nRF52840) has 64 MHz"),
    ],
)
def test_a_network_that_a_board_cannot_hold_is_refused_with_the_reason(tmp_path, model, board, reason):
    with pytest.raises(WeightsError, match=re.escape(reason)):
        export_c(model, tmp_path / "folder", board)
    assert not (tmp_path / "folder").exists()


def test_the_table_of_boards_in_the_documentation_is_this_one():
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| (\d+) \| (\d+) \| (\d+) \|( yes)? ", (ROOT / "docs" / "devices.md").read_text(), re.M
    )
    assert [(name, *map(int, numbers), bool(fpu)) for name, *numbers, fpu in rows] == [
        (name, board.flash, board.ram, board.clock, board.has_fpu) for name, board in BOARDS.items()
    ]


@pytest.mark.slow
def test_what_a_board_needs_is_measured(tmp_path):
    """micro:int8 on the emulated boards: `make -C c firmware-check`."""
    needs = export_c("micro:int8", tmp_path / "folder", "nano-33-ble").needs
    assert 64e3 < needs.flash < 90e3 and 16e3 < needs.ram < 20e3 and 7e6 < needs.instructions < 20e6
    assert all(board.flash > 0 < board.ram and board.clock > 0 for board in BOARDS.values())


@pytest.mark.slow
def test_weights_that_state_no_licence_name_none_in_the_manifests(tmp_path):
    arrays, metadata = read_safetensors(DATA / "micro-int8.safetensors")
    stated = {key: value for key, value in metadata.items() if "licence" not in key}
    write_safetensors(tmp_path / 'a "b".safetensors', arrays, stated | {"name": 'a "b"'})
    folder = export_c(tmp_path / 'a "b".safetensors', tmp_path / "folder").path
    manifest = json.loads((folder / "library.json").read_text())
    assert "license" not in manifest and 'a "b" 4' in manifest["description"]
    assert "license" not in (folder / "idf_component.yml").read_text()
    assert "- Licence: not stated." in (folder / "README.md").read_text()
