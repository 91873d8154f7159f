"""Export of weights to a package for another language: the C runtime, a model header, and one file that wraps them.

The packages are in ``bindings/``, a folder per language, without the C sources and the golden calls, which are added
here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from wav2small.export.c_folder import CFolder, largest_error, runtime_files, template_files
from wav2small.export.card import licence_of
from wav2small.export.folder import whole_folder, write_files
from wav2small.export.golden import write_golden
from wav2small.network import reference
from wav2small.network.probes import voice
from wav2small.network.weights import read_safetensors
from wav2small.runtime.c_header import header
from wav2small.runtime.model import locate

LANGUAGES = {
    "android": "src/main/cpp",
    "cpp": "c",
    "csharp": "c",
    "go": "",
    "rust": "c",
    "swift": "Sources/CWav2Small",
}
"""Folder of the C sources in the package of each language."""
GOLDEN = "golden"
"""Folder of the golden calls in every package."""


def export_language(weights: str | Path, folder: str | Path, language: str) -> CFolder:
    """Write a package with the weights inside.

    Args:
        weights: safetensors file of a student, or ``NAME[:PRECISION]`` of shipped weights, such as micro:int8
        folder: a new folder, or one that this function wrote
        language: a key of ``LANGUAGES``

    Raises:
        WeightsError: if the C runtime does not support the student, the folder has other content, or C and the
            reference differ
    """
    path, sources = locate(weights, ".safetensors"), LANGUAGES[language]
    text = header(path)
    arrays, _, network = reference.load_student(path)
    error = largest_error(path, arrays, network)
    files = template_files(bindings() / language, path)
    files |= runtime_files(text, network.integers, f"{sources}/" if sources else "")
    with whole_folder(Path(folder), f"{GOLDEN}/golden.csv") as made:
        write_files(made, files)
        write_golden(path, voice(np.random.default_rng(0), dur=1.5), made / GOLDEN)
        shutil.copyfile(bindings().parent / "LICENSE", made / "LICENSE")
    precision = "int8" if network.integers else "fp32"
    return CFolder(Path(folder), precision, len(text), error, licence_of(read_safetensors(path)[1]), None)


def bindings() -> Path:
    """Folder of the packages: inside this package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next(folder for folder in (package / "bindings", package.parents[1] / "bindings") if folder.is_dir())
