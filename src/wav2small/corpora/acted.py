"""Acted corpora with labels in their file names: each has a regular expression and tables of codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wav2small.corpora.folder import audio_files, not_this_corpus, segment
from wav2small.tables.manifest import Segment


@dataclass(frozen=True)
class Names:
    """The naming scheme of a corpus's files.

    Args:
        pattern: regular expression of the end of a path without suffix; each named group is a column
        codes: for a column, the meaning of each code; a file with another code is not annotated
        example: example of a file name, for error messages

    Examples:
        >>> from wav2small.corpora.acted import Names
        >>> codes = {"label": {"F": "happiness", "W": "anger"}}
        >>> names = Names(r"(?P<speaker>\\d\\d)[ab]\\d\\d(?P<label>[A-Z])[a-c]", codes, "08a05Fe.flac")
        >>> names.columns("examples/08a05Fa.flac")
        {'speaker': '08', 'label': 'happiness'}
    """

    pattern: str
    codes: Mapping[str, Mapping[str, str]]
    example: str

    def read(self, root: Path) -> list[Segment]:
        """One segment for each file that matches the pattern.

        Raises:
            ManifestError: if no file matches
        """
        files = audio_files(root)
        matching = [(file, columns) for file in files if (columns := self.columns(file)) is not None]
        if not matching:
            seen = f"none of {len(files):,} are, {files[0]} is the first" if files else "there are no audio files"
            raise not_this_corpus(root, f"files should be named like {self.example}; {seen}")
        return [segment(root, file, columns) for file, columns in matching]

    def columns(self, file: str) -> dict[str, str] | None:
        """The columns of a path, or None if it does not match."""
        match = re.search(rf"(?:^|/){self.pattern}$", re.sub(r"\.[^./]*$", "", file))
        if match is None:
            return None
        columns = {name: value for name, value in match.groupdict().items() if value is not None}
        if any(columns[name] not in codes for name, codes in self.codes.items() if name in columns):
            return None
        return {name: self.codes.get(name, {value: value})[value] for name, value in columns.items()}
