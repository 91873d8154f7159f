"""Baseline: openSMILE's eGeMAPS functionals and a regression, fitted on the open corpora.

    python benchmarks/opensmile_baseline.py DATA -o opensmile_ravdess.csv
    wav2small evaluate opensmile_ravdess.csv --on DATA/noncommercial/ravdess

DATA is the folder with open/emodb, open/emogator and noncommercial/ravdess. The truth of the fit are the category
norms, as for our teacher. The form of each regression is chosen by the speaker-disjoint folds of the open corpora,
never by RAVDESS. openSMILE (PyPI opensmile, extra dev) may not be used in products: its licence is not commercial.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import opensmile
from sklearn.base import RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from wav2small.audio import read as audio
from wav2small.metrics import concordance_cc, pearson_cc
from wav2small.network.config import OUTPUTS, SAMPLING_RATE
from wav2small.tables.manifest import Segment, load_norms, read_manifest
from wav2small.tables.table import check_writable, write_table

CORPORA = ("open/emodb", "open/emogator")
PEAK = 0.9


def forms() -> dict[str, RegressorMixin]:
    """The regressions to choose from; the SVRs' width is scikit-learn's, one over the number of features."""
    ridges = {f"ridge alpha={alpha}": Ridge(alpha=alpha) for alpha in (1, 10, 100, 1000)}
    svrs = {f"SVR C={c}": SVR(C=c, epsilon=0.05) for c in (0.03, 0.1, 0.3, 1, 3)}
    return {name: make_pipeline(StandardScaler(), form) for name, form in {**ridges, **svrs}.items()}


def features(segments: Sequence[Segment], normalise: bool, cache: Path) -> np.ndarray:
    """eGeMAPSv02 functionals, shape=(segments, 88); kept in ``cache`` by what they were computed from.

    Args:
        segments: of a manifest
        normalise: bring each clip to the same peak first; else the audio is as it is, as a user would have it
        cache: folder
    """
    asked = json.dumps([opensmile.__version__, normalise, [(s.file, s.path.stat().st_size) for s in segments]])
    file = cache / f"egemaps-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npy"
    if file.is_file():
        return np.load(file)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    rows = []
    with click.progressbar(segments, label=segments[0].path.parent.name, file=sys.stderr) as shown:
        for segment in shown:
            signal = audio.read(segment.path)
            if normalise:
                signal = signal * PEAK / max(np.abs(signal).max(), 1e-6)
            rows.append(smile.process_signal(signal, SAMPLING_RATE).to_numpy()[0])
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, np.array(rows))
    return np.array(rows)


def drawn(segments: list[Segment], count: int, seed: int) -> list[Segment]:
    """So many segments, drawn by seed, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(segments))[:count]
    return [segments[i] for i in sorted(chosen)]


def choose(x: np.ndarray, y: np.ndarray, folds: np.ndarray, title: str) -> RegressorMixin:
    """The form with the highest CCC of its out-of-fold predictions, fitted on everything."""
    scores = {}
    for name, form in forms().items():
        said = np.zeros(len(y))
        for fold in np.unique(folds):
            said[folds == fold] = form.fit(x[folds != fold], y[folds != fold]).predict(x[folds == fold])
        scores[name] = concordance_cc(y, said)
        click.echo(f"{title}, {name}: CCC {scores[name]:.3f}, r {pearson_cc(y, said):.3f} over folds", err=True)
    best = max(scores, key=scores.__getitem__)
    click.echo(f"{title}: {best}", err=True)
    return forms()[best].fit(x, y)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, metavar="FILE", help="Predictions, which wav2small evaluate reads.")
@click.option("--on", default="noncommercial/ravdess", show_default=True, help="Corpus to predict, inside DATA.")
@click.option("--cache", default="build/opensmile", show_default=True, type=click.Path(path_type=Path))
@click.option("--bursts", default=2500, show_default=True, help="Clips of EmoGator, drawn by seed.")
@click.option("--seed", default=0, show_default=True)
@click.option("--normalise", is_flag=True, help="Bring every clip to the same peak first.")
def main(data: Path, output: str, on: str, cache: Path, bursts: int, seed: int, normalise: bool) -> None:
    """Fit eGeMAPS and a regression on the open corpora, and predict another corpus."""
    check_writable(output)
    warnings.filterwarnings("ignore", "Segment too short")
    norms = load_norms()
    emodb, emogator = (read_manifest(data / corpus) for corpus in CORPORA)
    corpora = [emodb, drawn(emogator, bursts, seed)]
    known = [segment for corpus in corpora for segment in corpus]
    x = np.concatenate([features(corpus, normalise, cache) for corpus in corpora])
    truth = np.array([norms[segment.label].emotion for segment in known])
    folds = np.array([segment.column("fold") for segment in known])
    segments = read_manifest(data / on)
    unknown = features(segments, normalise, cache)
    middle = np.nanmean(x, axis=0)
    x, unknown = (np.where(np.isfinite(some), some, middle) for some in (x, unknown))
    said = {
        name: np.clip(choose(x, truth[:, column], folds, name).predict(unknown), 0, 1)
        for column, name in enumerate(OUTPUTS)
    }
    rows = [
        {"file": segment.file, **{name: float(said[name][i]) for name in OUTPUTS}} for i, segment in enumerate(segments)
    ]
    write_table(rows, output)


if __name__ == "__main__":
    main()
