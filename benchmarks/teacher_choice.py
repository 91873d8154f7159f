"""Accuracy of the heads of the teacher ``open`` on held-out corpora, one factor at a time.

    WAV2SMALL_MODELS=models python benchmarks/teacher_choice.py EMODB VOICES EMOGATOR TOHOKU --cache build/statistics

EMODB, EMOGATOR and TOHOKU (recipes/synthetic_voice.py) are left out in turn, and the heads are fitted on the other two;
VOICES is EMODB resynthesised, which comes and goes with it. Prints a line a factor: r and AUC of arousal and valence
and the AUC of happiness against anger within the corpus that was left out, and their means. Truth is the norm of the
category. The AUCs are between the classes of the norms where the corpus has them, else between norms in the highest
and the lowest third. Statistics are taken from the cache of ``fit`` where they are there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor, nn
from torch.nn import functional

from wav2small.audio.distort import trim
from wav2small.files import whole_file
from wav2small.metrics import auc, pearson_cc
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.manifest import load_norms, segment_signal
from wav2small.train.annotated import read_annotated
from wav2small.train.config import FitConfig
from wav2small.train.heads import Batches, Corpus, load_corpora
from wav2small.train.loss import annotation_loss
from wav2small.train.teachers.open import Heads
from wav2small.train.teachers.whisper import Head, WhisperBody, find_encoder

MEASURES = ("r A", "r V", "AUC A", "AUC V", "AUC happy/angry")
HAPPY = ("happiness", "elation")
ANGRY = ("anger",)
NO_FOLD = 1000
SOURCES: dict[str, str] = {}
"""Name of a corpus to its manifest."""
SPED: dict[tuple[str, float], np.ndarray] = {}
"""Statistics of 500 clips at a speed."""
Part = dict[str, list[Corpus]]
"""Name of a corpus to its manifests: clips, and variants."""


@dataclass(frozen=True)
class Form:
    """One way to fit and to ask.

    Args:
        config: of the heads
        variants: fit on resynthesised clips too
        without: corpora that are never fitted on
        share: of a corpus, times the one by the square root of its size
        own_scale: standardise the statistics of each corpus by its own mean and spread, also of the one left out
        adversary: weight of a classifier of corpora behind reversed gradients
        contrast: weight of the logistic loss of valence between happiness and anger
        recognised: A/D/V between the norm and the mean of its corpus, by the share of listeners who recognised it
        speeds: the answer is the mean over these; of each corpus 500 clips are asked
        copies: distorted copies of each clip that are fitted on
        steps: batches that each head is fitted on
    """

    config: FitConfig = field(default_factory=lambda: FitConfig(layers=(2, 3), heads_a_fold=2))
    variants: bool = True
    without: tuple[str, ...] = ()
    share: tuple[str, float] = ("", 1.0)
    own_scale: bool = False
    adversary: float = 0.0
    contrast: float = 0.0
    recognised: bool = False
    speeds: tuple[float, ...] = ()
    copies: int = 0
    steps: int = 600


BASE = Form()


def of(**changes: object) -> Form:
    """The form with other settings of the heads."""
    return replace(BASE, config=replace(BASE.config, **changes))  # type: ignore[arg-type]


FORMS: dict[str, Form] = {
    "base: layers 2 and 3, within .5, four variants, synthetic voice": BASE,
    "no synthetic voice": replace(BASE, without=("tohoku",)),
    "the synthetic voice's share x .3": replace(BASE, share=("tohoku", 0.3)),
    "no variants": replace(BASE, variants=False),
    "within 0": of(within=0.0),
    "within .8": of(within=0.8),
    "layer 3": of(layers=(3,)),
    "layer 2": of(layers=(2,)),
    "layers 1 to 3": of(layers=(1, 2, 3)),
    "hidden 24": of(hidden=24),
    "hidden 256": of(hidden=256),
    "one head": of(heads_a_fold=1),
    "five heads": of(heads_a_fold=5),
    "15 heads": of(heads_a_fold=15),
    "each corpus on a scale of its own": replace(BASE, own_scale=True),
    "adversary .1": replace(BASE, adversary=0.1),
    "adversary .5": replace(BASE, adversary=0.5),
    "happiness against anger .1": replace(BASE, contrast=0.1),
    "happiness against anger .3": replace(BASE, contrast=0.3),
    "recognition rates as soft targets": replace(BASE, recognised=True),
    "EmoGator's share x .25": replace(BASE, share=("emogator", 0.25)),
    "EmoGator's share x .5": replace(BASE, share=("emogator", 0.5)),
    "EmoGator's share x 2": replace(BASE, share=("emogator", 2.0)),
    "500 clips of each, as they are": replace(BASE, speeds=(1.0,)),
    "the same, answers averaged over speeds .9, 1, 1.1": replace(BASE, speeds=(0.9, 1.0, 1.1)),
    "a distorted copy of each clip": replace(BASE, copies=1),
    "two distorted copies of each clip": replace(BASE, copies=2),
    "no cross-entropy": of(category_weight=0.0),
    "cross-entropy 1": of(category_weight=1.0),
    "300 steps": replace(BASE, steps=300),
    "1,500 steps": replace(BASE, steps=1500),
    "dropout .2": of(dropout=0.2),
    "dropout .6": of(dropout=0.6),
    "the same with another seed": of(seed=2),
}


class Reversed(torch.autograd.Function):
    """Gradient reversal: the identity in the forward pass, with a negated gradient."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        """The same."""
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        """The negative."""
        return -gradient


def fit(form: Form, corpora: Sequence[Corpus], fold: int = NO_FOLD) -> Heads:
    """Heads that are all fitted on everything outside the fold, each from another seed; the answer is their mean."""
    config = form.config
    layers = list(config.layers)
    used = [replace(c, statistics=c.statistics[: form.copies + 1]) for c in corpora]
    clean = np.concatenate([c.statistics[0][:, layers] for c in used])
    mean, spread = clean.mean(0), clean.std(0) + 1e-4
    categories = sorted({label for corpus in used for label in corpus.labels})
    batches = Batches(used, fold, categories, mean, spread, config, 0)
    names = list(dict.fromkeys(c.group for c in used))
    if form.share[0] in names:
        batches.chance[names.index(form.share[0])] *= form.share[1]
        batches.chance /= batches.chance.sum()
    heads = [_fit_head(batches, form, mean.shape, categories, len(names)) for _ in range(config.heads_a_fold)]
    return Heads(layers, mean, spread, heads)


def _fit_head(batches: Batches, form: Form, shape: tuple[int, ...], categories: list[str], corpora: int) -> Head:
    config = form.config
    torch.manual_seed(int(batches.rng.integers(2**31)))
    head = Head(*shape, config.hidden, config.dropout, len(categories))
    adversary = nn.Linear(config.hidden, corpora)
    parameters = [*head.parameters(), *adversary.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=form.steps)
    happy, angry = (torch.tensor([c in names for c in categories]) for names in (HAPPY, ANGRY))
    for _ in range(form.steps):
        statistics, truth, category, group = batches.draw_labelled()
        hidden = head.embed(statistics)
        emotion, logits = 0.5 + 0.1 * head.out(hidden), head.category(hidden)
        loss = annotation_loss(
            truth, category, emotion, logits, config.category_weight, config.group_size, config.within
        )
        if form.adversary:
            loss = loss + form.adversary * functional.cross_entropy(adversary(Reversed.apply(hidden)), group)
        if form.contrast:
            loss = loss + form.contrast * _contrast(emotion[:, 2], happy[category], angry[category], group)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def _contrast(valence: Tensor, happy: Tensor, angry: Tensor, group: Tensor) -> Tensor:
    """Logistic loss of the pairs of a happy and an angry clip of one corpus."""
    pairs = happy[:, None] & angry[None] & (group[:, None] == group[None])
    if not pairs.any():
        return valence.sum() * 0
    return functional.softplus(-10 * (valence[:, None] - valence[None]))[pairs].mean()


def on_own_scale(corpora: Sequence[Corpus]) -> list[Corpus]:
    """Statistics less the mean of their group, over its spread."""
    scaled = []
    for corpus in corpora:
        clean = np.concatenate([c.statistics[0] for c in corpora if c.group == corpus.group])
        scaled.append(replace(corpus, statistics=(corpus.statistics - clean.mean(0)) / (clean.std(0) + 1e-4)))
    return scaled


def softened(corpus: Corpus) -> Corpus:
    """Truth by recognition rates, and every clip of one weight."""
    share = corpus.weights[:, None].astype(np.float32)
    truth = share * corpus.truth + (1 - share) * corpus.truth.mean(0)
    return replace(corpus, truth=truth.astype(np.float32), weights=np.ones_like(corpus.weights))


def score(corpus: Corpus, answers: np.ndarray) -> list[float]:
    """The measures within a corpus, then their mean."""
    arousal, valence = answers[:, 0], answers[:, 2]
    found = [pearson_cc(corpus.truth[:, 0], arousal), pearson_cc(corpus.truth[:, 2], valence)]
    found += [_auc(corpus, 0, arousal), _auc(corpus, 2, valence)]
    labels = np.array(corpus.labels)
    happy, angry = np.isin(labels, HAPPY), np.isin(labels, ANGRY)
    found.append(auc(happy[happy | angry], valence[happy | angry]))
    return [*map(float, found), float(np.mean(found))]


def _auc(corpus: Corpus, dimension: int, answer: np.ndarray) -> float:
    norms = load_norms()
    name = "arousal_class" if dimension == 0 else "valence_class"
    classes = np.array([getattr(norms[label], name) for label in corpus.labels])
    high, low = np.isin(classes, ("high", "positive")), np.isin(classes, ("low", "negative"))
    if not high.any() or not low.any() or len({*corpus.labels}) > 20:
        truth = corpus.truth[:, dimension]
        high, low = truth >= np.quantile(truth, 2 / 3), truth <= np.quantile(truth, 1 / 3)
    return auc(high[high | low], answer[high | low])


def speed(signal: np.ndarray, factor: float) -> np.ndarray:
    """Played ``factor`` times as fast: pitch, formants and tempo together."""
    played: np.ndarray = soxr.resample(signal, SAMPLING_RATE * factor, SAMPLING_RATE, quality="MQ")
    return played.astype(np.float32)


def sped(corpus: Corpus, heads: Heads, speeds: Sequence[float]) -> tuple[Corpus, np.ndarray]:
    """500 clips of a corpus, and the mean of the answers when they are played at these speeds."""
    chosen = np.random.default_rng(1).permutation(len(corpus.labels))[:500]
    segments = read_annotated(SOURCES[corpus.name], 5).segments
    answers = []
    for factor in speeds:
        if (corpus.name, factor) not in SPED:
            signals = [speed(trim(segment_signal(segments[i])), factor) for i in chosen]
            SPED[corpus.name, factor] = WhisperBody(find_encoder(layers=3)).statistics(signals)
        answers.append(heads(SPED[corpus.name, factor]))
    asked = replace(
        corpus, truth=corpus.truth[chosen], labels=[corpus.labels[i] for i in chosen], weights=corpus.weights[chosen]
    )
    return asked, np.mean(answers, axis=0)


def leave_out(form: Form, parts: Part) -> dict[str, list[float]]:
    """Measures within each corpus, by heads fitted on the others."""
    if form.own_scale:
        scaled = on_own_scale([corpus for part in parts.values() for corpus in part])
        parts = {name: [c for c in scaled if c.group == name] for name in parts}
    found = {}
    for name, (test, *_) in parts.items():
        others = [part for other, part in parts.items() if other != name and other not in form.without]
        corpora = [corpus for part in others for corpus in (part if form.variants else part[:1])]
        if form.recognised:
            corpora = [softened(corpus) for corpus in corpora]
        heads = fit(form, corpora)
        found[name] = score(*sped(test, heads, form.speeds)) if form.speeds else score(test, heads(test.statistics[0]))
    return found


def leave_speakers(form: Form, parts: Part) -> dict[str, list[float]]:
    """Measures within the corpora of people on speakers left out by folds, by one head fitted on all that remains."""
    if form.own_scale:
        scaled = on_own_scale([corpus for part in parts.values() for corpus in part])
        parts = {name: [c for c in scaled if c.group == name] for name in parts}
    kept = [part for name, part in parts.items() if name not in form.without]
    corpora = [corpus for part in kept for corpus in (part if form.variants else part[:1])]
    corpora = [softened(corpus) for corpus in corpora] if form.recognised else corpora
    tests = [part[0] for part in parts.values()][:2]
    answers = [np.zeros((len(test.labels), 3)) for test in tests]
    for fold in range(form.config.folds):
        heads = fit(replace(form, config=replace(form.config, heads_a_fold=1)), corpora, fold)
        for test, answer in zip(tests, answers, strict=True):
            answer[test.folds == fold] = heads(test.statistics[0, test.folds == fold])
    return {f"{test.name} speakers": score(test, answer) for test, answer in zip(tests, answers, strict=True)}


def load(arguments: argparse.Namespace, config: FitConfig) -> Part:
    """The corpora with their statistics; EmoGator, which takes longest, without distorted copies."""
    encoder = WhisperBody(find_encoder(layers=max(config.layers)))
    parts = {}
    for source, copies in (
        (f"{arguments.emodb},{arguments.voices}", arguments.copies),
        (arguments.emogator, 0),
        (arguments.tohoku, arguments.copies),
    ):
        corpora = load_corpora(source, encoder, replace(config, copies=copies), arguments.cache, lambda *_: None)
        SOURCES[corpora[0].name] = source.split(",")[0]
        parts[corpora[0].group] = corpora
    return parts


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("emodb", "voices", "emogator", "tohoku"):
        parser.add_argument(name)
    parser.add_argument("--cache", type=Path, default=Path("build/statistics"))
    parser.add_argument("--only", action="append", help="a form, by the beginning of its name; repeatable")
    parser.add_argument(
        "--copies", type=int, default=1, help="distorted copies to compute; forms that want more are left out"
    )
    parser.add_argument("--without", action="append", default=[], help="a corpus that no form is fitted on")
    parser.add_argument("--speakers", action="store_true", help="leave out speakers by folds instead of corpora")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = load(arguments, BASE.config)
    print("measures:", ", ".join((*MEASURES, "mean")), flush=True)
    found = {}
    for name, form in FORMS.items():
        if arguments.only and not any(name.startswith(start) for start in arguments.only):
            continue
        if form.copies > arguments.copies:
            continue
        form = replace(form, without=(*form.without, *arguments.without))
        start = time.monotonic()
        scores = leave_speakers(form, parts) if arguments.speakers else leave_out(form, parts)
        found[name] = scores | {"mean": np.mean(list(scores.values()), axis=0).tolist()}
        cells = (f"{corpus} " + " ".join(f"{value:.3f}" for value in row) for corpus, row in found[name].items())
        print(f"{name} | {' | '.join(cells)} | {time.monotonic() - start:.0f} s", flush=True)
        if arguments.json:
            with whole_file(arguments.json) as temporary:
                temporary.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
