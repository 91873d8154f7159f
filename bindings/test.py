"""Test the packages of all languages that this machine has compilers for, on a real clip; print a table.

    python bindings/test.py [LANGUAGE ...] [--model MODEL ...]

For each language and model: export, write the golden calls of examples/10b10Wa.flac, and run the package's own test.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import soundfile

from wav2small.export.golden import write_golden
from wav2small.export.languages import GOLDEN, LANGUAGES, export_language
from wav2small.runtime.model import locate
from wav2small.tables.table import render

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "bindings"
CLIP = ROOT / "examples" / "10b10Wa.flac"
MODELS = ("micro:int8", "micro", "wav2small:int8")
"""In integers and floats, and one that takes the level of the utterance."""
CRATES = Path("/usr/share/cargo/registry")
"""Crates of Debian (librust-cc-dev), which need no network."""
OFFLINE = f"""--config 'source.crates-io.replace-with="debian"' --config 'source.debian.directory="{CRATES}"'"""
CARGO_OPTIONS = OFFLINE if list(CRATES.glob("cc-*")) else ""
CMAKE = "cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build"
MODULE = """
#pragma clang module import CWav2Small
int main(void) { static double memory[20000]; return stream_init(memory); }
"""


@dataclass(frozen=True)
class Package:
    """A language: what its test needs, and the commands of the test, which run in the exported folder.

    Attributes:
        wrapper: the files that are written by hand for this language
        needs: commands that must be installed
        test: a line for the shell; it prints the largest difference
    """

    wrapper: tuple[str, ...]
    needs: tuple[str, ...]
    test: str


PACKAGES = {
    "android": Package(
        ("src/main/kotlin/wav2small/Wav2Small.kt", "src/main/cpp/jni.c"),
        ("cmake", "javac", "kotlinc"),
        f"{CMAKE.replace('cmake -B', 'cmake -S src/main/cpp -B')} && "
        "kotlinc src/main/kotlin tests/Golden.kt -include-runtime -d golden.jar && "
        "java -Xcheck:jni -Djava.library.path=build -cp golden.jar GoldenKt golden",
    ),
    "cpp": Package(("include/wav2small.hpp",), ("cmake", "g++"), f"{CMAKE} && ctest --test-dir build -V"),
    "csharp": Package(
        ("Wav2Small.cs",),
        ("cmake", "mcs", "mono"),
        f"{CMAKE} && mcs -warnaserror -out:Golden.exe Wav2Small.cs tests/Golden.cs && "
        "LD_LIBRARY_PATH=build mono Golden.exe golden",
    ),
    "go": Package(("wav2small.go",), ("go", "cc"), "go vet ./... && go test -v"),
    "rust": Package(("src/lib.rs",), ("cargo", "cc"), f"cargo test {CARGO_OPTIONS} -- --nocapture"),
    "swift": Package(("Sources/Wav2Small/Wav2Small.swift", "Sources/CWav2Small/stream.h"), ("swift",), "swift test"),
}


def run(command: str, folder: Path) -> str:
    """Output of a command.

    Raises:
        SystemExit: if it fails, after its output
    """
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if result.returncode:
        raise SystemExit(f"{folder}: {command}\n{result.stdout}{result.stderr}")
    return result.stdout


def exported(language: str, model: str) -> Path:
    """A new package with the golden calls of the clip."""
    folder = BUILD / language / model.replace(":", "-")
    shutil.rmtree(folder, ignore_errors=True)
    export_language(model, folder, language)
    write_golden(locate(model, ".safetensors"), soundfile.read(CLIP, dtype="float32")[0], folder / GOLDEN)
    return folder


def tested(language: str, folder: Path) -> float:
    """The largest difference that the test of a package prints."""
    output = run(PACKAGES[language].test, folder)
    found = re.findall(r"\d+ emotions, largest difference (\S+)", output)
    if not found:
        raise SystemExit(f"{folder}: the test compared nothing\n{output}")
    return max(map(float, found))


def without_swift(folder: Path) -> str:
    """What can be checked without a Swift compiler: the C module, and the syntax of the Swift files."""
    checks = []
    if shutil.which("clang"):
        (folder / "module.c").write_text(MODULE)
        sources = "Sources/CWav2Small"
        options = f"-fmodules -fmodules-cache-path=cache -I{sources} -Wall -Wextra -Werror"
        run(f"clang {options} module.c {sources}/w2s.c -o module && ./module", folder)
        checks.append("C module built by clang")
    if importlib.util.find_spec("tree_sitter_swift"):
        import tree_sitter
        import tree_sitter_swift

        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
        for path in folder.rglob("*.swift"):
            if parser.parse(path.read_bytes()).root_node.has_error:
                raise SystemExit(f"{path}: not valid Swift")
        checks.append("syntax checked by tree-sitter")
    return "; ".join(checks)


def row(language: str, models: list[str]) -> dict[str, object]:
    """A line of the table: a language, the size of its package, and the result for each model."""
    package = PACKAGES[language]
    missing = [command for command in package.needs if not shutil.which(command)]
    results: dict[str, object] = {}
    for model in models:
        print(f"{language}, {model}", file=sys.stderr, flush=True)
        folder = exported(language, model)
        if model == models[0]:
            lines = sum(len((folder / name).read_text().splitlines()) for name in package.wrapper)
            results |= {"lines": lines, "KB": archive_bytes(folder) // 1000}
        if not missing:
            results[model] = f"{tested(language, folder):.1e}"
        elif language == "swift":
            results[model] = without_swift(folder)
    note = f"left out: needs {', '.join(missing)}" if missing else ""
    return {"language": language, **results, "note": note}


def archive_bytes(folder: Path) -> int:
    """Size of the package as a .tar.gz, without the golden calls."""
    path = folder.parent / "package.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for item in folder.iterdir():
            if item.name != GOLDEN:
                archive.add(item, item.name)
    return path.stat().st_size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"default: {', '.join(LANGUAGES)}")
    parser.add_argument("--model", action="append", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    given = parser.parse_args()
    os.environ["CARGO_TERM_COLOR"] = "never"
    if unknown := set(given.languages) - set(LANGUAGES):
        parser.error(f"no package for {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    chosen = given.languages or list(LANGUAGES)
    print(render([row(language, given.model or list(MODELS)) for language in chosen], "table"), end="")
