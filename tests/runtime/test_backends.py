"""Backends by name and by entry point, and what each passes on to what computes."""

from __future__ import annotations

import numpy as np
import pytest

from wav2small import plugins
from wav2small.errors import PluginError, WeightsError
from wav2small.network.weights import DATA
from wav2small.runtime import backends
from wav2small.runtime.backends import Backend, Opened


def test_a_backend_of_an_entry_point_is_found_by_its_name(monkeypatch):
    def open_nothing(path):
        return Opened(lambda signals: (signals, signals), {})

    offered = {"mine": Backend(".mine", open_nothing)}
    monkeypatch.setattr(plugins, "names", lambda group: list(offered) if group == plugins.BACKENDS else [])
    monkeypatch.setattr(plugins, "load", lambda group, name: offered[name] if group == plugins.BACKENDS else None)
    assert backends.find("mine") is offered["mine"] and backends.find("onnx") is backends.BACKENDS["onnx"]
    assert backends.names() == ["onnx", "numpy", "c", "mine"]
    with pytest.raises(PluginError, match="backend is 'other', known: onnx, numpy, c, mine"):
        backends.find("other")
    assert backends.suffixes() == {".onnx", ".safetensors"} and backends.suffixes(offered.values()) == {".mine"}


def test_a_graph_is_rewritten_only_where_that_is_asked_for(monkeypatch):
    asked, right = [], backends.session

    def recorded(content, source, optimised=True):
        asked.append((source, optimised))
        return right(content, source, optimised)

    monkeypatch.setattr(backends, "session", recorded)
    content, signals = (DATA / "micro.onnx").read_bytes(), np.zeros((1, 1600), np.float32)
    runs = [backends.open_onnx_bytes(content, "a", *given).run(signals)[0] for given in ((), (True,), (False,))]
    assert asked == [("a", True), ("a", True), ("a", False)]
    np.testing.assert_allclose(runs[2], runs[0], atol=1e-5)


def test_a_file_that_a_backend_cannot_read_is_refused_with_the_name_of_the_backend():
    for name in ("numpy", "c"):
        with pytest.raises(WeightsError, match=f"not safetensors, which the backend '{name}' reads; load it with 'onn"):
            backends.find(name).open(DATA / "micro.onnx")
