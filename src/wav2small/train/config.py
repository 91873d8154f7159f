"""All settings of training with their defaults, which the command line also uses. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

CLS = "first+cls"
"""The state of a constant token before the first one."""
FIXED_POOLINGS = ("mean", "mean+std", "quantile", "max", "first", CLS, "last", "middle", "random")
"""Poolings over time without trained weights."""
ATTENTIVE = "attentive"
POOLINGS = (*FIXED_POOLINGS, ATTENTIVE)
"""All poolings. Attentive statistics have trained weights."""
TRAINED = ("none", "no-cnn", "full")
"""Trained parts of a body: none, all except the convolutions, all."""
ADAPTATIONS = ("tapt", "p-tapt")
"""Kinds of task-adaptive pretraining."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings for training a student on stored labels.

    Args:
        student: name of the student
        network: JSON of a network that is not a registered student; "" uses ``student``
        body: checkpoint that ``distilhubert`` starts from; "" for other students
        start: sha256 of the initial weights; "" starts from random weights
        steps: number of batches
        batch_size: clips of a batch
        learning_rate: largest learning rate
        weight_decay: weight decay of AdamW
        warm_up: steps of linear warm-up
        average: decay of the moving average of the weights
        dropout: dropout before the output layer
        max_dur: largest duration of a clip, in seconds
        bucket_dur: width of a length bucket, in seconds
        tilt: largest gain of the random equaliser over mel bands, in dB
        concordance: weight of 1 - CCC
        within: share of the loss within groups of one corpus (column ``corpus`` of the labels); 0 disables groups
        group_size: clips of a group
        squared_error: weight of the squared error of A/D/V
        embedding: weight of the loss of the predicted teacher embedding
        evaluate_every: steps between evaluations
        seed: random seed
        bf16: compute the network in bfloat16
        compiled: compile the network with torch.compile

    Examples:
        >>> from wav2small.train.config import TrainConfig
        >>> TrainConfig(student="micro", steps=800).batch_size
        32
    """

    student: str = "wav2small"
    network: str = ""
    body: str = ""
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
    """Settings for composing new clips from recorded ones.

    Args:
        durations: durations of clips, in seconds
        group_size: consecutive clips that share a corpus
        mixture: share of clips that are a mixture of two
        joined: share of clips that are a concatenation of two
        fastest: largest factor of speed change of a piece
        stretched: share of batches of which half is time-stretched
        stretch: largest factor of time-stretching
        modulated: share of clips with a slow random gain
        modulation: largest gain of the modulation, in dB
        clean: share of clips without distortion
        seed: random seed
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
    """Settings of ``augment``.

    Args:
        clips: number of clips
        plain: write clips without distortion, for the teacher
    """

    clips: int = 1000
    plain: bool = False


