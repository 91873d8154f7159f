"""Run the firmware on three emulated boards: compare with the reference, and print the cost as a table.

Run by `make -C c firmware-check`; needs arm-none-eabi-gcc with newlib-nano, and qemu-system-arm.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA

HERE = Path(__file__).parent
CLIP = HERE.parents[1] / "examples" / "10b10Wa.flac"
BOARDS = {
    "M4": ("mps2-an386", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16")),
    "M7": ("mps2-an500", ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16")),
    "M55": ("mps3-an547", ("-mcpu=cortex-m55",)),
}
FLAGS = ("-std=gnu99", "-O2", "-funroll-loops", "-mthumb", "-mfloat-abi=hard", "-ffp-contract=fast")
FLAGS += ("-Wall", "-Wextra", "-Werror", "-DW2S_PARTS=0")
LINK = ("--specs=nano.specs", "-nostartfiles", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
FLOAT_TOLERANCE = 1e-4


def build(model: str, board: str, folder: Path, options: list[str]) -> tuple[Path, int]:
    """The firmware, and its size in flash in bytes."""
    target = folder / model / f"{board}.elf"
    sources = [str(HERE / name) for name in ("main.c", "startup.c")] + [str(HERE.parent / "w2s.c")]
    include = [f"-I{HERE.parent}", f"-I{folder / model / 'src'}", "-T", str(HERE / "link.ld")]
    command = ["arm-none-eabi-gcc", *FLAGS, *BOARDS[board][1], *LINK, *options, *include, *sources, "-o", str(target)]
    subprocess.run(command, check=True)
    size = subprocess.run(["arm-none-eabi-size", str(target)], check=True, capture_output=True, text=True).stdout
    text, data = size.splitlines()[1].split()[:2]
    return target, int(text) + int(data)


def run(firmware: Path, board: str, clip: Path) -> dict[str, int]:
    """Output of the firmware: lines of a name and an integer."""
    command = ["qemu-system-arm", "-M", BOARDS[board][0], "-display", "none", "-monitor", "none", "-serial", "none"]
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
    firmware, flash = build(model, board, folder, options)
    found = run(firmware, board, clip)
    answer, tolerance = expected(model, samples)
    error = np.max(np.abs(np.array([found[name] for name in OUTPUTS]) / 32768 - answer))
    if error > tolerance + (0.5 / 32768 if tolerance else 0) or found["samples"] != len(samples):
        raise SystemExit(f"{model} on {board}: differs from the reference by {error:.2g}, allowed {tolerance}")
    million = found["instructions"] / len(samples) * 16000 / 1e6
    kilobytes = [number / 1024 for number in (flash, found["state_bytes"], found["stack_bytes"])]
    worst = found["most_in_10_ms"] / 1e4
    cells = [model, board, *(f"{number:.1f}" for number in kilobytes), f"{million:.1f}", f"{worst:.1f}", f"{error:.1g}"]
    return "| " + " | ".join(cells) + " |"


def main(folder: Path, words: list[str]) -> None:
    models, options = ([word for word in words if word.startswith("-") == asked] for asked in (False, True))
    samples, _ = soundfile.read(CLIP, dtype="int16")
    clip = folder / "clip.raw"
    samples.tofile(clip)
    print("| model | core | flash KB | state KB | stack KB | M instructions a second | in the worst 10 ms | error |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for model in models:
        for board in BOARDS:
            print(row(model, board, folder, options, samples, clip), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
