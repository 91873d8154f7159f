"""RAVDESS: 24 actors speak two sentences in eight emotions, at normal and strong intensity.

Names: modality (03 is audio), channel (01 is speech; 02, song, is skipped), emotion, intensity, statement, repetition,
actor; actors with an even number are women.
Source: Livingstone and Russo 2018, PLOS ONE 13(5) e0196391.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"03-01-(?P<label>\d\d)-(?P<intensity>\d\d)-(?P<text>\d\d)-(?P<repetition>\d\d)-(?P<speaker>\d(?P<gender>\d))",
    codes={
        "label": {
            "01": "neutral",
            "02": "calm",
            "03": "happiness",
            "04": "sadness",
            "05": "anger",
            "06": "fear",
            "07": "disgust",
            "08": "surprise",
        },
        "intensity": {"01": "normal", "02": "strong"},
        "text": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
        "gender": {digit: "female" if int(digit) % 2 == 0 else "male" for digit in "0123456789"},
    },
    example="Actor_12/03-01-05-01-02-01-12.wav",
)

RAVDESS = Corpus(
    title="Ryerson audio-visual database of emotional speech, English",
    annotation="8 acted emotions, 2 intensities",
    splits="by speaker",
    licence="CC BY-NC-SA 4.0",
    source="zenodo 1188976",
    read=NAMES.read,
)
