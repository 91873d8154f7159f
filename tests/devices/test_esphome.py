"""The ESPHome component: its configuration, the generated C++ for ESP32, and the same program run on this machine.

ESPHome's own sources are compiled for its platform `host`; only the microphone and the build of its component `audio`
are stand-ins, since ESPHome has both for ESP32 alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from wav2small.network.config import OUTPUTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("esphome"), reason="needs ESPHome: make devices"),
]
STAND_INS = Path(__file__).parent / "stand_ins" / "esphome"
SENSORS = (*OUTPUTS, "speech_ratio", *(f"{name}_deviation" for name in OUTPUTS))
ESP32 = """
esphome: {name: tone}
esp32:
  board: esp32-s3-devkitc-1
  framework: {type: esp-idf}
logger:
i2s_audio: {i2s_lrclk_pin: GPIO5, i2s_bclk_pin: GPIO4}
microphone:
  - {platform: i2s_audio, id: mic, adc_type: external, i2s_din_pin: GPIO6, channel: left, sample_rate: RATE}
"""
HOST = """
esphome: {name: tone}
host:
logger: {level: WARN}
microphone:
  - {platform: file_microphone, id: mic}
"""
SENSOR = """
sensor:
  - platform: wav2small
    microphone: mic
"""
NOT_FOR_HOST = '''

AUTO_LOAD, CONFIG_SCHEMA = [], cv.Schema({})


async def to_code(config):
    """Nothing: the libraries are for ESP32 only."""
'''


def esphome(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "esphome", *words, "tone.yaml"], cwd=folder, capture_output=True, text=True
    )


def write(folder: Path, board: str, sensor: str, *components: Path) -> None:
    sources = "external_components:\n" + "".join(f"  - source: {path}\n" for path in components)
    (folder / "tone.yaml").write_text(board.replace("RATE", "16000") + sources + SENSOR + sensor)


def all_sensors(automation: str = "") -> str:
    lines = (f"    {name}:\n      name: {name}\n{automation.replace('NAME', name)}" for name in SENSORS)
    return "".join(lines)


def test_the_configuration_is_valid_and_generates_code_for_esp32(folder, tmp_path):
    write(tmp_path, ESP32, "    hop: 500ms\n    window: 3s\n" + all_sensors(), folder / "components")
    done = esphome(tmp_path, "config")
    assert done.returncode == 0 and "Configuration is valid!" in done.stdout + done.stderr
    done = esphome(tmp_path, "compile", "--only-generate")
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / ".esphome" / "build" / "tone"
    code = (project / "src" / "main.cpp").read_text()
    assert "set_hop_length(8000);" in code and "set_min_change(0.02f);" in code
    assert [int(number) for number in re.findall(r"->set_sensor\((\d),", code)] == list(range(len(SENSORS)))
    assert "-DW2S_PARTS=6" in (project / "platformio.ini").read_text()
    for source in (folder / "src").iterdir():
        assert (project / "src" / "wav2small" / source.name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("board", "sensor", "reason"),
    [
        (ESP32, "    hop: 700ms\n    arousal: {name: A}\n", "a window needs 1 to 64 whole hops"),
        (ESP32, "    hop: 2s\n    window: 4s\n    arousal: {name: A}\n", "1s"),
        (ESP32, "    hop: 1s\n", "at least one of the sensors arousal, dominance"),
        (ESP32.replace("RATE", "48000"), "    arousal: {name: A}\n", "16000"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_the_reason(folder, tmp_path, board, sensor, reason):
    write(tmp_path, board, sensor, folder / "components")
    done = esphome(tmp_path, "config")
    assert done.returncode != 0 and reason in done.stdout + done.stderr


def test_sensors_are_in_the_order_of_the_enumeration(folder):
    header = (folder / "components" / "wav2small" / "wav2small.h").read_text()
    names = re.search(r"enum SensorIndex \{(.*?)\}", header, re.DOTALL)[1].replace(" ", "").split(",")
    assert names == [*(name.upper() for name in SENSORS), "N_SENSORS"]


@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "g++"))), reason="needs gcc and g++")
@pytest.mark.parametrize("min_change", [0, 0.05])
def test_the_generated_program_publishes_the_values_of_python(folder, clip, events, tmp_path, min_change):
    """With ``min_change: 0`` every value, else those that differ so much from the last one published."""
    automation = '      on_raw_value:\n        lambda: printf("NAME %.6f\\n", x);\n'
    stand_ins = tmp_path / "components"
    shutil.copytree(STAND_INS, stand_ins)
    shutil.copytree(Path(find_spec("esphome").origin).parent / "components" / "audio", stand_ins / "audio")
    with (stand_ins / "audio" / "__init__.py").open("a") as file:
        file.write(NOT_FOR_HOST)
    write(tmp_path, HOST, f"    min_change: {min_change}\n" + all_sensors(automation), folder / "components", stand_ins)
    done = esphome(tmp_path, "compile", "--only-generate")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = subprocess.run([built(tmp_path / ".esphome" / "build" / "tone")], cwd=clip, capture_output=True, text=True)
    for name in SENSORS:
        found = [float(line.split()[1]) for line in lines.stdout.splitlines() if line.split()[0] == name]
        expected = published([getattr(event, name) for event in events], min_change)
        assert found == pytest.approx(expected, abs=2e-5, nan_ok=True), name


def published(values: list[float | None], min_change: float) -> list[float]:
    """The first value, and those that become known or unknown or differ from the last published one."""
    kept: list[float | None] = []
    for value in values:
        before = kept[-1] if kept else None
        both = value is not None and before is not None
        if not kept or (value is None) != (before is None) or (both and abs(value - before) >= min_change):
            kept.append(value)
    return [float("nan") if value is None else value for value in kept]


OBJECTS: dict[str, Path] = {}
"""Of ESPHome's sources, which both tests share, by their content and flags."""


def built(project: Path) -> Path:
    """Compile a generated project, with the flags of its platformio.ini."""
    flags = re.findall(r"^    (-\S+)$", (project / "platformio.ini").read_text(), re.MULTILINE)
    objects = []
    for source in sorted([*project.glob("src/**/*.cpp"), *project.glob("src/**/*.c")]):
        key = f"{source.relative_to(project)} {hash(source.read_bytes())}"
        if key not in OBJECTS or source.name == "main.cpp":
            OBJECTS[key] = project / f"{len(OBJECTS)}.o"
            compiler = ["gcc", "-O2"] if source.suffix == ".c" else ["g++"]
            given = [flag for flag in flags if source.suffix != ".c" or not flag.startswith("-std=")]
            strict = ["-Wall", "-Wextra", "-Werror"] if "wav2small" in source.name else ["-w"]
            command = [*compiler, *given, *strict, "-Isrc", "-c", str(source), "-o", str(OBJECTS[key])]
            done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=os.environ)
            assert done.returncode == 0, done.stderr
        objects.append(OBJECTS[key])
    subprocess.run(["g++", *objects, "-lpthread", "-o", project / "tone"], check=True)
    return project / "tone"
