"""Instructions per second of audio, by callgrind: the difference between three and two seconds.

Run by `make -C c count`; needs gcc and valgrind.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def instructions(program: Path, seconds: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), str(seconds)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return int(re.search(r"Collected : (\d+)", said)[1])


def main(folder: Path, models: list[str]) -> None:
    print("| model | M instructions a second of audio |\n|---|---|")
    for model in models:
        program, include = folder / model / "bench", f"-I{folder / model / 'src'}"
        sources = [str(HERE / "bench.c"), str(HERE / "w2s.c")]
        subprocess.run(
            ["gcc", "-std=c99", "-O2", "-DW2S_PARTS=0", f"-I{HERE}", include, *sources, "-o", str(program)], check=True
        )
        print(f"| {model} | {(instructions(program, 3) - instructions(program, 2)) / 1e6:.1f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
