"""The page with a student in the browser: where its files are, and their types."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
TYPES = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}
TYPES |= {".flac": "audio/flac"}
"""Types that a browser wants, whatever the machine's own table says."""

EXAMPLE = "example.flac"
"""Name of the example clip for the page, which has a button for it where there is one."""
EXAMPLES = (PACKAGE / "web" / EXAMPLE, PACKAGE.parents[1] / "examples" / "10b10Wa.flac")
"""The clip in the package, and in a checkout."""


def clip() -> Path:
    """The example clip, whether or not it is there."""
    return next((clip for clip in EXAMPLES if clip.is_file()), EXAMPLES[0])


def folder() -> Path:
    """Folder of the page: inside the package, or beside it in a checkout."""
    return next(path for path in (PACKAGE / "web", PACKAGE.parents[1] / "web") if (path / "index.html").is_file())
