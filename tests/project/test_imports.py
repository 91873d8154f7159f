"""Importing the package loads nothing heavy and changes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wav2small

PACKAGE = Path(wav2small.__file__).parent
TESTS = Path(__file__).parents[1]
RECIPES = TESTS.parent / "recipes"
HEAVY = ("click", "matplotlib", "onnx", "onnxruntime", "onnxscript", "pyarrow", "ray", "rich", "safetensors", "scipy")
HEAVY += ("audformat", "datasets", "sklearn", "soundfile", "soxr", "timm", "torch", "transformers", "upath")
FILES = sorted(PACKAGE.rglob("*.py"))
LIGHT = ("train/__init__.py", "train/config.py", "train/examples.py")
LIGHT += ("serve/__init__.py", "serve/page.py", "serve/settings.py")
"""Of ``train`` and ``serve``, what needs no extra: the command line imports their settings."""
EXPORTS = ("onnx_graph", "from_torch", "pretrained")
"""Of ``export``, what needs the extra train to be imported."""
NEEDING = ("wav2small.train", "wav2small.serve", *(f"wav2small.export.{name}" for name in EXPORTS))
RUNTIME = {"numpy", "onnxruntime", "soundfile", "soxr", "click", "rich"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether that happens as soon as the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_for_types(outer)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            yield str(node.module), node not in late
            if node.module == "wav2small":
                yield from ((f"wav2small.{alias.name}", node not in late) for alias in node.names)


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def needs_an_extra(path: Path) -> bool:
    """Whether a file needs an extra to be imported."""
    module = path.relative_to(PACKAGE).as_posix()
    exports = [f"export/{name}.py" for name in EXPORTS]
    return (module.startswith(("train/", "serve/")) and module not in LIGHT) or module in exports


def fresh(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("path", [path for path in FILES if not needs_an_extra(path)], ids=str)
def test_only_bodies_of_functions_import_what_needs_an_extra(path):
    for module, is_early in imports(path):
        path_of = module.removeprefix("wav2small.").replace(".", "/")
        if {f"{path_of}.py", f"{path_of}/__init__.py"} & {*LIGHT}:
            continue
        if module.startswith(NEEDING):
            assert path.parent.name in ("evaluation", "cli", "export") and not is_early


@pytest.mark.parametrize("path", [path for path in FILES if not needs_an_extra(path)], ids=str)
def test_the_runtime_imports_only_its_dependencies_at_once(path):
    for module, is_early in imports(path):
        root = module.split(".")[0]
        ours = root in RUNTIME | {"wav2small"} | sys.stdlib_module_names
        assert ours or not is_early, f"{path.name} imports {module} at once; the runtime is without it"


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.name)
def test_a_test_module_skips_before_it_imports_what_needs_an_extra(path):
    """The base install collects every module: what it is without is imported inside a function, or after a skip."""
    own = {module.stem for folder in (TESTS, path.parent, RECIPES) for module in folder.glob("*.py")}
    own |= {"wav2small", "pytest", "hypothesis"}
    before = path.parent / "conftest.py"
    lines = before.read_text(encoding="utf-8") if before.exists() else ""
    for node in ast.parse(lines + path.read_text(encoding="utf-8")).body:
        if "importorskip" in ast.unparse(node):
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                assert str(name).split(".")[0] in RUNTIME | own | sys.stdlib_module_names, f"{path.name} imports {name}"


def test_import_wav2small_loads_nothing_heavy():
    script = f"import sys, wav2small; print([name for name in {HEAVY} if name in sys.modules])"
    assert fresh(script) == "[]\n"


def test_help_loads_nothing_heavy():
    script = (
        "import sys, click.testing; from wav2small.cli import main\n"
        "result = click.testing.CliRunner().invoke(main, ['--help']); assert result.exit_code == 0\n"
        f"print([name for name in {HEAVY} if name != 'click' and name in sys.modules])"
    )
    assert fresh(script) == "[]\n"


def test_predicting_loads_no_torch_and_no_bar():
    script = (
        "import sys, wav2small.runtime.predict\n"
        "print([name for name in ('torch', 'transformers', 'onnx', 'rich', 'click', 'pyarrow') if name in sys.modules])"
    )
    assert fresh(script) == "[]\n"


def test_import_wav2small_takes_no_longer_than_numpy():
    """Processor time, since other work on the machine makes the clock run on."""
    script = "import time, numpy; t = time.process_time(); import wav2small; print(time.process_time() - t)"
    assert min(float(fresh(script)) for _ in range(5)) < 0.01


def test_importing_changes_nothing_outside():
    script = (
        "import os, sys, logging, locale, signal, warnings\n"
        "import numpy as np\n"
        "def state(): return (dict(os.environ), os.getcwd(), logging.root.handlers[:], logging.root.level,"
        " warnings.filters[:], np.geterr(), np.random.get_state()[1].tolist(), signal.getsignal(signal.SIGINT))\n"
        "before = state(); import wav2small; assert state() == before\n"
        "import wav2small.audio.read, wav2small.tables.table, wav2small.cli; print(state() == before)"
    )
    assert fresh(script) == "True\n"


def test_every_public_name_is_there_and_no_other():
    for name in wav2small.__all__:
        assert getattr(wav2small, name).__name__.split(".")[-1] == name
    assert dir(wav2small) == sorted(wav2small.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        wav2small.nonsense  # noqa: B018


def test_predict_stays_the_function_whatever_is_imported():
    script = "import wav2small.runtime.predict, wav2small.cli.predict, wav2small; print(wav2small.predict.__module__)"
    assert fresh(script) == "wav2small.runtime.predict\n"
