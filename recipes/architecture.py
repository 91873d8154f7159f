"""Write the packages and modules into docs/architecture.md, from the first sentence of each module.

python recipes/architecture.py
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "wav2small"
DOCUMENT = ROOT / "docs" / "architecture.md"
PACKAGES = ("", "network", "audio", "tables", "runtime", "corpora", "agents", "train", "evaluation", "export")
PACKAGES += ("serve", "cli")
"""From the lowest to the highest; "" holds the modules beside ``__init__``."""
ALIKE = ("corpora", "cli")
"""Packages whose modules are one a corpus, or one a command: they need no list."""
BEGIN, END = "<!-- packages: python recipes/architecture.py -->", "<!-- end of packages -->"


def sentence(path: Path) -> str:
    """The first sentence of a module's docstring, on one line, as Markdown."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    first = re.split(r"(?<=[.])\s", text)[0]
    return first.replace("``", "`")


def modules(folder: Path) -> list[str]:
    """A line for each module of a package, folders last."""
    lines = [f"| `{path.stem}` | {sentence(path)} |" for path in sorted(folder.glob("*.py")) if path.stem[:2] != "__"]
    inner = [path for path in sorted(folder.glob("*/__init__.py")) if folder != PACKAGE]
    return lines + [f"| `{path.parent.name}/` | {sentence(path)} |" for path in inner]


def packages() -> str:
    """A section for each package, from the highest to the lowest."""
    parts = []
    for name in reversed(PACKAGES):
        folder = PACKAGE / name
        about = sentence(folder / "__init__.py") if name else "Modules that every package may import."
        parts.append(f"### {f'`{name}/`' if name else 'Beside them'}\n{about}")
        if name not in ALIKE:
            parts.append("\n".join(["| | |", "|---|---|", *modules(folder)]))
    return "\n\n".join(parts)


def document(text: str) -> str:
    """The page with its packages as they are now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{packages()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
