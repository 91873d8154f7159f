"""The exported folder is what Arduino, PlatformIO and Zephyr take: by their rules, and built by stand-ins for them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wav2small.export.c_folder import export_c
from wav2small.network import reference
from wav2small.network.weights import DATA

GNU = all(map(shutil.which, ("gcc", "g++")))
CATEGORIES = ("Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage")
CATEGORIES += ("Data Processing", "Other")
ARDUINO = """
// What a sketch takes of Arduino.h, and the loop around it: two seconds.
#include <stdint.h>
#include <stdio.h>
static void delay(unsigned long) {}
struct Output {
  void begin(long) {}
  void print(char letter) { putchar(letter); }
  void print(double value) { printf("%.17g", value); }
  void println(double value) { printf("%.17g\\n", value); }
} Serial;
#include "print_emotion.ino"
int main() { setup(); for (int i = 0; i < 200; i++) loop(); }
"""
ZEPHYR = """
# What a module takes of Zephyr, which add_subdirectory's it with its configuration.
cmake_minimum_required(VERSION 3.18)
project(app C CXX)
set(CONFIG_WAV2SMALL y)
set(CONFIG_WAV2SMALL_PARTS 6)
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
add_executable(app main.{suffix})
target_link_libraries(app wav2small)
"""
MAIN = """
#include <stdio.h>
#include "w2s.h"
static w2s_stream stream;
static int16_t samples[16000];
int main(void)
{
    w2s_emotion emotion;
    if (w2s_init(&stream) != W2S_OK) return 1;
    w2s_push_int16(&stream, samples, 16000);
    if (w2s_read_window(&stream, 6, &emotion, NULL) != W2S_OK) return 2;
    printf("%.17g %.17g %.17g\\n", (double)emotion.arousal, (double)emotion.dominance, (double)emotion.valence);
    return 0;
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return export_c("micro:int8", tmp_path_factory.mktemp("drop") / "wav2small_micro_int8").path


def silence(samples: int) -> list[float]:
    arrays, _, config = reference.load_student(DATA / "micro-int8.safetensors")
    return [float(value) for value in reference.forward(np.zeros(samples, np.float32), arrays, config)[1]]


def numbers(command: list[str | Path]) -> list[list[float]]:
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [[float(word) for word in line.split()] for line in out.splitlines()]


def test_library_properties_follow_arduino_s_specification(folder):
    """Source: https://docs.arduino.cc/arduino-cli/library-specification, and the schema of arduino-lint."""
    lines = (folder / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    required = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")
    assert all(fields[name].strip() for name in required) and len(fields) == len(lines)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9 _.\-]{0,62}", fields["name"]) and "arduino" not in fields["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] in CATEGORIES
    assert re.match("https?://", fields["url"])
    assert all((folder / "src" / name).is_file() for name in fields["includes"].split(","))
    sketches = list((folder / "examples").iterdir())
    assert sketches and all((sketch / f"{sketch.name}.ino").is_file() for sketch in sketches)
    assert not (folder / "utility").exists(), "is not compiled beside src"


def test_library_json_follows_platformio_s_rules(folder):
    """Source: https://docs.platformio.org/en/latest/manifests/library-json"""
    manifest = json.loads((folder / "library.json").read_text())
    assert len(manifest["name"]) <= 50 and not set(manifest["name"]) & set(":;/,@<>")
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert len(manifest["description"]) <= 255 and manifest["license"] == "Apache-2.0"
    assert {word.strip() for word in manifest["keywords"].split(",")} >= {"speech", "emotion"}
    assert (folder / manifest["build"]["srcDir"] / "w2s.c").is_file()
    assert (folder / manifest["build"]["includeDir"] / "w2s.h").is_file()


@pytest.mark.skipif(not GNU, reason="needs gcc and g++")
def test_the_sketch_compiles_as_c_plus_plus_and_prints_the_reference(folder, tmp_path):
    (tmp_path / "main.cpp").write_text(ARDUINO)
    source, sketch = folder / "src", folder / "examples" / "print_emotion"
    warn = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", "-std=gnu11", "-Os", *warn, "-c", source / "w2s.c", "-o", tmp_path / "w2s.o"], check=True)
    options = ["-std=gnu++11", "-Os", *warn, f"-I{source}", f"-I{sketch}"]
    subprocess.run(["g++", *options, tmp_path / "main.cpp", tmp_path / "w2s.o", "-o", tmp_path / "sketch"], check=True)
    assert numbers([tmp_path / "sketch"]) == [silence(16000), silence(32000)]


@pytest.mark.skipif(not shutil.which("arm-none-eabi-g++"), reason="needs arm-none-eabi-g++")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m33"])
def test_the_sketch_compiles_for_the_cores_that_arduino_has(folder, tmp_path, core):
    source, sketch = folder / "src", folder / "examples" / "print_emotion"
    (tmp_path / "main.cpp").write_text(ARDUINO)
    options = [f"-mcpu={core}", "-mthumb", "-Os", "-Wall", "-Wextra", "-Werror", f"-I{source}", f"-I{sketch}", "-c"]
    for compiler, file in (("gcc", source / "w2s.c"), ("g++", tmp_path / "main.cpp")):
        subprocess.run([f"arm-none-eabi-{compiler}", *options, file, "-o", tmp_path / "out.o"], check=True)


@pytest.mark.skipif(not GNU or not shutil.which("cmake"), reason="needs gcc, g++ and cmake")
@pytest.mark.parametrize("suffix", ["c", "cpp"])
def test_the_zephyr_module_builds_into_an_application(folder, tmp_path, suffix):
    module = (folder / "zephyr" / "module.yml").read_text()
    paths = dict(re.findall(r"^ +(\w+): (\S+)$", module, re.MULTILINE))
    options = re.findall(r"^config (\w+)$", (folder / paths["kconfig"]).read_text(), re.MULTILINE)
    assert set(re.findall(r"CONFIG_(\w+)", (folder / paths["cmake"] / "CMakeLists.txt").read_text())) == set(options)
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR.format(folder=folder, cmake=paths["cmake"], suffix=suffix))
    (tmp_path / f"main.{suffix}").write_text(MAIN)
    subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True, capture_output=True)
    assert numbers([tmp_path / "build" / "app"]) == [silence(16000)]
