"""The baseline in C is the one in Python, for any answers."""

from __future__ import annotations

import ctypes
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small import Baseline, Emotion
from wav2small.network.config import OUTPUTS
from wav2small.network.weights import DATA
from wav2small.runtime import compiler, native

pytestmark = pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="needs a C compiler")
value, dur = st.floats(-0.25, 1.25, width=32), st.floats(0, 30, width=32)
ANSWERS = st.lists(st.tuples(st.tuples(value, value, value), dur), max_size=60)


class NativeEmotion(ctypes.Structure):
    """``w2s_emotion`` of w2s.h."""

    _fields_ = tuple((name, ctypes.c_float) for name in OUTPUTS)

    def values(self) -> list[float]:
        return [getattr(self, name) for name in OUTPUTS]


class NativeBaseline(ctypes.Structure):
    """``w2s_baseline`` of w2s.h."""

    _fields_ = (
        ("forget_dur", ctypes.c_float),
        ("speech_dur", ctypes.c_float),
        ("mean", NativeEmotion),
        ("spread", NativeEmotion),
    )


@pytest.fixture(scope="module", params=["micro", "micro-int8"])
def calls(request) -> ctypes.CDLL:
    """The functions of a library in floats, and of one in integers."""
    found = ctypes.CDLL(str(native.library(DATA / f"{request.param}.safetensors").path))
    baseline, emotion = ctypes.POINTER(NativeBaseline), ctypes.POINTER(NativeEmotion)
    found.w2s_baseline_init.argtypes = (baseline, ctypes.c_float)
    found.w2s_baseline_add.argtypes = (baseline, emotion, ctypes.c_float)
    found.w2s_baseline_deviation.argtypes = (baseline, emotion, emotion)
    found.w2s_baseline_ready.argtypes = (baseline,)
    return found


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.none() | st.floats(1, 600, width=32), st.tuples(value, value, value))
def test_it_equals_python_s_for_any_answers_forgetting_or_not(calls, answers, forget_dur, last):
    expected, found, deviation = Baseline(forget_dur), NativeBaseline(), NativeEmotion()
    calls.w2s_baseline_init(found, forget_dur or 0)
    for answer, speech_dur in answers:
        expected.add(Emotion(*answer), speech_dur)
        calls.w2s_baseline_add(found, NativeEmotion(*answer), speech_dur)
    calls.w2s_baseline_deviation(found, NativeEmotion(*last), deviation)
    np.testing.assert_allclose(found.mean.values(), expected.mean, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.spread.values(), expected.spread, atol=1e-5, rtol=0)
    np.testing.assert_allclose(deviation.values(), expected.deviation(Emotion(*last)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("durs", [[], [19.75], [20.0], [10.0, 9.75], [10.0, 10.0]])
def test_it_is_ready_when_python_s_is(calls, durs):
    expected, found = Baseline(), NativeBaseline()
    calls.w2s_baseline_init(found, 0)
    for speech_dur in durs:
        expected.add(Emotion(0.5, 0.5, 0.5), speech_dur)
        calls.w2s_baseline_add(found, NativeEmotion(0.5, 0.5, 0.5), speech_dur)
    assert calls.w2s_baseline_ready(found) == expected.is_ready
