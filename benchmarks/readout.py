"""Whether another last layer on a frozen student carries valence to a corpus that the layer was not fitted on.

    python benchmarks/readout.py dev.csv [--model micro]

The labels are those of ``distil`` (dev.csv): dev speakers of several corpora, named in the column corpus, labelled by
the teacher. For each corpus, ridge regression from the embedding to the teacher's valence, centred within corpora and
with the same weight for each, is fitted on all other corpora. The figure is Pearson's r with the teacher within the
corpus. The last layer that ships was fitted together with the network, on other speakers of the same corpora;
a layer that was fitted on other corpora alone may exceed it all the same.
"""

from __future__ import annotations

import argparse

import numpy as np

from wav2small import load
from wav2small.audio.read import read
from wav2small.metrics import pearson_cc
from wav2small.network.config import OUTPUTS
from wav2small.tables.manifest import read_manifest

VALENCE = OUTPUTS.index("valence")
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
Groups = list[tuple[np.ndarray, np.ndarray]]


def ridge(groups: Groups, penalty: float) -> np.ndarray:
    """Weights from embeddings (clips, width) to labels (clips,) of several corpora, shape=(width,)."""
    centred = [(x - x.mean(0), (y - y.mean()) / y.std()) for x, y in groups]
    spread = np.sqrt(np.mean([np.square(x).mean(0) for x, _ in centred], 0)) + 1e-9
    products = np.mean([(x / spread).T @ (x / spread) / len(x) for x, _ in centred], 0)
    targets = np.mean([(x / spread).T @ y / len(x) for x, y in centred], 0)
    return np.linalg.solve(products + penalty * np.eye(len(products)), targets) / spread


def left_out(groups: Groups, penalty: float) -> list[float]:
    """r of each corpus, by weights of the others."""
    others = [groups[:number] + groups[number + 1 :] for number in range(len(groups))]
    return [pearson_cc(y, x @ ridge(rest, penalty)) for (x, y), rest in zip(groups, others, strict=True)]


def show(title: str, row: list[float]) -> None:
    """A row of the table."""
    print(f"| {title} | {' | '.join(f'{value:.2f}' for value in row)} | {np.mean(row):.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels")
    parser.add_argument("--model", default="micro")
    arguments = parser.parse_args()
    segments = [segment for segment in read_manifest(arguments.labels) if segment.emotion]
    model = load(arguments.model)
    answers = [model.answer(segment.cut(read(segment.path))) for segment in segments]
    emotion, embedding = (np.array(column, float) for column in zip(*answers, strict=True))
    truth = np.array([segment.emotion for segment in segments], float)[:, VALENCE]
    corpus = np.array([segment.column("corpus") for segment in segments])
    names = list(dict.fromkeys(corpus.tolist()))
    groups = [(embedding[corpus == name], truth[corpus == name]) for name in names]
    print(f"| {arguments.model}, {len(segments)} clips | {' | '.join(names)} | mean |")
    print(f"|---|{'---|' * (len(names) + 1)}")
    show("as it ships", [pearson_cc(truth[corpus == name], emotion[corpus == name, VALENCE]) for name in names])
    for penalty in PENALTIES:
        show(f"ridge {penalty:g}, corpus left out", left_out(groups, penalty))


if __name__ == "__main__":
    main()
