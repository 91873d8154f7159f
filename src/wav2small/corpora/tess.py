"""TESS, the Toronto emotional speech set: two actresses speak 200 words in seven emotions.

Names: actress (OAF is the older, YAF the younger), word, emotion; one file of the older actress starts with OA_. With
two speakers there is no test split: one speaker is dev, the other train.
Source: Pichora-Fuller and Dupuis 2020, Scholars Portal Dataverse, doi 10.5683/SP2/E8H2MF.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"(?P<speaker>OAF?|YAF)_(?P<text>[a-z]+)_(?P<label>[a-z]+)",
    codes={
        "label": {
            "angry": "anger",
            "disgust": "disgust",
            "fear": "fear",
            "happy": "happiness",
            "neutral": "neutral",
            "ps": "surprise",
            "sad": "sadness",
        },
        "speaker": {"OA": "OAF", "OAF": "OAF", "YAF": "YAF"},
    },
    example="OAF_angry/OAF_back_angry.wav",
)

TESS = Corpus(
    title="Toronto emotional speech set, English",
    annotation="7 acted emotions",
    splits="by speaker",
    licence="CC BY-NC-ND 4.0",
    source="doi 10.5683/SP2/E8H2MF",
    read=NAMES.read,
)
