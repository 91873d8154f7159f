"""IEMOCAP: ten actors in five sessions of two speak scripted and improvised scenes, cut into turns.

Layout: Session1 to Session5, each with dialog/EmoEvaluation/*.txt, whose lines ``[6.29 - 8.24] Ses01F_impro01_F000 neu
[2.5, 2.5, 2.5]`` contain start and end, turn, emotion, and **valence, arousal, dominance in this order**; and the turns
in sentences/wav/DIALOGUE/TURN.wav. The letter before the number of the turn is the speaker.
Scale: self-assessment manikins from 1 to 5, means of two raters or more: (x - 1) / 4. Some turns are outside the scale
by half a point and are clipped.
Splits: by session; ``--fold session`` is the protocol of most papers.
Source: Busso et al. 2008, Language Resources and Evaluation 42:335.
"""

from __future__ import annotations

import re
from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, not_this_corpus, rated, segment
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

AUDIO = "sentences/wav/"
SLACK = 0.5
LINE = re.compile(
    r"\[[\d.]+ - [\d.]+\]\s+(?P<turn>(?P<dialogue>Ses(?P<session>\d\d)\w+)_(?P<gender>[FM])\w?\d+)\s+(?P<label>\w+)\s+"
    r"\[(?P<valence>[^,\]]+), *(?P<arousal>[^,\]]+), *(?P<dominance>[^,\]]+)\]\s*"
)
LABELS = {
    "ang": "anger",
    "dis": "disgust",
    "exc": "excitement",
    "fea": "fear",
    "fru": "frustration",
    "hap": "happiness",
    "neu": "neutral",
    "oth": "other",
    "sad": "sadness",
    "sur": "surprise",
    "xxx": "",
}


def read(root: Path) -> list[Segment]:
    """One segment per turn.

    Raises:
        ManifestError: if the folder does not contain the corpus, or a line cannot be parsed
    """
    evaluations = sorted(path for path in root.glob("**/dialog/EmoEvaluation/*.txt") if not path.name.startswith("."))
    if not evaluations:
        raise not_this_corpus(root, "there is no Session1/dialog/EmoEvaluation/*.txt")
    audio = audio_by_stem(root, AUDIO)
    return [turn for path in evaluations for turn in _turns(root, path, audio)]


def _turns(root: Path, path: Path, audio: dict[str, str]) -> list[Segment]:
    turns = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not re.match(r"\[\d", line):
            continue
        where, match = f"{path}, line {number}", LINE.fullmatch(line)
        if match is None or match["label"] not in LABELS:
            raise ManifestError(f"{where}: reads {line.strip()!r}. Needed: [start - end] turn emotion [v, a, d].")
        session = path.parents[2].relative_to(root).as_posix()
        usual = f"{session}/{AUDIO}{match['dialogue']}/{match['turn']}.wav"
        columns = {
            "speaker": f"Ses{match['session']}{match['gender']}",
            "session": match["session"],
            "gender": {"F": "female", "M": "male"}[match["gender"]],
            "label": LABELS[match["label"]],
            "scene": "improvised" if "impro" in match["dialogue"] else "scripted",
        }
        turns.append(
            segment(root, audio.get(match["turn"], usual), columns, rated(match.groupdict(), 1, 5, where, SLACK))
        )
    return turns


IEMOCAP = Corpus(
    title="Interactive emotional dyadic motion capture, English",
    annotation="A/D/V, 1 to 5; 10 emotions",
    splits="by session",
    licence="USC, on agreement, research",
    source="sail.usc.edu/iemocap",
    read=read,
    audio=AUDIO,
)
