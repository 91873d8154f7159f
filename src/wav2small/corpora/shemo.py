"""ShEMO, the Sharif emotional speech database: radio plays by 87 speakers, labelled by the majority of 12 raters.

Names: gender and number of the speaker, emotion, number of the utterance.
Source: Mohamad Nezami et al. 2019, Language Resources and Evaluation 53:1.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

NAMES = Names(
    pattern=r"(?P<speaker>(?P<gender>[FM])\d\d)(?P<label>[A-Z])\d\d",
    codes={
        "label": {
            "A": "anger",
            "F": "fear",
            "H": "happiness",
            "N": "neutral",
            "S": "sadness",
            "W": "surprise",
        },
        "gender": {"F": "female", "M": "male"},
    },
    example="female/F03S02.wav",
)

SHEMO = Corpus(
    title="Sharif emotional speech database, Persian",
    annotation="6 emotions, majority of 12",
    splits="by speaker",
    licence="academic use",
    source="pariajm/sharif-emotional-speech-dataset",
    read=NAMES.read,
)
