"""EmoDB, the Berlin database of emotional speech: ten actors speak ten sentences in seven emotions.

Names: speaker, sentence, first letter of the emotion in German, version.
Source: Burkhardt et al. 2005, A database of German emotional speech, Interspeech.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"(?P<speaker>(?P<gender>\d\d))(?P<text>[ab]\d\d)(?P<label>[A-Z])(?P<version>[a-z]?)",
    codes={
        "label": {
            "W": "anger",
            "L": "boredom",
            "E": "disgust",
            "A": "fear",
            "F": "happiness",
            "T": "sadness",
            "N": "neutral",
        },
        "gender": dict.fromkeys(("03", "10", "11", "12", "15"), "male")
        | dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
    },
    example="wav/03a01Fa.wav",
)

EMODB = Corpus(
    title="Berlin database of emotional speech, German",
    annotation="7 acted emotions",
    splits="by speaker",
    licence="CC0 1.0, as audEERING distributes it",
    source="emodb.bilderbar.info; audeering/emodb",
    read=NAMES.read,
)
