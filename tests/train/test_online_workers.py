"""The real program with its workers: the same weights as without, Ctrl-C, a dead worker, and kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from online_world import corpus, tiny_teacher  # noqa: E402

PROGRAM = """
import sys
from functools import partial
from wav2small.cli import distil, main
from wav2small.train.config import DistilConfig
from wav2small.train.online import ring

if __name__ == "__main__":
    distil.DistilConfig = partial(DistilConfig, durations=(0.25, 0.4), warm_up=2, dev_clips=3, ring=32)
    ring.FIRST_SHARDS, ring.AHEAD = 2, int(sys.argv.pop(1))
    if "inline" in sys.argv:
        import online_world
        sys.argv.remove("inline")
        ring.ProcessPoolExecutor = online_world.Inline
    main(sys.argv[1:])
"""
"""Short clips and few shards."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    corpus(folder / "first", 9, 1)
    tiny_teacher(folder)
    (folder / "program.py").write_text(PROGRAM)
    return folder


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def ended():
    """No program outlives a test that fails."""
    yield
    for process in STARTED:
        if process.poll() is None:
            process.kill()
    STARTED.clear()


def start(data: Path, output: Path, *arguments: object, ahead: int = 1) -> subprocess.Popen[str]:
    teacher = data / "tiny1.safetensors"
    options = ["--batch-size", 8, "--group-size", 4, "--evaluate-every", 2, "--threads", 1, "--reuse", 1]
    options += ["--device", "cpu"]
    program = [sys.executable, data / "program.py", ahead, "distil", data / "first", "-o", output, "--teacher", teacher]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children ignore it
    try:
        command = list(map(str, [*program, *options, *arguments]))
        paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        there = os.environ | {"PYTHONPATH": paths}  # online_world lies beside the folders of tests
        STARTED.append(subprocess.Popen(command, start_new_session=True, env=there, **pipes))
        return STARTED[-1]
    finally:
        signal.signal(signal.SIGINT, handler)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the workers, which are those that multiprocessing spawned."""
    found = []
    for path in Path(f"/proc/{process.pid}/task/").glob("*/children"):
        for pid in path.read_text().split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def wait_for(condition, dur: float = 300.0):
    end = time.monotonic() + dur
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def shards(output: Path) -> list[Path]:
    return list((output / "ring").rglob("*.npz"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_give_the_same_weights_as_none(data, tmp_path):
    for name, mode in (("inline", ["inline"]), ("two", ["--workers", 2])):
        process = start(data, tmp_path / name, "--steps", 4, *mode)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    one, other = (tmp_path / name / "micro.safetensors" for name in ("inline", "two"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("when", ["workers start", "workers work"])
def test_ctrl_c_on_the_terminal_is_one_sentence_and_soon_over(data, tmp_path, when):
    """The whole group of processes gets it."""
    process = start(data, tmp_path / "run", "--steps", 5000, "--workers", 1, ahead=100_000)
    wait_for(lambda: children(process) if when == "workers start" else len(shards(tmp_path / "run")) > 2)
    workers, began = children(process), time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    lines = [line for line in said.splitlines() if not line.startswith("step ")]
    how = r"resumes from step \d+|continues from the last checkpoint, or from the start if there is none"
    assert len(lines) == 1 and re.fullmatch(f"wav2small: interrupted; the same command ({how})", lines[0]), said
    assert time.monotonic() - began < 40 and not any(map(is_running, workers))


def test_a_worker_that_is_killed_is_one_sentence_and_the_run_goes_on(data, tmp_path):
    process = start(data, tmp_path / "run", "--steps", 4, "--workers", 1)
    (worker,) = wait_for(lambda: children(process))
    os.kill(worker, signal.SIGKILL)
    out, said = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert said == (
        "wav2small: a worker was killed, possibly because memory was exhausted. Run the command with fewer --workers.\n"
    )
    process = start(data, tmp_path / "run", "--steps", 4, "--workers", 1)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def test_kill_9_leaves_no_worker(data, tmp_path):
    process = start(data, tmp_path / "run", "--steps", 5000, "--workers", 1, ahead=100_000)
    wait_for(lambda: len(shards(tmp_path / "run")) > 2)
    workers = children(process)
    assert workers
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(is_running, workers)), 30)
