"""`kill -9` of `wav2small label` at random times, resumed each time: count lost, duplicate and different rows.

    WAV2SMALL_MODELS=models python benchmarks/label_kills.py open/mycroft open/sdap --clips 240 --kills 10
    WAV2SMALL_MODELS=models python benchmarks/label_kills.py open/mycroft open/sdap --clips 240 --kills 2 --ray

Without --ray the command is killed some time after it has written a new part; with --ray a worker is killed, and the
command continues. Every table is compared with that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from label_cost import draw

PART_ROWS = 4
LABEL = [sys.executable, "-c", "from wav2small.cli import main; main()", "label"]


def start(folder: Path, name: str, *options: str) -> subprocess.Popen:
    return subprocess.Popen([*LABEL, str(folder), "-o", str(folder / name), "--part", str(PART_ROWS), *options])


def parts(folder: Path, name: str) -> int:
    return len(list((folder / f"{name}.parts").glob("part-*")))


def wait_for_part(child: subprocess.Popen, folder: Path, name: str, rng: random.Random) -> bool:
    """Until a part more is there, and some time more; False if the program ended before."""
    before = parts(folder, name)
    while parts(folder, name) <= before and child.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 1))
    return child.poll() is None


def kill_command(folder: Path, kills: int, rng: random.Random) -> int:
    """Kill and start again until it is done; how often it was killed."""
    done = 0
    while not (folder / "killed.csv").exists():
        child = start(folder, "killed.csv")
        if done < kills and wait_for_part(child, folder, "killed.csv", rng):
            child.kill()
            done += 1
            print(f"killed {done}: {parts(folder, 'killed.csv')} parts were written", flush=True)
        child.wait()
    return done


def kill_workers(folder: Path, kills: int, rng: random.Random) -> int:
    """Kill workers of Ray while the command runs; how many."""
    child, done = start(folder, "killed.csv", "--engine", "ray", "--workers", "2"), 0
    while done < kills and wait_for_part(child, folder, "killed.csv", rng):
        os.kill(rng.choice(workers(child.pid)), signal.SIGKILL)
        done += 1
        print(f"killed {done}: {parts(folder, 'killed.csv')} parts were written", flush=True)
    child.wait()
    return done


def workers(program: int) -> list[int]:
    """Processes of Ray that label, below a program."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_text()
            if title.startswith("ray::MapWorker") and program in ancestors(int(process.name)):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(process)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    files = [str(segment.path.resolve()) for segment in draw(arguments.manifests, arguments.clips)]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file"], *([name] for name in files)])
    start(folder, "whole.csv").wait()
    rng = random.Random(arguments.seed)
    kills = (kill_workers if arguments.ray else kill_command)(folder, arguments.kills, rng)
    with (folder / "killed.csv").open(newline="") as file:
        count = Counter(row["file"] for row in csv.DictReader(file))
    lost, doubled = set(files) - count.keys(), [name for name, times in count.items() if times > 1]
    same = (folder / "killed.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    print(f"{kills} kills, {len(files)} rows: lost {len(lost)}, doubled {len(doubled)}, ", end="")
    print(f"{'the same bytes as' if same else 'NOT THE BYTES OF'} a run that was not killed")


if __name__ == "__main__":
    main()
