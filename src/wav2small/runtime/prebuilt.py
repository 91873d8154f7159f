"""Compiled libraries of the C runtime in a wheel: which are built, and which of them this processor runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wav2small.network.reference import load_student
from wav2small.network.weights import DATA, identity
from wav2small.runtime.c_header import header
from wav2small.runtime.compiler import compile_to, cpu_features, find_compiler, flags_for, runtime

MODELS = ("micro", "micro-int8", "wav2small", "wav2small-int8")
AVX2 = ("avx2", "fma")
"""Features of x86-64 processors since about 2013, under the names of both Linux and the compilers' -m flags."""
FOLDER = "lib"
"""Beside the C sources, in a wheel only."""


def build(folder: Path, platform: str) -> list[Path]:
    """Compile each of ``MODELS`` for any processor of a platform, and on x86-64 Linux once more with ``AVX2``.

    Args:
        folder: where the libraries are written
        platform: as of ``sysconfig.get_platform()``: ``linux-x86_64``, ``macosx-11.0-arm64``

    Raises:
        NativeError: if there is no C compiler, or it fails
    """
    compiler = find_compiler()
    variants = {"": tuple(architecture(platform))}
    if platform == "linux-x86_64":
        variants["avx2"] = tuple(f"-m{name}" for name in AVX2)
    jobs = []
    for name in MODELS:
        weights = DATA / f"{name}.safetensors"
        text, flags = header(weights), flags_for(load_student(weights)[2])
        for variant, more in variants.items():
            jobs.append((folder / file_name(identity(weights), variant), text, compiler, (*flags, *more)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: compile_to(*job), jobs))
    return [job[0] for job in jobs]


def architecture(platform: str) -> Iterator[str]:
    """Flags by which clang on macOS compiles for the version and the processors of the platform, both if universal."""
    if platform.startswith("macosx-"):
        _, version, name = platform.split("-")
        yield f"-mmacosx-version-min={version}"
        for one in ("arm64", "x86_64") if name == "universal2" else (name,):
            yield from ("-arch", one)


def find(digest: str) -> Path | None:
    """The library in this package for weights of this ``identity``, the fastest that this processor runs."""
    variants = ("avx2", "") if cpu_features() >= set(AVX2) else ("",)
    paths = (runtime() / FOLDER / file_name(digest, variant) for variant in variants)
    return next((path for path in paths if path.is_file()), None)


def file_name(digest: str, variant: str) -> str:
    """Name of the library for weights of this ``identity``."""
    return f"w2s-{digest[:32]}{variant and '-' + variant}.so"
