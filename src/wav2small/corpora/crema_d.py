"""CREMA-D: 91 actors speak 12 sentences in six emotions; about ten people rated each clip from the audio only.

Names: actor, sentence, emotion, intensity. Votes: processedResults/tabulatedVotes.csv, with row numbers from 100000 for
audio only, 200000 for video only and 300000 for both; otherwise finishedResponses.csv, where queryType is 1, 2 and 3.
The label is the acted emotion. The columns heard_anger ... heard_sadness are the shares of the audio-only votes. The
column extra contains recognised_pct, the percentage for the acted emotion, which ``fit`` uses as weight of a clip.
Source: Cao et al. 2014, IEEE Transactions on Affective Computing 5(4):377; docs/README.md of the corpus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names
from wav2small.corpora.folder import find_file
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment
from wav2small.tables.table import read_table

EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
AUDIO = "AudioWAV/"

NAMES = Names(
    pattern=AUDIO + r"(?P<speaker>\d{4})_(?P<text>[A-Z]{3})_(?P<label>[A-Z]{3})_(?P<intensity>[A-Z]{1,2})",
    codes={
        "label": {
            "ANG": "anger",
            "DIS": "disgust",
            "FEA": "fear",
            "HAP": "happiness",
            "NEU": "neutral",
            "SAD": "sadness",
        },
        "intensity": {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"},
    },
    example="AudioWAV/1001_IEO_ANG_HI.wav",
)


def read(root: Path) -> list[Segment]:
    """One segment per clip, with its audio-only votes if there are any.

    Raises:
        ManifestError: if no file has a name of this corpus, or the table of votes is not valid
    """
    votes = _votes(root)
    return [_voted(segment, votes.get(segment.path.stem)) for segment in NAMES.read(root)]


def _voted(segment: Segment, votes: Counter[str] | None) -> Segment:
    if not votes:
        return segment
    shares = {emotion: votes[code] / votes.total() for code, emotion in EMOTIONS.items()}
    columns = {f"heard_{emotion}": f"{share:.4f}" for emotion, share in shares.items()}
    recognised = f"recognised_pct={100 * shares[segment.label]:.2f}"
    return replace(segment, fields={**segment.fields, **columns, "extra": recognised})


def _votes(root: Path) -> dict[str, Counter[str]]:
    """Name of a clip -> audio-only votes by emotion."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    if tabulated := find_file(root, "tabulatedVotes.csv"):
        for row in _rows(tabulated, "", "fileName", *EMOTIONS):
            if row[""].startswith("1"):
                votes[row["fileName"]].update({code: _count(row[code], tabulated) for code in EMOTIONS})
    elif responses := find_file(root, "finishedResponses.csv"):
        for row in _rows(responses, "queryType", "clipName", "respEmo"):
            if row["queryType"] == "1" and row["respEmo"] in EMOTIONS:
                votes[Path(row["clipName"]).stem][row["respEmo"]] += 1
    return votes


def _rows(path: Path, *columns: str) -> list[dict[str, str]]:
    rows = read_table(path)
    missing = [column or "(the row number, without a name)" for column in columns if not rows or column not in rows[0]]
    if missing:
        raise ManifestError(f"{path}: has no column {', '.join(missing)}. Copy the corpus's own file again.")
    return rows


def _count(text: str, path: Path) -> int:
    if not text.isdecimal():
        raise ManifestError(f"{path}: a count of votes is {text!r}. Needed: an integer.")
    return int(text)


CREMA_D = Corpus(
    title="Crowd-sourced emotional multimodal actors dataset, English",
    annotation="6 acted emotions; votes by voice",
    splits="by speaker",
    licence="ODbL 1.0, DbCL 1.0",
    source="CheyneyComputerScience/CREMA-D",
    read=read,
    audio=AUDIO,
)
