"""ESPHome component wav2small: the sensors are in sensor.py, the C runtime and the model in ../../src."""

from pathlib import Path

import esphome.codegen as cg
from esphome.core import CORE
from esphome.helpers import copy_file_if_changed

CODEOWNERS = []
SOURCES = Path(__file__).parents[2] / "src"


def add_runtime(parts: int) -> None:
    """Add the C runtime to the build, for windows of so many hops.

    It is not beside this file, since ESPHome would include its headers into the main program.
    """
    for source in sorted(SOURCES.iterdir()):
        copy_file_if_changed(source, CORE.relative_src_path("wav2small", source.name))
    cg.add_build_flag(f"-DW2S_PARTS={parts}")
