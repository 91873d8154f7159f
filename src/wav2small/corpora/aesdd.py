"""AESDD, the acted emotional speech dynamic database: actors speak 19 fixed sentences and one free one in 5 emotions.

Names: one folder per emotion; first letter of the emotion, utterance, speaker in brackets; a letter b marks a retake.
Source: Vryzas et al. 2018, Journal of the Audio Engineering Society 66(6).
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"(?P<label>[a-z])(?P<text>\d\d) ?\((?P<speaker>\d+)\)[a-z]?",
    codes={"label": {"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "s": "sadness"}},
    example="anger/a01 (1).wav",
)

AESDD = Corpus(
    title="Acted emotional speech dynamic database, Greek",
    annotation="5 acted emotions",
    splits="by speaker",
    licence="ask the owner",
    source="m3c.web.auth.gr",
    read=NAMES.read,
)
