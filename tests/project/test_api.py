"""The reference has every public name, and each name there has a docstring with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wav2small

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
LISTED = [
    name
    for page in sorted(REFERENCE.glob("*.md"))
    for name in re.findall(r"^::: (wav2small\S*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
"""Names in the reference, from the lines from which mkdocstrings makes an entry."""
PACKAGES = {
    "wav2small.train.students": "torch",
    "wav2small.train.teachers": "torch",
    "wav2small.tables.store": "pyarrow",
}
"""What the example of a name needs beyond the base installation."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def found(name: str) -> Any:
    """What has a dotted name: an attribute of a module, or of the package."""
    module, _, attribute = name.rpartition(".")
    for prefix, package in PACKAGES.items():
        if name.startswith(prefix):
            pytest.importorskip(package, reason=f"needs {package}")
    return getattr(import_module(module), attribute)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to write to, which has the examples as the root of the repository has them."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)


def test_every_public_name_is_in_the_reference():
    classes = [value for value in vars(wav2small.errors).values() if inspect.isclass(value)]
    errors = {f"wav2small.errors.{one.__name__}" for one in classes if issubclass(one, wav2small.errors.Wav2SmallError)}
    public = {f"wav2small.{name}" for name in wav2small.__all__ if name != "errors"}
    assert not (public | errors) - set(LISTED)
    assert len(LISTED) == len(set(LISTED)), "a name is in the reference twice"


@pytest.mark.parametrize("name", LISTED)
def test_the_examples_of_a_name_run(name, folder):
    thing = found(name)
    tests = [test for test in doctest.DocTestFinder().find(thing, name, globs={}) if test.examples]
    assert tests, f"{name} has no example: add a section Examples with >>> to its docstring"
    assert re.search(r"^Examples:$", inspect.getdoc(thing) or "", re.M), f"{name}: the section is named Examples"
    for test in tests:
        test.globs = {"np": np, "wav2small": wav2small}
        failures: list[str] = []
        result = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=failures.append)
        assert not result.failed, "".join(failures)


@pytest.mark.parametrize("name", LISTED)
def test_a_function_describes_each_argument(name):
    thing = found(name)
    if inspect.isfunction(thing):
        (arguments,) = re.findall(r"^Args:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(thing) or "", re.M | re.S) or [""]
        described = re.findall(r"^    (\w+):", arguments, re.M)
        assert described == [*inspect.signature(thing).parameters]
