"""The packers of the ESP component registry and of PlatformIO accept the folder; Kconfiglib reads its options."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PIO = """
# PlatformIO fetches the list of SPDX licences; here it comes from the package packaging.
from packaging.licenses import _spdx
from platformio.__main__ import main
from platformio.package.manifest.schema import ManifestSchema
licences = [{"licenseId": row["id"]} for row in _spdx.LICENSES.values()]
ManifestSchema.load_spdx_licenses = staticmethod(lambda: {"licenses": licences})
raise SystemExit(main())
"""


def run(*command: str | Path) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def content(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {name.removeprefix("./") for name in tar.getnames() if tar.getmember(name).isfile()}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(not find_spec("idf_component_manager"), reason="needs idf-component-manager: make devices")
def test_the_packer_of_the_esp_component_registry_accepts_it(folder, tmp_path):
    command = ["-c", "from idf_component_manager.cli import safe_cli; safe_cli()", "component", "pack"]
    options = ["--project-dir", folder, "--name", folder.name, "--dest-dir", tmp_path]
    run(*command, *options)
    (archive,) = tmp_path.glob("*.tgz")
    assert archive.name == f"{folder.name}_0.1.0.tgz"
    assert content(archive) >= files(folder)


@pytest.mark.skipif(not find_spec("platformio"), reason="needs platformio: make devices")
def test_platformio_packs_it(folder, tmp_path):
    archive = tmp_path / "library.tar.gz"
    run("-c", PIO, "pkg", "pack", folder, "-o", archive)
    assert content(archive) >= files(folder)


@pytest.mark.skipif(not find_spec("kconfiglib"), reason="needs kconfiglib: make devices")
@pytest.mark.parametrize("name", ["Kconfig", "zephyr/Kconfig"])
def test_its_options_are_those_of_kconfig(folder, name):
    import kconfiglib

    options = kconfiglib.Kconfig(str(folder / name), warn=True, warn_to_stderr=False)
    if "WAV2SMALL" in options.syms:
        options.syms["WAV2SMALL"].set_value("y")
    assert options.syms["WAV2SMALL_PARTS"].str_value == "3" and not options.warnings
