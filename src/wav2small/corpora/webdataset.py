"""WebDataset: tar shards, in which the files of an example share a name: KEY.wav with KEY.json, KEY.cls or KEY.txt.

The JSON contains the columns; .cls is the label and .txt the text. The audio is extracted. No extra is needed.
Source: github webdataset/webdataset.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from wav2small.audio.decode import SUFFIXES
from wav2small.corpora import Corpus
from wav2small.corpora.columns import write_audio
from wav2small.corpora.folder import not_this_corpus
from wav2small.errors import ManifestError
from wav2small.tables.manifest import read_manifest

TEXTS = {"cls": "label", "txt": "text"}


def unpack(root: Path, folder: Path) -> None:
    """Extract the audio of one shard, or of every shard in a folder, into ``folder``.

    Raises:
        ManifestError: if there are no shards, or one is damaged
    """
    shards = [root] if root.is_file() else sorted((*root.glob("**/*.tar"), *root.glob("**/*.tar.gz")))
    if not shards:
        raise not_this_corpus(root, "there is no .tar in it")
    write_audio((example for shard in shards for example in _examples(shard)), folder, root)


def _examples(shard: Path) -> Iterator[tuple[str, bytes, dict[str, object]]]:
    key: tuple[str, str] = ("", "")
    parts: dict[str, tuple[str, bytes]] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                name, file = member.name.removeprefix("./"), tar.extractfile(member)
                if file is None or Path(name).name.startswith("."):
                    continue
                before, _, stem = name.rpartition("/")
                stem, _, suffix = stem.partition(".")
                if (before, stem) != key:
                    yield from _example(parts, shard)
                    key, parts = (before, stem), {}
                parts[suffix.lower()] = (name, file.read())
            yield from _example(parts, shard)
    except (tarfile.TarError, EOFError) as error:
        raise ManifestError(f"{shard}: not a tar file, or truncated ({error}). Copy it again.") from None


def _example(parts: dict[str, tuple[str, bytes]], shard: Path) -> Iterator[tuple[str, bytes, dict[str, object]]]:
    sounds = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
    if not sounds:
        return
    columns: dict[str, object] = {}
    try:
        if "json" in parts:
            columns.update(json.loads(parts["json"][1]))
        columns |= {column: parts[suffix][1].decode().strip() for suffix, column in TEXTS.items() if suffix in parts}
    except (TypeError, ValueError):
        name = parts[sounds[0]][0]
        raise ManifestError(f"{shard}: the JSON or text of {name} is not valid or not UTF-8. Pack it again.") from None
    yield (*parts[sounds[0]], columns)


WEBDATASET = Corpus(
    title="WebDataset shards",
    annotation="JSON beside each file; A/D/V, 0 to 1",
    splits="its own, or by speaker",
    licence="its owner's",
    source="yours",
    read=read_manifest,
    unpack=unpack,
)
