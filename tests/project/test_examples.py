"""The examples in the docstrings of the public names run, and print what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["model", "predict", "stream"])
def test_examples_of_docstrings_run(name, monkeypatch, silero):
    monkeypatch.chdir(ROOT)
    module = import_module(f"wav2small.runtime.{name}")
    result = doctest.testmod(module, raise_on_error=False)
    assert result.attempted >= 2 and result.failed == 0
