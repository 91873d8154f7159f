"""The packages under integrations/ pass their own tests where their framework is installed: make integrations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"livekit": "livekit.agents", "pipecat": "pipecat", "wyoming": "wyoming"}
"""Folder -> module of its framework."""

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")


def test_every_folder_is_one_of_them():
    assert {path.parent.name for path in ROOT.glob("integrations/*/pyproject.toml")} == set(PACKAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_passes_its_tests(name):
    pytest.importorskip(PACKAGES[name], reason="needs its framework: make integrations")
    folder = ROOT / "integrations" / name
    sources = [str(ROOT / "src"), str(folder / "src"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", "--show-capture=no", "tests"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": os.pathsep.join(sources)}, capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_complete(name):
    folder = ROOT / "integrations" / name
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    version = re.escape(project["version"])
    assert re.search(rf"^## {version}", (folder / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    tested = re.search(r"^Tested with (.+)\.$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    assert tested and tested[0] in (folder / "CHANGELOG.md").read_text("utf-8").replace("\n  ", " ")
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / project["readme"]).is_file() and (folder / "example.py").is_file()
    assert any(text.startswith("wav2small>=") for text in project["dependencies"])
