"""Several processes train as one: the same losses, statistics and weights, whatever each computes of a batch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")

from test_train import TINY, embedded, log, make, run  # noqa: E402

from wav2small.errors import Wav2SmallError  # noqa: E402
from wav2small.network.config import OUTPUTS, Emotion  # noqa: E402
from wav2small.tables.manifest import Segment  # noqa: E402
from wav2small.train import distributed as together  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = replace(TINY, steps=8, batch_size=8, evaluate_every=1, dropout=0.5, learning_rate=3e-4)
STUDENTS = ("wav2small", "micro", "micro-int8")
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
import test_together
test_together.torch.set_num_threads(1)
with test_together.together.as_one():
    test_together.train_all(test_together.recall(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def train_all(data: tuple[list[Segment], list[Segment]], folder: Path) -> None:
    for student in STUDENTS:
        run(data, folder / student, replace(CONFIG, student=student))


def remember(data: tuple[list[Segment], list[Segment]], path: Path) -> None:
    rows = [[[s.file, str(s.path), s.speaker, s.emotion, dict(s.fields)] for s in part] for part in data]
    path.write_text(json.dumps(rows))


def recall(path: Path) -> tuple[list[Segment], list[Segment]]:
    train, dev = (
        [Segment(f, Path(p), speaker=s, emotion=Emotion(*e), fields=fields) for f, p, s, e, fields in part]
        for part in json.loads(path.read_text())
    )
    return train, dev


@pytest.mark.slow
def test_two_processes_have_the_losses_and_the_dev_ccc_of_one(tmp_path):
    """torchrun, and three processes that import torch."""
    data = embedded(make(tmp_path / "train", 40, 1)), make(tmp_path / "dev", 16, 2)
    remember(data, tmp_path / "data.json")
    (tmp_path / "run.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = str(Path(__file__).parent)
    command = [*launch, str(tmp_path / "run.py"), here, str(tmp_path / "data.json"), str(tmp_path / "two")]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    train_all(recall(tmp_path / "data.json"), tmp_path / "one")
    for student in STUDENTS:
        one, two = tmp_path / "one" / student, tmp_path / "two" / student
        curves = [[[line["loss"], *(line[name] for name in OUTPUTS)] for line in log(folder)] for folder in (one, two)]
        assert len(curves[1]) == CONFIG.steps
        np.testing.assert_allclose(curves[1][:3], curves[0][:3], atol=1e-4, err_msg=student)
        np.testing.assert_allclose(curves[1], curves[0], atol=3e-3, err_msg=f"{student}; Adam makes rounding grow")
    losses = [line["loss"] for line in log(tmp_path / "one" / "wav2small")]
    assert np.ptp(losses) > 0.05, "which says something, since losses differ from step to step"


def test_one_process_alone_is_left_as_it_is():
    net, rows = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout()), torch.ones(4, 3)
    together.see_whole_batches(net)
    assert all("forward" not in vars(module) for module in net.modules())
    assert together.gathered(rows) is rows and rows[together.share(4)].shape == (4, 3)
    with together.as_one() as writes:
        assert writes and together.world() == 1


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 2)])
def test_statistics_and_dropout_are_those_of_torch(monkeypatch, shape):
    """With the sums of one process, which are those of all."""
    monkeypatch.setattr(together, "all_reduce", lambda tensor: tensor)
    kind = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d
    ours, theirs = kind(3), kind(3)
    for step in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step)) * 3 + 1
        torch.testing.assert_close(together._batch_norm(ours, x), theirs(x), atol=1e-5, rtol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    drop = torch.nn.Dropout(0.3)
    torch.manual_seed(7)
    expected = drop(x)
    torch.manual_seed(7)
    assert torch.equal(together._dropout(drop, x), expected)


def test_what_cannot_be_shared_is_said(monkeypatch):
    monkeypatch.setattr(together, "world", lambda: 3)
    with pytest.raises(Wav2SmallError, match="3 processes cannot share a batch of 32 evenly"):
        together.share(32)
    with pytest.raises(Wav2SmallError, match="a network with BatchNorm3d is trained by one process"):
        together.see_whole_batches(torch.nn.BatchNorm3d(3))
