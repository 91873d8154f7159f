"""Task-adaptive pretraining of a body before fine-tuning: TAPT, and its pseudo-label variant P-TAPT.

Source: Chen and Rudnicky 2023, arXiv:2110.06309, and their code. TAPT continues the contrastive task of wav2vec2, with
masks of ten tokens that cover .65 of the time, as in wav2vec 2.0. P-TAPT predicts, at masked tokens, the cluster of the
token's state in a body that was fine-tuned for emotion.

P-TAPT here is as published in: masks of 15 tokens that cover .06 of the time, at least two a clip; for each number of
clusters, a projection to 256, tanh and one linear layer on the rectified state; the sum of their cross-entropies at
masked tokens; and convolutions and their projection frozen. Differences: the published clusters (64, 512 and 4,096) are
of the states of a small wav2vec, ours of the same body after fine-tuning, assigned while training. Whisper was not
pretrained with masks: there, a masked token is a vector that begins at random and is trained, plus its position.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from wav2small.errors import WeightsError, missing_packages
from wav2small.files import whole_file
from wav2small.train import Progress, make_folder
from wav2small.train.annotated import Annotated, divided
from wav2small.train.config import AdaptConfig, FinetuneConfig
from wav2small.train.finetune import Batch, Steps, read_ahead
from wav2small.train.loop import Loop, Plan, Task, evaluate_every, warm_up_steps
from wav2small.train.teachers.bodies import Body, last_states
from wav2small.train.teachers.hub import find_folder, load_strictly, read_arrays, read_json
from wav2small.train.teachers.speech import is_real
from wav2small.train.teachers.whisper import WhisperBody

SPAN, MASKED = 10, 0.65
"""Tokens of a mask of TAPT, and the share of the tokens that masks cover."""
CLUSTER_SPAN, CLUSTER_MASKED, CLUSTER_LEAST = 15, 0.06, 2
"""The same of P-TAPT, and the smallest number of masks of a clip."""
PROJECTION = 256
"""Width of the projection before the clusters."""
FROZEN = re.compile(r"(feature_extractor|feature_projection|masked_spec_embed|conv\d)\b")
"""Weights of a body that P-TAPT does not train."""
FRAMES = 100_000
"""Largest number of tokens that the clusters are computed from."""


def spans(
    real: np.ndarray, rng: np.random.Generator, span: int = SPAN, share: float = MASKED, least: int = 1
) -> np.ndarray:
    """Random masks of tokens.

    Args:
        real: mask of the tokens that are not padding, shape=(batch, tokens)
        rng: random generator
        span: tokens of a mask, which is shorter in clips of less than twice as many
        share: share of the real tokens that masks cover, if they do not overlap
        least: smallest number of masks of a clip

    Returns:
        bool, shape=(batch, tokens)
    """
    out = np.zeros_like(real)
    for row, count in zip(out, real.sum(1), strict=True):
        length = int(min(span, max(1, count // 2)))
        many = max(least, int(share * count / length + rng.random()))
        for start in rng.choice(count - length + 1, min(many, count - length + 1), replace=False):
            row[start : start + length] = True
    return out


def negatives(masked: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Negatives of each masked token: indices of other masked tokens of the clip in the flattened batch.

    Returns:
        int64, shape=(batch, tokens, count)
    """
    out = np.zeros((*masked.shape, count), np.int64)
    for clip, row in enumerate(masked):
        places = np.flatnonzero(row)
        for place in places:
            others = places[places != place] if len(places) > 1 else places
            out[clip, place] = clip * len(row) + rng.choice(others, count)
    return out


class Adaptation(Task[Batch]):
    """Pretraining of a body on the training speakers.

    Args:
        body: prepares the signals and sets the device
        net: network, trained in place
        corpora: annotated corpora
        config: settings of the batches
        adapt: settings of the pretraining
        workers: number of processes that prefetch audio
    """

    def __init__(
        self,
        body: Body,
        net: nn.Module,
        corpora: Sequence[Annotated],
        config: FinetuneConfig,
        adapt: AdaptConfig,
        workers: int,
    ) -> None:
        self.body, self.net, self.config, self.adapt, self.workers = body, net.to(body.device), config, adapt, workers
        self.steps = Steps(divided(corpora)[0], config)

    def groups(self) -> list[dict[str, Any]]:
        """One parameter group with all trained weights."""
        trained = [weight for weight in self.net.parameters() if weight.requires_grad]
        return [{"params": trained, "lr": self.adapt.learning_rate}]

    def batches(self, first: int) -> Iterable[Batch]:
        """Batches from step ``first`` on, prefetched by the workers."""
        return read_ahead(self.steps, first, self.adapt.steps, self.workers)

    def run(self, folder: Path, about: str, progress: Progress) -> None:
        """Train to the last step, resuming from the checkpoint in ``folder`` if there is one.

        Args:
            folder: folder of the checkpoint and the log
            about: description of the trained network, which a checkpoint must match
            progress: called with (steps done, steps)
        """
        config, steps = self.config, self.adapt.steps
        plan = Plan(steps, warm_up_steps(self.adapt.warm_up, steps), evaluate_every(steps), config.seed)
        settings = {"body": about, "steps": steps, "seed": config.seed, "batch_size": config.batch_size}
        Loop(folder, self, plan, settings).run(progress)

    def draw(self, step: int) -> np.random.Generator:
        """Random generator of a step, independent of that of its batch."""
        return np.random.default_rng([self.config.seed, step, 1])


