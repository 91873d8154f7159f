"""The C compiler of this machine: sources, flags and the cache of what it compiled."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wav2small.errors import NativeError
from wav2small.network.config import Network
from wav2small.runtime.c_header import HEADER

SOURCES = (
    *("w2s.h", "w2s.c", "w2s_float.h", "w2s_integer.h", "w2s_dot.h"),
    *("w2s_baseline.h", "w2s_speech.h", "w2s_monitor.h"),
)
COMPILERS = ("clang", "cc", "gcc")
"""The first that is there: vectors of clang 14 are a tenth to a fifth faster here than those of gcc 12."""
FLAGS = ("-std=c99", "-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
FOR_THIS_MACHINE = ("-march=native",)
"""Left out where the compiler does not know it."""
SIZES = {
    "utterance": ("-DW2S_BLOCK=64", "-DW2S_LANES=16"),
    "causal": ("-DW2S_BLOCK=16", "-DW2S_LANES=8", "-DW2S_ON_STACK=1"),
    "integers": ("-DW2S_BLOCK=1", "-DW2S_LANES=1", "-DW2S_ON_STACK=1"),
}
"""Frames at once, and side by side. A process may have hundreds of causal streams, so their blocks are on the stack."""
CPUINFO = Path("/proc/cpuinfo")
PARTS = 8
"""Parts of a stream's window that every library has room for: 3 s every 0.5 s needs all of them."""


def sizes_for(network: Network) -> tuple[str, ...]:
    """The flags of ``SIZES`` for a network."""
    return SIZES["integers" if network.integers else "causal" if network.is_causal else "utterance"]


def flags_for(network: Network, parts: int = 0) -> tuple[str, ...]:
    """Flags of every compiler here, for a network and windows of so many parts.

    ``PARTS`` is the least, and only powers of two occur, so that few libraries serve all windows.
    """
    size = max(PARTS, 1 << (parts - 1).bit_length() if parts else 0)
    return (*FLAGS, *sizes_for(network), f"-DW2S_PARTS={size}")


def compiled(text: str, flags: tuple[str, ...]) -> Path:
    """The library of a header, from the cache or new."""
    compiler = find_compiler()
    digest = hashlib.sha256(repr((text, flags, compiler, machine())).encode())
    for name in SOURCES:
        digest.update((runtime() / name).read_bytes())
    target = cache() / f"w2s-{digest.hexdigest()[:32]}.so"
    if not target.is_file():
        try:
            compile_to(target, text, compiler, (*flags, *FOR_THIS_MACHINE))
        except NativeError:
            compile_to(target, text, compiler, flags)
    return target


def compile_to(target: Path, text: str, compiler: list[str], flags: tuple[str, ...]) -> None:
    """Compile the runtime with this header, in a folder of its own, and move the library to its place at once.

    Raises:
        NativeError: if the folder cannot be written or the compiler fails
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=target.parent)
    except OSError as error:
        raise NativeError(
            f"{target.parent}: the compiled C runtime cannot be kept there ({error.strerror}); "
            "name a folder that can be written in the variable XDG_CACHE_HOME."
        ) from None
    with temporary as folder:
        (Path(folder) / HEADER).write_text(text, encoding="ascii")
        made = Path(folder) / target.name
        command = [*compiler, *flags, f"-I{folder}", str(runtime() / "w2s.c"), "-o", str(made)]
        if said := run(command):
            raise NativeError(f"{compiler[0]} cannot compile the C runtime: {said}")
        os.replace(made, target)


def run(command: list[str]) -> str:
    """What a compiler that fails says first; nothing if it does not."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error.strerror)
    lines = result.stderr.strip().splitlines()
    return "" if result.returncode == 0 else lines[0] if lines else f"exit code {result.returncode}"


def find_compiler() -> list[str]:
    """The command of a C compiler: that of the variable CC, or one that is there."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    found = [path for name in COMPILERS if (path := shutil.which(name))]
    if not found:
        raise NativeError(
            f"the backend 'c' needs a C compiler once, and none of {', '.join(COMPILERS)} is here; install one, "
            "name one in the variable CC, or use the backend 'onnx'."
        )
    return found[:1]


def machine() -> str:
    """What a library for this machine depends on: folders of users go from one machine to another."""
    return f"{sys.platform} {os.uname().machine if hasattr(os, 'uname') else ''} {sorted(cpu_features())}"


def cpu_features() -> set[str]:
    """Names that Linux gives the features of an x86 processor, such as ``avx2``; none on other systems."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def runtime() -> Path:
    """Folder of the C sources: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next(folder for folder in (package / "c", package.parents[1] / "c") if (folder / "w2s.c").is_file())


def cache() -> Path:
    """The user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wav2small"
