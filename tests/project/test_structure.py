"""The structure of the package: imports point down, there are no circles, and no command imports another."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

import wav2small

PACKAGE = Path(wav2small.__file__).parent
LAYERS = ("", "network", "audio", "tables", "runtime corpora", "agents train", "evaluation", "export", "serve", "cli")
"""Packages from the lowest to the highest; "" holds the modules beside ``__init__``."""
FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")}
SCRIPTS = [*(PACKAGE.parents[1] / "recipes").glob("*.sh")]
OUTSIDE = [path for folder in ("recipes", "benchmarks") for path in (PACKAGE.parents[1] / folder).rglob("*.py")]


def imports(path: Path) -> Iterator[str]:
    """Names of the modules of this package that a file imports, also inside functions; a package is its __init__."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")[1:] if name.startswith("wav2small.") else []
            while parts and ".".join(parts) not in FILES and ".".join([*parts, "__init__"]) not in FILES:
                parts = parts[:-1]
            if parts:
                yield ".".join(parts if ".".join(parts) in FILES else [*parts, "__init__"])


def layer(module: str) -> int:
    package = module.split(".")[0] if "." in module else ""
    return next(number for number, names in enumerate(LAYERS) if package in names.split(" "))


@pytest.mark.parametrize("module", sorted(FILES.keys() - {"__init__", "__main__"}))
def test_imports_point_down(module):
    for other in imports(FILES[module]):
        assert layer(other) <= layer(module), f"{module} imports {other}, which is above it"
        one, two = module.split(".")[0], other.split(".")[0]
        assert layer(other) < layer(module) or one == two or "." not in other, f"{module} and {other} are side by side"
        if one == two == "cli":
            assert other in SHARED, f"{module} imports another command, {other}"


SHARED = {"cli.options", "cli.progress", "cli.__init__"}


def test_no_imports_run_in_a_circle():
    needs = {module: set(imports(path)) - {module} for module, path in FILES.items() if module != "__init__"}
    while free := [module for module, others in needs.items() if not others & needs.keys()]:
        for module in free:
            del needs[module]
    assert not needs


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.name)
def test_recipes_and_benchmarks_use_the_package_and_not_its_commands(path):
    assert not [module for module in imports(path) if module.startswith("cli.") and module != "cli.__init__"]


@pytest.mark.parametrize("path", [*OUTSIDE, *SCRIPTS], ids=lambda path: path.name)
def test_recipes_and_benchmarks_need_no_test(path):
    assert "tests/" not in path.read_text(encoding="utf-8")


def test_the_root_stays_small():
    assert len([module for module in FILES if "." not in module]) < 10


def test_the_architecture_page_lists_the_modules_that_there_are():
    page = PACKAGE.parents[1] / "docs" / "architecture.md"
    made = runpy.run_path(str(PACKAGE.parents[1] / "recipes" / "architecture.py"))["document"]
    text = page.read_text(encoding="utf-8")
    assert text == made(text), "run: python recipes/architecture.py"