@dataclass(frozen=True)
class DistilConfig(Composition):
    """Settings for online distillation, on clips composed during training.

    Args:
        steps: number of batches
        batch_size: clips of a batch
        learning_rate: largest learning rate
        weight_decay: weight decay of AdamW
        warm_up: steps of linear warm-up
        average: decay of the moving average of the weights
        dropout: dropout before the output layer
        tilt: largest gain of the random equaliser over mel bands, in dB
        within: share of the loss within groups of one corpus; the rest is over the whole batch
        embedding: weight of the loss of the predicted teacher embedding
        decorrelation: weight of the correlation of the valence error with the teacher's arousal, within groups
        reuse: average number of times that a clip is used, if clips come from a ring buffer
        ring: capacity of the ring buffer, in clips
        evaluate_every: steps between evaluations; 0 is a tenth of all steps
        dev_clips: largest number of evaluated clips per corpus
        bf16: compute the networks in bfloat16
        compiled: compile the networks with torch.compile
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
    """The encoder of a teacher.

    Args:
        name: folder in the hub's format, or ``owner/name``; None is the encoder of Whisper base
        layers: number of layers to keep, from the first; None keeps all
        pooling: one of ``FIXED_POOLINGS``
        bf16: compute in bfloat16
    """

    name: str | None = None
    layers: int | None = None
    pooling: str = "mean+std"
    bf16: bool = False


@dataclass(frozen=True)
class FitConfig:
    """Settings for fitting heads. The defaults were selected with held-out speakers and held-out corpora (docs/log.md).

    Args:
        layers: hidden layers of Whisper base that the heads use
        hidden: units of the hidden layer
        dropout: dropout of the head
        folds: number of folds
        heads_a_fold: heads per fold
        copies: distorted copies of each clip
        silence_dur: largest silence at each end of a clip, in seconds
        epochs: passes over the data
        batch_size: clips of a batch
        group_size: clips of a group of one corpus
        within: share of the loss within groups
        learning_rate: largest learning rate
        weight_decay: weight decay of AdamW
        category_weight: weight of the cross-entropy of the category
        seed: random seed
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
    """Settings for fine-tuning a body together with its head.

    Args:
        trained: one of ``TRAINED``
        pooling: one of ``POOLINGS``
        steps: number of batches
        batch_size: clips of a batch
        learning_rate: largest learning rate of the body
        head_learning_rate: largest learning rate of the head
        layer_decay: factor of the learning rate for each layer further from the output
        warm_up: share of the steps with linear warm-up
        hidden: units of the head's hidden layer
        dropout: dropout of the head
        max_dur: largest duration of a clip, in seconds
        silence_dur: largest silence at each end of a clip, in seconds
        distorted: share of distorted clips
        category_weight: weight of the loss of the category
        focal: gamma of the focal loss of the category, in which all categories weigh the same; None is the
            cross-entropy, in which all clips do
        evaluate_every: steps between evaluations; None is a tenth of the steps, at most 300
        seed: random seed
        bf16: compute in bfloat16
        checkpointing: recompute activations in the backward pass, to save memory
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
    focal: float | None = None
    evaluate_every: int | None = None
    seed: int = 1
    bf16: bool = False
    checkpointing: bool = False


@dataclass(frozen=True)
class AdaptConfig:
    """Settings for task-adaptive pretraining of a body before fine-tuning.

    Args:
        kind: one of ``ADAPTATIONS``, or None for no pretraining
        steps: number of batches
        clusters: number of clusters of each task of P-TAPT
        learning_rate: largest learning rate
        warm_up: share of the steps with linear warm-up
    """

    kind: str | None = None
    steps: int = 10_000
    clusters: tuple[int, ...] = (64, 512, 4096)
    learning_rate: float = 1e-4
    warm_up: float = 0.1


@dataclass(frozen=True)
class DenseConfig:
    """Settings for fitting two dense layers on frozen features.

    Args:
        hidden: units of the hidden layer; 0 is one linear layer
        dropout: dropout before each layer
        epochs: passes over the data
        batch_size: clips of a batch
        learning_rate: learning rate of AdamW
        weight_decay: weight decay of AdamW
        ccc: weight of 1 - CCC of arousal, dominance and valence
        focal: gamma of the focal loss of the categories; 0 is the cross-entropy
        metric: weight of the continuous metric loss of the hidden layer
    """

    hidden: int = 256
    dropout: float = 0.3
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ccc: float = 1.0
    focal: float = 0.0
    metric: float = 0.0


@dataclass(frozen=True)
class NetworkConfig:
    """Settings for training a whole student on annotations.

    Args:
        epochs: passes over the data
        batch_size: clips of a batch
        learning_rate: largest learning rate of AdamW
        weight_decay: weight decay of AdamW
        dropout: dropout before the output layers
        max_dur: largest duration of a training clip, in seconds; a random part of a longer one is used in each epoch
        distorted: share of distorted clips
        ccc: weight of 1 - CCC of arousal, dominance and valence
        focal: gamma of the focal loss of the categories; 0 is the cross-entropy
    """

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    dropout: float = 0.2
    max_dur: float = 4.0
    distorted: float = 0.0
    ccc: float = 1.0
    focal: float = 0.0


@dataclass(frozen=True)
class VoicesConfig:
    """Settings for resynthesis in other voices.

    Args:
        variants: variants per clip
        seed: random seed
        pitch: largest change of log F0
        least_range: smallest factor of the range of log F0
        most_range: largest factor of the range of log F0
        formants: largest relative change of the formant frequencies
        tempo: largest relative change of the speaking rate
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
    """Settings for labelling.

    Args:
        embed: whether to store the teacher's embeddings
        batch_dur: duration of a padded batch, in seconds
        part_rows: rows that are written together
    """

    embed: bool = False
    batch_dur: float = 32.0
    part_rows: int = 256
