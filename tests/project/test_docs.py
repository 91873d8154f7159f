"""The documents hold: their Python runs, their commands and options exist, their output is what comes out."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import wav2small
from wav2small.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = "<!-- not run"
"""Begins the line before a block of Python that cannot run by itself; the reason follows."""
PROGRAM = [sys.executable, "-m", "wav2small"]
SHOWN = ("predict", "models")
"""Commands whose output in the README is compared; the others take long or need a corpus."""

pytestmark = pytest.mark.skipif(not README.exists(), reason="no README.md yet")


def blocks(document: Path, *languages: str, marked: bool = True) -> list[str]:
    """Code blocks of some languages; without ``marked`` those that are marked as not run are left out."""
    block = re.compile(r"^([^\n]*)\n```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    found = block.findall("\n" + document.read_text(encoding="utf-8"))
    return [text for before, language, text in found if language in languages and (marked or NOT_RUN not in before)]


def spoken(document: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command line in the shell blocks of a document, continued lines joined, with the lines after it."""
    for block in blocks(document, "sh", "bash", "shell", "console"):
        lines = re.sub(r"\\\n\s*", " ", block).splitlines()
        is_session = any(line.startswith("$ ") for line in lines)
        for number, line in enumerate(lines):
            if line.startswith("$ ") or (not is_session and line and not line.startswith("#")):
                output = []
                for after in lines[number + 1 :] if is_session else []:
                    if after.startswith("$ "):
                        break
                    output.append(after)
                yield line.removeprefix("$ "), output


def words(line: str) -> list[list[str]]:
    """The words of each program in a line, comments left out, split at pipes and the like."""
    programs: list[list[str]] = [[]]
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for word in lexer:
        if set(word) <= set("|&;"):
            programs.append([])
        else:
            programs[-1].append(word)
    return programs


def calls(name: str) -> list[tuple[list[str], list[str]]]:
    return [
        (program, output)
        for document in DOCUMENTS
        for line, output in spoken(document)
        for program in words(line)
        if name in [Path(word).name for word in program[:1]]
    ]


def is_close(shown: str, found: str) -> bool:
    """Equal words, or numbers that different machines may round to."""
    number = re.compile(r"-?\d+\.\d+")
    if number.fullmatch(shown) and number.fullmatch(found):
        return abs(float(shown) - float(found)) <= 2e-3
    return shown == found


def test_the_readme_shows_python_and_commands():
    assert blocks(README, "python") and calls("make") and calls("wav2small")


@pytest.mark.parametrize("number", range(len(blocks(README, "python")) if README.exists() else 0))
def test_the_python_of_the_readme_runs(number):
    code = blocks(README, "python")[number]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WITH_PYTHON = [document for document in DOCUMENTS if blocks(document, "python", marked=False)]


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda path: path.name)
def test_the_python_of_a_document_runs(document, tmp_path):
    """Slow because each document has an interpreter of its own, and some import torch."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    code = "\n".join(blocks(document, "python", marked=False))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    if re.search(r"No module named '(torch|timm|sklearn)'", done.stderr):
        pytest.skip("needs an extra")
    assert done.returncode == 0, f"{done.stderr}\nMark a block that cannot run with {NOT_RUN}: reason -->"


def test_every_wav2small_command_and_option_in_the_documents_exists():
    for program, _ in calls("wav2small"):
        arguments = program[1:]
        if not arguments or arguments[0].startswith("-"):
            continue
        assert arguments[0] in COMMANDS, program
        command = main.get_command(click.Context(main), arguments[0])
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for argument in arguments[1:]:
            if re.match(r"--?[a-z]", argument):
                assert argument.split("=")[0] in options | {"-h", "--help"}, f"{argument} in {shlex.join(program)}"


def test_every_make_target_in_the_documents_exists_and_the_gate_runs_them():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    spoken_of = {target for program, _ in calls("make") for target in program[1:] if "=" not in target}
    assert {"demo", "test"} <= spoken_of <= targets
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\w+)$", gate, re.MULTILINE) == ["tools", "demo", "test", "docs"]


def test_every_command_is_spoken_of():
    assert {program[1] for program, _ in calls("wav2small") if len(program) > 1} >= set(COMMANDS)


def test_the_output_in_the_readme_is_what_comes_out():
    compared = 0
    for line, expected in spoken(README):
        (program, *rest) = words(line)
        if program[:1] != ["wav2small"] or rest or not any(expected) or program[1] not in SHOWN:
            continue
        found = subprocess.run([*PROGRAM, *program[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for row_shown, row in zip("\n".join(expected).strip().splitlines(), found.strip().splitlines(), strict=True):
            assert all(map(is_close, row_shown.split(), row.split())), f"{row_shown!r} should be {row!r}"
            assert len(row_shown.split()) == len(row.split())
        compared += 1
    assert compared, "show `$ wav2small predict examples` and its output in a console block"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(document):
    for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def called() -> set[str]:
    """Names that the tests call."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.add(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
    return found


@pytest.mark.parametrize("name", wav2small.__all__)
def test_every_public_name_is_documented_and_called(name):
    thing = getattr(wav2small, name)
    assert inspect.getdoc(thing)
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    assert any(re.search(rf"`[^`\n]*\b{name}\b", text) for text in texts), "name it in `code` in README.md or docs"
    assert inspect.ismodule(thing) or name in called()
