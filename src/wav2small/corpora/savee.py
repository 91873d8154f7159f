"""SAVEE, the Surrey audio-visual expressed emotion database: four men speak 15 sentences in each of seven emotions.

Names: one folder per speaker (or the speaker and an underscore), first letters of the emotion, sentence.
Source: Haq and Jackson 2010, in Machine Audition, IGI Global; AudioData/Info.txt of the corpus.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"(?P<speaker>DC|JE|JK|KL)[/_](?P<label>[a-z]{1,2})(?P<text>\d\d)",
    codes={
        "label": {
            "a": "anger",
            "d": "disgust",
            "f": "fear",
            "h": "happiness",
            "n": "neutral",
            "sa": "sadness",
            "su": "surprise",
        }
    },
    example="AudioData/DC/sa03.wav",
)

SAVEE = Corpus(
    title="Surrey audio-visual expressed emotion, English",
    annotation="7 acted emotions",
    splits="by speaker",
    licence="research, on registration",
    source="kahlan.eps.surrey.ac.uk/savee",
    read=NAMES.read,
)
