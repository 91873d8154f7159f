"""Operations of the layers, compared with loops that implement their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from random_student import noise
from wav2small.network.config import Layer
from wav2small.network.layers import convolve, max_pool, softmax_mean


def by_definition(hidden: np.ndarray, weight: np.ndarray, layer: Layer, around: float) -> np.ndarray:
    """A convolution as a sum over the places of its kernel; what is outside the input is ``around``."""
    frames, mels, inputs = hidden.shape
    found = np.zeros((-(-frames // layer.stride), mels, layer.outputs))
    for column, band in np.ndindex(found.shape[:2]):
        for tap, mel in np.ndindex(layer.kernel):
            time = column * layer.stride + tap * layer.dilation - layer.padding[0]
            row = band + mel - layer.kernel[1] // 2
            is_inside = 0 <= time < frames and 0 <= row < mels
            values = hidden[time, row] if is_inside else np.full(inputs, around)
            kernel = weight[:, :, tap, mel]
            found[column, band] += values * kernel[:, 0] if layer.depthwise else kernel @ values
    return found


@settings(deadline=None, max_examples=60)
@given(
    frames=st.integers(1, 9),
    mels=st.integers(1, 5),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    kernel=st.tuples(st.integers(1, 4), st.sampled_from([1, 3, 5])),
    steps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    causal=st.booleans(),
    depthwise=st.booleans(),
    around=st.sampled_from([0.0, -1.5]),
)
def test_a_convolution_is_the_sum_over_its_kernel(frames, mels, channels, kernel, steps, causal, depthwise, around):
    """Of any kernel, stride and dilation, centred or causal, of all channels or of each alone."""
    (stride, dilation), (inputs, outputs) = steps, channels
    assume(causal or (kernel[0] - 1) * dilation % 2 == 0)
    outputs = inputs if depthwise else outputs
    layer = Layer("any", outputs, kernel, stride, dilation, causal, depthwise, norm="norm")
    hidden = noise(frames * mels * inputs, 1, 1.0).reshape(frames, mels, inputs)
    shape = (outputs, 1 if depthwise else inputs, *kernel)
    weight = noise(int(np.prod(shape)), 2, 1.0).reshape(shape)
    expected = by_definition(hidden, weight, layer, around)
    np.testing.assert_allclose(convolve(hidden, weight, layer, around), expected, atol=1e-5)
    if kernel[1] == 1:
        np.testing.assert_array_equal(convolve(hidden, weight[..., 0], layer), convolve(hidden, weight, layer))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_a_pool_takes_the_largest_of_nine_and_halves_rounded_up(frames, mels, channels):
    """Below zero too: what is outside the input is never the largest."""
    hidden = noise(frames * mels * channels, 3, 1.0).reshape(frames, mels, channels) - np.float32(9)
    found = max_pool(hidden, Layer("pool", channels, (3, 3), stride=2, pool=True))
    assert found.shape == (-(-frames // 2), -(-mels // 2), channels)
    for row, band in np.ndindex(found.shape[:2]):
        under = hidden[max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * band - 1) : 2 * band + 2]
        np.testing.assert_array_equal(found[row, band], under.max((0, 1)))


@settings(deadline=None)
@given(st.integers(1, 20), st.floats(-1e3, 1e3))
def test_a_softmax_mean_weighs_each_time_by_its_score_and_not_by_the_level_of_all(frames, level):
    value, score = noise(frames * 2, 4).reshape(-1, 2), noise(frames * 2, 5, 2.0).reshape(-1, 2).astype(np.float64)
    weight = np.exp(score)
    expected = (value * weight).sum(0) / weight.sum(0)
    np.testing.assert_allclose(softmax_mean(value, score + level), expected, rtol=1e-6, atol=1e-7)
    assert softmax_mean(value[:1], score[:1] + level) == pytest.approx(value[0])
