"""EmoGator: vocal bursts without words, three per emotion for 30 emotions and 357 speakers, labelled by the speaker.

Names: speaker, number of the emotion in alphabetical order, take.
Source: Buhl 2023, EmoGator: a new open source vocal burst dataset, arXiv:2301.00508.
"""

from __future__ import annotations

from wav2small.corpora import Corpus
from wav2small.corpora.acted import Names

EMOTIONS = (
    ("Adoration", "Amusement", "Anger", "Awe", "Confusion", "Contempt", "Contentment", "Desire", "Disappointment")
    + ("Disgust", "Distress", "Ecstasy", "Elation", "Embarrassment", "Fear", "Guilt", "Interest", "Neutral", "Pain")
    + ("Pride", "Realization", "Relief", "Romantic Love", "Sadness", "Serenity", "Shame", "Surprise (Negative)")
    + ("Surprise (Positive)", "Sympathy", "Triumph")
)

NAMES = Names(
    pattern=r"(?P<speaker>\d{6})-(?P<label>\d\d)-(?P<take>\d)",
    codes={"label": {f"{number:02}": emotion for number, emotion in enumerate(EMOTIONS, 1)}},
    example="data/mp3/000123-07-2.mp3",
)

EMOGATOR = Corpus(
    title="EmoGator vocal bursts, English speakers",
    annotation="30 emotions, by the speaker",
    splits="by speaker",
    licence="Apache-2.0",
    source="fredbuhl/EmoGator",
    read=NAMES.read,
)
