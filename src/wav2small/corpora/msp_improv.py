"""MSP-IMPROV: twelve actors in six sessions of two improvise scenes that lead to fixed sentences.

Layout: session1 to session6 with .wav files, and Evalution.txt (so spelt; Evaluation.txt in some copies), where a line
``UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.6; V:3.0; D:2.4 ; N:3.2;`` is the consensus on a turn and the lines after it
are its raters. Names: sentence and intended emotion, speaker (gender and session), scenario, who to whom and turn.
Scale: arousal, valence, dominance and naturalness from 1 to 5: (x - 1) / 4; some dominance is NaN, and such a turn has
no A/D/V. Splits: by session.
Source: Busso et al. 2017, IEEE Transactions on Affective Computing 8(1):67.
"""

from __future__ import annotations

import re
from pathlib import Path

from wav2small.corpora import Corpus
from wav2small.corpora.folder import audio_by_stem, need_file, none_found, rated, segment
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
    """One segment a turn that has a consensus."""
    path = need_file(root, "Evalution.txt", "Evaluation.txt")
    audio = audio_by_stem(root)
    turns = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not TURN.match(line):
            continue
        where, found = f"{path}, line {number}", LINE.fullmatch(line.strip())
        if found is None or found["label"] not in LABELS:
            raise ManifestError(f"{where}: reads {line.strip()!r}. Needed: turn.avi; emotion; A:...; V:...; D:...;")
        columns = {
            "speaker": found["gender"] + found["session"],
            "session": found["session"],
            "gender": {"F": "female", "M": "male"}[found["gender"]],
            "label": LABELS[found["label"]],
            "intended": LABELS[found["intended"]],
            "scene": SCENES[found["scene"]],
        }
        usual = f"session{int(found['session'])}/MSP-{found['turn']}.wav"
        file = audio.get(f"MSP-{found['turn']}", usual)
        turns.append(segment(root, file, columns, rated(found.groupdict(), 1, 5, where)))
    if not turns:
        raise none_found(root, f"no line of {path.name} is of a turn, such as UTD-IMPROV-S01A-F01-P-FM01.avi")
    return turns


MSP_IMPROV = Corpus(
    title="MSP-IMPROV, English",
    annotation="A/D/V, 1 to 5; 4 emotions",
    splits="by session",
    licence="UT Dallas, on agreement",
    source="lab-msp.com",
    read=read,
)
