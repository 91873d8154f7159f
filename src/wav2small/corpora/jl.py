"""The JL corpus: 2 women and 2 men from New Zealand speak 15 sentences in five primary and five secondary emotions.

Names: gender and number of the speaker, emotion, sentence with a letter, take.
Source: James, Tian and Watson 2018, An open source emotional speech corpus for human robot interaction, Interspeech.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

PRIMARY = {"angry": "anger", "excited": "excitement", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
SECONDARY = ("anxious", "apologetic", "assertive", "concerned", "encouraging")

NAMES = Names(
    pattern=r"(?P<speaker>(?P<gender>female|male)\d)_(?P<label>[a-z]+)_(?P<text>\d+[ab])_(?P<take>\d)",
    codes={"label": PRIMARY | {name: name for name in SECONDARY}},
    example="female1_angry_10a_1.wav",
)

JL = Corpus(
    title="JL corpus, New Zealand English",
    annotation="5 + 5 acted emotions",
    splits="by speaker",
    licence="CC0 1.0",
    source="kaggle tli725/jl-corpus",
    read=NAMES.read,
)
