"""Every benchmark and recipe in Python can be imported: what it uses of the package is there."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("benchmarks/*.py", "recipes/*.py", "c/*.py", "c/firmware/*.py")
SCRIPTS = sorted(path for place in PLACES for path in ROOT.glob(place))
OPTIONAL = (
    "executorch",
    "litert_torch",
    "matplotlib",
    "opensmile",
    "timm",
    "onnx",
    "torch",
    "transformers",
    "sklearn",
    "ray",
)
OPTIONAL += ("fastapi", "uvloop", "websockets", "yaml")
"""Packages of extras, or of none: a script that needs one is not imported without it."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_script_can_be_imported(script, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    try:
        runpy.run_path(str(script), run_name="imported")
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
