"""What the forge reads: workflows, forms for issues, the citation, and the hints of how to install what is missing."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wav2small
from wav2small.errors import missing_packages

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

ROOT = Path(__file__).parents[2]
PACKAGE = Path(wav2small.__file__).parent
BIN = Path(sys.executable).parent
SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "vendor.github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "vendor.citation-file-format": "CITATION.cff",
}


def tool(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment."""
    program = BIN / name
    if not program.is_file():
        pytest.skip("needs the extra dev")
    return subprocess.run([program, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_file_of_the_forge_fits_its_schema(schema):
    files = sorted(ROOT.glob(SCHEMAS[schema]))
    assert files
    done = tool("check-jsonschema", "--builtin-schema", schema, *files)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_zizmor_finds_nothing_in_the_workflows():
    done = tool("zizmor", "--offline", "--quiet", "--no-progress", ".github/workflows")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_pinned_to_a_commit():
    uses = [
        line.split("uses:")[1]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert uses and all(re.fullmatch(r" [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in uses), uses


def project() -> dict:
    if tomllib is None:
        pytest.skip("needs tomllib, which came with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_citation_and_the_workflows_have_the_versions_of_the_package():
    metadata = project()["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {metadata['version']}\n" in citation
    pythons = [line.split(" :: ")[-1] for line in metadata["classifiers"] if "Python :: 3." in line]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert f"python: {json.dumps(pythons)}\n" in workflow


def test_the_version_is_that_of_the_metadata_and_of_the_command():
    version = project()["project"]["version"]
    assert wav2small.__version__ == version
    done = subprocess.run([sys.executable, "-m", "wav2small", "--version"], capture_output=True, text=True)
    assert done.stdout == f"wav2small, version {version}\n"


def hints() -> list[tuple[str, str]]:
    """File and text of every ``install`` that is given to ``missing_packages``, or to what passes it on."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "wav2small[" in node.value:
                found.append((path.relative_to(PACKAGE).as_posix(), node.value))
    return found


def test_every_hint_names_an_extra_that_exists():
    extras = project()["project"]["optional-dependencies"].keys()
    named = {name for _, text in hints() for name in re.findall(r"wav2small\[([\w,-]+)\]", text)}
    assert len(named) > 8 and named <= extras, named - extras


def test_only_one_function_says_how_to_install():
    files = {path.name for path in PACKAGE.rglob("*.py") if "pip install {" in path.read_text(encoding="utf-8")}
    files |= {name for name, text in hints() if "pip install" in text and "\n" not in text}
    assert files == {"errors.py"}


def test_a_hint_is_a_command_that_a_shell_takes():
    error = missing_packages("a voice", ["a", "b"], "wav2small[voices]")
    assert str(error) == "a voice needs a and b, not installed: pip install 'wav2small[voices]'"
    assert str(missing_packages("x", ["onnx"], "onnx")).endswith(": pip install onnx")


@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
@pytest.mark.slow
def test_the_browser_package_holds_what_it_needs_and_nothing_else():
    done = subprocess.run(
        ["npm", "pack", "--dry-run", "--json"], cwd=ROOT / "web", capture_output=True, text=True, check=True
    )
    (archive,) = json.loads(done.stdout)
    package = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))
    assert {file["path"] for file in archive["files"]} == {*package["files"], "README.md", "LICENSE", "package.json"}
    assert {"name", "version", "description", "keywords", "license", "author", "exports", "types"} <= package.keys()
    assert (ROOT / "web" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
