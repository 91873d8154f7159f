"""Every number that two programs share: sampling rate, output order, front end, student."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    A window of ``win_length`` samples is padded with zeros to ``n_fft``. ``fmin`` and ``fmax`` are in Hz, ``amin`` and
    ``variance_floor`` in power. Source: arXiv:2408.13920.
    """

    sampling_rate: int = SAMPLING_RATE
    n_fft: int = 64
    win_length: int = 64
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

    def frames_in(self, dur: float) -> int:
        """Hops in so many seconds."""
        return round(dur * self.sampling_rate / self.hop_length)

    def num_frames(self, samples: int) -> int:
        """Frames of a signal: whole windows only, no padding."""
        return max(0, (samples - self.win_length) // self.hop_length + 1)


@dataclass(frozen=True)
class Student:
    """Wav2Small: seven 3x3 convolutions with ``channels`` channels, one max-pool after ``early`` of them.

    ``normalisation`` names what is done about the level: ``utterance``, the paper's, needs the whole signal;
    ``running`` divides by the mean power of the last ``level_dur`` seconds. ``pooling`` over time is of whole
    ``tokens``, or of channels alone, with a ``gram`` matrix of the channels beside the pooled map. With ``integers``
    everything from the samples on is whole numbers (docs/integers.md).
    """

    name: str = "wav2small"
    frontend: Frontend = Frontend()
    normalisation: str = "utterance"
    level_dur: float = 3.0
    pooling: str = "tokens"
    channels: int = 13
    early: int = 3
    late: int = 4
    batch_norm_eps: float = 1e-5
    integers: bool = False

    @property
    def token_size(self) -> int:
        """Length of a token: channels x mels after the max-pool."""
        return self.channels * ((self.frontend.n_mels + 1) // 2)

    @property
    def embedding_size(self) -> int:
        """Length of what the outputs are read from: the pooled token, and the Gram matrix if there is one."""
        return self.token_size + (self.channels**2 if self.pooling == "gram" else 0)

    @property
    def level_frames(self) -> int:
        """Frames whose mean power is the running level."""
        return self.frontend.frames_in(self.level_dur)


@dataclass(frozen=True)
class Micro:
    """The student for the smallest devices: causal, frame by frame, depthwise-separable convolutions over 10 ms.

    ``stride`` is that of the first convolution; then there is a residual block for each of ``dilations``. With
    ``integers`` the weights and everything after the log-mel are whole numbers (docs/integers.md).
    """

    name: str = "micro"
    frontend: Frontend = Frontend(
        n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=60.0, fmax=7800.0, variance_floor=2e-5
    )
    normalisation: str = "running"
    level_dur: float = 3.0
    channels: int = 64
    kernel: int = 5
    stride: int = 2
    dilations: tuple[int, ...] = (1, 1, 2, 2, 4)
    pooled: int = 128
    batch_norm_eps: float = 1e-5
    integers: bool = False

    @property
    def embedding_size(self) -> int:
        """Length of what the outputs are read from."""
        return self.pooled

    @property
    def level_frames(self) -> int:
        """Frames whose mean power is the running level."""
        return self.frontend.frames_in(self.level_dur)


FRONTEND = Frontend()
STUDENT = Student()
MICRO = Micro()
STUDENTS: dict[str, Student | Micro] = {
    student.name: student
    for student in (
        STUDENT,
        Student("wav2small-running", normalisation="running"),
        Student("wav2small-17k", pooling="gram"),
        MICRO,
        Micro("micro-int8", integers=True),
    )
}
"""The students that have a reference in NumPy, by name."""

ROUNDED: dict[str, Student] = {
    f"{student.name}-int8": replace(student, name=f"{student.name}-int8", integers=True)
    for student in STUDENTS.values()
    if isinstance(student, Student) and student.pooling == "tokens"
}
"""Integer forms that are rounded from a student, and not trained; they have a reference too."""
