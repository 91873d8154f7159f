"""MSP-IMPROV: twelve actors in six sessions of two improvise scenes that contain fixed sentences.

Layout: session1 to session6 with .wav files, and Evalution.txt (sic; Evaluation.txt in some copies). A line
``UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.6; V:3.0; D:2.4 ; N:3.2;`` is the consensus on a turn; the following lines are
its raters. Names: sentence and intended emotion, speaker (gender and session), scenario, direction and turn.
Scale: arousal, valence, dominance and naturalness from 1 to 5: (x - 1) / 4. A turn whose dominance is NaN has no A/D/V.
Splits: by session.
Source: Busso et al. 2017, IEEE Transactions on Affective Computing 8(1):67.
"""

from __future__ import annotations

import re
from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, need_file, not_this_corpus, rated, segment
from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment

TURN = re.compile(
    r"(?:UTD|MSP)-(?P<turn>IMPROV-S\d\d(?P<intended>[AHNS])-(?P<gender>[FM])(?P<session>\d\d)-(?P<scene>[PRST])-\w+)"
)
RATING = r"\s*{}:\s*(?P<{}>[^;\s]+)\s*;"
LINE = re.compile(
    TURN.pattern
    + r"\.avi\s*;\s*(?P<label>\w)\s*;"
    + "".join(RATING.format(*pair) for pair in (("A", "arousal"), ("V", "valence"), ("D", "dominance")))
    + ".*"
)
LABELS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "O": "other", "X": ""}
SCENES = {"P": "natural", "R": "read", "S": "target improvised", "T": "other improvised"}


def read(root: Path) -> list[Segment]:
    """One segment per turn with a consensus.

    Raises:
        ManifestError: if the folder does not contain the corpus, or a line cannot be parsed
    """
    path = need_file(root, "Evalution.txt", "Evaluation.txt")
    audio = audio_by_stem(root)
    turns = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not TURN.match(line):
            continue
        where, match = f"{path}, line {number}", LINE.fullmatch(line.strip())
        if match is None or match["label"] not in LABELS:
            raise ManifestError(f"{where}: reads {line.strip()!r}. Needed: turn.avi; emotion; A:...; V:...; D:...;")
        columns = {
            "speaker": match["gender"] + match["session"],
            "session": match["session"],
            "gender": {"F": "female", "M": "male"}[match["gender"]],
            "label": LABELS[match["label"]],
            "intended": LABELS[match["intended"]],
            "scene": SCENES[match["scene"]],
        }
        usual = f"session{int(match['session'])}/MSP-{match['turn']}.wav"
        file = audio.get(f"MSP-{match['turn']}", usual)
        turns.append(segment(root, file, columns, rated(match.groupdict(), 1, 5, where)))
    if not turns:
        raise not_this_corpus(root, f"no line of {path.name} names a turn, such as UTD-IMPROV-S01A-F01-P-FM01.avi")
    return turns


MSP_IMPROV = Corpus(
    title="MSP-IMPROV, English",
    annotation="A/D/V, 1 to 5; 4 emotions",
    splits="by session",
    licence="UT Dallas, on agreement",
    source="lab-msp.com",
    read=read,
)
