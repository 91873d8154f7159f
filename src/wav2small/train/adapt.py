"""Pretrain a body on the task's own speech before it is fine-tuned: TAPT, and its pseudo-label form P-TAPT.

Source: Chen and Rudnicky 2023, arXiv:2110.06309. TAPT goes on with wav2vec2's own contrastive task. P-TAPT has the
body guess, at masked tokens, which cluster the tokens' states have in a body that was fine-tuned for emotion. Theirs
takes the states of a small wav2vec for that and clusters of 64, 512 and 4,096; ours takes the same body fine-tuned, and
the clusters that are asked for. Masks are spans of ten tokens over .65 of the time, as in wav2vec 2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from wav2small.errors import MissingExtraError, WeightsError
from wav2small.files import whole_file
from wav2small.train.finetune import Batch, Steps, Tell, TuneConfig, divided, read_ahead
from wav2small.train.heads import Annotated
from wav2small.train.loop import Phase
from wav2small.train.teachers.bodies import Body, SpeechBody
from wav2small.train.teachers.hub import find_folder, load_strictly, read_arrays, read_json
from wav2small.train.teachers.speech import is_real

KINDS = ("tapt", "p-tapt")
SPAN = 10
MASKED = 0.65
FRAMES = 100_000
"""Tokens that the clusters are found on, at most."""
LEARNING_RATE = 1e-4


def spans(real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which tokens are masked: spans at random places of the real ones, at least one a clip, shape=(batch, tokens)."""
    out = np.zeros_like(real)
    for row, count in zip(out, real.sum(1), strict=True):
        length = int(min(SPAN, max(1, count // 2)))
        many = max(1, int(MASKED * count / length + rng.random()))
        for start in rng.choice(count - length + 1, min(many, count - length + 1), replace=False):
            row[start : start + length] = True
    return out


def negatives(masked: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """For each masked token, others of the same clip, by their place in the flat batch: (batch, tokens, count)."""
    out = np.zeros((*masked.shape, count), np.int64)
    for clip, row in enumerate(masked):
        places = np.flatnonzero(row)
        for place in places:
            others = places[places != place] if len(places) > 1 else places
            out[clip, place] = clip * len(row) + rng.choice(others, count)
    return out


def tapt(
    corpora: Sequence[Annotated],
    name: str,
    body: Body,
    config: TuneConfig,
    steps: int,
    folder: Path,
    tell: Tell,
    workers: int = 0,
) -> None:
    """Go on with the pretraining of wav2vec2 on the training speakers, and give the body what came of it.

    Raises:
        WeightsError: if the body is no wav2vec2, or its file has no quantiser
    """
    whole = _pretraining(name, body)
    whole.to(body.device)
    batches = Steps(divided(corpora)[0], config)
    phase = _phase(folder / "tapt.pt", whole, steps, config, name)

    def loss(batch: Batch) -> Tensor:
        rng = np.random.default_rng([config.seed, phase.step, 1])
        sound, lengths = body.prepare(batch[0])
        tokens = int(whole._get_feat_extract_output_lengths(sound.shape[1]))
        real = is_real(lengths, whole.config, tokens).numpy()
        masked = spans(real, rng)
        mask = (torch.arange(sound.shape[1])[None] < lengths[:, None]).long()
        with torch.autocast(body.device.type, torch.bfloat16, enabled=config.bf16):
            found = whole(
                sound.to(body.device),
                attention_mask=mask.to(body.device),
                mask_time_indices=torch.from_numpy(masked).to(body.device),
                sampled_negative_indices=torch.from_numpy(negatives(masked, whole.config.num_negatives, rng)).to(
                    body.device
                ),
            )
        return found.loss / int(masked.sum())

    phase.run(read_ahead(batches, phase.step, steps, workers), loss, tell, config.evaluate_every)
    body.encoder.load_state_dict(whole.wav2vec2.state_dict())


def _pretraining(name: str, body: Body) -> Wav2Vec2ForPreTraining:
    folder = find_folder(name)
    config = read_json(folder / "config.json")
    if config.get("model_type") != "wav2vec2":
        raise WeightsError(f"{name}: TAPT is wav2vec2's own task, and this is {config.get('model_type')}. Try p-tapt.")
    arrays = read_arrays(folder)
    if not any(key.startswith("quantizer.") for key in arrays):
        raise WeightsError(f"{name}: has no quantiser, which TAPT goes on with. Take the pretrained body, or p-tapt.")
    depth = body.layers - 1
    made = Wav2Vec2Config.from_dict(config | {"num_hidden_layers": depth, "layerdrop": 0.0, "apply_spec_augment": True})
    made.mask_time_prob = made.mask_time_prob or MASKED
    net = Wav2Vec2ForPreTraining(made)
    beyond = tuple(f"wav2vec2.encoder.layers.{n}." for n in range(depth, int(config["num_hidden_layers"])))
    load_strictly(net, {key: array for key, array in arrays.items() if not key.startswith(beyond)}, str(folder))
    return net


def _phase(path: Path, net: nn.Module, steps: int, config: TuneConfig, stamp: str) -> Phase:
    trained = [weight for weight in net.parameters() if weight.requires_grad]
    groups = [{"params": trained, "lr": LEARNING_RATE}]
    return Phase(path, net, groups, steps, f"{stamp} {steps} {config.seed} {config.batch_size}", config.seed)


def find_clusters(
    corpora: Sequence[Annotated], body: Body, counts: Sequence[int], config: TuneConfig, path: Path
) -> list[Tensor]:
    """Centres of clusters of a fine-tuned body's last states, each (clusters, width), or those that are in the file.

    Raises:
        MissingExtraError: if scikit-learn is not installed
    """
    if not path.is_file():
        try:
            from sklearn.cluster import MiniBatchKMeans
        except ModuleNotFoundError:
            raise MissingExtraError("P-TAPT needs scikit-learn: pip install 'wav2small[train]'") from None
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
        for state in _last_states(body, batches[step][0]):
            parts.append(state.cpu().numpy())
        if sum(map(len, parts)) > FRAMES:
            break
    return np.concatenate(parts)[:FRAMES]


def _last_states(body: Body, signals: Sequence[np.ndarray]) -> list[Tensor]:
    """The real tokens' states of each signal."""
    sound, lengths = body.prepare(signals)
    with torch.inference_mode():
        layers, real = body.states(sound.to(body.device), lengths.to(body.device))
    return [state[kept].float() for state, kept in zip(layers[-1], real, strict=True)]


def p_tapt(
    corpora: Sequence[Annotated],
    tuned: Body,
    body: Body,
    counts: Sequence[int],
    config: TuneConfig,
    steps: int,
    folder: Path,
    tell: Tell,
    workers: int = 0,
) -> None:
    """Train a pretrained body to guess the clusters of a fine-tuned one at masked tokens.

    Args:
        corpora: annotated
        tuned: the body after fine-tuning
        body: as it was pretrained; trained in place
        counts: of clusters, a task each
        config: of the batches
        steps: of this phase
        folder: for the clusters and the checkpoint
        tell: called with (steps done, steps)
        workers: processes that read audio ahead

    Raises:
        WeightsError: if the body is Whisper's, which has no masks
    """
    if not isinstance(body, SpeechBody):
        raise WeightsError("P-TAPT masks tokens, which Whisper's encoder does not. Take a body of the wav2vec2 family.")
    centres = find_clusters(corpora, tuned, counts, config, folder / "clusters.npz")
    torch.manual_seed(config.seed)
    guesses = nn.ModuleList(nn.Linear(body.width, len(centre)) for centre in centres)
    net = nn.ModuleDict({"encoder": body.encoder, "guesses": guesses}).to(body.device)
    phase = _phase(folder / "p-tapt.pt", net, steps, config, f"{list(counts)}")

    def loss(batch: Batch) -> Tensor:
        rng = np.random.default_rng([config.seed, phase.step, 1])
        targets = torch.cat(_last_states(tuned, batch[0]))
        sound, lengths = body.prepare(batch[0])
        mask = (torch.arange(sound.shape[1])[None] < lengths[:, None]).long()
        tokens = max(int(n) for n in token_counts(lengths, body))
        real = is_real(lengths, body.encoder.config, tokens)
        masked = torch.from_numpy(spans(real.numpy(), rng))
        with torch.autocast(body.device.type, torch.bfloat16, enabled=config.bf16):
            found = body.encoder(
                sound.to(body.device),
                attention_mask=mask.to(body.device),
                mask_time_indices=masked.to(body.device),
            ).last_hidden_state[masked.to(body.device)]
            heard = targets[masked[real].to(body.device)]
            losses = [
                functional.cross_entropy(guess(found).float(), torch.cdist(heard, centre).argmin(1))
                for guess, centre in zip(guesses, centres, strict=True)
            ]
        return torch.stack(losses).mean()

    body.encoder.config.apply_spec_augment = True  # lets the masks that are given through
    phase.run(read_ahead(Steps(divided(corpora)[0], config), phase.step, steps, workers), loss, tell, steps)
    body.encoder.config.apply_spec_augment = False


def token_counts(lengths: Tensor, body: SpeechBody) -> Tensor:
    """How many tokens signals of these lengths have."""
    longest = int(lengths.max()) // 320 + 1
    return is_real(lengths, body.encoder.config, longest).sum(1)
