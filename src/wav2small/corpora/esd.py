"""ESD, the emotional speech database for voice conversion: 20 speakers speak 350 sentences in five emotions.

Names: one folder per speaker and per emotion; speakers 1 to 10 speak Mandarin, the others English. The owner's
partition (evaluation, test, train) is by sentence and shares all speakers. It is the column partition; the split is by
speaker.
Source: Zhou et al. 2022, Emotional voice conversion: theory, databases and ESD, Speech Communication 137.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"(?P<speaker>(?P<language>\d{4}))/(?P<label>[A-Z][a-z]+)/(?:(?P<partition>evaluation|test|train)/)?\d{4}_\d{6}",
    codes={
        "label": {
            "Angry": "anger",
            "Happy": "happiness",
            "Neutral": "neutral",
            "Sad": "sadness",
            "Surprise": "surprise",
        },
        "language": {f"{number:04}": "zh" if number <= 10 else "en" for number in range(1, 21)},
    },
    example="0011/Angry/train/0011_000381.wav",
)

ESD = Corpus(
    title="Emotional speech database, Mandarin and English",
    annotation="5 acted emotions",
    splits="by speaker",
    licence="research, on agreement",
    source="HLTSingapore/Emotional-Speech-Data",
    read=NAMES.read,
)
