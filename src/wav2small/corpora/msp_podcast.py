"""MSP-Podcast: podcasts cut into turns, each rated by five or more people; releases 1.0 to 2.0.

Layout: Audios/*.wav (Audio in some releases), and Labels/labels_consensus.csv or .json (labels_concensus.csv in early
releases) with FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender and Split_Set. Releases without Split_Set or
SpkrID have Partitions.txt and Speaker_ids.txt, with lines of file and value.
Scale: self-assessment manikins from 1 to 7, calm to active, weak to strong, negative to positive: (x - 1) / 6.
Splits: the owner's: train, dev, test1, test2 and test3 (labels withheld). The name of an unknown speaker is empty.
Source: Lotfian and Busso 2019, IEEE Transactions on Affective Computing 10(4):471; Busso et al. 2025.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, find_file, need_file, rated, segment
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment
from wav2small.tables.table import read_table

TABLES = ("labels_consensus.csv", "labels_consensus.json", "labels_concensus.csv", "labels_concensus.json")
RATINGS = {"arousal": "EmoAct", "dominance": "EmoDom", "valence": "EmoVal"}
SPLIT_COLUMNS = ("Split_Set", "Partition", "Partition_Score")
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "dev",
    "development": "dev",
    "dev": "dev",
    "test1": "test1",
    "test2": "test2",
    "test3": "test3",
}
LABELS = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": "",
}


def read(root: Path) -> list[Segment]:
    """One segment per row of the consensus.

    Raises:
        ManifestError: if the table is missing or not valid
    """
    table = need_file(root, *TABLES)
    rows = _rows(table)
    audio = audio_by_stem(root)
    splits = {} if _split_column(rows) else _pairs(root, "Partitions.txt", "Partition.txt")
    speakers = {} if "SpkrID" in rows[0] else _pairs(root, "Speaker_ids.txt")
    segments = []
    for number, row in enumerate(rows, 1):
        where, stem = f"{table}, row {number}", Path(row["FileName"]).stem
        columns = {
            "speaker": _speaker(row.get("SpkrID") or speakers.get(stem, "")),
            "split": _split(row.get(_split_column(rows) or "", "") or splits.get(stem, ""), where),
            "label": _label(row.get("EmoClass", ""), where),
            "gender": row.get("Gender", "").lower().replace("unknown", ""),
        }
        ratings = {dimension: row[column] for dimension, column in RATINGS.items()}
        file = audio.get(stem, f"Audios/{stem}.wav")
        segments.append(segment(root, file, columns, rated(ratings, 1, 7, where)))
    return segments


def _rows(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV or JSON table. In JSON, the key of each row is FileName."""
    if table.suffix == ".json":
        try:
            content = json.loads(table.read_text(encoding="utf-8"))
            rows = [{"FileName": name, **{k: str(v) for k, v in row.items()}} for name, row in content.items()]
        except (AttributeError, ValueError):
            raise ManifestError(f"{table}: not a JSON object of file and row. Copy it again.") from None
    else:
        rows = read_table(table)
    missing = [column for column in ("FileName", *RATINGS.values()) if not rows or column not in rows[0]]
    if missing:
        present = ", ".join(rows[0]) if rows else "no rows"
        raise ManifestError(f"{table}: has no column {', '.join(missing)}, only {present}. Copy it again.")
    return rows


def _split_column(rows: list[dict[str, str]]) -> str | None:
    return next((column for column in SPLIT_COLUMNS if column in rows[0]), None)


def _pairs(root: Path, *names: str) -> Mapping[str, str]:
    """File without suffix -> value, from lines such as ``Test1; MSP-PODCAST_0001_0008.wav``."""
    path = find_file(root, *names)
    pairs = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path else []:
        cells = [cell.strip() for cell in line.split(";")]
        if len(cells) == 2:
            file, value = cells if cells[0].lower().endswith(".wav") else reversed(cells)
            pairs[Path(file).stem] = value
    return pairs


def _speaker(text: str) -> str:
    return "" if text.lower() in ("unknown", "") else text.removeprefix("Speaker_")


def _split(text: str, where: str) -> str:
    name = re.sub(r"[^a-z0-9]", "", text.lower())
    if name and name not in SPLITS:
        raise ManifestError(f"{where}: the split is {text!r}. Known: Train, Validation, Development, Test1 to Test3.")
    return SPLITS.get(name, "")


def _label(text: str, where: str) -> str:
    if text and text not in LABELS:
        raise ManifestError(f"{where}: EmoClass is {text!r}. Known: {', '.join(LABELS)}.")
    return LABELS.get(text, "")


MSP_PODCAST = Corpus(
    title="MSP-Podcast, English",
    annotation="A/D/V, 1 to 7; 8 emotions",
    splits="official",
    licence="UT Dallas, on agreement",
    source="lab-msp.com",
    read=read,
)
