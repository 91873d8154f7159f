"""Valence of words over time, combined with the valence of the voice.

Valence is carried more by words than by the voice. Any source of words will do: a lexicon, a sentiment classifier or a
language model on a transcript with times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wav2small.errors import ManifestError
from wav2small.tables.manifest import Segment
from wav2small.tables.spans import names_of, table_span
from wav2small.tables.table import read_table


class TimedValence(NamedTuple):
    """Valence of the words from ``start`` to ``end`` in seconds, 0 to 1; ``file`` is "" where it is not named.

    Examples:
        >>> from wav2small.tables.fuse import TimedValence
        >>> TimedValence(0.5, 2.0, valence=0.8).file
        ''
    """

    start: float
    end: float
    valence: float
    file: str = ""


def read_valences(path: str | Path) -> list[TimedValence]:
    """Read a table of timed valences.

    Args:
        path: CSV, TSV, JSON or Parquet file with ``start``, ``end`` (seconds) and ``valence`` (0 to 1), and ``file`` if
            it is about several

    Raises:
        ManifestError: if a column is missing, or a value is not valid

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.fuse import read_valences
        >>> _ = Path("words.csv").write_text("start,end,valence\\n0.5,2.0,0.8\\n")
        >>> read_valences("words.csv")
        [TimedValence(start=0.5, end=2.0, valence=0.8, file='')]
    """
    rows = read_table(path)
    return [_timed(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]


def _timed(row: Mapping[str, str], where: str) -> TimedValence:
    span = table_span(row, where)
    text = row.get("valence", "")
    try:
        valence = float(text)
    except ValueError:
        valence = -1.0
    if not 0 <= valence <= 1:
        raise ManifestError(f"{where}: valence is {text!r}. Needed: 0 to 1; rescale -1 to 1 by (x + 1) / 2.")
    return TimedValence(span.start, span.end, valence, span.file)


def fuse(rows: Sequence[Segment], words: Sequence[TimedValence], weight: float) -> list[dict[str, object]]:
    """Combine the valence of windows with that of the words spoken in them.

    In the share s of a window in which there are words, valence is the weighted mean of both, and elsewhere that of the
    voice: ``(1 - weight s) acoustic + weight s text``. ``text`` is the mean over the words by their time in the window.

    Args:
        rows: predictions of windows; those without an answer stay without
        words: timed valences; a recording is matched by its path, the end of it, or its stem
        weight: of the words, 0 to 1

    Returns:
        a row per window: ``file``, ``start``, ``end``, A/D/V, ``acoustic_valence``, ``text_valence`` (None without
        words) and ``text_share``

    Raises:
        ManifestError: if a row has no end, the words name no file and there are several, or none of the files

    Examples:
        >>> from pathlib import Path
        >>> from wav2small.tables.fuse import TimedValence, fuse
        >>> from wav2small.tables.manifest import Segment
        >>> window = Segment("a.wav", Path("a.wav"), 0.0, 4.0, emotion=wav2small.Emotion(0.5, 0.5, 0.4))
        >>> (row,) = fuse([window], [TimedValence(3.0, 5.0, valence=0.8)], weight=0.5)
        >>> row["text_share"], round(row["valence"], 2)
        (0.25, 0.45)
    """
    if unended := [row.file for row in rows if row.end is None]:
        raise ManifestError(f"a row of {unended[0]} has no end. Give rows of predict, with start and end in seconds.")
    files = dict.fromkeys(row.file for row in rows)
    spoken = {file: np.array([one[:3] for one in words if one.file in ("", *names_of(file))]) for file in files}
    if len(files) > 1 and any(not one.file for one in words):
        raise ManifestError(f"the predictions are of {len(files)} files, and some words name none. Add a column file.")
    if not any(len(found) for found in spoken.values()):
        named = ", ".join(sorted({one.file for one in words})[:3]) or "no file"
        raise ManifestError(f"there are words of {named}, and predictions of {', '.join([*files][:3])}. Give the same.")
    return [_fused(row, spoken[row.file], weight) for row in rows]


def _fused(row: Segment, words: np.ndarray, weight: float) -> dict[str, object]:
    """``words``: start, end and valence, shape=(words, 3), or empty."""
    assert row.end is not None
    start, end, valence = words.T if len(words) else np.zeros((3, 0))
    overlap = np.clip(np.minimum(end, row.end) - np.maximum(start, row.start), 0, None)
    share = min(1.0, float(overlap.sum()) / (row.end - row.start))
    text = float(overlap @ valence / overlap.sum()) if share else None
    arousal, dominance, acoustic = row.emotion or (None, None, None)
    fused = acoustic if acoustic is None or text is None else acoustic + weight * share * (text - acoustic)
    return {
        "file": row.file,
        "start": row.start,
        "end": row.end,
        "arousal": arousal,
        "dominance": dominance,
        "valence": fused,
        "acoustic_valence": acoustic,
        "text_valence": text,
        "text_share": share,
    }
