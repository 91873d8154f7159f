"""Options of predictions: one frozen record, whose defaults are those of the Python API and of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from wav2small.errors import AudioError

DEFAULT_MODEL = "micro"
HOP_DUR = 0.5
MIN_HOP_DUR = 0.01
MIN_WIN_DUR = 0.1
VADS = ("silero", "energy")
"""Speech detectors: the Silero VAD, or the signal level."""


@dataclass(frozen=True)
class Options:
    """Windows, channel, and how much speech and confidence an answer needs.

    Args:
        hop_dur: seconds from the start of a window to the start of the next; None for one answer for a whole file
        win_dur: seconds of a window
        channel: index of the channel, from 0; None for the mean of all channels
        min_speech: seconds of speech that an answer needs; a window below 3 s, or a file below 10 s, needs less in
            proportion
        vad: speech detector, one of ``VADS``
        min_confidence: a dimension with less confidence is None; needs a model with a calibration

    Raises:
        AudioError: if a hop or a window is too short, or a hop longer than a window

    Examples:
        >>> wav2small.Options(hop_dur=1.0).win_dur
        3.0
        >>> wav2small.Options(hop_dur=4.0, win_dur=3.0)
        Traceback (most recent call last):
        wav2small.errors.AudioError: a window of 3 s every 4 s would skip the audio between them; ...
    """

    hop_dur: float | None = HOP_DUR
    win_dur: float = 3.0
    channel: int | None = None
    min_speech: float = 1.0
    vad: str = "silero"
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.hop_dur is not None:
            check_times(self.hop_dur, self.win_dur)


def check_times(hop_dur: float, win_dur: float) -> None:
    """Check that windows are long enough and leave no gap.

    Raises:
        AudioError: naming both
    """
    if not (hop_dur >= MIN_HOP_DUR and MIN_WIN_DUR <= win_dur < float("inf")):
        raise AudioError(
            f"a window of {win_dur:g} s every {hop_dur:g} s; allowed: {MIN_WIN_DUR} s or more, "
            f"every {MIN_HOP_DUR} s or more"
        )
    if hop_dur > win_dur:
        raise AudioError(
            f"a window of {win_dur:g} s every {hop_dur:g} s would skip the audio between them; "
            f"give a window of {hop_dur:g} s or more"
        )


def default_window(hop_dur: float | None) -> float:
    """Seconds of a window where only the hop is given: 3, or the hop if that is longer."""
    return max(Options.win_dur, hop_dur or 0.0)
