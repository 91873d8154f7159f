"""The README's table of accuracy is the one that the evaluation's files give."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_in_the_readme_is_current():
    table = runpy.run_path(str(ROOT / "recipes" / "table.py"))["table"](ROOT / "recipes" / "open")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
