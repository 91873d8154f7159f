"""A session of ONNX Runtime computes on the caller's thread, and no thread of it spins while it waits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wav2small
from wav2small.errors import WeightsError
from wav2small.network.weights import DATA
from wav2small.session import session

PACKAGE = Path(wav2small.__file__).parent


@pytest.mark.parametrize("name", ["micro.onnx", "wav2small-int8.onnx"])
def test_a_session_has_one_thread_that_does_not_spin(name):
    options = session((DATA / name).read_bytes(), name).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    for threads in ("intra_op", "inter_op"):
        assert options.get_session_config_entry(f"session.{threads}.allow_spinning") == "0"


def test_a_session_keeps_no_plan_of_memory_for_each_length():
    assert session((DATA / "micro.onnx").read_bytes(), "micro").get_session_options().enable_mem_pattern is False


def test_bytes_that_are_not_a_model_are_refused_in_one_sentence():
    with pytest.raises(WeightsError, match=r"^a.onnx: ONNX Runtime cannot load it \(.+\); export or fetch it again$"):
        session(b"not a model", "a.onnx")


def test_every_session_that_answers_is_made_in_one_place():
    """The other counts multiplications and never answers."""
    makers = [path for path in PACKAGE.rglob("*.py") if re.search(r"\bInferenceSession\(", path.read_text("utf-8"))]
    assert sorted(path.name for path in makers) == ["macs.py", "session.py"]
