"""Build hook: a wheel has the C runtime compiled for the platform that it is built on.

It is pure (py3-none-any, without compiled C) with WAV2SMALL_PURE=1, on Windows, and where no C compiler works.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledRuntime(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or sys.platform == "win32" or os.environ.get("WAV2SMALL_PURE") == "1":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from wav2small.errors import NativeError
        from wav2small.runtime import prebuilt

        self.folder = tempfile.TemporaryDirectory()  # finalize removes it
        platform = sysconfig.get_platform()
        try:
            libraries = prebuilt.build(Path(self.folder.name), platform)
        except NativeError as error:
            self.app.display_warning(f"The wheel has no compiled C: {error}")
            return
        for path in libraries:
            build_data["force_include"][str(path)] = f"wav2small/c/{prebuilt.FOLDER}/{path.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{re.sub('[-.]', '_', platform)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()
