"""Run the firmware on emulated boards: compare with the reference, and print the cost as a table.

Run by `make -C c firmware-check`. Arm needs arm-none-eabi-gcc with newlib-nano and qemu-system-arm; RISC-V needs
riscv64-unknown-elf-gcc with picolibc and qemu-system-riscv32; for Xtensa, which is compiled only, xtensa-lx106-elf-gcc.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA

HERE = Path(__file__).parent
CLIP = HERE.parents[1] / "examples" / "10b10Wa.flac"
FLAGS = ("-std=gnu99", "-O2", "-ffp-contract=fast", "-ffunction-sections", "-fdata-sections")
FLAGS += ("-Wall", "-Wextra", "-Werror", "-DW2S_PARTS=0", f"-I{HERE.parent}")
LINK = ("-nostartfiles", "-Wl,--gc-sections")
ARM = ("-mthumb", "-mfloat-abi=hard", "--specs=nano.specs")
RISCV = ("-misa-spec=2.2", "-mcmodel=medany", "-msmall-data-limit=0", "--specs=picolibc.specs")
FLOAT_TOLERANCE = 1e-4
NANOJOULES_PER_CYCLE = {"M4": 1.0 / (34.5e-3 * 160e6) * 1e6, "M7": 1.9 / (14.5e-3 * 280e6) * 1e6}
"""Millijoules of an inference over its cycles, MLPerf Tiny v1.1, keyword spotting: 1.0 mJ in 34.5 ms at 160 MHz on a
Cortex-M33, which has the instructions of the M4, and 1.9 mJ in 14.5 ms at 280 MHz on an M7."""


@dataclass(frozen=True)
class Board:
    """An emulated board: compiler flags, the emulator's command, and the prefix of the tools."""

    prefix: str
    flags: tuple[str, ...]
    emulator: tuple[str, ...] = ()
    startup: str = ""

    @property
    def missing(self) -> list[str]:
        """Commands that are not installed."""
        return [name for name in (f"{self.prefix}gcc", *self.emulator[:1]) if not shutil.which(name)]


def arm(machine: str, *flags: str) -> Board:
    return Board("arm-none-eabi-", (*ARM, *flags), ("qemu-system-arm", "-M", machine), "arm")


BOARDS = {
    "M4": arm("mps2-an386", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"),
    "M7": arm("mps2-an500", "-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16"),
    "M55": arm("mps3-an547", "-mcpu=cortex-m55"),
    "RV32IMAC": Board(
        "riscv64-unknown-elf-",
        (*RISCV, "-march=rv32imac", "-mabi=ilp32"),
        ("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
        "riscv",
    ),
    "LX106": Board("xtensa-lx106-elf-", ("-mlongcalls",)),
}
WITHOUT_FPU = ("RV32IMAC", "LX106")


def build(model: str, board: str, folder: Path, options: list[str]) -> tuple[Path, int]:
    """The firmware, or the runtime alone without an emulator, and its size in flash in bytes."""
    target, kind = folder / model / f"{board}.elf", BOARDS[board]
    unrolled = [] if "int8" in model else ["-funroll-loops"]
    command = [f"{kind.prefix}gcc", *FLAGS, *unrolled, f"-I{folder / model / 'src'}", *kind.flags, *options]
    command += [str(HERE.parent / "w2s.c"), "-o", str(target)]
    if kind.emulator:
        command += [*LINK, *(str(HERE / name) for name in ("main.c", f"{kind.startup}.c"))]
        command += ["-T", str(HERE / f"{kind.startup}.ld")]
    else:
        command.append("-c")
    subprocess.run(command, check=True)
    size = subprocess.run([f"{kind.prefix}size", str(target)], check=True, capture_output=True, text=True).stdout
    text, data = size.splitlines()[1].split()[:2]
    return target, int(text) + int(data)


def run(firmware: Path, board: str, clip: Path) -> dict[str, int]:
    """Output of the firmware: lines of a name and an integer."""
    command = [*BOARDS[board].emulator, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-icount", "shift=0", "-semihosting-config", f"enable=on,target=native,arg={clip}"]
    result = subprocess.run([*command, "-kernel", str(firmware)], capture_output=True, text=True, timeout=300)
    if result.returncode != 0:
        raise SystemExit(f"{firmware}: ended with {result.returncode} on {board}: {result.stdout}{result.stderr}")
    words = (result.stdout + result.stderr).split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


def expected(model: str, samples: np.ndarray) -> tuple[np.ndarray, float]:
    """The reference prediction, and the tolerance; utterance normalisation uses the samples so far."""
    arrays, _, config = reference.load_student(DATA / f"{model}.safetensors")
    if config.integers and config.normalisation == "utterance":
        level = fixed_frontend.level_so_far(samples, config)
        return fixed_point.to_numbers(fixed_frontend.forward(samples, arrays, config, level), arrays)[1], 0.0
    signal = (samples / 32768).astype(np.float32)
    return reference.forward(signal, arrays, config)[1], 0.0 if config.integers else FLOAT_TOLERANCE


def row(model: str, board: str, folder: Path, options: list[str], samples: np.ndarray, clip: Path) -> str:
    """A row of the table."""
    firmware, flash = build(model, board, folder, options)
    if not BOARDS[board].emulator:
        return f"| {model} | {board} | {flash / 1024:.1f} | | | | | | |"
    found = run(firmware, board, clip)
    answer, tolerance = expected(model, samples)
    error = np.max(np.abs(np.array([found[name] for name in OUTPUTS]) / 32768 - answer))
    if error > tolerance + (0.5 / 32768 if tolerance else 0) or found["samples"] != len(samples):
        raise SystemExit(f"{model} on {board}: differs from the reference by {error:.2g}, allowed {tolerance}")
    million = found["instructions"] / len(samples) * 16000 / 1e6
    kilobytes = [number / 1024 for number in (flash, found["state_bytes"], found["stack_bytes"])]
    worst = found["most_in_10_ms"] / 1e4
    energy = f"{million * NANOJOULES_PER_CYCLE[board]:.1f}" if board in NANOJOULES_PER_CYCLE else ""
    cells = [model, board, *(f"{number:.1f}" for number in kilobytes), f"{million:.1f}", f"{worst:.1f}", energy]
    return "| " + " | ".join([*cells, f"{error:.1g}"]) + " |"


def main(folder: Path, words: list[str]) -> None:
    models, options = ([word for word in words if word.startswith("-") == asked] for asked in (False, True))
    samples, _ = soundfile.read(CLIP, dtype="int16")
    clip = folder / "clip.raw"
    samples.tofile(clip)
    boards = [name for name, board in BOARDS.items() if not board.missing]
    for name in BOARDS.keys() - boards:
        print(f"{name}: left out, needs {', '.join(BOARDS[name].missing)}")
    titles = ["model", "core", "flash KB", "state KB", "stack KB", "M instructions a second", "in the worst 10 ms"]
    titles += ["estimated mJ a second", "error"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for model in models:
        for board in boards:
            if "int8" in model or board not in WITHOUT_FPU:
                print(row(model, board, folder, options, samples, clip), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
