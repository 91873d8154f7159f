"""Pages of the site that are not in docs/: changelog, contributing guide, commands, and source files that are linked.

A link of a page to a file outside docs/, such as ``../src/wav2small/metrics.py``, works in the repository as it is. On
the site it leads to a page with the text of that file. mkdocs.yml names this file as a hook.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ADDED = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages of the site -> files at the root."""
COMMANDS = "<!-- commands -->"
"""Stands in docs/reference/cli.md where the commands are written."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|[#/])([^)#\s]+)")
"""A link's target, without its anchor; no address and no anchor of its own page."""
LANGUAGES = {".py": "python", ".sh": "bash", ".c": "c", ".h": "c", ".js": "javascript", ".ts": "typescript"}
LANGUAGES |= {".css": "css", ".html": "html", ".json": "json", ".jsonl": "json", ".yml": "yaml"}
TEXTS = {*LANGUAGES, ".csv", ".md", ".properties", ".txt", ""}
"""Suffixes of the files that get a page."""
LONGEST = 200_000
"""Bytes; of a longer file the page says so."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that mkdocs.yml or a link names."""
    from mkdocs.structure.files import File

    texts = {page: (ROOT / source).read_text("utf-8") for page, source in ADDED.items()}
    texts |= {file.src_uri: file.content_string for file in files.documentation_pages()}
    pages = {page: texts[page] for page in ADDED}
    for page, text in texts.items():
        for target in targets(page, text):
            pages |= source_pages(target)
    for page, text in sorted(pages.items()):
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into links to their pages, and write the commands into theirs."""
    return rewritten(page.file.src_uri, markdown.replace(COMMANDS, cli_reference.page()))


def home(page: str) -> Path:
    """The folder in the repository that links of a page are relative to."""
    return (ROOT / ADDED[page] if page in ADDED else DOCS / page).parent


def targets(page: str, text: str) -> Iterator[Path]:
    """Files and folders outside docs/ that a page links to."""
    for link in LINK.findall(text):
        path = Path(os.path.normpath(home(page) / link))
        if path.exists() and DOCS not in path.parents and ROOT in path.parents and path.name not in ADDED.values():
            yield path


def rewritten(page: str, text: str) -> str:
    """The text of a page with links to pages of the site."""

    def replace(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(home(page) / match[1]))
        if page.startswith("source/") or ROOT not in path.parents or not path.exists():
            return match[1]
        return os.path.relpath(site_page(path), Path(page).parent)

    return LINK.sub(replace, text)


def site_page(path: Path) -> str:
    """The page of the site for a file or a folder of the repository."""
    if DOCS in path.parents:
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    added = {source: page for page, source in ADDED.items()}
    return added.get(name, f"source/{name}/index.md" if path.is_dir() else f"source/{name}.md")


def source_pages(path: Path) -> dict[str, str]:
    """The page of a file, or those of a folder and the files in it."""
    if path.is_file():
        return {site_page(path): source_text(path)}
    files = [file for file in sorted(path.iterdir()) if file.is_file() and file.suffix in TEXTS and file.name[0] != "."]
    lines = [f"- [`{file.name}`]({file.name}.md)" for file in files]
    index = f"{front_matter(path)}\n" + "\n".join(lines) + "\n"
    return {site_page(path): index} | {site_page(file): source_text(file) for file in files}


def source_text(path: Path) -> str:
    """A page with the text of a file."""
    if path.stat().st_size > LONGEST:
        return f"{front_matter(path)}\nThis file has {path.stat().st_size:,} bytes; it is in the repository.\n"
    code = path.read_text(encoding="utf-8")
    return f"{front_matter(path)}\n``````{LANGUAGES.get(path.suffix, 'text')}\n{code}\n``````\n"


def front_matter(path: Path) -> str:
    """The head of a source page: its title, and that the search leaves it out."""
    name = path.relative_to(ROOT).as_posix()
    return f"---\ntitle: {path.name}\nsearch:\n  exclude: true\n---\n# `{name}`\n"
