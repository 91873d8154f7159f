"""Acted corpora, whose labels are in the names of their files: a regular expression and a table of codes each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wav2small.corpora.folder import audio_files, none_found, segment
from wav2small.tables.manifest import Segment


@dataclass(frozen=True)
class Names:
    """How a corpus names its files.

    Args:
        pattern: regular expression of the end of a path without its suffix; each named group is a column
        codes: of a column: what a code stands for; a file with another code is not annotated
        example: a name, shown when no file of a folder is named so
    """

    pattern: str
    codes: Mapping[str, Mapping[str, str]]
    example: str

    def read(self, root: Path) -> list[Segment]:
        """One segment for every file that is named so.

        Raises:
            ManifestError: if no file is
        """
        files = audio_files(root)
        found = [(file, columns) for file in files if (columns := self.columns(file)) is not None]
        if not found:
            seen = f"none of {len(files):,} is, {files[0]} is the first" if files else "there is no audio at all"
            raise none_found(root, f"files should be named as {self.example} is; {seen}")
        return [segment(root, file, columns) for file, columns in found]

    def columns(self, file: str) -> dict[str, str] | None:
        """The columns that a path says, or None if it is not named so."""
        match = re.search(rf"(?:^|/){self.pattern}$", re.sub(r"\.[^./]*$", "", file))
        if match is None:
            return None
        columns = {name: value for name, value in match.groupdict().items() if value is not None}
        if any(columns[name] not in codes for name, codes in self.codes.items() if name in columns):
            return None
        return {name: self.codes.get(name, {value: value})[value] for name, value in columns.items()}
