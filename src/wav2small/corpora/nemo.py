"""nEMO: nine actors speak 90 Polish sentences in six emotions.

Layout: samples/*.wav, and data.tsv with file_id, emotion, raw_text, speaker_id, gender, age.
Source: Christop 2024, nEMO: dataset of emotional speech in Polish, arXiv:2404.06292.
"""

from __future__ import annotations

import csv
from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, need_file, segment
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

COLUMNS = {"raw_text": "text", "speaker_id": "speaker", "gender": "gender", "age": "age"}


def read(root: Path) -> list[Segment]:
    """One segment per row of data.tsv.

    Raises:
        ManifestError: if data.tsv is missing or not valid
    """
    table = need_file(root, "data.tsv")
    audio = audio_by_stem(root)
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    missing = {"file_id", "emotion", *COLUMNS} - set(rows[0] if rows else ())
    if missing:
        raise ManifestError(f"{table}: has no column {', '.join(sorted(missing))}, or no rows. Copy it again.")
    segments = []
    for row in rows:
        stem = Path(row["file_id"]).stem
        label = {"surprised": "surprise"}.get(row["emotion"], row["emotion"])
        columns = {name: row[column] for column, name in COLUMNS.items()}
        segments.append(segment(root, audio.get(stem, f"samples/{stem}.wav"), {**columns, "label": label}))
    return segments


NEMO = Corpus(
    title="nEMO, Polish",
    annotation="6 acted emotions",
    splits="by speaker",
    licence="CC BY-NC-SA 4.0",
    source="amu-cai/nEMO, arXiv:2404.06292",
    read=read,
)
