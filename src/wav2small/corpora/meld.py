"""MELD: dialogues of the series Friends, cut into utterances; emotion and sentiment by the majority of three raters.

Layout: train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv; videos in train_splits, dev_splits_complete and
output_repeated_splits_test, such as dia0_utt0.mp4. MP4 is not supported; extract the audio next to each video:
``for f in */*.mp4; do ffmpeg -i "$f" -ac 1 -ar 16000 "${f%.mp4}.wav"; done``.
Splits: the owner's, which share the six main characters; ``corpus`` reports this, and ``train`` rejects it.
Source: Poria et al. 2019, ACL, arXiv:1810.02508.
"""

from __future__ import annotations

from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, need_file, segment
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment
from wav2small.tables.table import read_table

FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
LABELS = {"joy": "happiness"} | {name: name for name in ("anger", "disgust", "fear", "neutral", "sadness", "surprise")}


def read(root: Path) -> list[Segment]:
    """One segment per utterance of the three tables.

    Raises:
        ManifestError: if a table is missing or not valid, or a folder contains only video
    """
    segments = []
    for split, folder in FOLDERS.items():
        table = need_file(root, f"{split}_sent_emo.csv")
        audio = audio_by_stem(root, f"{folder}/")
        if not audio and any(root.glob(f"**/{folder}/*.mp4")):
            raise ManifestError(
                f"{root}: {folder} contains only video. Extract the audio next to it: "
                'for f in */*.mp4; do ffmpeg -i "$f" -ac 1 -ar 16000 "${f%.mp4}.wav"; done'
            )
        segments += [_segment(root, row, split, folder, audio, table) for row in read_table(table)]
    return segments


def _segment(root: Path, row: dict[str, str], split: str, folder: str, audio: dict[str, str], table: Path) -> Segment:
    missing = [column for column in COLUMNS if column not in row]
    if missing:
        raise ManifestError(f"{table}: has no column {', '.join(missing)}. Copy the corpus's own file again.")
    if row["Emotion"] not in LABELS:
        raise ManifestError(f"{table}: an Emotion is {row['Emotion']!r}. Known: {', '.join(LABELS)}.")
    stem = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
    columns = {
        "speaker": row["Speaker"],
        "split": split,
        "label": LABELS[row["Emotion"]],
        "sentiment": row["Sentiment"],
        "text": row["Utterance"],
    }
    return segment(root, audio.get(stem, f"{folder}/{stem}.wav"), columns)


MELD = Corpus(
    title="Multimodal EmotionLines, English",
    annotation="7 emotions, majority of 3",
    splits="official, speakers shared",
    licence="GPL-3.0 (annotation); the series is not theirs",
    source="declare-lab/MELD",
    read=read,
)