class Tapt(Adaptation):
    """The contrastive task of wav2vec2."""

    net: Wav2Vec2ForPreTraining

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Contrastive loss and diversity loss of wav2vec2 for each masked token, a scalar."""
        rng, device, net = self.draw(step), self.body.device, self.net
        sound, lengths = self.body.prepare(batch[0])
        masked = spans(is_real(lengths, net.config, sound.shape[1]).numpy(), rng)
        others = negatives(masked, net.config.num_negatives, rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
            answer = net(
                sound.to(device),
                attention_mask=attention_mask(sound, lengths).to(device),
                mask_time_indices=torch.from_numpy(masked).to(device),
                sampled_negative_indices=torch.from_numpy(others).to(device),
            )
        loss: Tensor = answer.loss / int(masked.sum())
        return loss


class PseudoLabels(Adaptation):
    """P-TAPT: at masked tokens, predict the cluster of the token's state in a fine-tuned body.

    Args:
        tuned: the fine-tuned body
        centres: cluster centres of each task, shape=(clusters, width)
        body: pretrained body, trained in place
        corpora: annotated corpora
        config: settings of the batches
        adapt: settings of the pretraining
        workers: number of processes that prefetch audio
    """

    def __init__(
        self,
        tuned: Body,
        centres: Sequence[Tensor],
        body: Body,
        corpora: Sequence[Annotated],
        config: FinetuneConfig,
        adapt: AdaptConfig,
        workers: int,
    ) -> None:
        self.tuned, self.centres = tuned, centres
        torch.manual_seed(config.seed)
        self.guesses = nn.ModuleList(
            nn.Sequential(nn.Linear(body.width, PROJECTION), nn.Tanh(), nn.Linear(PROJECTION, len(centre)))
            for centre in centres
        )
        self.embedding = nn.ParameterList([0.02 * torch.randn(body.width)] if isinstance(body, WhisperBody) else [])
        for name, weight in body.encoder.named_parameters():
            weight.requires_grad_(not FROZEN.match(name) and weight.requires_grad)
        net = nn.ModuleDict({"encoder": body.encoder, "guesses": self.guesses, "embedding": self.embedding})
        super().__init__(body, net, corpora, config, adapt, workers)

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Cross-entropy of the clusters at masked tokens, the sum over the tasks, a scalar."""
        device = self.body.device
        targets = torch.cat(last_states(self.tuned, batch[0]))
        sound, lengths = self.body.prepare(batch[0])
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
            states, real, masked = self._masked(sound, lengths, self.draw(step))
            target = targets[masked[real]]
            losses = [
                functional.cross_entropy(guess(states[masked].relu()).float(), torch.cdist(target, centre).argmin(1))
                for guess, centre in zip(self.guesses, self.centres, strict=True)
            ]
        return torch.stack(losses).sum()

    def _masked(self, sound: Tensor, lengths: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Last states with masks, (batch, tokens, width), the mask of real tokens, and the masks, (batch, tokens)."""
        body, device = self.body, self.body.device
        if isinstance(body, WhisperBody):
            hidden, real = body.tokens(sound.to(device), lengths.to(device))
            masked = self._drawn(real, rng)
            hidden = torch.where(masked[..., None], self.embedding[0] + body.positions(hidden.shape[1]), hidden)
            return body.encode(hidden, real)[-1], real, masked
        real = is_real(lengths, body.encoder.config, sound.shape[1]).to(device)
        masked = self._drawn(real, rng)
        output = body.encoder(
            sound.to(device), attention_mask=attention_mask(sound, lengths).to(device), mask_time_indices=masked
        )
        return output.last_hidden_state, real, masked

    def _drawn(self, real: Tensor, rng: np.random.Generator) -> Tensor:
        masked = spans(real.cpu().numpy(), rng, CLUSTER_SPAN, CLUSTER_MASKED, CLUSTER_LEAST)
        return torch.from_numpy(masked).to(self.body.device)


def attention_mask(sound: Tensor, lengths: Tensor) -> Tensor:
    """Mask with 1 for the samples of a clip and 0 for its padding, shape=(batch, samples)."""
    return (torch.arange(sound.shape[1])[None] < lengths[:, None]).long()


def tapt(
    corpora: Sequence[Annotated],
    name: str,
    body: Body,
    config: FinetuneConfig,
    adapt: AdaptConfig,
    folder: Path,
    progress: Progress,
    workers: int = 0,
) -> None:
    """TAPT: continue the pretraining of wav2vec2 on the training speakers, and copy the result into the body.

    Args:
        corpora: annotated corpora
        name: folder or name of the pretrained body
        body: the body, changed in place
        config: settings of the batches
        adapt: settings of the pretraining
        folder: folder of the checkpoint and the log
        progress: called with (steps done, steps)
        workers: number of processes that prefetch audio

    Raises:
        WeightsError: if the body is not a wav2vec2, or its file has no quantiser
    """
    net = _pretraining(name, body)
    Tapt(body, net, corpora, config, adapt, workers).run(folder, name, progress)
    body.encoder.load_state_dict(net.wav2vec2.state_dict())


def check_tapt(name: str, body: Body) -> None:
    """Check that TAPT supports a body.

    Raises:
        WeightsError: if the body is not a wav2vec2, or its file has no quantiser
    """
    _pretraining(name, body)


def _pretraining(name: str, body: Body) -> Wav2Vec2ForPreTraining:
    if isinstance(body, WhisperBody):
        raise WeightsError(f"{name}: TAPT needs a wav2vec2 model, but this is whisper. Try p-tapt.")
    folder = find_folder(name)
    config = read_json(folder / "config.json")
    if config.get("model_type") != "wav2vec2":
        raise WeightsError(f"{name}: TAPT needs a wav2vec2 model, but this is {config.get('model_type')}. Try p-tapt.")
    arrays = read_arrays(folder)
    if not any(key.startswith("quantizer.") for key in arrays):
        raise WeightsError(f"{name}: has no quantiser, which TAPT needs. Use the pretrained body, or p-tapt.")
    depth = body.layers - 1
    made = Wav2Vec2Config.from_dict(config | {"num_hidden_layers": depth, "layerdrop": 0.0, "apply_spec_augment": True})
    made.mask_time_prob = made.mask_time_prob or MASKED
    net = Wav2Vec2ForPreTraining(made)
    beyond = tuple(f"wav2vec2.encoder.layers.{n}." for n in range(depth, int(config["num_hidden_layers"])))
    load_strictly(net, {key: array for key, array in arrays.items() if not key.startswith(beyond)}, str(folder))
    return net


def find_clusters(
    corpora: Sequence[Annotated], body: Body, counts: Sequence[int], config: FinetuneConfig, path: Path
) -> list[Tensor]:
    """Cluster centres of a fine-tuned body's last hidden states; a file that exists is read instead.

    Args:
        corpora: annotated corpora
        body: fine-tuned body
        counts: number of clusters of each task
        config: settings of the batches
        path: file of the centres

    Returns:
        centres of each task, shape=(clusters, width)

    Raises:
        MissingExtraError: if scikit-learn is not installed
    """
    if not path.is_file():
        try:
            from sklearn.cluster import MiniBatchKMeans
        except ModuleNotFoundError:
            raise missing_packages("P-TAPT", ["scikit-learn"], "wav2small[train]") from None
        tokens = _tokens(Steps(divided(corpora)[0], config), body)
        found = {}
        for count in counts:
            means = MiniBatchKMeans(min(count, len(tokens)), random_state=config.seed, n_init=1).fit(tokens)
            found[f"c{count}"] = means.cluster_centers_.astype(np.float32)
        with whole_file(path) as temporary:
            np.savez(temporary, **found)
    with np.load(path) as file:
        return [torch.from_numpy(file[f"c{count}"]).to(body.device) for count in counts]


def _tokens(batches: Steps, body: Body) -> np.ndarray:
    parts: list[np.ndarray] = []
    for step in range(len(batches)):
        for state in last_states(body, batches[step][0]):
            parts.append(state.cpu().numpy())
        if sum(map(len, parts)) > FRAMES:
            break
    return np.concatenate(parts)[:FRAMES]


def p_tapt(
    corpora: Sequence[Annotated],
    tuned: Body,
    body: Body,
    config: FinetuneConfig,
    adapt: AdaptConfig,
    folder: Path,
    progress: Progress,
    workers: int = 0,
) -> None:
    """P-TAPT: train a pretrained body to predict the clusters of a fine-tuned body at masked tokens.

    Args:
        corpora: annotated corpora
        tuned: the body after fine-tuning
        body: the pretrained body, trained in place
        config: settings of the batches
        adapt: settings of the pretraining, with the numbers of clusters
        folder: folder of the clusters and the checkpoint
        progress: called with (steps done, steps)
        workers: number of processes that prefetch audio

    """
    make_folder(folder)
    centres = find_clusters(corpora, tuned, adapt.clusters, config, folder / "clusters.npz")
    task = PseudoLabels(tuned, centres, body, corpora, config, adapt, workers)
    body.encoder.config.apply_spec_augment = True  # without it, the encoder ignores the masks
    task.run(folder, f"{list(adapt.clusters)} clusters", progress)
    body.encoder.config.apply_spec_augment = False
