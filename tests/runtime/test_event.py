"""Events: what a calibration and a head add to an output, and what too little confidence withholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calibration import calibration, emotions, scale

from wav2small.audio.vad import Sound
from wav2small.errors import WeightsError
from wav2small.network.config import OUTPUTS, Emotion
from wav2small.runtime.calibration import Calibration
from wav2small.runtime.engines import Output
from wav2small.runtime.event import CALIBRATION_COLUMNS, CATEGORY_COLUMNS, INTERVAL_COLUMNS, Event, EventBuilder
from wav2small.runtime.head import Head
from wav2small.runtime.model import Model

shares = st.floats(0, 1)
EMBEDDING = np.array([1.0, 0.0], np.float32)


def unused(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError("an event computes no network")


def builder(calibration: Calibration | None = None, min_confidence: float = 0.0, head: Head | None = None):
    return EventBuilder(Model(unused, {}, calibration=calibration, head=head), min_confidence)


def uneven() -> Calibration:
    """Dominance has the widest intervals and the least confidence, valence the narrowest."""
    halves = dict(zip(OUTPUTS, (0.1, 0.2, 0.05), strict=True))
    return replace(calibration(), scales={name: scale(half) for name, half in halves.items()})


@settings(deadline=None)
@given(emotions, shares, shares, st.floats(0, 60), st.floats(0, 5), st.floats(0.1, 5))
def test_a_calibrated_event_is_the_reading_of_its_output(output, ratio, loud_ratio, contrast, start, dur):
    """Seconds of speech are the share of loud frames of the event's own duration."""
    event = builder(uneven()).event(start, start + dur, Output(output, None), Sound(ratio, contrast, loud_ratio))
    reading = uneven().read(output, (start + dur - start) * loud_ratio, contrast)
    assert (event.start, event.end, event.speech, event.speech_ratio) == (start, start + dur, True, ratio)
    assert (event.arousal, event.dominance, event.valence) == reading.emotion
    assert event.confidence == pytest.approx(sum(reading.confidence) / 3) and event.word == reading.word
    assert (event.arousal_low, event.dominance_low, event.valence_low) == reading.low
    assert (event.arousal_high, event.dominance_high, event.valence_high) == reading.high
    assert event.category is None and event.probability is None


@settings(deadline=None)
@given(emotions, st.sampled_from(OUTPUTS), st.floats(-0.01, 0.01))
def test_a_dimension_with_less_confidence_than_asked_for_is_withheld_and_its_interval_is_not(output, name, off):
    """A word is of arousal and valence, and withheld with either of them."""
    reading = uneven().read(output, 3.0, 30.0)
    limit = max(1e-9, getattr(reading.confidence, name) + (0 if abs(off) < 1e-3 else off))
    event = builder(uneven(), limit).event(0.0, 3.0, Output(output, None), Sound(1.0, 30.0, 1.0))
    for dimension in OUTPUTS:
        is_sure = getattr(reading.confidence, dimension) >= limit
        assert getattr(event, dimension) == (getattr(reading.emotion, dimension) if is_sure else None)
    is_open = event.arousal is None or event.valence is None
    assert event.word == (None if is_open else reading.word)
    assert all(getattr(event, column) is not None for column in INTERVAL_COLUMNS)


def test_a_word_is_withheld_with_arousal_or_valence_and_not_with_dominance():
    sure, unsure = scale(0.05), scale(0.3)
    output, sound = Emotion(0.8, 0.5, 0.8), Sound(1.0, 30.0, 1.0)
    assert calibration(0.05).read(output, 3.0, 30.0).word == "elated"
    for name in OUTPUTS:
        scales = {one: unsure if one == name else sure for one in OUTPUTS}
        scales[name] = replace(scales[name], mean=0.0)  # far above the mean, so that there is a word to withhold
        event = builder(replace(calibration(), scales=scales), 0.5).event(0.0, 3.0, Output(output, None), sound)
        assert [one for one in OUTPUTS if getattr(event, one) is None] == [name]
        assert event.word == ("elated" if name == "dominance" else None)


def test_without_a_calibration_an_event_is_the_output_and_no_confidence_can_be_asked_for():
    event = builder().event(1.0, 2.0, Output(Emotion(0.1, 0.2, 0.3), EMBEDDING), Sound(0.5, 9.0, 0.6))
    assert event == Event(1.0, 2.0, 0.1, 0.2, 0.3, True, 0.5)
    assert all(getattr(event, name) is None for name in (*CALIBRATION_COLUMNS, *CATEGORY_COLUMNS, *INTERVAL_COLUMNS))
    with pytest.raises(WeightsError, match=r"a confidence of 0\.25 needs a calibration"):
        builder(min_confidence=0.25)


def test_a_head_names_its_most_probable_category_beside_a_calibration():
    arrays = {"weight": np.float32([[0, 0], [2, 0], [1, 0]]), "bias": np.zeros(3, np.float32)}
    head = Head(("a", "b", "c"), arrays, {})
    output, sound = Output(Emotion(0.5, 0.5, 0.5), EMBEDDING), Sound(1.0, 30.0, 1.0)
    for made in (builder(head=head), builder(calibration(), head=head)):
        event = made.event(0.0, 3.0, output, sound)
        assert (event.category, event.probability) == ("b", pytest.approx(np.exp(2) / (1 + np.exp(1) + np.exp(2))))
        assert made.event(0.0, 3.0, None, sound) == Event(0.0, 3.0, speech=False, speech_ratio=1.0)
    event = builder(calibration(), head=head).event(0.0, 3.0, output, sound)
    assert event.confidence is not None and event.arousal == pytest.approx(0.4)
