"""Every setting of training with its default. The command line takes its defaults from here, so this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

FIXED_POOLINGS = ("mean", "mean+std", "first", "max", "quantile")
"""Poolings over time without weights."""
ATTENTIVE = "attentive"
POOLINGS = (*FIXED_POOLINGS, ATTENTIVE)
"""All poolings; attentive statistics are trained."""
TRAINED = ("none", "no-cnn", "full")
"""Parts of a body that are trained: none, all but the convolutions, all."""
ADAPTATIONS = ("tapt", "p-tapt")
"""Kinds of pretraining on the task's own speech."""


@dataclass(frozen=True)
class TrainConfig:
    """How a student is trained.

    Durations are in seconds, ``warm_up`` and ``evaluate_every`` in steps, ``tilt`` in dB, and ``start`` is the sha256
    of the weights that training starts from. ``network`` is the JSON of a network that has no name among the students.
    With ``within`` above 0 a batch is made of groups of ``group_size`` clips of one corpus, by the labels' column
    ``corpus``, and this share of the loss is computed within groups.
    """

    student: str = "wav2small"
    network: str = ""
    start: str = ""
    steps: int = 4000
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: int = 200
    average: float = 0.998
    dropout: float = 0.2
    max_dur: float = 4.0
    bucket_dur: float = 0.5
    tilt: float = 4.0
    concordance: float = 1.0
    within: float = 0.0
    group_size: int = 16
    squared_error: float = 0.0
    embedding: float = 1.0
    evaluate_every: int = 400
    seed: int = 1
    bf16: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Composition:
    """How new clips are composed of old ones.

    Args:
        durations: of clips, in seconds
        group_size: clips side by side that share a corpus
        mixture, joined: shares of clips that are mixtures of two, or joined of two
        fastest: factor by which a piece is sped up or slowed down at most
        stretched: share of batches of which half is stretched, by up to ``stretch`` times
        modulated: share of clips with a slow random gain, of up to ``modulation`` dB
        clean: share of clips that are not distorted
        seed: of everything random
    """

    durations: tuple[float, ...] = (2.0, 3.0, 4.0)
    group_size: int = 32
    mixture: float = 0.35
    joined: float = 0.15
    fastest: float = 1.35
    stretched: float = 0.4
    stretch: float = 1.35
    modulated: float = 0.3
    modulation: float = 8.0
    clean: float = 0.25
    seed: int = 1


@dataclass(frozen=True)
class AugmentConfig(Composition):
    """Which clips ``augment`` writes: how many, and whether as the teacher gets them, without distortion."""

    clips: int = 1000
    plain: bool = False


@dataclass(frozen=True)
class DistilConfig(Composition):
    """How students are trained online, on clips composed for them.

    Args:
        steps: batches in all
        batch_size: clips of a batch
        learning_rate: the highest
        weight_decay: of AdamW
        warm_up: steps in which the learning rate rises
        average: share of the moving average that stays at each step
        dropout: share of the embedding that is zeroed before the last layer
        tilt: dB of the random equaliser over mel bands
        within: share of the loss that is computed within the groups of one corpus, the rest over the whole batch
        embedding: weight of the guess of the teacher's embedding
        decorrelation: weight of the correlation of the error of valence with the teacher's arousal, within groups
        reuse: times that a clip is learnt on average, where clips come out of a ring
        ring: clips that a ring holds at most
        evaluate_every: steps between evaluations; 0 is a tenth of all
        dev_clips: of each corpus that is scored at most
        bf16: networks in bfloat16
        compiled: networks fused by torch.compile
    """

    steps: int = 4000
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: int = 200
    average: float = 0.999
    dropout: float = 0.2
    tilt: float = 4.0
    within: float = 0.5
    embedding: float = 1.0
    decorrelation: float = 0.0
    reuse: float = 8.0
    ring: int = 32768
    evaluate_every: int = 0
    dev_clips: int = 300
    bf16: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class BodyConfig:
    """Which encoder a teacher is built on.

    Args:
        name: a folder in the hub's format, or ``owner/name``; None is the encoder of Whisper base
        layers: how many of its layers to keep, from the first; None keeps all
        pooling: one of ``FIXED_POOLINGS``
        bf16: compute in bfloat16
    """

    name: str | None = None
    layers: int | None = None
    pooling: str = "mean+std"
    bf16: bool = False


@dataclass(frozen=True)
class FitConfig:
    """How heads are fitted; chosen by leaving out speakers and whole open corpora (docs/log.md).

    ``layers`` are those of Whisper base that heads read. A batch is made of groups of ``group_size`` clips of one
    corpus, and ``within`` is the share of the loss that is computed within groups.
    """

    layers: tuple[int, ...] = (2, 3)
    hidden: int = 88
    dropout: float = 0.4
    folds: int = 5
    heads_a_fold: int = 1
    copies: int = 2
    silence_dur: float = 1.2
    epochs: float = 30.0
    batch_size: int = 128
    group_size: int = 32
    within: float = 0.5
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    category_weight: float = 0.3
    seed: int = 1


@dataclass(frozen=True)
class FinetuneConfig:
    """How a body is trained together with its head.

    Durations are in seconds. ``trained`` is one of ``TRAINED``, ``warm_up`` a share of the steps, ``distorted`` a share
    of the clips; ``evaluate_every`` None is a tenth of the steps, 300 at most.
    """

    trained: str = "no-cnn"
    pooling: str = "mean"
    steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 3e-5
    head_learning_rate: float = 1e-3
    layer_decay: float = 1.0
    warm_up: float = 0.1
    hidden: int = 256
    dropout: float = 0.2
    max_dur: float = 8.0
    silence_dur: float = 0.6
    distorted: float = 0.5
    category_weight: float = 0.3
    evaluate_every: int | None = None
    seed: int = 1
    bf16: bool = False
    checkpointing: bool = False


@dataclass(frozen=True)
class AdaptConfig:
    """How a body is pretrained on the task's own speech before it is fine-tuned.

    ``kind`` is one of ``ADAPTATIONS`` or None, ``clusters`` the number of clusters of each task of P-TAPT, and
    ``warm_up`` a share of the steps.
    """

    kind: str | None = None
    steps: int = 10_000
    clusters: tuple[int, ...] = (64, 512, 4096)
    learning_rate: float = 1e-4
    warm_up: float = 0.1


@dataclass(frozen=True)
class VoicesConfig:
    """In which voices clips are resynthesised.

    ``pitch`` is the largest change of log F0, ``formants`` and ``tempo`` the largest relative changes; the range of log
    F0 is multiplied by ``least_range`` to ``most_range``.
    """

    variants: int = 4
    seed: int = 1
    pitch: float = 0.45
    least_range: float = 0.5
    most_range: float = 1.7
    formants: float = 0.16
    tempo: float = 0.25


@dataclass(frozen=True)
class LabelConfig:
    """How audio is labelled: with embeddings or not, seconds of a padded batch, and rows that are written together."""

    embed: bool = False
    batch_dur: float = 32.0
    part_rows: int = 256
