"""The front end in integers where no shipped network shows it: the edges of samples, of tables and of the FFT."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2small.network.fixed_frontend import to_samples


def test_samples_are_cut_to_16_bits_and_what_is_not_a_number_is_zero():
    signal = [1.0, 2.0, 1e30, -1.0, -2.0, -1e30, np.nan, 32767 / 32768, 0.5]
    np.testing.assert_array_equal(to_samples(signal), [32767] * 3 + [-32768] * 3 + [0, 32767, 16384])


@settings(deadline=None)
@given(st.integers(4, 32766))
def test_samples_are_rounded_in_float32_as_c_does_it(sample):
    """What is nearer to a half than float32 can tell is a half, which is rounded up."""
    just_below = (sample + 0.5) / 32768 - 1e-12
    assert to_samples(np.array([just_below, -just_below])).tolist() == [sample + 1, -sample]
