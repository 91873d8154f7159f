"""A folder of audio, or an existing manifest (CSV, JSON lines or Parquet with a column ``file``)."""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.tables.manifest import read_manifest

PLAIN = Corpus(
    title="a folder of audio, or a CSV, JSON lines or Parquet table",
    annotation="its own columns; A/D/V, 0 to 1",
    splits="its own, or by speaker",
    licence="its owner's",
    source="yours",
    read=read_manifest,
)
