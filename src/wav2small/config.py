"""Every number that two programs share: sampling rate, output order, front end, student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SAMPLING_RATE = 16000
"""Hz; the rate of every signal inside the package."""


class Emotion(NamedTuple):
    """One answer: arousal, dominance and valence, nominally 0 to 1."""

    arousal: float
    dominance: float
    valence: float


OUTPUTS = Emotion._fields
"""Order of the outputs, everywhere."""


@dataclass(frozen=True)
class Frontend:
    """The paper's log-mel front end: 33 DFT bins every 32 samples, 26 Slaney mel bands in dB.

    Source: arXiv:2408.13920; ``fmin`` and ``fmax`` in Hz, ``amin`` and ``variance_floor`` in power.
    """

    sampling_rate: int = SAMPLING_RATE
    n_fft: int = 64
    hop_length: int = 32
    n_mels: int = 26
    fmin: float = 0.0
    fmax: float = 8000.0
    amin: float = 1e-10
    variance_floor: float = 1e-7

    @property
    def n_bins(self) -> int:
        """Bins of the real DFT, 0 Hz and half the sampling rate included."""
        return self.n_fft // 2 + 1

    def num_frames(self, samples: int) -> int:
        """Frames of a signal: whole windows only, no padding."""
        return max(0, (samples - self.n_fft) // self.hop_length + 1)


@dataclass(frozen=True)
class Student:
    """Wav2Small: seven 3x3 convolutions with ``channels`` channels, one max-pool after ``early`` of them.

    ``normalisation`` names what is done to the signal first; ``utterance`` is the paper's.
    """

    name: str = "wav2small"
    frontend: Frontend = Frontend()
    normalisation: str = "utterance"
    channels: int = 13
    early: int = 3
    late: int = 4
    batch_norm_eps: float = 1e-5

    @property
    def embedding_size(self) -> int:
        """Length of a token, and of the pooled embedding: channels x mels after the max-pool."""
        return self.channels * ((self.frontend.n_mels + 1) // 2)


FRONTEND = Frontend()
STUDENT = Student()
