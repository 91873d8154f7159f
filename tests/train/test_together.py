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

from test_train import TINY, checkpoint, embedded, log, loop, make, run, silently  # noqa: E402

from wav2small.errors import Wav2SmallError  # noqa: E402
from wav2small.network.config import OUTPUTS, Emotion  # noqa: E402
from wav2small.tables.manifest import Segment  # noqa: E402
from wav2small.train import distributed  # noqa: E402
from wav2small.train.clips import Clips  # noqa: E402
from wav2small.train.config import TrainConfig  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = replace(TINY, steps=4, batch_size=8, evaluate_every=1, dropout=0.5, learning_rate=3e-4)
STUDENTS = ("wav2small", "micro", "micro-int8")
NUMBERS = ("one", "two")
"""Of processes; each has a folder."""
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
import test_together
test_together.torch.set_num_threads(1)
with test_together.distributed.as_one():
    test_together.in_each_process(Path(sys.argv[2]))
"""


def in_each_process(folder: Path) -> None:
    """Each step from where one process was before it, and a whole run."""
    data = recall(folder / "data.json")
    clips = Clips(data[0], CONFIG, silently)
    for student in STUDENTS:
        config = replace(CONFIG, student=student)
        for step in range(CONFIG.steps):
            advance(folder / "one" / student / f"{step}", folder / "two" / student / f"{step + 1}", config, clips)
        net = run(data, folder / "two" / student, config).net
        weights = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
        assert torch.equal(*distributed.gathered(weights[None])), "the processes have different weights"


def advance(start: Path, end: Path, config: TrainConfig, clips: Clips) -> None:
    """One step, from the checkpoint in a folder to that in another."""
    one = loop(start, config, clips)
    one.advance(next(iter(one.task.batches(one.step))))
    one.folder = end
    if distributed.rank() == 0:
        end.mkdir(parents=True)
    one.save()


def remember(data: tuple[list[Segment], list[Segment]], path: Path) -> None:
    rows = [[[s.file, str(s.path), s.speaker, s.emotion, dict(s.fields)] for s in part] for part in data]
    path.write_text(json.dumps(rows))


def recall(path: Path) -> tuple[list[Segment], list[Segment]]:
    train, dev = (
        [Segment(f, Path(p), speaker=s, emotion=Emotion(*e), fields=fields) for f, p, s, e, fields in part]
        for part in json.loads(path.read_text())
    )
    return train, dev


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    """The folder of the same steps by one process and by two: torchrun, and three processes that import torch."""
    folder = tmp_path_factory.mktemp("both")
    data = embedded(make(folder / "train", 40, 1)), make(folder / "dev", 16, 2)
    remember(data, folder / "data.json")
    clips = Clips(data[0], CONFIG, silently)
    for student in STUDENTS:
        one, config = folder / "one" / student, replace(CONFIG, student=student)
        for step in range(CONFIG.steps):
            advance(one / f"{step}", one / f"{step + 1}", config, clips)
        run(data, one, config)
    (folder / "run.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, folder / "run.py", Path(__file__).parent, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def moments(state: dict) -> torch.Tensor:
    """Of the optimiser: a moving average of the gradients."""
    return torch.cat([values["exp_avg"].flatten() for values in state["optimiser"]["state"].values()])


def statistics(state: dict) -> dict[str, torch.Tensor]:
    """What a network follows beside its weights: means and variances of batches, and the largest values seen."""
    return {name: value for name, value in state["net"].items() if "running" in name or "top" in name}


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_a_step_of_two_processes_is_that_of_one(both, student):
    """Loss, gradients and statistics, from one checkpoint: Adam changes a weight by about as much however small its
    gradient is, so that rounding, which differs between processors, grows from step to step."""
    for step in range(1, CONFIG.steps + 1):
        one, two = (checkpoint(both / n / student / f"{step}") for n in NUMBERS)
        assert two["losses"][-1] == pytest.approx(one["losses"][-1], rel=1e-5)
        assert (moments(two) - moments(one)).norm() < 1e-2 * moments(one).norm()
        torch.testing.assert_close(statistics(two), statistics(one), rtol=1e-4, atol=1e-4)
    losses = [line["loss"] for line in log(both / "one" / student)]
    assert np.ptp(losses) > 0.05, "losses differ from step to step, so that equal losses say something"


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_a_run_of_two_processes_begins_as_that_of_one(both, student):
    """A whole run, with what one of them writes; later steps differ by more, see above."""
    one, two = (
        [[line["loss"], *(line[name] for name in OUTPUTS)] for line in log(both / n / student)] for n in NUMBERS
    )
    assert len(two) == len(one) == CONFIG.steps
    np.testing.assert_allclose(two[:2], one[:2], atol=1e-4)


def test_one_process_alone_is_left_as_it_is():
    net, rows = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout()), torch.ones(4, 3)
    distributed.see_whole_batches(net)
    assert all("forward" not in vars(module) for module in net.modules())
    assert distributed.gathered(rows) is rows and rows[distributed.share(4)].shape == (4, 3)
    with distributed.as_one() as writes:
        assert writes and distributed.world() == 1


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 2)])
def test_statistics_and_dropout_are_those_of_torch(monkeypatch, shape):
    """With the sums of one process, which are those of all."""
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor)
    kind = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d
    ours, theirs = kind(3), kind(3)
    for step in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step)) * 3 + 1
        torch.testing.assert_close(distributed._batch_norm(ours, x), theirs(x), atol=1e-5, rtol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    drop = torch.nn.Dropout(0.3)
    torch.manual_seed(7)
    expected = drop(x)
    torch.manual_seed(7)
    assert torch.equal(distributed._dropout(drop, x), expected)


def test_what_cannot_be_shared_is_said(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(Wav2SmallError, match="3 processes cannot divide a batch of 32 evenly"):
        distributed.share(32)
    with pytest.raises(Wav2SmallError, match="a network with BatchNorm3d must be trained by one process"):
        distributed.see_whole_batches(torch.nn.BatchNorm3d(3))
